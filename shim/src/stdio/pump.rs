//! Tasks that move bytes between a process and where its streams lead.

use crate::locked;
use crate::stdio::SharedLog;
use crate::stdio::fan::SharedFan;
use crate::stdio::lines::Stream;
use crate::watched::watched;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// What becomes of the bytes read.
#[derive(Debug)]
pub(crate) enum Drain {
    /// Lines of the log, and whoever is attached.
    Log(SharedLog, SharedFan, Stream),
    /// Whoever is attached.
    Fan(SharedFan, Stream),
    /// The same bytes elsewhere.
    Copy(OwnedFd),
    /// Nothing.
    Nowhere,
}

/// The tasks of one process' streams. They end with the streams, or when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    drains: Vec<JoinHandle<()>>,
    feed: Option<JoinHandle<()>>,
}

/// Bytes moved at once where no log is written.
const CHUNK: usize = 8 * 1024;

impl Pump {
    /// Reads `source` to its end.
    ///
    /// # Errors
    /// The event loop refuses the descriptor.
    pub(crate) fn drain(&mut self, source: OwnedFd, drain: Drain) -> io::Result<()> {
        let source = without_waiting(source)?;
        let task = match drain {
            Drain::Log(log, fan, stream) => tokio::spawn(log_all(source, log, fan, stream)),
            Drain::Fan(fan, stream) => tokio::spawn(spread_all(source, fan, stream)),
            Drain::Copy(target) => tokio::spawn(copy_all(source, Some(without_waiting(target)?))),
            Drain::Nowhere => tokio::spawn(copy_all(source, None)),
        };
        self.drains.push(task);
        Ok(())
    }

    /// Writes what comes from `source` to `target`, until [`Self::end_feed`].
    ///
    /// # Errors
    /// The event loop refuses a descriptor.
    pub(crate) fn feed(&mut self, source: OwnedFd, target: OwnedFd) -> io::Result<()> {
        let (source, target) = (without_waiting(source)?, without_waiting(target)?);
        self.feed = Some(tokio::spawn(copy_all(source, Some(target))));
        Ok(())
    }

    /// Ends the input.
    pub(crate) fn end_feed(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.abort();
        }
    }

    /// Waits until the process' output has ended, but no longer than `grace`: somebody else may have it open, and goes on
    /// being read.
    pub(crate) async fn ended(drains: &mut Vec<JoinHandle<()>>, grace: Duration) {
        let all = async {
            while let Some(drain) = drains.last_mut() {
                // A task that was aborted has ended too.
                let _aborted = drain.await;
                drains.pop();
            }
        };
        let _time_is_up = tokio::time::timeout(grace, all).await;
    }

    /// The tasks that read, for [`Self::ended`]; whoever has them must give them back or let them run on.
    pub(crate) fn take_drains(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.drains)
    }

    /// Gives back what [`Self::take_drains`] took.
    pub(crate) fn return_drains(&mut self, drains: Vec<JoinHandle<()>>) {
        self.drains = drains;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.end_feed();
        for drain in &self.drains {
            drain.abort();
        }
    }
}

fn without_waiting(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    watched(descriptor)
}

async fn log_all(source: AsyncFd<OwnedFd>, log: SharedLog, fan: SharedFan, stream: Stream) {
    loop {
        let Ok(mut ready) = source.readable().await else { return };
        let taken = match ready.try_io(|source| locked(&log).take_from(source.as_fd(), stream)) {
            Ok(Ok(0) | Err(_)) => return fan.stream_ended(stream),
            Ok(Ok(taken)) => taken,
            Err(_would_wait) => continue,
        };
        if fan.is_heard(stream) {
            let bytes = locked(&log).taken(taken).to_vec();
            // In a box, so that the task of a container which nobody is attached to stays small.
            Box::pin(fan.spread(stream, &bytes)).await;
        }
        // A container that never stops talking must not keep the others' turn.
        tokio::task::yield_now().await;
    }
}

async fn spread_all(source: AsyncFd<OwnedFd>, fan: SharedFan, stream: Stream) {
    while let Some(chunk) = next_chunk(&source).await {
        Box::pin(fan.spread(stream, &chunk)).await;
        tokio::task::yield_now().await;
    }
    fan.stream_ended(stream);
}

async fn copy_all(source: AsyncFd<OwnedFd>, target: Option<AsyncFd<OwnedFd>>) {
    while let Some(chunk) = next_chunk(&source).await {
        if let Some(target) = &target
            && write_all(target, &chunk).await.is_err()
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// What a source says next; none if it has ended.
async fn next_chunk(source: &AsyncFd<OwnedFd>) -> Option<Vec<u8>> {
    loop {
        let mut ready = source.readable().await.ok()?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let taken = ready.try_io(|source| {
            match rustix::io::read(source.as_fd(), rustix::buffer::spare_capacity(&mut chunk)) {
                // A terminal whose last user is gone.
                Err(Errno::IO) => Ok(0),
                answer => answer.map_err(io::Error::from),
            }
        });
        match taken {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => return Some(chunk),
            Err(_would_wait) => {}
        }
    }
}

pub(super) async fn write_all(target: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = target.writable().await?;
        let written = ready
            .try_io(|target| rustix::io::write(target.as_fd(), bytes).map_err(io::Error::from));
        if let Ok(written) = written {
            bytes = bytes.get(written?..).unwrap_or_default();
        }
    }
    Ok(())
}
