//! The shim's program in memory: every shim runs from one sealed copy.
//!
//! A container can reach the file of the process that made it (`/proc/PID/exe`, CVE-2019-5736); what it finds there is a
//! memory file that nobody can write any more. All shims share its pages, and a package upgrade does not touch them.

use super::SupervisorError;
use cringle_kernel::program::sealed_copy;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The program that shims run.
#[derive(Debug, Clone)]
pub struct ShimProgram(Arc<OwnedFd>);

impl ShimProgram {
    /// Copies the program at `path` and seals the copy.
    ///
    /// # Errors
    /// The file cannot be read, or the kernel refuses.
    pub fn load(path: &Path) -> Result<Self, SupervisorError> {
        sealed_copy(path, "containerd-shim-cringle-v2")
            .map(|copy| Self(Arc::new(copy)))
            .map_err(|source| SupervisorError::LoadProgram { path: path.to_owned(), source })
    }

    /// The path by which this process can execute it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}
