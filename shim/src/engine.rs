//! The OCI engine: an OCI bundle made into a running container.
//!
//! It answers for everything between a parsed `config.json` and `execve`: cgroups, namespaces, mounts, devices, limits,
//! identity and confinement, and for undoing what it took from the host. It leaves to the rest of the shim who asks, what
//! becomes of output, and what an exit means. It is synchronous and has no state of its own but `state.json` in the bundle.
//!
//! ```text
//!  spec --plan--> Plan --clone3--> child prepares --Ready--> waits at the gate --Go--> execve
//!                                     \----------- failure: (step, object, errno) -----/
//! ```
//! Hooks of others run before Ready, before `execve`, after it, and after everything (see [`hooks`]).
//! Invariants: cgroup paths are on disk before a cgroup is made and before a process exists; a child whose parent dies
//! before the gate opens ends by itself; nothing of the container is mounted on the host.

mod bounds;
mod cgroups;
mod child;
mod create;
mod devices;
mod error;
mod gate;
mod home;
mod hooks;
mod idmaps;
mod limits;
mod mounts;
mod namespaces;
mod options;
mod plan;
mod priority;
mod process;
mod restore;
mod rootfs;
mod running;
mod seccomp;
mod security;
mod state;
mod sync;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cringle_kernel::cgroup::Cgroup;
use oci_spec::runtime::Spec;
use rustix::fs::OFlags;

use bounds::Bounds;
pub(crate) use error::EngineError;
use error::Result;
use hooks::{Hooks, Moment};
pub(crate) use running::{Running, Target};
use sync::End;

/// What a container is made of: its bundle directory, its specification and what to mount as its root.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The bundle directory.
    pub path: PathBuf,
    /// The container's id, for its hooks; unless somebody names another one, the directory's name.
    pub id: String,
    /// `config.json`, parsed.
    pub spec: Spec,
    /// What makes the root filesystem; empty: `spec.root.path` as it is.
    pub rootfs: Vec<RootfsMount>,
    /// The directory of a checkpoint that its processes are made of, if they are not begun.
    pub restore: Option<PathBuf>,
}

/// One mount of the root filesystem, as the caller of the shim names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootfsMount {
    /// The filesystem type: `overlay`, or `bind`.
    pub kind: String,
    /// The source, for a bind mount.
    pub source: String,
    /// The options, one each.
    pub options: Vec<String>,
}

/// Where a process' standard streams lead.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// To descriptors of the caller; no stdin means `/dev/null`.
    Pipes {
        /// Standard input, if it is open.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// To a pseudo terminal made inside the container; its master comes back with the process.
    Terminal,
}

/// A container whose init has prepared everything and waits to be started.
#[derive(Debug)]
pub(crate) struct Created {
    child: Child,
    gate: Gate,
    cgroup: Cgroup,
    bounds: Arc<Bounds>,
    hooks: Option<Hooks>,
}

/// What an init waits at.
#[derive(Debug)]
enum Gate {
    /// It hears on a socket that it may go.
    Closed(End),
    /// It was made of a checkpoint, with all that it had begun, and all of them are stopped.
    Stopped,
}

/// A process of a container.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its process id here.
    pub pid: i32,
    /// Its descriptor: readable once it has exited.
    pub pidfd: OwnedFd,
    /// The master end of its terminal, if it has one.
    pub master: Option<OwnedFd>,
}

impl Stdio {
    /// These streams with an input in any case. The null device is the host's: the container's own may be anything.
    ///
    /// # Errors
    /// The host has none.
    fn complete(self) -> Result<Self> {
        match self {
            Self::Pipes { stdin: None, stdout, stderr } => {
                let null = devices::open_null(OFlags::RDONLY)?;
                Ok(Self::Pipes { stdin: Some(null), stdout, stderr })
            }
            complete @ (Self::Pipes { stdin: Some(_), .. } | Self::Terminal) => Ok(complete),
        }
    }
}

impl Bundle {
    /// Reads `config.json` of the bundle.
    ///
    /// # Errors
    /// The file can't be read or is not an OCI specification.
    pub(crate) fn load(path: &Path, rootfs: Vec<RootfsMount>) -> Result<Self> {
        let file = path.join("config.json");
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(source) => return Err(EngineError::Read { path: file, source }),
        };
        match serde_json::from_slice(&text) {
            Ok(spec) => {
                let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Self { path: path.to_owned(), id, spec, rootfs, restore: None })
            }
            Err(source) => Err(EngineError::Parse { path: file, source }),
        }
    }
}

/// Clones the container's init, which prepares everything and then waits to be started.
///
/// # Errors
/// Whatever kept the container from being made; nothing of it is left then but what `delete` removes.
pub(crate) fn create(bundle: &Bundle, stdio: Stdio) -> Result<Created> {
    create::create(bundle, stdio.complete()?, None)
}

impl Created {
    /// The waiting init. Subscribe to its pidfd before starting it.
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Takes the master end of the terminal.
    pub(crate) fn take_master(&mut self) -> Option<OwnedFd> {
        self.child.master.take()
    }

    /// Lets init execute its program; returns once it did, and the hooks for that are done.
    ///
    /// # Errors
    /// Why the program could not be executed, or a hook that failed; the process has ended then, and was reaped. The
    /// cgroups are for `delete`.
    pub(crate) fn start(self) -> Result<Running> {
        match &self.gate {
            Gate::Closed(sync) => create::start(sync, &self.child)?,
            Gate::Stopped => restore::resume(&self.cgroup)?,
        }
        let running = Running::new(self.child, self.cgroup, self.bounds);
        let Some(hooks) = self.hooks else { return Ok(running) };
        match hooks.run(Moment::Poststart, Some(running.pid()), hooks::end_at_start(), || Ok(())) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.kill_all()?;
                create::end(running.pidfd())?;
                Err(error)
            }
        }
    }
}

/// Creates a container that waits for `start_waiting`, by whatever process, at a socket in its bundle. It outlives its creator.
///
/// # Errors
/// As for `create`.
pub(crate) fn create_waiting(bundle: &Bundle, stdio: Stdio) -> Result<Child> {
    let gate = gate::listen(&bundle.path)?;
    create::create(bundle, stdio.complete()?, Some(gate)).map(|prepared| prepared.child)
}

/// Lets the init of a container that waits execute its program; returns once it did, and the hooks for that are done.
///
/// # Errors
/// Nobody waits, why the program could not be executed, or a hook that failed.
pub(crate) fn start_waiting(bundle: &Path) -> Result<()> {
    create::start_waiting(bundle)
}

/// What is known of the container of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// How far it is.
    pub phase: Phase,
    /// Its init, as long as it lives.
    pub pid: Option<i32>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its init waits to be started.
    Created,
    /// Its init executed its program.
    Running,
    /// Its init has ended, or never was.
    Stopped,
}

/// Asks the notes and the kernel how far the container of a bundle is.
///
/// # Errors
/// The notes can't be read.
pub(crate) fn status(bundle: &Path) -> Result<Status> {
    let init = state::State::read(bundle)?.and_then(|state| state.init);
    let phase = match init {
        Some(init) if !init.is_alive() => Phase::Stopped,
        Some(_) if gate::is_closed(bundle) => Phase::Created,
        Some(_) => Phase::Running,
        None => Phase::Stopped,
    };
    Ok(Status { phase, pid: init.filter(|_| phase != Phase::Stopped).map(|init| init.pid) })
}

/// Ends what is left of the container of this bundle, gives its cgroups back and runs the hooks for that, from `state.json`:
/// works after the shim that made it died, and when all is gone already.
///
/// # Errors
/// A cgroup that could not be removed.
pub(crate) fn delete(bundle: &Path) -> Result<()> {
    create::delete(bundle)
}

#[cfg(test)]
mod tests;
