//! How long to wait for a shim that does one thing after the other: an order may stand in line behind hundreds.

use super::{PATIENCE, START_PATIENCE, SupervisorError};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, timeout};

/// Counts what a shim answers, to whomever.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Waits for the answer to an order: [`PATIENCE`], and on for as long as others had answers meanwhile, but no longer than
    /// [`START_PATIENCE`].
    ///
    /// # Errors
    /// There was none; or what the answer is.
    pub(super) async fn wait_for<T>(
        &self,
        order: &'static str,
        answer: impl Future<Output = Result<T, SupervisorError>>,
    ) -> Result<T, SupervisorError> {
        tokio::pin!(answer);
        let asked = Instant::now();
        loop {
            let before = self.0.load(Ordering::Relaxed);
            if let Ok(answer) = timeout(PATIENCE, &mut answer).await {
                self.0.fetch_add(1, Ordering::Relaxed);
                return answer;
            }
            let silent = self.0.load(Ordering::Relaxed) == before;
            if silent || asked.elapsed() >= START_PATIENCE {
                return Err(SupervisorError::Silent { order });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::sleep;

    /// The answer to an order that comes after so many seconds, while others have theirs every eight seconds; with how many
    /// seconds it took.
    async fn asked(after: u64, others: u64) -> (bool, u64) {
        let pulse = Pulse::default();
        let begin = Instant::now();
        let answer = pulse.wait_for("test", async {
            sleep(Duration::from_secs(after)).await;
            Ok(())
        });
        let beside = async {
            for _ in 0..others {
                let answer = async {
                    sleep(Duration::from_secs(8)).await;
                    Ok(())
                };
                pulse.wait_for("other", answer).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let answered = tokio::select! {
            answer = answer => answer.is_ok(),
            () = beside => false,
        };
        (answered, begin.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_in_line_waits_for_as_long_as_the_line_moves() {
        assert_eq!(asked(9, 0).await, (true, 9));
        assert_eq!(asked(60, 0).await, (false, 10));
        assert_eq!(asked(60, 100).await, (true, 60));
        // The fourth answer of others, after 32 s, is the last.
        assert_eq!(asked(60, 4).await, (false, 50));
        // What is never answered though others are is lost.
        assert_eq!(asked(600, 100).await, (false, 90));
    }
}
