//! A container that runs: further processes in it, and what can be done to all of it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cringle_kernel::cgroup::{Cgroup, Clamp};
use cringle_kernel::clone::Birth;
use cringle_kernel::namespace::Namespaces;
use cringle_kernel::process as kernel;
use oci_spec::runtime::{LinuxResources, Process};

use super::bounds::Bounds;
use super::child::{self, Visit};
use super::create::{cgroup, end};
use super::error::{Attempting as _, EngineError, Result};
use super::state::State;
use super::sync::{self, Heard};
use super::{Bundle, Child, Stdio, limits, namespaces, process};

/// A container whose init was executed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    cgroup: Cgroup,
    bounds: Arc<Bounds>,
    /// The container's `tasks` files, opened for the first further process: where there is one, there are more.
    tasks: OnceLock<Vec<OwnedFd>>,
    /// Which namespaces those join.
    namespaces: OnceLock<Namespaces>,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The container's init only.
    Init,
    /// Every process of the container.
    All,
}

/// How long processes may take to stand still.
const FREEZING: Duration = Duration::from_secs(2);

/// What a process joins of a container; its PID namespace is joined by who clones it.
const SHARED: Namespaces = Namespaces::MOUNT
    .with(Namespaces::NETWORK)
    .with(Namespaces::IPC)
    .with(Namespaces::UTS)
    .with(Namespaces::CGROUP);

impl Running {
    pub(super) fn new(child: Child, cgroup: Cgroup, bounds: Arc<Bounds>) -> Self {
        Self { child, cgroup, bounds, tasks: OnceLock::new(), namespaces: OnceLock::new() }
    }

    /// The container of a bundle, if it runs, found again by what was noted.
    ///
    /// # Errors
    /// The notes can't be read, or the container does not run.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let bundle = Bundle::load(path, Vec::new())?;
        let init = State::read(path)?.and_then(|state| Some((state.init?, state.cgroup)));
        let Some((init, paths)) = init else { return Err(EngineError::Phase("not created")) };
        let pidfd =
            kernel::open(init.pid).attempting(|| "open the container's process".to_owned())?;
        if !init.is_alive() {
            return Err(EngineError::Phase("stopped"));
        }
        let child = Child { pid: init.pid, pidfd, master: None };
        Ok(Self::new(child, Cgroup::at(paths), Bounds::of(&bundle.spec)?))
    }

    /// Init's process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Init's descriptor.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The container's cgroup.
    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn namespaces(&self) -> Namespaces {
        *self.namespaces.get_or_init(|| {
            let users = self.bounds.users.as_ref().map_or(Namespaces::NONE, |_| Namespaces::USER);
            // CRIU gives what it restores one, in which the clocks go on where they were.
            let own = rustix::process::getpid().as_raw_pid();
            let clocks = |pid| namespaces::name_of(pid, "time");
            let time = match (clocks(self.pid()), clocks(own)) {
                (Ok(theirs), Ok(ours)) if theirs != ours => Namespaces::TIME,
                // There is none; or the container is gone, which joining the others will tell.
                (Ok(_) | Err(_), Ok(_) | Err(_)) => Namespaces::NONE,
            };
            SHARED.with(users).with(time)
        })
    }

    /// Executes another process in the container; returns once it was executed.
    ///
    /// # Errors
    /// Why it could not be; no process is left then.
    pub(crate) fn exec(&self, process: &Process, stdio: Stdio) -> Result<Child> {
        let open = cgroup("open the container's cgroup");
        let directory = self.cgroup.v2_directory().map_err(open)?;
        self.exec_below(process, stdio, directory.as_ref().map(|open| open.as_fd()))
    }

    /// The same, born in this directory of the unified hierarchy: the container's, or one below.
    ///
    /// # Errors
    /// Why it could not be; no process is left then.
    pub(crate) fn exec_below(
        &self,
        process: &Process,
        stdio: Stdio,
        directory: Option<BorrowedFd<'_>>,
    ) -> Result<Child> {
        let plan = process::plan(process, &self.bounds)?;
        let users = self.bounds.users.as_ref();
        let (ours, theirs) = sync::pair()?;
        let visit = Visit {
            sync: theirs,
            tasks: self.tasks()?,
            init: self.pidfd(),
            namespaces: self.namespaces(),
            owner: process::owner(plan.user, users)?,
            stdio: stdio.complete()?,
        };
        let birth = Birth { namespaces: Namespaces::NONE, cgroup: directory };
        let mut ours = Some(ours);
        let born = namespaces::child_in(Some(self.pidfd()), &birth, || {
            drop(ours.take());
            child::visit(&plan, visit)
        })?;
        let Some(sync) = ours else { return Err(EngineError::Phase("in its own child")) };
        let mut child = Child { pid: born.pid, pidfd: born.pidfd, master: None };
        loop {
            match sync.hear() {
                Ok(Heard::Ready(master)) => child.master = master,
                Ok(Heard::Closed) => return Ok(child),
                Ok(Heard::Paused) => {
                    end(&child.pidfd)?;
                    return Err(EngineError::Phase("not to be waited for"));
                }
                Err(error) => {
                    end(&child.pidfd)?;
                    return Err(error);
                }
            }
        }
    }

    fn tasks(&self) -> Result<&[OwnedFd]> {
        if let Some(open) = self.tasks.get() {
            return Ok(open);
        }
        let open = self.cgroup.tasks_files().map_err(cgroup("open the container's cgroup"))?;
        Ok(self.tasks.get_or_init(|| open))
    }

    /// Changes the limits: all of them, or none and the error names the file that refused. What this host withholds from
    /// everyone is told.
    ///
    /// # Errors
    /// Which limit could not be set.
    pub(crate) fn update(&self, resources: &LinuxResources) -> Result<Vec<Clamp>> {
        let limits = limits::change(resources)?;
        self.cgroup.update(&limits).map_err(cgroup("change the container's limits"))
    }

    /// Sends a signal to init, or to every process of the container. A process that is gone is not an error.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn signal(&self, signal: i32, target: Target) -> Result<()> {
        let attempt = || format!("send signal {signal}");
        match target {
            Target::Init => kernel::signal(&self.child.pidfd, signal).attempting(attempt),
            Target::All if signal == rustix::process::Signal::KILL.as_raw() => self.kill_all(),
            Target::All => match rustix::process::Signal::from_named_raw(signal) {
                Some(signal) => {
                    self.cgroup.signal_all(signal).map_err(cgroup("signal the container"))
                }
                None => Err(EngineError::invalid("signal", format!("{signal} has no name"))),
            },
        }
    }

    /// Kills every process of the container.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn kill_all(&self) -> Result<()> {
        self.cgroup.kill().map_err(cgroup("kill the container"))
    }

    /// Freezes every process of the container; returns when they stand still.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn pause(&self) -> Result<()> {
        self.cgroup.freeze(FREEZING).map_err(cgroup("freeze the container"))
    }

    /// Thaws what `pause` froze.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn resume(&self) -> Result<()> {
        self.cgroup.thaw().map_err(cgroup("thaw the container"))
    }

    /// The processes of the container.
    ///
    /// # Errors
    /// The cgroup can't be read.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        self.cgroup.pids().map_err(cgroup("list the container's processes"))
    }
}
