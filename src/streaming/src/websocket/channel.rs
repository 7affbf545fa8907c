//! One channel of a WebSocket, as a reader and a writer of bytes.

use super::Framing;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::PollSender;

/// The most that one message carries: the others' turn comes soon.
const LARGEST_PIECE: usize = 32 << 10;

/// Both directions of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// What the client sends.
    pub(crate) input: Input,
    /// What it gets.
    pub(crate) output: Output,
}

impl Channel {
    pub(super) fn new(
        number: u8,
        framing: Framing,
        read: mpsc::Receiver<Bytes>,
        written: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            input: Input { read, rest: Bytes::new() },
            output: Output { number, framing, written: PollSender::new(written) },
        }
    }
}

/// What the client sends on a channel. It ends when the client ends the channel or is gone.
#[derive(Debug)]
pub(crate) struct Input {
    read: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.read.poll_recv(context)) {
                Some(piece) => self.rest = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// What the client gets on a channel. What is written is sent, also when the writer is dropped.
#[derive(Debug)]
pub(crate) struct Output {
    number: u8,
    framing: Framing,
    written: PollSender<Message>,
}

impl Output {
    /// Sends a message without bytes, by which clients learn that they are connected. Only for the beginning, when there
    /// is room.
    pub(crate) fn greet(&mut self) {
        if let Some(queue) = self.written.get_ref()
            && queue.try_send(self.framing.message(self.number, &[])).is_err()
        {
            tracing::debug!("a streaming client was not greeted");
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_closed| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.written.poll_reserve(context)).map_err(gone)?;
        let piece = bytes.get(..LARGEST_PIECE).unwrap_or(bytes);
        let message = self.framing.message(self.number, piece);
        self.written.send_item(message).map_err(gone)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The protocols have no message for it: the end of the connection is the end of what the client gets.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written.close();
        Poll::Ready(Ok(()))
    }
}
