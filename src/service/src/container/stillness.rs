//! A container that stands still for a checkpoint, and those who want something of it meanwhile: a frozen process takes no
//! signal that would end it in order, and what is executed beside it stands still before its program begins.

use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a stop waits for what makes the container stand still to give up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a container stands still, and whether it is to be stopped.
#[derive(Debug, Default)]
pub(crate) struct Stillness {
    still: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

impl Stillness {
    /// Notes that it stands still from now on, or goes on.
    pub(crate) fn note(&self, still: bool) {
        let _before = self.still.send_replace(still);
    }

    /// Waits until it goes on, for no longer than there is time; gives what is left of that. None: there is time enough.
    ///
    /// # Errors
    /// There is none left.
    pub(crate) async fn over(&self, time: Option<Duration>) -> Result<Option<Duration>, Elapsed> {
        let began = Instant::now();
        let mut still = self.still.subscribe();
        let over = still.wait_for(|still| !*still);
        match time {
            // The sender is ours: it is there as long as we are.
            None => drop(over.await),
            Some(time) => drop(tokio::time::timeout(time, over).await.map_err(|_elapsed| Elapsed)?),
        }
        Ok(time.map(|time| time.saturating_sub(began.elapsed())))
    }

    /// Has whoever makes it stand still give up, now and later, and waits for that.
    pub(crate) async fn stop(&self) {
        let _before = self.stopped.send_replace(true);
        if self.over(Some(PATIENCE)).await.is_err() {
            tracing::warn!("a container is stopped that still stands still for a checkpoint");
        }
    }

    /// Waits until it is to be stopped.
    pub(crate) async fn until_stopped(&self) {
        // As above.
        drop(self.stopped.subscribe().wait_for(|stopped| *stopped).await);
    }
}

/// There was no time left.
#[derive(Debug)]
pub(crate) struct Elapsed;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_wants_something_waits_and_a_stop_has_it_given_up() {
        let stillness = Stillness::default();
        let long = Some(Duration::from_secs(60));
        assert!(stillness.over(None).await.unwrap().is_none());
        assert!(stillness.over(long).await.unwrap() > Some(Duration::from_secs(30)));
        stillness.note(true);
        stillness.over(Some(Duration::from_millis(10))).await.unwrap_err();
        let give_up = async {
            stillness.until_stopped().await;
            stillness.note(false);
        };
        let ((), (), executed) = tokio::join!(stillness.stop(), give_up, stillness.over(long));
        executed.unwrap();
        // A stop is for good.
        stillness.until_stopped().await;
    }
}
