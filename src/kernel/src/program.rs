//! Programs in sealed memory.

use crate::error::{Result, SystemError};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A copy of the file at `path` in memory that nobody can change any more, to be executed through `/proc/self/fd`. All
/// processes that run it share its pages. Close-on-exec.
///
/// # Errors
/// The file cannot be read, or the kernel refuses: `memfd_create` or `fcntl`.
pub fn sealed_copy(path: &Path, name: &str) -> Result<OwnedFd> {
    let quoted = || format!("{path:?}");
    let mut original =
        File::open(path).map_err(|error| SystemError::new("open", quoted(), error))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 a memory file is executable without being asked for, and asking is an error.
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        answer => answer,
    };
    let mut memory =
        File::from(memory.map_err(|errno| SystemError::new("memfd_create", name, errno))?);
    io::copy(&mut original, &mut memory)
        .map_err(|error| SystemError::new("write", quoted(), error))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)
        .map_err(|errno| SystemError::new("fcntl", "F_ADD_SEALS", errno))?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_sealed_copy_runs_and_cannot_be_written() {
        let copy = sealed_copy(Path::new("/bin/true"), "test").unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert!(std::process::Command::new(&path).status().unwrap().success());
        assert_eq!(rustix::io::write(&copy, b"x").unwrap_err(), Errno::PERM);
        File::options().write(true).truncate(true).open(&path).unwrap_err();
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = sealed_copy(Path::new("/nope"), "test").unwrap_err();
        assert_eq!(error.object, "\"/nope\"");
    }
}
