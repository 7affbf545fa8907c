//! A runtime under measurement.

use anyhow::{Context, Result, ensure};
use cringle_tests::client::Cri;
use std::path::{Path, PathBuf};

/// One runtime.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name in the table.
    pub(crate) name: String,
    /// Its client.
    pub(crate) cri: Cri,
    /// The process behind the socket.
    pub(crate) daemon: u32,
}

/// Connects to all runtimes, which must be without pods.
pub(crate) async fn connect(runtimes: &[(String, PathBuf)]) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for (name, socket) in runtimes {
        let mut cri = Cri::connect(socket).await?;
        ensure!(cri.pods().await?.is_empty(), "{name} has pods already");
        targets.push(Target { name: name.clone(), cri, daemon: peer(socket)? });
    }
    Ok(targets)
}

/// Who listens on a socket.
fn peer(socket: &Path) -> Result<u32> {
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).context("a process id is positive")
}
