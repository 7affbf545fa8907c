//! ExecSync: a process in the container whose output goes straight from its pipes to us.
//!
//! The exec lives as long as our connection to the shim: a caller that gives up drops this future, and the shim kills the
//! process with all its offspring.

use super::control::{Control, raw};
use super::{ExecError, PATIENCE, SupervisorError};
use cringle_proto_shim::control::{Answer, ExecEnding, Order, Report, Stream};
use oci_spec::runtime::Process;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// How long the pipes are read after the end of the process: its offspring may have them open.
const GRACE: Duration = Duration::from_millis(250);
const CHUNK: usize = 64 * 1024;

/// What an exec gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, as much as was asked for.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// Exit code; 128 and the signal's number if one ended it.
    pub exit_code: i32,
}

/// Executes, reads, waits.
pub(super) async fn exec_sync(
    bundle: &Path,
    process: &Process,
    timeout: Option<Duration>,
    output_cap: usize,
) -> Result<ExecOutput, ExecError> {
    let mut stdout = Output::new(output_cap)?;
    let mut stderr = Output::new(output_cap)?;
    let mut control = Control::connect(bundle)?;
    let ending = {
        let run = run(&mut control, process, timeout, [stdout.writer(), stderr.writer()]);
        let read = async { tokio::join!(stdout.reader.read(), stderr.reader.read()) };
        tokio::pin!(run, read);
        // The process' end decides; a process may well close its output long before.
        let early = tokio::select! {
            ending = &mut run => Some(ending?),
            _ = &mut read => None,
        };
        match early {
            Some(ending) => {
                // What is open longer belongs to somebody that was left behind.
                let _read_to_the_end = tokio::time::timeout(GRACE, read).await;
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
        }),
    }
}

async fn run(
    control: &mut Control,
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
    let started = tokio::time::timeout(PATIENCE, control.ask_with(order, &passed)).await;
    match started.map_err(|_elapsed| SupervisorError::Silent { order: "exec" })?? {
        Answer::Started { .. } => {}
        Answer::Hello { .. } | Answer::Done | Answer::State(_) => {
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
    /// Reads to the end; keeps the first bytes and lets the others go, so that the process is never held up.
    async fn read(&mut self) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    let wanted = read.min(self.cap - self.kept.len());
                    self.kept.extend_from_slice(chunk.get(..wanted).unwrap_or_default());
                }
            }
        }
    }
}

/// An id that no other exec of this daemon or of one before it has.
fn exec_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}
