//! Unpacking a layer, confined.
//!
//! The daemon never looks into a layer. It starts a worker for each (this program, called with `unpack`) and gives it three
//! descriptors and nothing else: the compressed stream, the directory to fill, and a pipe for the report.
//!
//! ```text
//!            compressed bytes              +--------- worker, jailed ----------+
//!  daemon  --------- fd 0 ---------------> | inflate | hash, read tar, write   | -- fd 1 --> layer directory
//!  (hash)  <-------- fd 2 (report) ------- +-----------------------------------+
//! ```
//!
//! Each stream is hashed once, on its way: what the registry sent by the daemon, the archive by the worker. A worker whose
//! daemon dies sees its stream end and ends too.

mod archive;
mod inflate;
mod jail;
mod report;
mod tree;
mod worker;

pub(crate) use report::{EncodedPath, FailureKind, LowerLink, Report, Unpacked};
pub(crate) use tree::{is_whiteout, layers_may_have};
pub use worker::worker_main;

use crate::settings::LayerLimits;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// The first argument that makes the program a worker.
pub const WORKER_ARGUMENT: &str = "unpack";
/// A report has two numbers and a few paths; one that is longer comes from a worker gone wrong.
const LONGEST_REPORT: u64 = 8 << 20;
const PIPE_SIZE: usize = 1 << 20;

/// Why a worker gave no report.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The program could not be started.
    #[error("failed to start the unpack worker")]
    Start(#[source] io::Error),
    /// The stream to it broke, and it did not say why.
    #[error("failed to write to the unpack worker")]
    Write(#[source] io::Error),
    /// Its report could not be read.
    #[error("failed to read the unpack worker's report")]
    ReadReport(#[source] io::Error),
    /// What it reported makes no sense; most likely it was killed or crashed.
    #[error("the unpack worker ended without a report: {0}")]
    NoReport(String),
}

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    stream: ChildStdin,
}

impl Worker {
    /// Starts a worker that fills this directory.
    pub(crate) fn start(
        program: &Path,
        directory: File,
        limits: LayerLimits,
    ) -> Result<Self, WorkerError> {
        let limits = serde_json::to_string(&limits)
            .map_err(|error| WorkerError::Start(io::Error::from(error)))?;
        let mut child = Command::new(program)
            .arg(WORKER_ARGUMENT)
            .arg(limits)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::from(directory))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Start)?;
        let stream = child
            .stdin
            .take()
            .ok_or_else(|| WorkerError::Start(io::Error::from(io::ErrorKind::BrokenPipe)))?;
        // A larger pipe means fewer switches; it is no matter if the kernel's allowance is used up.
        let _size = rustix::pipe::fcntl_setpipe_size(stream.as_fd(), PIPE_SIZE);
        Ok(Self { child, stream })
    }

    /// Hands over a piece of the compressed stream.
    ///
    /// Whether the worker has ended meanwhile: then [`Self::finish`] says why.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<Taken, WorkerError> {
        match self.stream.write_all(bytes).await {
            Ok(()) => Ok(Taken::Yes),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Taken::WorkerEnded),
            Err(error) => Err(WorkerError::Write(error)),
        }
    }

    /// Ends the stream and waits for the report.
    pub(crate) async fn finish(self) -> Result<Report, WorkerError> {
        let Self { mut child, stream } = self;
        drop(stream);
        let mut text = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            pipe.take(LONGEST_REPORT)
                .read_to_end(&mut text)
                .await
                .map_err(WorkerError::ReadReport)?;
        }
        let status = child.wait().await.map_err(WorkerError::ReadReport)?;
        serde_json::from_slice(&text).map_err(|_malformed| {
            let said: String = String::from_utf8_lossy(&text).chars().take(200).collect();
            WorkerError::NoReport(format!("{status}, {}", said.escape_debug()))
        })
    }
}

/// What became of a piece of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The worker has it.
    Yes,
    /// The worker is gone.
    WorkerEnded,
}
