//! Why the engine could not do what it was asked, and the form in which a child tells it to its parent.

use std::io;
use std::path::PathBuf;

use cringle_kernel::cgroup::CgroupError;
use cringle_kernel::error::SystemError;
use cringle_kernel::seccomp::CompileError;

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The specification asks for something this engine does not do.
    #[error("{0} not supported")]
    Unsupported(String),
    /// The specification says something that makes no sense.
    #[error("{field} is invalid: {problem}")]
    Invalid {
        /// The field, as in the OCI specification: `process.cwd`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the bundle can't be read.
    #[error("failed to read {path:?}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the bundle is not what it should be.
    #[error("failed to parse {path:?}")]
    Parse {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The state of the container can't be written.
    #[error("failed to write {path:?}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something failed on our side of the container.
    #[error("failed to {attempt}")]
    Attempt {
        /// What was attempted, on what.
        attempt: String,
        /// The call that failed.
        #[source]
        source: SystemError,
    },
    /// A limit could not be set, or a cgroup not be made, read or removed.
    #[error("failed to {attempt}")]
    Cgroup {
        /// What was attempted.
        attempt: &'static str,
        /// The file that refused.
        #[source]
        source: CgroupError,
    },
    /// The system call filter does not compile.
    #[error("failed to compile linux.seccomp")]
    Seccomp(#[source] CompileError),
    /// Something failed inside the container, before its program ran.
    #[error("failed to {attempt}")]
    Inside {
        /// What was attempted, on what.
        attempt: String,
        /// The call that failed.
        #[source]
        source: Refused,
    },
    /// A hook failed: which one, how, and what it said last.
    #[error("{0}")]
    Hook(String),
    /// The processes of a checkpoint could not be restored, or are not what they may be.
    #[error("failed to restore the container's processes: {0}")]
    Restore(String),
    /// The process died before it could say why.
    #[error("failed to prepare the container: its process ended early, {0}")]
    Died(String),
    /// The container is not in a phase in which this can be done.
    #[error("the container is {0}")]
    Phase(&'static str),
}

/// The call a process inside the container was refused.
#[derive(Debug, thiserror::Error)]
#[error("{call}")]
pub(crate) struct Refused {
    /// The call and what it was about; may be empty.
    pub call: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// What the engine answers.
pub(crate) type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// The error of a field of the specification.
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// The error number at the bottom, if the kernel gave one: tells a missing program from one that may not be executed.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => source.raw_os_error(),
            Self::Attempt { source, .. } => source.errno(),
            Self::Inside { source, .. } => source.source.raw_os_error(),
            Self::Unsupported(_)
            | Self::Invalid { .. }
            | Self::Parse { .. }
            | Self::Cgroup { .. }
            | Self::Seccomp(_)
            | Self::Hook(_)
            | Self::Restore(_)
            | Self::Died(_)
            | Self::Phase(_) => None,
        }
    }
}

/// Adds to a failed call what it was made for.
pub(super) trait Attempting<T> {
    /// `attempt` continues "failed to".
    fn attempting(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempting<T> for std::result::Result<T, SystemError> {
    fn attempting(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| EngineError::Attempt { attempt: attempt(), source })
    }
}

impl<T> Attempting<T> for std::result::Result<T, rustix::io::Errno> {
    fn attempting(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| SystemError::new("", "", errno)).attempting(attempt)
    }
}
