//! Exec and attach over WebSocket: a channel for each stream.

use super::{Client, Opening, Shape, run};
use crate::negotiate::{Encoding, Version};
use crate::websocket::{Channel, Framing, WebSocket};
use cringle_domain::spec::Terminal;
use cringle_service::streams::Wanted;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Input, output, error output, status and sizes.
const CHANNELS: u8 = 5;

/// Serves a client to the end, the session's or its own.
pub(crate) async fn serve<I, O>(
    io: I,
    (version, encoding): (Version, Encoding),
    idle: Option<Duration>,
    shape: Shape,
    opening: O,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    O: Opening,
{
    let framing = Framing::of(version, encoding);
    let (mut socket, channels) = WebSocket::open(io, framing, CHANNELS, idle).await;
    let Ok(channels) = <[Channel; CHANNELS as usize]>::try_from(channels) else { return };
    tokio::select! {
        () = socket.ended() => tracing::debug!("a streaming client left"),
        // Everything was let go of: what waits is sent, and then the socket ends.
        () = run(client(version, shape, channels), opening) => socket.ended().await,
    }
}

fn client(version: Version, shape: Shape, channels: [Channel; CHANNELS as usize]) -> Client {
    let [input, mut output, mut error, mut status, sizes] = channels;
    match (shape.streams.output, shape.streams.error) {
        (Wanted::Yes, _) => output.output.greet(),
        (Wanted::No, Wanted::Yes) => error.output.greet(),
        (Wanted::No, Wanted::No) => status.output.greet(),
    }
    let wanted = |wanted| wanted == Wanted::Yes;
    Client {
        version,
        input: wanted(shape.streams.input).then(|| Box::new(input.input) as _),
        output: wanted(shape.streams.output).then(|| Box::new(output.output) as _),
        error: wanted(shape.streams.error).then(|| Box::new(error.output) as _),
        sizes: match shape.terminal {
            Terminal::Present => Some(Box::new(sizes.input)),
            Terminal::Absent => None,
        },
        status: Some(Box::new(status.output)),
        input_end: None,
    }
}
