//! The end of a container without the help of its shim: from the files in the bundle, as often as one likes.

use super::watch::ended;
use super::{ShimProgram, SupervisorError, hooks};
use cringle_domain::process::{Exit, Outcome, ProcessIdentity, Signal};
use cringle_domain::time::Timestamp;
use cringle_kernel::cgroup::{Cgroup, CgroupPaths};
use cringle_kernel::{proc, process};
use cringle_proto_shim::CONTROL_SOCKET;
use cringle_proto_shim::record::{EXIT_FILE, Ending, ExitRecord, SHIM_FILE, ShimRecord};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long killed processes may take to leave: where much else runs, that is long, and giving up helps nobody.
const PATIENCE: Duration = Duration::from_secs(20);
const KILL: i32 = 9;
/// Name of the engine's own record in the bundle.
const STATE_FILE: &str = "state.json";

/// What is used of the engine's record.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EngineState {
    cgroup: CgroupPaths,
    /// There if programs of others are to run after its end.
    #[serde(default)]
    later_hooks: Option<IgnoredAny>,
}

/// Ends whatever is left of the shim and the container of this bundle: the shim by its identity, the container through its
/// cgroups, which are removed. Success if nothing is left, or never was.
///
/// # Errors
/// Something would not end.
pub async fn end(bundle: &Path) -> Result<(), SupervisorError> {
    end_processes(bundle).await?;
    forget(bundle)
}

/// The same, and has the hooks run that the container has for its end and nobody ran yet. What becomes of them is logged.
///
/// # Errors
/// Something would not end.
pub async fn end_with_hooks(program: &ShimProgram, bundle: &Path) -> Result<(), SupervisorError> {
    end_processes(bundle).await?;
    if owes_hooks(bundle)
        && let Err(error) = hooks::run(program, bundle).await
    {
        let error = crate::error::chain(&error);
        tracing::warn!(bundle = %bundle.display(), error, "the container's hooks did not run");
    }
    forget(bundle)
}

/// Kills every process of the container of this bundle, of which `init` is the first, behind the back of its shim. Says how
/// that one ended, if the shim has not reaped it: a shim that has knows, and is about to tell.
///
/// # Errors
/// Something would not end, or the bundle's record cannot be read.
pub async fn kill(
    bundle: &Path,
    init: ProcessIdentity,
) -> Result<Option<Outcome>, SupervisorError> {
    let process = open_identified(init.pid, init.start_time);
    if let Some(state) = read::<EngineState>(&bundle.join(STATE_FILE))? {
        let cgroup = Cgroup::at(state.cgroup);
        tokio::task::block_in_place(|| cgroup.kill()).map_err(SupervisorError::Cgroup)?;
    }
    if let Some(process) = process {
        tokio::time::timeout(PATIENCE, ended(&Arc::new(process)))
            .await
            .map_err(|_elapsed| SupervisorError::Silent { order: "SIGKILL" })??;
    }
    let seen = proc::stat(init.pid).ok().filter(|stat| stat.start_time == init.start_time);
    Ok(seen.and_then(|stat| stat.ended).map(|exit| match exit {
        process::Exit::Code(code) => Outcome::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        process::Exit::Signal(signal) => outcome_of_signal(signal),
    }))
}

/// Whether hooks are to run when the container is gone.
pub(super) fn owes_hooks(bundle: &Path) -> bool {
    let state = read::<EngineState>(&bundle.join(STATE_FILE));
    state.is_ok_and(|state| state.is_some_and(|state| state.later_hooks.is_some()))
}

async fn end_processes(bundle: &Path) -> Result<(), SupervisorError> {
    for shim in find_shims(bundle)? {
        let shim = Arc::new(shim);
        process::signal(&*shim, KILL).map_err(SupervisorError::Process)?;
        tokio::time::timeout(PATIENCE, ended(&shim))
            .await
            .map_err(|_elapsed| SupervisorError::Silent { order: "SIGKILL" })??;
    }
    if let Some(state) = read::<EngineState>(&bundle.join(STATE_FILE))? {
        let cgroup = Cgroup::at(state.cgroup);
        // Waits by sleeping in short steps, and only for processes that were killed.
        tokio::task::block_in_place(|| {
            cgroup.kill()?;
            cgroup.wait_empty(PATIENCE)?;
            cgroup.remove(PATIENCE)
        })
        .map_err(SupervisorError::Cgroup)?;
    }
    Ok(())
}

fn forget(bundle: &Path) -> Result<(), SupervisorError> {
    // They speak of what is no more, and a next shim of this bundle must not be taken for this one.
    [STATE_FILE, CONTROL_SOCKET, SHIM_FILE].iter().try_for_each(|name| {
        let path = bundle.join(name);
        cringle_store::atomic::remove(&path)
            .map_err(|source| SupervisorError::Bundle { path, source })
    })
}

/// How the container of this bundle ended, if its shim has put that on record.
#[must_use]
pub fn read_exit_record(bundle: &Path) -> Option<Exit> {
    read::<ExitRecord>(&bundle.join(EXIT_FILE)).ok().flatten().map(exit_of)
}

/// The shim's process, if it is there.
pub(super) fn shim_process(bundle: &Path) -> Result<Option<OwnedFd>, SupervisorError> {
    match read::<ShimRecord>(&bundle.join(SHIM_FILE))? {
        Some(record) => Ok(open_identified(record.pid, record.start_time)),
        None => Ok(None),
    }
}

/// The same; a shim whose daemon died while it was being spawned may not have its record yet, and may not answer, but has
/// its socket and its command line. Another process with that line, if somebody made one, is ended with it.
fn find_shims(bundle: &Path) -> Result<Vec<OwnedFd>, SupervisorError> {
    if let Some(record) = read::<ShimRecord>(&bundle.join(SHIM_FILE))? {
        return Ok(open_identified(record.pid, record.start_time).into_iter().collect());
    }
    if !bundle.join(CONTROL_SOCKET).exists() {
        return Ok(Vec::new());
    }
    let line = [b"--bundle".as_slice(), bundle.as_os_str().as_bytes()];
    let found = proc::with_arguments(&line).map_err(SupervisorError::Process)?;
    let opened = found.into_iter().filter_map(|pid| Some((pid, process::open(pid).ok()?)));
    let meant = opened.filter(|(pid, _)| proc::has_arguments(*pid, &line));
    Ok(meant.map(|(_, process)| process).collect())
}

/// Opens a process and makes sure that it is the one that was meant.
fn open_identified(pid: i32, start_time: u64) -> Option<OwnedFd> {
    let process = process::open(pid).ok()?;
    let stat = proc::stat(pid).ok()?;
    (start_time == stat.start_time && !stat.is_zombie()).then_some(process)
}

/// A record of the shim in the daemon's words.
pub(super) fn exit_of(record: ExitRecord) -> Exit {
    Exit {
        outcome: outcome_of(record.ending),
        at: Timestamp::from_nanoseconds(record.at_nanoseconds),
    }
}

pub(super) fn outcome_of(ending: Ending) -> Outcome {
    match ending {
        Ending::Code(code) => Outcome::Code(code),
        Ending::Signal(signal) => outcome_of_signal(i32::from(signal)),
        Ending::OutOfMemory => Outcome::OutOfMemory,
        Ending::NeverStarted(reason) => Outcome::NeverStarted(reason),
    }
}

fn outcome_of_signal(signal: i32) -> Outcome {
    Signal::from_number(signal)
        .map_or_else(|| Outcome::Unseen(format!("signal {signal}")), Outcome::Signal)
}

/// A JSON file; none if it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SupervisorError> {
    let failed = |source| SupervisorError::Bundle { path: path.to_owned(), source };
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
    }
}
