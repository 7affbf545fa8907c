//! The daemon's page for Prometheus, and whatever else answers plain HTTP.

use anyhow::{Context, Result};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// The whole answer to a GET at a socket, head and body.
pub async fn get(socket: &Path, path: &str) -> Result<String> {
    ask(UnixStream::connect(socket).await?, path).await
}

/// The whole answer to a GET on a connection.
pub async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The value of a metric without labels.
pub async fn value(socket: &Path, name: &str) -> Result<f64> {
    value_on(&get(socket, "/metrics").await?, name)
}

/// The same, on a page that was read.
pub fn value_on(page: &str, name: &str) -> Result<f64> {
    let mut values = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(values.next().with_context(|| format!("no {name}: {page}"))?.parse()?)
}
