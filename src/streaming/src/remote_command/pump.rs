//! Bytes between the descriptors of a session and the streams of its client.

use super::{Reader, Writer};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// What is carried at a time: half of what a pipe has by default.
const CHUNK: usize = 32 << 10;

/// The most that a pipe can have kept of what a program said before it ended; attachments have the largest.
const KEPT: usize = 1 << 20;

/// Carries a client's input to a program, and reads on when the program takes no more of it, until the client ends its input.
pub(super) async fn feed(
    client: Option<Reader>,
    input: Option<OwnedFd>,
    ended: &CancellationToken,
) {
    let Some(mut client) = client else { return };
    if let Some(input) = input.and_then(writer) {
        let carrying = carry_input(&mut client, &input);
        // Whatever ends it, the program or its input: from here on nobody takes the bytes.
        tokio::select! {
            () = ended.cancelled() => {}
            () = carrying => {}
        }
    }
    discard(&mut client).await;
}

async fn carry_input(client: &mut Reader, input: &pipe::Sender) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = client.read(&mut chunk).await {
        if write_all(input, chunk.get(..length).unwrap_or_default()).await.is_err() {
            // The program has closed its input, or its terminal is gone.
            return;
        }
    }
}

async fn discard(client: &mut Reader) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(1..) = client.read(&mut chunk).await {}
}

/// Carries one output stream of a program to the client.
#[derive(Debug)]
pub(super) struct Pump<'client, W = Writer> {
    from: Option<pipe::Receiver>,
    to: Option<&'client mut W>,
    cut: CancellationToken,
}

impl<'client, W: AsyncWrite + Unpin> Pump<'client, W> {
    /// From this descriptor to this stream; without a stream what comes is thrown away. After the cut only what is there
    /// already is carried.
    pub(super) fn new(
        from: Option<OwnedFd>,
        to: Option<&'client mut W>,
        cut: &CancellationToken,
    ) -> Self {
        Self { from: from.and_then(reader), to, cut: cut.clone() }
    }

    /// Carries until the end of the stream. If the client lets go of its stream, the program learns it as the reader of a
    /// pipe that is gone.
    pub(super) async fn run(mut self) {
        let Some(from) = self.from.take() else { return };
        let mut chunk = vec![0; CHUNK];
        loop {
            // EIO is how the terminal of a program that is gone says that there is nothing more.
            let length = tokio::select! {
                biased;
                () = self.cut.cancelled() => break,
                read = read(&from, &mut chunk) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(length) => length,
                },
            };
            if self.give(chunk.get(..length).unwrap_or_default()).await.is_err() {
                return;
            }
        }
        let mut carried = 0;
        while carried < KEPT {
            let Ok(length @ 1..) = from.try_read(&mut chunk) else { return };
            carried += length;
            if self.give(chunk.get(..length).unwrap_or_default()).await.is_err() {
                return;
            }
        }
    }

    async fn give(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(to) = &mut self.to else { return Ok(()) };
        to.write_all(bytes).await?;
        to.flush().await
    }
}

/// A pipe or the master of a terminal, for reading. A descriptor that the event loop does not take is as one that has ended,
/// and the session goes on without it.
fn reader(descriptor: OwnedFd) -> Option<pipe::Receiver> {
    usable(
        without_waiting(&descriptor)
            .and_then(|()| pipe::Receiver::from_owned_fd_unchecked(descriptor)),
    )
}

/// The same for writing.
fn writer(descriptor: OwnedFd) -> Option<pipe::Sender> {
    usable(
        without_waiting(&descriptor)
            .and_then(|()| pipe::Sender::from_owned_fd_unchecked(descriptor)),
    )
}

fn without_waiting(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(descriptor, true)?)
}

fn usable<T>(made: io::Result<T>) -> Option<T> {
    made.map_err(|error| tracing::warn!(%error, "a stream of a session cannot be used")).ok()
}

/// Reads what is there, or waits. Not by tokio's own reading: that takes a read which fills less than the buffer for the
/// last one that there is anything for, which is so of pipes but not of terminals.
async fn read(from: &pipe::Receiver, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write_all(to: &pipe::Sender, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
