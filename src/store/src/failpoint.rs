//! The one place where a test may end the daemon (D18): a counter that is stepped by [`crate::tracked`] when a phase
//! changes and by [`crate::holds`] when something is taken. Without the feature `failpoints` it is nothing.

/// Counts one step; with the feature `failpoints` and `CRINGLE_FAILPOINT=n` in the environment the process ends at the
/// n-th step as by kill -9.
#[inline]
pub fn step() {
    #[cfg(feature = "failpoints")]
    armed::step();
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TAKEN: AtomicU64 = AtomicU64::new(0);
    static LAST: OnceLock<Option<u64>> = OnceLock::new();

    pub(super) fn step() {
        let last = LAST.get_or_init(|| {
            std::env::var("CRINGLE_FAILPOINT").ok().and_then(|text| text.parse().ok())
        });
        let step = TAKEN.fetch_add(1, Ordering::SeqCst) + 1;
        if *last == Some(step) {
            // Nothing is flushed and nothing unwound, as when the kernel kills us.
            if rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            )
            .is_err()
            {
                std::process::abort();
            }
        }
    }
}
