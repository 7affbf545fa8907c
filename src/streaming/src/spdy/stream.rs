//! One stream in the hands of whoever serves it.

use super::connection::Shared;
use super::frame::Status;
use super::headers::Headers;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that the client has opened and that waits for an answer. Dropping it resets the stream.
#[derive(Debug)]
pub struct Incoming {
    /// What the client says of the stream.
    pub headers: Headers,
    stream: Stream,
}

impl Incoming {
    pub(super) fn new(headers: Headers, shared: Arc<Shared>, id: u32) -> Self {
        Self { headers, stream: Stream { shared, id, drop_status: Status::Cancel } }
    }

    /// The stream's number on its connection.
    pub fn id(&self) -> u32 {
        self.stream.id
    }

    /// Takes the stream, with headers for the client. Kubernetes clients wait for this and want none.
    pub fn reply(self, headers: &Headers) -> Stream {
        self.stream.shared.state().reply(self.stream.id, headers);
        self.stream
    }

    /// Refuses the stream: nothing was done for it.
    pub fn refuse(mut self) {
        self.stream.drop_status = Status::RefusedStream;
    }
}

/// A stream in both directions.
///
/// Reading ends when the client has ended its half, and fails when the stream was reset or the connection has ended.
/// Writing takes what there is room for; it is sent without a flush, in fair turns with the other streams. Shutting down
/// ends our half after what was written. Dropping a stream whose halves are not both ended resets it, after what was
/// written if our half is.
pub struct Stream {
    shared: Arc<Shared>,
    id: u32,
    drop_status: Status,
}

impl Stream {
    /// The stream's number on its connection.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.state().read(self.id, buffer, context.waker())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.state().write(self.id, bytes, context.waker())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.state().finish(self.id))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.state().release(self.id, self.drop_status);
    }
}
