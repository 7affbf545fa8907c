//! The shim's program in memory: every shim runs from one sealed copy.
//!
//! A container can reach the file of the process that made it (`/proc/PID/exe`, CVE-2019-5736); what it finds there is a
//! memory file that nobody can write any more. All shims share its pages, and a package upgrade does not touch them.

use super::SupervisorError;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
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
        copy(path)
            .map(|copy| Self(Arc::new(copy)))
            .map_err(|source| SupervisorError::LoadProgram { path: path.to_owned(), source })
    }

    /// The path by which this process can execute it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 a memory file is executable without being asked for.
    let memory = match rustix::fs::memfd_create("containerd-shim-cringle-v2", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("containerd-shim-cringle-v2", flags)?,
        answer => answer?,
    };
    let mut memory = File::from(memory);
    io::copy(&mut File::open(path)?, &mut memory)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}
