//! Rows about memory: what a daemon and what each pod's own processes hold, by proportional set size.

use crate::fleet::{clear, populate};
use crate::options::Options;
use crate::table::Table;
use crate::target::Target;
use anyhow::{Context, Result};
use cringle_tests::footprint::parent;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Pods that run while memory is read: what processes share weighs the less on each the more there are.
const PODS: [usize; 2] = [20, 50];

/// Between two looks at memory that is being given back.
const PAUSE: Duration = Duration::from_secs(2);

/// Measures every runtime by itself.
pub(crate) async fn measure(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    let (mut daemons, mut attending) = (vec![Vec::new(); PODS.len()], vec![Vec::new(); PODS.len()]);
    for target in targets {
        let before = processes()?;
        let mut containers = Vec::new();
        for (place, pods) in PODS.into_iter().enumerate() {
            containers.extend(populate(options, target, containers.len()..pods).await?);
            let mut workloads = HashSet::new();
            for id in &containers {
                workloads.insert(u32::try_from(target.cri.process(id).await?)?);
            }
            let came: HashSet<u32> = processes()?.difference(&before).copied().collect();
            let attendants = attendants(&came, &workloads);
            attending[place].push(settled(&attendants).await / pods as u64);
            daemons[place].push(pss(target.daemon).context("the daemon runs")?);
        }
        clear(target).await?;
    }
    for (place, pods) in PODS.into_iter().enumerate() {
        let floor = options.idle.as_deref().map(|program| idle(program, pods)).transpose()?;
        table.memory(&format!("PSS of the daemon, {pods} pods"), &daemons[place], None);
        let title = format!("PSS of shim and pause of one pod, {pods} pods");
        table.memory(&title, &attending[place], floor);
    }
    Ok(())
}

/// What processes hold together once it gets no less: the last of them has only just done its work.
async fn settled(processes: &[u32]) -> u64 {
    let mut held = u64::MAX;
    loop {
        let now = processes.iter().copied().filter_map(pss).sum();
        if now >= held {
            return now;
        }
        held = now;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What one of so many copies of a program that only waits holds, in KiB.
fn idle(program: &Path, copies: usize) -> Result<u64> {
    let started: std::io::Result<Vec<Child>> =
        (0..copies).map(|_| Command::new(program).spawn()).collect();
    let mut started =
        started.with_context(|| format!("failed to run \"{}\"", program.display()))?;
    let sum: u64 = started.iter().filter_map(|child| pss(child.id())).sum();
    for child in &mut started {
        child.kill()?;
        child.wait()?;
    }
    Ok(sum / copies as u64)
}

/// Of the processes that came with the pods those that serve them: shims and monitors, which are in the runtime's network
/// namespace, and their children that are no container, such as a pause process. Others on this machine are neither.
fn attendants(came: &HashSet<u32>, workloads: &HashSet<u32>) -> Vec<u32> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let network = |id: u32| fs::read_link(format!("/proc/{id}/ns/net")).ok();
    let shims: HashSet<u32> =
        came.iter().copied().filter(|id| here.is_some() && network(*id) == here).collect();
    let served = |id: &u32| parent(*id).is_ok_and(|parent| shims.contains(&parent));
    let others = came.iter().copied().filter(|id| served(id) && !workloads.contains(id));
    shims.iter().copied().chain(others.filter(|id| !shims.contains(id))).collect()
}

fn processes() -> Result<HashSet<u32>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// In KiB; none if the process has ended.
fn pss(process: u32) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
