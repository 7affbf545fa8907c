//! The parent's half: what is taken from the host for a container, in which order, and how it is given back.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cringle_kernel::cgroup::{Cgroup, CgroupPaths, Layout, Version};
use cringle_kernel::clone::{Birth, Born};
use cringle_kernel::error::SystemError;
use cringle_kernel::namespace::Namespaces;
use cringle_kernel::process::{self, Exit};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::cgroups::CgroupMount;
use super::child::{self, Given};
use super::error::{Attempting as _, EngineError, Result};
use super::gate;
use super::hooks::{self, Moment};
use super::idmaps::IdMaps;
use super::namespaces;
use super::plan::Plan;
use super::restore::Restore;
use super::state::{Identity, State};
use super::sync::{self, End, Heard};
use super::{Bundle, Child, Created, Gate, Stdio};

/// The hooks that are run here for a child that waits for them.
pub(super) const OUTSIDE: [Moment; 2] = [Moment::Prestart, Moment::CreateRuntime];

/// How long the last processes of a cgroup may take to leave it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes everything of the container up to the gate.
///
/// With a `gate` it waits there for anyone, and else for the caller.
///
/// # Errors
/// Whatever failed. Nothing of it is left then.
pub(super) fn create(bundle: &Bundle, stdio: Stdio, gate: Option<OwnedFd>) -> Result<Created> {
    let plan = Plan::new(bundle)?;
    let restore =
        bundle.restore.as_ref().map(|from| Restore::new(from, &plan, &stdio)).transpose()?;
    let joined = plan.namespaces.open()?;
    let own =
        plan.namespaces.users.as_ref().map(|users| &users.mappings).zip(joined.users.as_ref());
    let maps = IdMaps::open(&plan.mappings(), own)?;
    let layout = Layout::probe().map_err(cgroup("find the cgroup hierarchies"))?;
    let paths =
        CgroupPaths::new(&layout, &plan.cgroup).map_err(cgroup("place the container's cgroup"))?;
    let mut state = State::new(paths.clone());
    state.write(&bundle.path)?;
    let made = Cgroup::create(paths).map_err(cgroup("make the container's cgroup"));
    let prepared = made.and_then(|cgroup| {
        let restore = restore.as_ref();
        let clone = Clone { plan: &plan, joined, maps, cgroup, stdio, gate, restore };
        clone.perform(|pid| {
            state.init = Identity::of(pid);
            state.later_hooks = plan.hooks.only(&[Moment::Poststart, Moment::Poststop]);
            state.write(&bundle.path)
        })
    });
    if prepared.is_err() {
        // The reason why it failed is worth more than a second one; what stays is found by a later delete.
        let _second_failure = delete(&bundle.path);
    }
    prepared
}

/// What it takes to clone an init.
struct Clone<'a> {
    plan: &'a Plan,
    joined: namespaces::Joined,
    maps: IdMaps,
    cgroup: Cgroup,
    stdio: Stdio,
    gate: Option<OwnedFd>,
    restore: Option<&'a Restore>,
}

impl Clone<'_> {
    fn perform(mut self, mut note: impl FnMut(i32) -> Result<()>) -> Result<Created> {
        self.cgroup.apply(&self.plan.limits).map_err(cgroup("limit the container"))?;
        let directory =
            self.cgroup.v2_directory().map_err(cgroup("open the container's cgroup"))?;
        let tasks = self.cgroup.tasks_files().map_err(cgroup("open the container's cgroup"))?;
        let (ours, theirs) = sync::pair()?;
        // Who restores makes the processes in their PID namespace, and stays out of it.
        let pid_namespace = if self.restore.is_none() { self.joined.pid.take() } else { None };
        let restore = self.restore;
        let given = Given {
            sync: theirs,
            tasks,
            cgroups: cgroup_mounts(self.cgroup.paths())?,
            joined: self.joined,
            maps: self.maps,
            owner: self.plan.owner()?,
            stdio: self.stdio,
            gate: self.gate,
        };
        let namespaces = match restore {
            None => self.plan.namespaces.born(),
            Some(_) => self.plan.namespaces.born().without(Namespaces::PID),
        };
        let birth = Birth { namespaces, cgroup: directory.as_ref().map(|open| open.as_fd()) };
        let mut ours = Some(ours);
        let plan = self.plan;
        let born =
            namespaces::child_in(pid_namespace.as_ref().map(|open| open.as_fd()), &birth, || {
                // The child's copy of our end: with it open, it would not hear us die.
                drop(ours.take());
                match restore {
                    None => child::init(plan, given),
                    Some(restore) => restore.life(plan, &given),
                }
            })?;
        let Some(sync) = ours else { return Err(EngineError::Phase("in its own child")) };
        let master = note(born.pid).and_then(|()| await_ready(&sync, &born, plan));
        let made = master.and_then(|master| match restore {
            None => Ok((None, master)),
            Some(restore) => {
                let init = restore.carry_out(plan, (&sync, &born), &self.cgroup)?;
                note(init.pid).map(|()| (Some(init), None))
            }
        });
        match made {
            Ok((init, master)) => {
                let (gate, Born { pid, pidfd }) = match init {
                    None => (Gate::Closed(sync), born),
                    Some(init) => (Gate::Stopped, init),
                };
                let child = Child { pid, pidfd, master };
                let bounds = Arc::clone(&plan.bounds);
                let hooks = plan.hooks.only(&[Moment::Poststart]);
                Ok(Created { child, gate, cgroup: self.cgroup, bounds, hooks })
            }
            Err(error) => {
                end(&born.pidfd)?;
                Err(error)
            }
        }
    }
}

fn await_ready(sync: &End, born: &Born, plan: &Plan) -> Result<Option<OwnedFd>> {
    loop {
        match sync.hear()? {
            Heard::Ready(master) => return Ok(master),
            Heard::Paused => {
                for moment in OUTSIDE {
                    plan.hooks.run(moment, Some(born.pid), plan.hooks_end, || Ok(()))?;
                }
                sync.go()?;
            }
            Heard::Closed => {
                return Err(EngineError::Died(how(process::wait(&born.pidfd).ok())));
            }
        }
    }
}

/// Opens the gate and waits for the program to run.
///
/// # Errors
/// Why it does not; the process is gone and reaped then.
pub(super) fn start(sync: &End, child: &Child) -> Result<()> {
    let heard = sync.go().and_then(|()| sync.hear());
    match heard {
        Ok(Heard::Closed) => Ok(()),
        Ok(Heard::Ready(_) | Heard::Paused) => Err(EngineError::Phase("ready twice")),
        Err(error) => {
            end(&child.pidfd)?;
            Err(error)
        }
    }
}

/// Opens the gate of a container whose creator is gone, and runs the hooks for when it was started.
///
/// # Errors
/// Nobody waits, why the program does not run, or a hook that failed; the container is ended then.
pub(super) fn start_waiting(bundle: &Path) -> Result<()> {
    gate::open(bundle)?;
    let Some(State { init, cgroup: paths, later_hooks: Some(hooks), .. }) = State::read(bundle)?
    else {
        return Ok(());
    };
    let ran =
        hooks.run(Moment::Poststart, init.map(|init| init.pid), hooks::end_at_start(), || Ok(()));
    if ran.is_err() {
        Cgroup::at(paths).kill().map_err(cgroup("kill the container's processes"))?;
    }
    ran
}

/// Kills and reaps a child of ours; one that somebody reaped already is fine.
pub(super) fn end(pidfd: impl std::os::fd::AsFd) -> Result<()> {
    let attempt = || "end the container's process".to_owned();
    process::signal(pidfd.as_fd(), 9).attempting(attempt)?;
    match process::wait(pidfd) {
        Err(error) if error.errno() != Some(rustix::io::Errno::CHILD.raw_os_error()) => {
            Err(error).attempting(attempt)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How a process ended, as the end of a sentence.
pub(super) fn how(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("with code {code}"),
        Some(Exit::Signal(signal)) => format!("by signal {signal}"),
        None => "for a reason nobody saw".to_owned(),
    }
}

/// The container's cgroups as it may mount them: all of version 1, or the unified one alone.
fn cgroup_mounts(paths: &CgroupPaths) -> Result<Vec<CgroupMount>> {
    let is_v1 = |version| version == Version::V1;
    let any_v1 = paths.directories.iter().any(|directory| is_v1(directory.version));
    let mut mounts = Vec::new();
    for directory in &paths.directories {
        if any_v1 && !is_v1(directory.version) {
            continue;
        }
        let path = CString::new(directory.path.as_os_str().as_bytes());
        let path = path
            .map_err(|_nul| EngineError::invalid("linux.cgroupsPath", "it has a NUL byte in it"))?;
        let name = directory.mount.file_name().map(|name| name.to_string_lossy().into_owned());
        let parts = name.as_deref().unwrap_or_default().split(',');
        let aliases =
            parts.filter(|part| Some(*part) != name.as_deref()).map(str::to_owned).collect();
        mounts.push(CgroupMount { name: name.filter(|_| any_v1), aliases, directory: path });
    }
    Ok(mounts)
}

/// Ends what is left of a container and gives its cgroups back: the one way down, whoever was the one that made it.
///
/// # Errors
/// A cgroup that would not go; calling again resumes.
pub(super) fn delete(bundle: &Path) -> Result<()> {
    let Some(mut state) = State::read(bundle)? else { return Ok(()) };
    let mut alone = None;
    if state.later_hooks.is_some() {
        // Somebody else may be about it: each hook is to run once.
        alone = Some(lock(bundle)?);
        let Some(now) = State::read(bundle)? else { return Ok(()) };
        state = now;
    }
    let container = Cgroup::at(state.cgroup);
    container.kill().map_err(cgroup("kill the container's processes"))?;
    if let Some(init) = state.init {
        // One that died before it entered its cgroup, or was never in one.
        kill_identity(init).attempting(|| "kill the container's process".to_owned())?;
    }
    container.remove(PATIENCE).map_err(cgroup("remove the container's cgroup"))?;
    gate::remove(bundle)?;
    if let Some(hooks) = state.later_hooks {
        // Whoever has to undo something is not held up by the failure of another, and the container is gone anyway.
        for failure in hooks.run_all(Moment::Poststop) {
            crate::note(&crate::chain(&failure));
        }
    }
    State::remove(bundle)?;
    drop(alone);
    Ok(())
}

/// Waits until nobody else deletes the container of this bundle; nobody else can until the answer is dropped.
fn lock(bundle: &Path) -> Result<OwnedFd> {
    let attempt = || format!("lock bundle {bundle:?}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(bundle, flags, Mode::empty()).attempting(attempt)?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive).attempting(attempt)?;
    Ok(directory)
}

/// Kills that very process, and no other that has its id now.
pub(super) fn kill_identity(init: Identity) -> std::result::Result<(), SystemError> {
    let Ok(pidfd) = process::open(init.pid) else { return Ok(()) };
    // Asked after the pidfd was opened: what the answer is about is what the pidfd refers to.
    if init.is_alive() { process::signal(&pidfd, 9) } else { Ok(()) }
}

/// Says what a cgroup call was made for.
pub(super) fn cgroup(
    attempt: &'static str,
) -> impl Fn(cringle_kernel::cgroup::CgroupError) -> EngineError {
    move |source| EngineError::Cgroup { attempt, source }
}
