//! A connection: its handle, and the task that moves bytes between the wire and the streams.

use super::frame::{Control, Decoder};
use super::state::{Phase, State};
use super::stream::Incoming;
use super::{ConnectionError, Ending, Settings};
use bytes::{Buf, BytesMut};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, timeout};

/// What is read at once from a connection that is idle, and from one that is busy.
const SMALL_READ: usize = 4 << 10;
const LARGE_READ: usize = 32 << 10;
/// Reads and writes before other tasks have their turn.
const ROUNDS: usize = 32;
/// How long a farewell may take: for a peer that has nothing more to learn.
const FAREWELL: Duration = Duration::from_secs(5);
/// As good as never: no connection may be idle for longer.
const FAR: Duration = Duration::from_secs(10 * 365 * 86400);

/// A server's end of a SPDY connection. Dropping it ends the connection and all its streams at once.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    task: JoinHandle<Ending>,
}

/// What the connection's task and the handles of its streams share.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    /// A panic elsewhere ends the connection through its task; what is left of it can still be taken down.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Serves a connection over a byte stream that speaks SPDY from its next byte on, in a task that this owns.
    pub fn serve<Io>(io: Io, settings: &Settings) -> Self
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared(Mutex::new(State::new(settings))));
        let now = Instant::now();
        let driver = Driver {
            io,
            shared: Arc::clone(&shared),
            decoder: Decoder::default(),
            input: BytesMut::new(),
            read_size: SMALL_READ,
            output: BytesMut::new(),
            flushed: true,
            idle: settings.idle,
            active: now,
            alarm: Box::pin(tokio::time::sleep_until(now)),
        };
        Self { shared, task: tokio::spawn(driver.run()) }
    }

    /// The next stream that the client opens. None: it opens no more, or the connection has ended. Streams that were
    /// accepted may go on until this handle is dropped or closed.
    pub async fn accept(&mut self) -> Option<Incoming> {
        let accepted = poll_fn(|context| self.shared.state().accept(context.waker())).await;
        accepted.map(|(id, headers)| Incoming::new(headers, Arc::clone(&self.shared), id))
    }

    /// Ends the connection: sends what was written to its streams and then a farewell. That takes as long as a client
    /// takes to read, unless the connection is idle for longer than it may be; drop the future to end it at once.
    pub async fn close(mut self) -> Ending {
        {
            let mut state = self.shared.state();
            if matches!(state.phase, Phase::Open | Phase::Leaving) {
                state.leave(Phase::Closing);
            }
        }
        match (&mut self.task).await {
            Ok(ending) => ending,
            Err(fault) => Ending::Failed(ConnectionError::Drive(fault)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of a connection.
struct Driver<Io> {
    io: Io,
    shared: Arc<Shared>,
    decoder: Decoder,
    input: BytesMut,
    read_size: usize,
    output: BytesMut,
    flushed: bool,
    idle: Option<Duration>,
    /// When a byte last came in or went out.
    active: Instant,
    alarm: Pin<Box<Sleep>>,
}

/// However the task ends, whoever uses a stream learns it.
impl<Io> Drop for Driver<Io> {
    fn drop(&mut self) {
        self.shared.state().end();
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    async fn run(mut self) -> Ending {
        let ending = match poll_fn(|context| self.poll(context)).await {
            Ok(ending) => ending,
            Err(fault) => Ending::Failed(fault),
        };
        let last = {
            let mut state = self.shared.state();
            state.end();
            state.last_seen()
        };
        if let Some(status) = ending.farewell() {
            Control::GoAway { last, status }.put(&mut self.output);
            // A peer that does not take its leave in time is left all the same.
            let _late = timeout(FAREWELL, self.take_leave()).await;
        }
        ending
    }

    /// Says farewell and reads until the peer has left: closing a socket with unread bytes in it would destroy what
    /// the peer has not read yet.
    async fn take_leave(&mut self) -> io::Result<()> {
        self.io.write_all_buf(&mut self.output).await?;
        self.io.shutdown().await?;
        loop {
            self.input.clear();
            self.input.reserve(SMALL_READ);
            if self.io.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Ending, ConnectionError>> {
        for _ in 0..ROUNDS {
            // Both have to be asked each time: each arranges for its own wake-up.
            let output = self.poll_output(context)?;
            let input = self.poll_input(context)?;
            match (output, input) {
                (Poll::Ready(Some(ending)), _) | (_, Poll::Ready(Some(ending))) => {
                    return Poll::Ready(Ok(ending));
                }
                (Poll::Pending, Poll::Pending) => return self.poll_alarm(context).map(Ok),
                (Poll::Ready(None), _) | (_, Poll::Ready(None)) => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends one gathering of frames. Ready when something was done, with the end if it was the last.
    fn poll_output(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Ending>, ConnectionError>> {
        if self.output.is_empty() {
            let mut state = self.shared.state();
            state.set_driver(context.waker());
            state.fill(&mut self.output);
        }
        if !self.output.is_empty() {
            let io = Pin::new(&mut self.io);
            let sent =
                ready!(io.poll_write(context, &self.output)).map_err(ConnectionError::Write)?;
            if sent == 0 {
                let fault = io::ErrorKind::WriteZero.into();
                return Poll::Ready(Err(ConnectionError::Write(fault)));
            }
            self.output.advance(sent);
            self.flushed = false;
            self.active = Instant::now();
            return Poll::Ready(Ok(None));
        }
        // An idle connection keeps little.
        self.output = BytesMut::new();
        if !self.flushed {
            ready!(Pin::new(&mut self.io).poll_flush(context)).map_err(ConnectionError::Write)?;
            self.flushed = true;
        }
        let state = self.shared.state();
        if state.phase == Phase::Closing && state.is_drained() {
            return Poll::Ready(Ok(Some(Ending::Closed)));
        }
        Poll::Pending
    }

    /// Reads once and does what it says. Ready when something was done, with the end if the peer has left.
    fn poll_input(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Ending>, ConnectionError>> {
        {
            let mut state = self.shared.state();
            state.set_driver(context.waker());
            if state.is_full() {
                return Poll::Pending;
            }
        }
        self.input.reserve(self.read_size);
        let read = pin!(self.io.read_buf(&mut self.input)).poll(context);
        let Poll::Ready(read) = read else {
            self.read_size = SMALL_READ;
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            return Poll::Pending;
        };
        let read = read.map_err(ConnectionError::Read)?;
        if read == 0 {
            return Poll::Ready(Ok(Some(Ending::Left)));
        }
        if read >= self.read_size {
            self.read_size = LARGE_READ;
        }
        self.active = Instant::now();
        let mut state = self.shared.state();
        while let Some(event) = self.decoder.next(&mut self.input)? {
            state.receive(event)?;
        }
        Poll::Ready(Ok(None))
    }

    /// Waits for the next moment at which something is overdue. Ready when the connection was idle for too long.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let now = Instant::now();
            let idle = self.active + self.idle.map_or(FAR, |idle| idle.min(FAR));
            if idle <= now {
                return Poll::Ready(Ending::Idle);
            }
            let mut state = self.shared.state();
            let probe = state.probe_deadline();
            if probe.is_some_and(|deadline| deadline <= now) {
                // What this leads to wakes us, for the way out was looked at before.
                state.probe_is_over();
            }
            let next = state.probe_deadline().map_or(idle, |deadline| deadline.min(idle));
            drop(state);
            self.alarm.as_mut().reset(next);
            ready!(self.alarm.as_mut().poll(context));
        }
    }
}

#[cfg(test)]
mod tests;
