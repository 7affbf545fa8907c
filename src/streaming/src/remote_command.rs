//! One exec or one attachment from its client's streams to its end, however the client is connected.
//!
//! ```text
//!  client.input  ──────────> session.input        until the client ends it, the program closes it, or the end
//!  client.output <────────── session.output  ┐    until their end; after the program's end for as long as
//!  client.error  <────────── session.error   ┘    GRACE, and then what is in the pipes already
//!  client.sizes  ──────────> session.terminal
//!  client.status <────────── how it ended         last of all
//! ```
//! All of it is one task: dropping it lets go of everything, and that is how a client that vanished ends its exec. Input that
//! nobody takes is read and thrown away, for a client whose bytes wait could not say anything else on its connection.

mod pump;
mod sizes;
mod spdy;
mod status;
mod websocket;

pub(crate) use spdy::serve as serve_spdy;
pub(crate) use status::Status;
pub(crate) use websocket::serve as serve_websocket;

use crate::negotiate::Version;
use cringle_domain::spec::Terminal;
use cringle_service::ServiceError;
use cringle_service::streams::{Session, SessionEnd, Size, Streams};
use pump::Pump;
use sizes::Sizes;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// How long the first size of a terminal is waited for, so that the first output has it already.
const FIRST_SIZE: Duration = Duration::from_millis(100);

/// How long output is read after the end of the program: its offspring may have the pipes open.
const GRACE: Duration = Duration::from_millis(250);

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The streams it has.
    pub(crate) streams: Streams,
    /// Whether there is a terminal, so that there are sizes.
    pub(crate) terminal: Terminal,
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's side of an exec or an attachment.
struct Client {
    version: Version,
    input: Option<Reader>,
    output: Option<Writer>,
    error: Option<Writer>,
    sizes: Option<Reader>,
    status: Option<Writer>,
    /// Our half of the stream of its input. Its end tells the client that its input is not wanted any more.
    input_end: Option<Writer>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The other side: a session, or what a test has in its place.
pub(crate) trait Peer: Send {
    /// Descriptors to write input to and to read output and error output from; they are given once.
    fn descriptors(&mut self) -> [Option<OwnedFd>; 3];
    /// Waits for the end; may be dropped and called again.
    fn ended(&mut self) -> impl Future<Output = Result<SessionEnd, ServiceError>> + Send;
    /// Sets the size of the terminal.
    fn resize(&self, size: Size);
}

impl Peer for Session {
    fn descriptors(&mut self) -> [Option<OwnedFd>; 3] {
        [self.input.take(), self.output.take(), self.error.take()]
    }

    async fn ended(&mut self) -> Result<SessionEnd, ServiceError> {
        Self::ended(self).await
    }

    fn resize(&self, size: Size) {
        if let Err(error) = Self::resize(self, size) {
            // The terminal goes a moment before the session ends.
            tracing::debug!(error = cringle_service::error::chain(&error), "a size was not set");
        }
    }
}

/// What is done: executing or attaching.
pub(crate) trait Opening: Send {
    /// What it becomes.
    type Peer: Peer;
    /// Does it.
    fn open(
        self,
        size: Option<Size>,
    ) -> impl Future<Output = Result<Self::Peer, ServiceError>> + Send;
    /// Its failure, as the client is told.
    fn failed(error: &ServiceError) -> Status;
}

/// Serves a client to the end. The client vanishing is the caller's business: it drops this future.
async fn run<O: Opening>(mut client: Client, opening: O) {
    let mut sizes = Sizes::new(client.sizes.take());
    let first = sizes.first(FIRST_SIZE).await;
    let status = match opening.open(first).await {
        Ok(mut peer) => converse(&mut client, &mut peer, sizes)
            .await
            .map_or_else(|error| O::failed(&error), Status::of),
        Err(error) => O::failed(&error),
    };
    client.finish(&status).await;
}

/// Carries bytes both ways until the session has ended and its output is with the client.
async fn converse<P: Peer>(
    client: &mut Client,
    peer: &mut P,
    mut sizes: Sizes,
) -> Result<SessionEnd, ServiceError> {
    let [input, output, error] = peer.descriptors();
    let ended = CancellationToken::new();
    let cut = CancellationToken::new();
    let feeding = pump::feed(client.input.take(), input, &ended);
    let output = Pump::new(output, client.output.as_mut(), &cut);
    let error = Pump::new(error, client.error.as_mut(), &cut);
    let carrying = async { tokio::join!(output.run(), error.run()) };
    tokio::pin!(feeding, carrying);
    let (mut fed, mut carried) = (false, false);
    let end = loop {
        tokio::select! {
            end = peer.ended() => break end,
            size = sizes.next() => peer.resize(size),
            () = &mut feeding, if !fed => fed = true,
            _ = &mut carrying, if !carried => carried = true,
        }
    };
    ended.cancel();
    let grace = tokio::time::sleep(GRACE);
    tokio::pin!(grace);
    while !carried {
        tokio::select! {
            _ = &mut carrying => carried = true,
            () = &mut feeding, if !fed => fed = true,
            () = &mut grace, if !cut.is_cancelled() => cut.cancel(),
        }
    }
    end
}

impl Client {
    /// Says how it ended, and ends all streams. A client that is gone does not hear it.
    async fn finish(mut self, status: &Status) {
        for stream in [self.output.as_mut(), self.error.as_mut()].into_iter().flatten() {
            end(stream).await;
        }
        if let Some(stream) = self.status.take() {
            status.send(self.version, stream).await;
        }
        if let Some(stream) = &mut self.input_end {
            end(stream).await;
        }
    }
}

impl Status {
    async fn send(&self, version: Version, mut stream: Writer) {
        let text = self.text(version);
        if !text.is_empty() && stream.write_all(&text).await.is_err() {
            tracing::debug!("a streaming client was gone before it could be told the end");
        }
        end(&mut stream).await;
    }
}

async fn end(stream: &mut Writer) {
    if let Err(error) = stream.shutdown().await {
        tracing::debug!(%error, "a stream was ended already");
    }
}

#[cfg(test)]
mod tests;
