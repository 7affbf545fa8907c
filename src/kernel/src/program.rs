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
    for _ in 1..SEALING_TRIES {
        match rustix::fs::fcntl_add_seals(&memory, seals) {
            Err(Errno::BUSY) => {}
            sealed => return sealed.map(|()| memory.into()).map_err(failed_to_seal),
        }
    }
    rustix::fs::fcntl_add_seals(&memory, seals).map_err(failed_to_seal)?;
    Ok(memory.into())
}

/// How often a file is tried to be sealed. Pages that were just written are held by lists of each processor, and the kernel
/// waits for those to be emptied, but only for a moment: about 0.2 seconds each time.
const SEALING_TRIES: usize = 50;

fn failed_to_seal(errno: Errno) -> SystemError {
    SystemError::new("fcntl", "F_ADD_SEALS", errno)
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
