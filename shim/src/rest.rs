//! What follows work: once nothing has happened for a while, the memory that the work took is given back.
//!
//! A shim works for some milliseconds to make a container or an exec and then waits for hours or days, and there are as
//! many shims on a node as containers. The pages are given back afterwards, so that no answer waits for it.

use crate::{chain, note};
use std::time::Duration;
use tokio::sync::Notify;

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_millis(500);

/// Says when there was work, and rests after it.
#[derive(Debug, Default)]
pub(crate) struct Rest(Notify);

impl Rest {
    /// There was work that takes memory.
    pub(crate) fn stir(&self) {
        self.0.notify_one();
    }

    /// Gives memory back whenever work has ended, for ever.
    pub(crate) async fn take(&self) {
        loop {
            self.0.notified().await;
            while tokio::time::timeout(QUIET, self.0.notified()).await.is_ok() {}
            if let Err(error) = cringle_kernel::memory::give_back() {
                note(&chain(&error));
            }
        }
    }
}
