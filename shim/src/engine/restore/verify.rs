//! Whether processes that were made of images are what the specification allows, before one of them runs.
//!
//! All of them are stopped: what is seen of one stays so. What can't be seen is not looked at: what is in their memory and
//! registers, and which files they have open.

use std::collections::BTreeSet;

use cringle_kernel::cgroup::Cgroup;
use cringle_kernel::clone::Born;
use rustix::thread::{Timespec, nanosleep};

use super::super::create::cgroup as of_cgroup;
use super::super::error::{EngineError, Result};
use super::super::namespaces::name_of;
use super::super::plan::Plan;
use super::model::{Model, label};

/// How long a thread may take to stop that was told to.
const PATIENCE_MILLISECONDS: u32 = 2000;

/// Compares every process of a container that was restored with its model and its plan.
///
/// # Errors
/// The first difference.
pub(super) fn verify(model: &Model, init: &Born, (plan, cgroup): (&Plan, &Cgroup)) -> Result<()> {
    let pids: BTreeSet<i32> = cgroup
        .pids()
        .map_err(of_cgroup("list the container's processes"))?
        .into_iter()
        .filter_map(|pid| i32::try_from(pid).ok())
        .collect();
    let family = family(init.pid)?;
    if let Some(stranger) = family.difference(&pids).next() {
        return Err(refused(*stranger, "it is not in the container's cgroup"));
    }
    if let Some(stranger) = pids.difference(&family).next() {
        return Err(refused(*stranger, "it is none of the container's"));
    }
    let mount_namespace = name_of(init.pid, "mnt")?;
    let pid_namespace = name_of(init.pid, "pid")?;
    let expected = match &model.processes {
        Some(shared) => pid_namespace == *shared,
        None => pid_namespace != model.host_processes,
    };
    if !expected {
        return Err(refused(init.pid, "it is in another PID namespace than is asked for"));
    }
    model.require_mounts(init.pid, plan)?;
    // CRIU makes one in which the clocks that count since the start of the host go on where they were.
    let clocks = name_of(init.pid, "time")?;
    let same = [("mnt", &mount_namespace), ("pid", &pid_namespace), ("time", &clocks)];
    for pid in &family {
        // Each thread may be in namespaces of its own, and outlive the first one.
        for thread in children_of(&format!("/proc/{pid}/task"))? {
            if !stands_still(*pid, thread)? {
                continue;
            }
            let inherited = model.namespaces.iter().map(|(kind, wanted)| (*kind, wanted));
            for (kind, wanted) in inherited.chain(same) {
                if name_of(thread, kind)? != *wanted {
                    return Err(refused(*pid, &format!("it is in another {kind} namespace")));
                }
            }
            if label(thread) != model.label {
                return Err(refused(*pid, "a security module knows it by another name"));
            }
            require_allowed(plan, thread).map_err(|problem| refused(*pid, &problem))?;
        }
    }
    Ok(())
}

/// Compares a thread with the plan of its container's first process.
fn require_allowed(plan: &Plan, thread: i32) -> std::result::Result<(), String> {
    let told = |name: &str| {
        let text = read(&format!("/proc/{thread}/{name}"));
        text.map_err(|error| crate::chain(&error))
    };
    plan.process.require_bounded(&told("limits")?, &told("oom_score_adj")?)?;
    plan.process.require_allowed(&told("status")?)?;
    plan.process.require_scheduled(&told("stat")?)
}

/// Makes sure that a thread is stopped: the order to stop reaches it when CRIU lets go of it, which is a moment before its end.
/// False: it has ended, and only waits for its parent.
fn stands_still(pid: i32, thread: i32) -> Result<bool> {
    const MILLISECOND: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..PATIENCE_MILLISECONDS {
        let stat = read(&format!("/proc/{pid}/task/{thread}/stat"))?;
        match stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()) {
            Some('T') => return Ok(true),
            Some('Z' | 'X') => return Ok(false),
            // Cut short it is looked at sooner.
            Some(_) | None => drop(nanosleep(&MILLISECOND)),
        }
    }
    Err(refused(pid, "it runs"))
}

/// A process and all that descend from it.
fn family(first: i32) -> Result<BTreeSet<i32>> {
    let (mut found, mut ahead) = (BTreeSet::new(), vec![first]);
    while let Some(pid) = ahead.pop() {
        if !found.insert(pid) {
            continue;
        }
        for thread in children_of(&format!("/proc/{pid}/task"))? {
            let text = read(&format!("/proc/{pid}/task/{thread}/children"))?;
            ahead.extend(text.split_whitespace().filter_map(|one| one.parse::<i32>().ok()));
        }
    }
    Ok(found)
}

/// The numbers that a directory has as names.
fn children_of(path: &str) -> Result<Vec<i32>> {
    let fails = |source| EngineError::Read { path: path.into(), source };
    let listed = std::fs::read_dir(path).map_err(fails)?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

fn read(path: &str) -> Result<String> {
    let text = std::fs::read(path);
    let text = text.map_err(|source| EngineError::Read { path: path.into(), source })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn refused(pid: i32, problem: &str) -> EngineError {
    EngineError::Restore(format!("process {pid} is not what it may be: {problem}"))
}
