//! The event loop: both sockets, the ends of children, and the order to go.
//!
//! One thread; nothing here blocks but the engine and short writes to files. A daemon that finds us stuck in one of those
//! ends the container without us (D16).

use crate::container::Shim;
use crate::process::WaitStatus;
use crate::watched::watched;
use crate::{chain, control, note, task};
use cringle_kernel::error::SystemError;
use cringle_kernel::{proc, signal};
use cringle_proto_shim::create_task;
use cringle_proto_shim::record::{SHIM_FILE, ShimRecord, VERSION};
use rustix::process::{WaitOptions, WaitStatus as RawStatus};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use ttrpc::asynchronous::Server;
use ttrpc::asynchronous::transport::Listener;

/// Turns of the event loop between the order to end and the end.
const TURNS: usize = 32;

/// Events taken from the kernel at once: a shim has a dozen descriptors, and the usual room is for a thousand.
const EVENTS: usize = 32;

/// What the shim was given to serve.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Listening stream socket of the Task service.
    pub task: OwnedFd,
    /// Listening packet socket of our own.
    pub control: OwnedFd,
}

/// Why the shim could not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// A system call failed.
    #[error("failed to prepare the process")]
    Prepare(#[from] SystemError),
    /// The record of ourselves could not be written.
    #[error(transparent)]
    Record(#[from] crate::exits::RecordError),
    /// The runtime, or a descriptor that it refuses.
    #[error("failed to start the event loop")]
    StartLoop(#[source] io::Error),
    /// The Task service did not start.
    #[error("failed to start the task service")]
    StartTask(#[source] ttrpc::Error),
}

/// Serves until somebody orders the end.
///
/// # Errors
/// What kept it from beginning.
pub(crate) fn serve(bundle: PathBuf, sockets: Sockets) -> Result<(), ServeError> {
    // Blocked before there can be a child, so that no end is missed.
    let signals = signal::watch(&[libc_signal::CHLD, libc_signal::TERM, libc_signal::INT])?;
    write_record(&bundle)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS)
        .build()
        .map_err(ServeError::StartLoop)?;
    runtime.block_on(run(Shim::new(bundle), sockets, signals))
}

async fn run(shim: Arc<Shim>, sockets: Sockets, signals: OwnedFd) -> Result<(), ServeError> {
    let listener = UnixListener::from_std(StdListener::from(sockets.task));
    let listener = Listener::from(listener.map_err(ServeError::StartLoop)?);
    let service = Arc::new(task::Service::new(Arc::clone(&shim)));
    let mut server = Server::new().add_listener(listener).register_service(create_task(service));
    server.start().await.map_err(ServeError::StartTask)?;
    let listener = watched(sockets.control).map_err(ServeError::StartLoop)?;
    tokio::spawn(control::serve(Arc::clone(&shim), listener));
    let resting = Arc::clone(&shim);
    tokio::spawn(async move { resting.rest.take().await });
    let signals = watched(signals).map_err(ServeError::StartLoop)?;
    tokio::select! {
        () = watch_signals(Arc::clone(&shim), signals) => {}
        () = shim.shutdown.notified() => {}
    }
    // The answer to that order is ready by now; a few turns of the loop let it leave. Closing the server in an orderly way
    // would wait for clients to hang up first.
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Takes the ends of children. An order to go by signal is ignored while there is a container to watch: only the daemon
/// may leave it without a parent.
async fn watch_signals(shim: Arc<Shim>, signals: AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = signals.readable().await else { return };
        match signal::next(signals.as_fd()) {
            Ok(Some(libc_signal::CHLD)) => reap(&shim),
            Ok(Some(_)) if shim.is_empty() => return,
            Ok(Some(_)) => {}
            Ok(None) => ready.clear_ready(),
            Err(error) => {
                note(&format!("failed to read signals: {}", chain(&error)));
                ready.clear_ready();
            }
        }
    }
}

/// Reaps every child that has ended: our own, and orphans of containers that share our PID namespace.
fn reap(shim: &Arc<Shim>) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Some(status) = wait_status(status) {
            shim.child_ended(pid.as_raw_pid(), status);
        }
    }
}

fn wait_status(status: RawStatus) -> Option<WaitStatus> {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    let signal = status.terminating_signal().and_then(|signal| u8::try_from(signal).ok());
    code.map(WaitStatus::Code).or(signal.map(WaitStatus::Signal))
}

/// Says on disk which process we are, so that a daemon that finds us silent can end us and nobody else.
fn write_record(bundle: &std::path::Path) -> Result<(), ServeError> {
    let pid = rustix::process::getpid().as_raw_pid();
    let start_time = proc::stat(pid)?.start_time;
    crate::exits::replace(bundle, SHIM_FILE, &ShimRecord { version: VERSION, pid, start_time })?;
    Ok(())
}

/// The numbers of the signals used, which are the same on every architecture Linux has them on.
mod libc_signal {
    pub(super) const INT: i32 = 2;
    pub(super) const TERM: i32 = 15;
    pub(super) const CHLD: i32 = 17;
}
