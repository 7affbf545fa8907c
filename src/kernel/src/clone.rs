//! Making a child process by `clone3(2)`: born in its cgroup, in new namespaces, with a pidfd.
//!
//! The child is a copy of the caller (no shared memory). It runs one function and exits with what that returns; it never
//! returns into the caller's code. Callers have one thread, so that no lock can be held by a thread that does not exist in
//! the copy: that is why the child may allocate.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Result, SystemError};
use crate::namespace::Namespaces;

/// What a child is born with.
#[derive(Debug, Default)]
pub struct Birth<'a> {
    /// The new namespaces it gets.
    pub namespaces: Namespaces,
    /// The directory of the cgroup (version 2) it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child of this process that was not waited for yet.
#[derive(Debug)]
pub struct Born {
    /// Its process id here.
    pub pid: i32,
    /// Its descriptor, readable once it has exited.
    pub pidfd: OwnedFd,
}

/// The exit code of a child whose function panicked.
const PANICKED: i32 = 101;

/// Clones a child that runs `life` and exits with the code it returns.
///
/// # Errors
/// The kernel refused: limits, no such cgroup, no permission.
pub fn child(birth: &Birth<'_>, life: impl FnOnce() -> i32) -> Result<Born> {
    let mut pidfd: RawFd = -1;
    let mut flags = u64::from(birth.namespaces.bits().unsigned_abs());
    flags |= u64::from(libc::CLONE_PIDFD.unsigned_abs());
    let mut cgroup = 0;
    if let Some(directory) = birth.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    let arguments = Arguments {
        flags,
        pidfd: (&raw mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // What a child may have to undo is found out here, once for all children.
    let _for_the_child = crate::process::ignored_signals();
    // SAFETY: the structure has the size given and lives through the call, as does the place for the pidfd it points to;
    // without CLONE_VM and a stack of its own the child runs on in a copy of this memory.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    if answer < 0 {
        return Err(SystemError::last("clone3", ""));
    }
    if answer == 0 {
        let code = catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED);
        // SAFETY: ends this process without running exit handlers, which belong to the parent.
        unsafe { libc::_exit(code) }
    }
    let pid = i32::try_from(answer)
        .map_err(|error| SystemError::new("clone3", "", io::Error::other(error)))?;
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Born { pid, pidfd })
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; it does not fit the type of the other flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `linux/sched.h`, in the size of Linux 5.7.
#[repr(C)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<Arguments>() == 88);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn a_child_exits_with_the_code_of_its_function() {
        let born = child(&Birth::default(), || 7).unwrap();
        let exit = process::wait(&born.pidfd).unwrap();
        assert_eq!(exit, process::Exit::Code(7));
    }

    #[test]
    fn a_panic_in_the_child_ends_the_child_only() {
        let born = child(&Birth::default(), || panic!("as the test wants")).unwrap();
        assert_eq!(process::wait(&born.pidfd).unwrap(), process::Exit::Code(PANICKED));
    }

    #[test]
    fn the_first_child_in_a_new_pid_namespace_is_its_init() {
        let birth = Birth { namespaces: Namespaces::PID, cgroup: None };
        let born = child(&birth, || i32::from(std::process::id() != 1)).unwrap();
        assert_eq!(process::wait(&born.pidfd).unwrap(), process::Exit::Code(0));
    }
}
