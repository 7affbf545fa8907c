//! Hears how a container ended, and reaps the shim.
//!
//! A task for each shim. It subscribes, so that nothing that happened before is missed, and subscribes again if the
//! connection breaks while the shim lives. The shim's end without a report is told as loss; what it left on record is read
//! by whoever hears that.

use super::SupervisorError;
use super::control::{Control, watched};
use super::end::exit_of;
use cringle_domain::process::Exit;
use cringle_proto_shim::control::{Order, Phase, Report};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;

/// How long after a broken connection the next one is tried.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watched {
    /// No end was heard of.
    Runs,
    /// It ended.
    Exited(Exit),
    /// The shim is gone and has not said how it ended.
    Lost,
}

/// The watcher of one shim.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The shim's bundle.
    pub bundle: PathBuf,
    /// Readable once the shim has ended.
    pub process: Arc<OwnedFd>,
    /// The shim, if it is our child.
    pub child: Option<Child>,
    /// Where the news go.
    pub news: Sender<Watched>,
}

impl Watcher {
    /// Watches until the shim has ended.
    pub(super) async fn run(mut self) {
        let process = Arc::clone(&self.process);
        tokio::select! {
            ended = ended(&process) => if let Err(error) = ended {
                tracing::error!(bundle = %self.bundle.display(), %error, "shim not watched");
            },
            () = self.listen() => {}
        }
        let _unwatched = ended(&process).await;
        if let Some(child) = &mut self.child {
            // It has ended, so this does not wait; and nobody else waits for it.
            let _reaped = child.wait();
        }
        self.news.send_if_modified(|watched| {
            let lost = *watched == Watched::Runs;
            if lost {
                *watched = Watched::Lost;
            }
            lost
        });
    }

    /// Returns when the exit is known.
    async fn listen(&self) {
        loop {
            match self.hear_exit().await {
                Ok(exit) => {
                    self.news.send_replace(Watched::Exited(exit));
                    return;
                }
                Err(_broken) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn hear_exit(&self) -> Result<Exit, SupervisorError> {
        let mut control = Control::connect(&self.bundle)?;
        control.ask(Order::Subscribe).await?;
        loop {
            match control.report().await? {
                Report::Exited(record) => return Ok(exit_of(record)),
                Report::State(state) => {
                    if let Phase::Exited(record) = state.phase {
                        return Ok(exit_of(record));
                    }
                }
                Report::ExecExited { .. }
                | Report::AttachmentEnded { .. }
                | Report::OutOfMemory { .. } => {}
            }
        }
    }
}

/// Waits for the end of a process.
///
/// # Errors
/// The event loop refuses the descriptor.
pub(super) async fn ended(process: &Arc<OwnedFd>) -> Result<(), SupervisorError> {
    // A duplicate: one descriptor cannot be in the event loop twice.
    let own = process.try_clone().map_err(SupervisorError::Connection)?;
    let watched = watched(Pidfd(own)).map_err(SupervisorError::Connection)?;
    watched.readable().await.map(drop).map_err(SupervisorError::Connection)
}

#[derive(Debug)]
struct Pidfd(OwnedFd);

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
