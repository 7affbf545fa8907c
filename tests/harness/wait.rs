//! Waiting for something to be so, with a deadline. Nothing here waits for a while and hopes.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time;

/// How long a level may take to be reached; far more than it takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the answer is yes.
pub async fn until(what: &str, mut question: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let asked = async {
        while !question().await? {
            time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    match time::timeout(DEADLINE, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!("not within {} s: {what}", DEADLINE.as_secs()),
    }
}
