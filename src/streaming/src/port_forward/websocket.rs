//! Port-forward over the channels of a WebSocket: two for each port, one for bytes and one for an error. The first message
//! on each is the port's number, in two bytes, the lower one first. There is no way to end one direction, so a connection
//! is over when its server in the pod ends it.

use super::Connect;
use crate::negotiate::{Encoding, Version};
use crate::websocket::{Channel, Framing, WebSocket};
use futures::future::join_all;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Serves a client until it leaves, or all connections are over.
pub(super) async fn serve<I, C>(
    io: I,
    encoding: Encoding,
    idle: Option<Duration>,
    ports: Vec<u16>,
    connect: C,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Connect,
{
    let framing = Framing::of(Version::V4, encoding);
    let Ok(count) = u8::try_from(ports.len() * 2) else { return };
    let (mut socket, channels) = WebSocket::open(io, framing, count, idle).await;
    let mut channels = channels.into_iter();
    let mut connections = Vec::with_capacity(ports.len());
    for port in ports {
        if let (Some(bytes), Some(error)) = (channels.next(), channels.next()) {
            connections.push(forward(&connect, port, bytes, error));
        }
    }
    tokio::select! {
        () = socket.ended() => tracing::debug!("a streaming client left"),
        _ = join_all(connections) => socket.ended().await,
    }
}

async fn forward(connect: &impl Connect, port: u16, bytes: Channel, error: Channel) {
    let Channel { input, mut output } = bytes;
    let mut error = error.output;
    let number = port.to_le_bytes();
    if output.write_all(&number).await.is_err() || error.write_all(&number).await.is_err() {
        return;
    }
    match connect.connect(port).await {
        Ok(connection) => carry(connection, input, output).await,
        Err(refused) => {
            let text = connect.failed(port, &refused);
            if error.write_all(text.as_bytes()).await.is_err() {
                tracing::debug!("a streaming client was gone before it could be told an error");
            }
        }
    }
}

async fn carry<R, W>(connection: tokio::net::TcpStream, mut input: R, mut output: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut from, mut to) = connection.into_split();
    let sending = async {
        if tokio::io::copy(&mut input, &mut to).await.is_ok() {
            // It may have gone already.
            drop(to.shutdown().await);
        }
        // The server in the pod may still have something to say.
        std::future::pending::<()>().await;
    };
    let receiving = tokio::io::copy(&mut from, &mut output);
    tokio::select! {
        () = sending => {}
        received = receiving => if let Err(error) = received {
            tracing::debug!(%error, "a forwarded connection broke");
        }
    }
}

#[cfg(test)]
mod tests;
