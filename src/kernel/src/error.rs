//! One error for all system calls: which call, on what, and the kernel's answer.

use std::io;

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} {object}")]
pub struct SystemError {
    /// The call, as in its man page: `mount_setattr(2)` is `mount_setattr`.
    pub call: &'static str,
    /// What it was called on, quoted if it is a name: `"/proc"`, `pid 12`; may be empty.
    pub object: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl SystemError {
    /// The failure of `call` on `object` with that answer.
    pub fn new(
        call: &'static str,
        object: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self { call, object: object.into(), source: source.into() }
    }

    /// The failure that `errno` tells of, right after `call`.
    pub fn last(call: &'static str, object: impl Into<String>) -> Self {
        Self::new(call, object, io::Error::last_os_error())
    }

    /// The error number, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, SystemError>;
