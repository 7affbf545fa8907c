//! The one place where a test may end the daemon (D18): a counter that is stepped by [`crate::tracked`] when a phase
//! changes and by [`crate::holds`] when something is taken or given back. Without the feature `failpoints` it is nothing.

/// Counts one step. With the feature `failpoints`, and with a number in the file that `CRINGLE_FAILPOINT` names, the
/// process ends as by kill -9 at so many steps after the file was there: a test arms a daemon that serves already, or one
/// that is still to be started.
#[inline]
pub fn step() {
    #[cfg(feature = "failpoints")]
    armed::step();
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::ffi::OsString;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TAKEN: AtomicU64 = AtomicU64::new(0);
    static FILE: OnceLock<Option<OsString>> = OnceLock::new();

    pub(super) fn step() {
        let Some(last) = last() else { return };
        let step = TAKEN.fetch_add(1, Ordering::SeqCst) + 1;
        // Nothing is flushed and nothing unwound, as when the kernel kills us.
        let (process, kill) = (rustix::process::getpid(), rustix::process::Signal::KILL);
        if step >= last && rustix::process::kill_process(process, kill).is_err() {
            std::process::abort();
        }
    }

    /// The step to end at, if a test wants an end.
    fn last() -> Option<u64> {
        let file = FILE.get_or_init(|| std::env::var_os("CRINGLE_FAILPOINT")).as_ref()?;
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}
