//! Why the shim does not carry out an order, in words for both of its sockets.

use crate::engine::EngineError;
use crate::process::OutOfOrder;
use crate::stdio::StreamError;
use crate::stdio::log::LogError;
use cringle_kernel::error::SystemError;
use cringle_proto_shim::control::FailureKind;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// It does not fit into the life of the container.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// The engine could not.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The streams could not be opened.
    #[error(transparent)]
    Streams(#[from] StreamError),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no such process.
    #[error("there is no process {0:?}")]
    NoSuchProcess(String),
    /// There is one already.
    #[error("there is a process {0:?} already")]
    DuplicateProcess(String),
    /// It does not run.
    #[error("the container does not run")]
    NotRunning,
    /// It still runs.
    #[error("the process still runs")]
    StillRunning,
    /// It has no terminal.
    #[error("the process has no terminal")]
    NoTerminal,
    /// Its output does not come by here.
    #[error("what the container says goes where nobody can attach")]
    NotAttachable,
    /// The signal could not be sent.
    #[error("failed to send signal {signal}")]
    SendSignal {
        /// Its number.
        signal: u8,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// The terminal's size could not be set.
    #[error("failed to set the terminal's size")]
    Resize(#[source] SystemError),
    /// The streams could not be watched.
    #[error("failed to watch the process' streams")]
    WatchStreams(#[source] std::io::Error),
    /// A JSON text is not what it should be.
    #[error("failed to parse {what}")]
    Parse {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl ShimError {
    /// Its kind, for the other side.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::OutOfOrder(error) => error.kind,
            Self::NoSuchProcess(_) => FailureKind::NotFound,
            Self::DuplicateProcess(_)
            | Self::NotRunning
            | Self::StillRunning
            | Self::NoTerminal
            | Self::NotAttachable => FailureKind::WrongState,
            Self::Parse { .. } => FailureKind::Malformed,
            Self::Engine(_)
            | Self::Streams(_)
            | Self::Log(_)
            | Self::SendSignal { .. }
            | Self::Resize(_)
            | Self::WatchStreams(_) => FailureKind::Refused,
        }
    }
}
