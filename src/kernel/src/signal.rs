//! Signals as readable descriptors.

use crate::error::{Result, SystemError};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Blocks `signals` for this thread (and its later children, until they unblock them) and gives a descriptor that is
/// readable while one of them is pending. Reads do not wait.
///
/// # Errors
/// `sigprocmask` or `signalfd4`.
pub fn watch(signals: &[i32]) -> Result<OwnedFd> {
    let set = set_of(signals)?;
    // SAFETY: `set` is an initialised signal set, and a null pointer for the old mask is allowed by sigprocmask(2).
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
    if blocked != 0 {
        let error = std::io::Error::from_raw_os_error(blocked);
        return Err(SystemError::new("sigprocmask", "", error));
    }
    // SAFETY: -1 asks for a new descriptor, `set` is initialised and outlives the call.
    let number =
        unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if number < 0 {
        return Err(SystemError::last("signalfd4", ""));
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The next pending signal of a descriptor made by [`watch`], or none.
///
/// # Errors
/// `read`.
pub fn next(watched: BorrowedFd<'_>) -> Result<Option<i32>> {
    let mut record = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `record` has room for `size` bytes and lives through the call.
    let read = unsafe { libc::read(watched.as_raw_fd(), record.as_mut_ptr().cast(), size) };
    if read < 0 {
        let error = SystemError::last("read", "signalfd");
        return if error.errno() == Some(libc::EAGAIN) { Ok(None) } else { Err(error) };
    }
    if usize::try_from(read) != Ok(size) {
        return Ok(None);
    }
    // SAFETY: the kernel filled the whole record: signalfd(2) reads whole records only, and the size was checked.
    let record = unsafe { record.assume_init() };
    Ok(i32::try_from(record.ssi_signo).ok())
}

/// Makes the signal's arrival mean nothing; it stays so across `execve` unless the child undoes it.
///
/// # Errors
/// `sigaction`.
pub fn ignore(signal: i32) -> Result<()> {
    // SAFETY: SIG_IGN is a valid disposition, so no code of ours can run in signal context.
    let previous = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if previous == libc::SIG_ERR {
        return Err(SystemError::last("sigaction", format!("signal {signal}")));
    }
    Ok(())
}

fn set_of(signals: &[i32]) -> Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) writes the whole set behind the pointer, which has room for it.
    let emptied = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    if emptied != 0 {
        return Err(SystemError::last("sigemptyset", ""));
    }
    // SAFETY: sigemptyset has initialised it.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: `set` is initialised; a number that is no signal is answered with an error.
        let added = unsafe { libc::sigaddset(&raw mut set, signal) };
        if added != 0 {
            return Err(SystemError::last("sigaddset", format!("signal {signal}")));
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_watched_signal_can_be_read_once() {
        let watched = watch(&[libc::SIGUSR2]).unwrap();
        assert_eq!(next(watched.as_fd()).unwrap(), None);
        // SAFETY: raising a blocked signal for this thread has no effect but that it becomes pending.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        assert_eq!(next(watched.as_fd()).unwrap(), Some(libc::SIGUSR2));
        assert_eq!(next(watched.as_fd()).unwrap(), None);
    }

    #[test]
    fn a_number_that_is_no_signal_is_refused() {
        assert_eq!(watch(&[4000]).unwrap_err().errno(), Some(libc::EINVAL));
    }
}
