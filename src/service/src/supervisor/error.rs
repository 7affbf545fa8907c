//! What can go wrong between the daemon and a shim.

use crate::checkpoint::CheckpointError;
use cringle_kernel::cgroup::CgroupError;
use cringle_kernel::error::SystemError;
use cringle_proto_shim::control::{Failure, FailureKind};
use std::io;
use std::path::PathBuf;

/// A shim that could not be spawned, reached, or made to do something.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The shim program could not be loaded.
    #[error("failed to load shim program {path:?}")]
    LoadProgram {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// A file of the bundle could not be used.
    #[error("failed to use {path:?}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket of the shim could not be made or used.
    #[error("failed to use the shim's socket")]
    Socket(#[source] SystemError),
    /// Pipes or a terminal for a process could not be made ready.
    #[error("failed to prepare streams")]
    Streams(#[source] io::Error),
    /// The shim's process could not be made.
    #[error("failed to spawn the shim")]
    Spawn(#[source] io::Error),
    /// A process could not be looked at or signalled.
    #[error("failed to look after the process")]
    Process(#[source] SystemError),
    /// A message could not be encoded.
    #[error("failed to encode a message to the shim")]
    Encode(#[source] serde_json::Error),
    /// The connection broke.
    #[error("lost the connection to the shim")]
    Connection(#[source] io::Error),
    /// The Task service's connection broke.
    #[error("lost the connection to the shim during \"{order}\"")]
    Task {
        /// What was ordered.
        order: &'static str,
        /// What broke.
        #[source]
        source: ttrpc::Error,
    },
    /// The shim did what it could and says why that was not enough.
    #[error("{text}")]
    Refused {
        /// What kind of refusal.
        kind: FailureKind,
        /// The shim's words.
        text: String,
    },
    /// No answer in time.
    #[error("the shim did not answer \"{order}\" in time")]
    Silent {
        /// What was ordered.
        order: &'static str,
    },
    /// An answer that does not belong to the question.
    #[error("the shim's answer to \"{order}\" makes no sense")]
    Nonsense {
        /// What was ordered.
        order: &'static str,
    },
    /// The pod was stopped before the shim was done.
    #[error("its pod was stopped meanwhile")]
    Abandoned,
    /// The checkpoint that the container is made of can't be used.
    #[error(transparent)]
    Restore(CheckpointError),
    /// There is no such shim.
    #[error("the shim is gone")]
    Gone,
    /// The container's cgroup could not be emptied or removed.
    #[error("failed to end the container through its cgroup")]
    Cgroup(#[source] CgroupError),
}

impl SupervisorError {
    /// What the Task service answered.
    pub(super) fn from_task(order: &'static str, source: ttrpc::Error) -> Self {
        let ttrpc::Error::RpcStatus(status) = source else {
            return Self::Task { order, source };
        };
        let code = status.code();
        let kind = if code == ttrpc::Code::NOT_FOUND {
            FailureKind::NotFound
        } else if code == ttrpc::Code::FAILED_PRECONDITION {
            FailureKind::WrongState
        } else if code == ttrpc::Code::INVALID_ARGUMENT {
            FailureKind::Malformed
        } else {
            FailureKind::Refused
        };
        Self::Refused { kind, text: status.message }
    }

    /// What the control socket answered.
    pub(super) fn from_control(failure: Failure) -> Self {
        Self::Refused { kind: failure.kind, text: failure.text }
    }
}

/// Why an exec has no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Its time was up; it was killed with all its offspring.
    #[error("the command did not end in time and was killed")]
    TimedOut,
    /// Too many others have much output in memory. Code ResourceExhausted.
    #[error("no memory was free for the command's output, and it was killed")]
    NoRoom,
    /// The program could not be executed, or the container does not run.
    #[error("{text}")]
    NotExecuted {
        /// What kind of refusal.
        kind: FailureKind,
        /// The shim's words.
        text: String,
    },
    /// The shim could not be asked.
    #[error(transparent)]
    Supervisor(SupervisorError),
}

impl From<SupervisorError> for ExecError {
    fn from(error: SupervisorError) -> Self {
        if let SupervisorError::Refused { kind, text } = error {
            return Self::NotExecuted { kind, text };
        }
        Self::Supervisor(error)
    }
}
