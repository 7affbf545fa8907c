//! ExecSync: a process in the container whose output goes straight from its pipes to us.
//!
//! The exec lives as long as our connection to the shim: a caller that gives up drops this future, and the shim kills the
//! process with all its offspring.

use super::control::{Control, raw};
use super::room::{FREE, Place, Room};
use super::{ExecBounds, ExecError, PATIENCE, Shim, SupervisorError};
use cringle_proto_shim::control::{Answer, ExecEnding, Order, Report, Stream};
use oci_spec::runtime::Process;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// How long the pipes are read after the end of the process: its offspring may have them open.
const GRACE: Duration = Duration::from_millis(250);

/// What an exec gave.
#[derive(Debug)]
pub struct ExecOutput {
    /// Standard output, as much as may be kept.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// Exit code; 128 and the signal's number if one ended it.
    pub exit_code: i32,
    /// The place among those who keep much, if it needed one; to be held for as long as the output is anywhere in memory.
    pub place: Option<Place>,
}

/// Waits until it may run, executes, reads, waits.
pub(super) async fn exec_sync(
    shim: &Shim,
    process: &Process,
    timeout: Option<Duration>,
    bounds: &ExecBounds,
) -> Result<ExecOutput, ExecError> {
    let Some(timeout) = timeout else {
        let _running = bounds.admission().await;
        return execute(shim, process, None, bounds).await;
    };
    let asked = Instant::now();
    let _running = tokio::time::timeout(timeout, bounds.admission())
        .await
        .map_err(|_elapsed| ExecError::TimedOut)?;
    execute(shim, process, Some(timeout.saturating_sub(asked.elapsed())), bounds).await
}

async fn execute(
    shim: &Shim,
    process: &Process,
    timeout: Option<Duration>,
    bounds: &ExecBounds,
) -> Result<ExecOutput, ExecError> {
    let room = bounds.room();
    let mut stdout = Output::new(bounds.cap())?;
    let mut stderr = Output::new(bounds.cap())?;
    let mut control = Control::connect(&shim.bundle)?;
    let ending = {
        let run = run((shim, &mut control), process, timeout, [stdout.writer(), stderr.writer()]);
        let read = async { tokio::try_join!(stdout.reader.read(&room), stderr.reader.read(&room)) };
        tokio::pin!(run, read);
        // The process' end decides; a process may well close its output long before.
        let early = tokio::select! {
            ending = &mut run => Some(ending?),
            read = &mut read => read.map(|_both| None)?,
        };
        match early {
            Some(ending) => {
                // What is open longer belongs to somebody that was left behind.
                loop {
                    match tokio::time::timeout(GRACE, &mut read).await {
                        Ok(read) => break read.map(drop)?,
                        Err(_elapsed) if room.is_awaited() => {}
                        Err(_elapsed) => break,
                    }
                }
                ending
            }
            None => run.await?,
        }
    };
    match ending {
        ExecEnding::TimedOut => Err(ExecError::TimedOut),
        ExecEnding::Exited(ending) => Ok(ExecOutput {
            stdout: stdout.reader.kept,
            stderr: stderr.reader.kept,
            exit_code: super::end::outcome_of(ending).exit_code(),
            place: room.into_place(),
        }),
    }
}

async fn run(
    (shim, control): (&Shim, &mut Control),
    process: &Process,
    timeout: Option<Duration>,
    writers: [Option<OwnedFd>; 2],
) -> Result<ExecEnding, SupervisorError> {
    let id = exec_id();
    let order = Order::Exec {
        id: id.clone(),
        process: raw(process)?,
        timeout_milliseconds: timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        streams: vec![Stream::Output, Stream::Error],
    };
    let passed: Vec<_> = writers.iter().flatten().map(AsFd::as_fd).collect();
    let started = shim.pulse.wait_for("exec", control.ask_with(order, &passed)).await;
    match started?.0 {
        Answer::Started { .. } => {}
        Answer::Hello { .. } | Answer::Done | Answer::State(_) | Answer::Attached { .. } => {
            return Err(SupervisorError::Nonsense { order: "exec" });
        }
    }
    drop(writers);
    let ended = async {
        loop {
            if let Report::ExecExited { id: ended, ending } = control.report().await?
                && ended == id
            {
                return Ok(ending);
            }
        }
    };
    match timeout {
        None => ended.await,
        // The shim has the clock; ours is for a shim that hangs.
        Some(timeout) => tokio::time::timeout(timeout.saturating_add(PATIENCE), ended)
            .await
            .map_err(|_elapsed| SupervisorError::Silent { order: "exec" })?,
    }
}

/// One output stream: a pipe, and what was read of it.
struct Output {
    reader: Reader,
    writer: Option<OwnedFd>,
}

struct Reader {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    cap: usize,
}

impl Output {
    fn new(cap: usize) -> Result<Self, SupervisorError> {
        let made = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (reader, writer) = made.map_err(|errno| SupervisorError::Connection(errno.into()))?;
        let pipe = pipe::Receiver::from_owned_fd(reader).map_err(SupervisorError::Connection)?;
        Ok(Self { reader: Reader { pipe, kept: Vec::new(), cap }, writer: Some(writer) })
    }

    fn writer(&mut self) -> Option<OwnedFd> {
        self.writer.take()
    }
}

impl Reader {
    /// Reads to the end; keeps the first bytes and lets the others go, so that the process is never held up for good.
    async fn read(&mut self, room: &Room) -> Result<(), ExecError> {
        if self.keep_until(FREE.min(self.cap)).await {
            if self.cap > FREE {
                room.more().await?;
            }
            if self.keep_until(self.cap).await {
                // A pipe that cannot be read has nothing to say any more.
                let _unreadable = tokio::io::copy(&mut self.pipe, &mut tokio::io::sink()).await;
            }
        }
        Ok(())
    }

    /// Keeps so many bytes in all; whether there may be more.
    async fn keep_until(&mut self, size: usize) -> bool {
        let wanted = size.saturating_sub(self.kept.len());
        let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
        let read = (&mut self.pipe).take(limit).read_to_end(&mut self.kept).await;
        read.is_ok_and(|read| read == wanted)
    }
}

/// An id that no other exec of this daemon or of one before it has. Not by the process id: a daemon that is the first of its
/// PID namespace always has the same.
pub(super) fn exec_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The state is random, so a hash of nothing is.
    static DAEMON: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{number}", *DAEMON)
}
