//! Processes: signal and wait by pidfd, and what a process does to itself on its way to `execve`.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::error::{Result, SystemError};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with a code.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

/// Opens a process by its id. The caller checks afterwards that it is the one it meant.
///
/// # Errors
/// There is no such process.
pub fn open(pid: i32) -> Result<OwnedFd> {
    let absent = || SystemError::new("pidfd_open", pid.to_string(), io::ErrorKind::InvalidInput);
    let id = Pid::from_raw(pid).ok_or_else(absent)?;
    rustix::process::pidfd_open(id, PidfdFlags::empty())
        .map_err(|error| SystemError::new("pidfd_open", format!("pid {pid}"), error))
}

/// Sends a signal to the process; one that has ended is left in peace.
///
/// # Errors
/// The signal does not exist, or the kernel refused.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call; no signal information is passed.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, ptr::null::<libc::siginfo_t>(), 0)
    };
    if answer < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        return Err(SystemError::new("pidfd_send_signal", format!("signal {signal}"), error));
    }
    Ok(())
}

/// Waits for a child to end and reaps it.
///
/// # Errors
/// It is no child of ours, or was reaped already.
pub fn wait(pidfd: impl AsFd) -> Result<Exit> {
    loop {
        if let Some(exit) = reap(pidfd.as_fd(), WaitIdOptions::EXITED)? {
            return Ok(exit);
        }
    }
}

/// Reaps a child if it has ended.
///
/// # Errors
/// It is no child of ours, or was reaped already.
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<Exit>> {
    reap(pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn reap(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Exit>> {
    match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
        Ok(None) | Err(rustix::io::Errno::INTR) => Ok(None),
        Ok(Some(status)) => {
            let killed = status.terminating_signal().map(Exit::Signal);
            Ok(status.exit_status().map(Exit::Code).or(killed))
        }
        Err(error) => Err(SystemError::new("waitid", "", error)),
    }
}

/// Keeps others from tracing this process and from reading its memory and descriptors through `/proc`, until `execve`.
/// Child-side.
///
/// # Errors
/// The kernel refused.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| SystemError::new("prctl", "PR_SET_DUMPABLE", error))
}

/// The signals that this process ignores, a bit each. They are looked up once: what has started stays as it is.
pub(crate) fn ignored_signals() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        (1..=64)
            .fold(0, |found, number| if is_ignored(number) { found | bit(number) } else { found })
    })
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: all zeroes is a valid action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: nothing is changed, and the place for the answer lives through the call.
    let answer = unsafe { libc::sigaction(number, ptr::null(), &raw mut action) };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

const fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

/// Sets every signal that was ignored to its default action and unblocks all; those that have a handler get theirs by
/// `execve(2)`. Child-side, of a child by [`crate::clone::child`].
///
/// # Errors
/// The kernel refused the mask.
pub fn reset_signals() -> Result<()> {
    let ignored = ignored_signals();
    // SAFETY: all zeroes is a valid action: the default one, no flags, an empty mask.
    let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    for number in (1..=64).filter(|&number| ignored & bit(number) != 0) {
        // The answer does not matter: SIGKILL, SIGSTOP and the two signals the C library keeps can't be changed.
        // SAFETY: the action lives through the call; no old action is asked for.
        let _refused = unsafe { libc::sigaction(number, &raw const default, ptr::null_mut()) };
    }
    let mut empty = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is there to be initialised.
    let _always_zero = unsafe { libc::sigemptyset(empty.as_mut_ptr()) };
    // SAFETY: the set was initialised above; no old mask is asked for.
    let answer = unsafe { libc::sigprocmask(libc::SIG_SETMASK, empty.as_ptr(), ptr::null_mut()) };
    if answer < 0 {
        return Err(SystemError::last("sigprocmask", ""));
    }
    Ok(())
}

/// Closes every descriptor but the three standard streams and `kept`, which becomes number 3 and is close-on-exec. Child-side:
/// no owner of another descriptor may be dropped after this, so the caller ends by `execve` or [`quit`].
///
/// # Errors
/// The kernel refused; nothing was closed then.
pub fn keep_only(kept: OwnedFd) -> Result<OwnedFd> {
    const PLACE: i32 = 3;
    let number = kept.into_raw_fd();
    if number != PLACE {
        // SAFETY: takes numbers only; whatever was open at that place is not used again by the contract above.
        let answer = unsafe { libc::dup3(number, PLACE, libc::O_CLOEXEC) };
        if answer < 0 {
            return Err(SystemError::last("dup3", ""));
        }
    }
    // SAFETY: closes what nobody uses again by the contract above.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, PLACE + 1, u32::MAX, 0) };
    if answer < 0 {
        return Err(SystemError::last("close_range", ""));
    }
    // SAFETY: the descriptor at that place was put there above, and its former owner gave it up.
    Ok(unsafe { OwnedFd::from_raw_fd(PLACE) })
}

/// Ends this process at once: no destructor and no exit handler runs. Child-side.
pub fn quit(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Gives this process a session keyring of its own; without keyrings in the kernel there is none to share. Child-side.
///
/// # Errors
/// The kernel refused, for instance for the quota of keys.
pub fn join_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: no name is passed: an anonymous keyring.
    let answer = unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    };
    if answer < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOSYS) {
            return Ok(());
        }
        return Err(SystemError::new("keyctl", "session keyring", error));
    }
    Ok(())
}

/// Sets the execution domain. Child-side.
///
/// # Errors
/// The kernel does not know it.
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: changes only how later system calls and execve behave.
    let answer = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    if answer < 0 {
        return Err(SystemError::last("personality", format!("{persona:#x}")));
    }
    Ok(())
}

/// Sets host and domain name of this process' uts namespace.
///
/// # Errors
/// The name is too long, or the kernel refused.
pub fn set_host_name(name: &[u8]) -> Result<()> {
    rustix::system::sethostname(name).map_err(|error| SystemError::new("sethostname", "", error))
}

/// Sets the domain name of this process' uts namespace.
///
/// # Errors
/// The name is too long, or the kernel refused.
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    rustix::system::setdomainname(name)
        .map_err(|error| SystemError::new("setdomainname", "", error))
}

/// The texts of an argument vector or environment, made ready for `execve` before a child exists.
#[derive(Debug)]
pub struct Texts {
    texts: Vec<CString>,
}

impl Texts {
    /// Takes the texts.
    ///
    /// # Errors
    /// A text has a NUL byte in it.
    pub fn new(texts: impl IntoIterator<Item: Into<Vec<u8>>>) -> Result<Self> {
        let texts = texts.into_iter().map(CString::new).collect::<std::result::Result<Vec<_>, _>>();
        Ok(Self { texts: texts.map_err(|error| SystemError::new("execve", "argument", error))? })
    }

    /// These texts and one more.
    #[must_use]
    pub fn with(&self, text: CString) -> Self {
        Self { texts: self.texts.iter().cloned().chain([text]).collect() }
    }

    /// The texts.
    #[must_use]
    pub fn as_slice(&self) -> &[CString] {
        &self.texts
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        let mut pointers: Vec<_> = self.texts.iter().map(|text| text.as_ptr()).collect();
        pointers.push(ptr::null());
        pointers
    }
}

/// Replaces this process by the program at `path`; returns only the reason why it could not. Child-side.
#[must_use]
pub fn execute(path: &CStr, arguments: &Texts, environment: &Texts) -> SystemError {
    let arguments = arguments.pointers();
    let environment = environment.pointers();
    // SAFETY: both vectors are arrays of pointers to NUL-terminated texts, ended by a null pointer, and live here.
    let _failed = unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    SystemError::last("execve", format!("{path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};

    #[test]
    fn a_signal_ends_a_child_and_is_told_by_wait() {
        let born = child(&Birth::default(), || {
            loop {
                // SAFETY: waits for a signal, nothing else.
                let _interrupted = unsafe { libc::pause() };
            }
        })
        .unwrap();
        signal(&born.pidfd, libc::SIGKILL).unwrap();
        assert_eq!(wait(&born.pidfd).unwrap(), Exit::Signal(libc::SIGKILL));
        signal(&born.pidfd, libc::SIGKILL).unwrap();
        wait(&born.pidfd).unwrap_err();
    }

    #[test]
    fn executing_what_is_not_there_names_it() {
        let none = Texts::new(["x"]).unwrap();
        let error = execute(c"/nonexistent/program", &none, &none);
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().contains("/nonexistent/program"));
    }

    #[test]
    fn ignored_signals_are_at_their_default_after_a_reset() {
        // Every Rust program ignores this one from its beginning.
        let born = child(&Birth::default(), || {
            if reset_signals().is_err() {
                return 1;
            }
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            // SAFETY: sends a signal to this process itself (`raise` would name the parent's thread).
            let _sent = unsafe { libc::kill(own, libc::SIGPIPE) };
            2
        })
        .unwrap();
        assert_eq!(wait(&born.pidfd).unwrap(), Exit::Signal(libc::SIGPIPE));
    }
}
