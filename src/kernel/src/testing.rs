//! What tests of this crate need: a child process to change, so that the test process itself stays as it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` in a forked child; whether it returned true there.
///
/// The child of a threaded test process may only do what needs no lock another thread could have held. The allocator's
/// are reset by the C library's fork; output isn't made except by a failing `body`.
pub(crate) fn in_child(body: impl FnOnce() -> bool) -> bool {
    exit_code(|| i32::from(!catch_unwind(AssertUnwindSafe(body)).unwrap_or(false))) == Ok(0)
}

/// Runs `body` in a forked child; its exit code, or the signal that ended it.
pub(crate) fn exit_code(body: impl FnOnce() -> i32) -> Result<i32, i32> {
    // SAFETY: the child runs `body` only and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        let code = body();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) }
    }
    reap(child)
}

/// A child process that does nothing until it is signalled; it is killed and reaped at the latest when dropped.
pub(crate) struct Sleeper {
    pid: libc::pid_t,
}

impl Sleeper {
    /// Forks a child that runs `prepare` and then, until it is killed, `turn` every millisecond; returns when it has
    /// prepared.
    pub(crate) fn start(prepare: impl FnOnce(), turn: impl Fn()) -> Self {
        let (ready, tell) = rustix::pipe::pipe().unwrap();
        // SAFETY: the child runs `prepare` and `turn` and never returns.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            if catch_unwind(AssertUnwindSafe(prepare)).is_ok() {
                rustix::io::write(&tell, b".").unwrap();
                loop {
                    turn();
                    // SAFETY: waits; no memory is involved.
                    unsafe { libc::usleep(1000) };
                }
            }
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(1) }
        }
        drop(tell);
        let told = rustix::io::read(&ready, &mut [0; 1]).unwrap();
        assert_eq!(told, 1, "the child could not prepare");
        Self { pid }
    }

    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap()
    }

    /// Waits for its end: exit code, or signal.
    pub(crate) fn wait(mut self) -> Result<i32, i32> {
        let pid = std::mem::replace(&mut self.pid, 0);
        reap(pid)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if self.pid != 0 {
            // SAFETY: the child is ours and unreaped, so the number is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            _ = reap(self.pid).ok();
        }
    }
}

fn reap(child: libc::pid_t) -> Result<i32, i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; `child` is ours and unreaped.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(reaped, child, "waitpid failed");
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Err(libc::WTERMSIG(status))
    }
}
