//! Waiting for something to be so, with a deadline. Nothing here waits for a while and hopes.

use crate::client::Cri;
use anyhow::{Result, bail};
use cringle_proto_cri::v1::{ContainerState, ContainerStatus};
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

impl Cri {
    /// Waits until a container has ended; its status then.
    pub async fn ended(&mut self, container: &str) -> Result<ContainerStatus> {
        let mut status = ContainerStatus::default();
        until("the container has ended", async || {
            status = self.container(container).await?;
            Ok(status.state() == ContainerState::ContainerExited)
        })
        .await?;
        Ok(status)
    }

    /// Waits until there is a listener on each of these TCP ports in a container's network, whatever its address.
    pub async fn listens(&mut self, container: &str, ports: &[u16]) -> Result<()> {
        // A state of 0A is that of a listener.
        let listens = |line: &str, port| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some("0A")
        };
        until("the servers listen", async || {
            let seen = self.output(container, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]).await?;
            Ok(ports.iter().all(|port| seen.lines().any(|line| listens(line, port))))
        })
        .await
    }
}
