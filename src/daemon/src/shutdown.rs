//! When the daemon is told to end.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the daemon, caught from its making on.
#[derive(Debug)]
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Shutdown {
    /// Catches the signals.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends it, and names it. SIGHUP does not: who sends it wants the configuration read again, and
    /// not the node's runtime gone.
    pub(crate) async fn ordered(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                Some(()) = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP ignored: the configuration is read at the start only");
                }
            }
        }
    }
}
