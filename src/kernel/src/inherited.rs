//! Descriptors that whoever started this process left open in it.

use std::os::fd::RawFd;

use rustix::fs::{CWD, Dir, Mode, OFlags};

use crate::error::{Result, SystemError};

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`, Linux 5.11.
const CLOSE_ON_EXEC: u32 = 4;

/// Keeps every descriptor but the standard streams from the programs that this process starts. To be called before
/// anything else is opened by other threads; what is opened afterwards says so itself.
///
/// # Errors
/// A kernel older than 5.11, and no `/proc` to find the descriptors one by one.
pub fn keep_from_programs() -> Result<()> {
    match mark_range() {
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::ENOSYS)) => mark_each(),
        outcome => outcome,
    }
}

fn mark_range() -> Result<()> {
    // SAFETY: takes numbers only, and closes nothing: with that flag descriptors are marked.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, CLOSE_ON_EXEC) };
    if answer < 0 { Err(SystemError::last("close_range", "")) } else { Ok(()) }
}

fn mark_each() -> Result<()> {
    const PLACE: &str = "/proc/self/fd";
    let failed = |errno| SystemError::new("read", PLACE, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, PLACE, flags, Mode::empty()).map_err(failed)?;
    for entry in Dir::new(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number >= FIRST) {
            // SAFETY: sets a flag of a descriptor; one that is closed meanwhile answers EBADF, which is as good.
            let _gone = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};
    use crate::process::{Exit, wait};
    use rustix::io::FdFlags;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::os::fd::AsFd;

    /// Runs in a child, as it concerns all descriptors of a process.
    fn marks_an_inherited_pipe(mark: fn() -> bool) {
        let born = child(&Birth::default(), || {
            let Ok((read, _write)) = pipe_with(PipeFlags::empty()) else { return 1 };
            if !mark() {
                return 2;
            }
            let marked =
                |fd| rustix::io::fcntl_getfd(fd).is_ok_and(|flags| flags == FdFlags::CLOEXEC);
            if !marked(read.as_fd()) {
                return 3;
            }
            let standard = marked(rustix::stdio::stderr());
            i32::from(standard) * 4
        });
        assert_eq!(wait(&born.unwrap().pidfd).unwrap(), Exit::Code(0));
    }

    #[test]
    fn a_pipe_that_was_inherited_is_kept_from_programs() {
        marks_an_inherited_pipe(|| keep_from_programs().is_ok());
    }

    #[test]
    fn so_it_is_on_a_kernel_that_cannot_mark_a_range() {
        marks_an_inherited_pipe(|| mark_each().is_ok());
    }
}
