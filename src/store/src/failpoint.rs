//! The one place where a test may end or hold up the daemon (D18): a counter that is stepped by [`crate::tracked`] when a
//! phase changes and by [`crate::holds`] when something is taken or given back. Without the feature `failpoints` it is
//! nothing.

/// Counts one step. With the feature `failpoints`, the file that `CRINGLE_FAILPOINT` names orders what happens, and each
/// new text in it begins to count anew, so that a test arms a daemon that serves already, or one that is still to be
/// started:
///
/// - `N`: the process ends as by kill -9 at its `N`-th step.
/// - `hang N TAG`: the `N`-th step hangs until the file has another text or is gone. Meanwhile there is a file beside it
///   with `.TAG` at the end of its name.
/// - `count`: each step adds one byte to a file beside it with `.count` at the end of its name.
#[inline]
pub fn step() {
    #[cfg(feature = "failpoints")]
    armed::step();
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    /// The last text, and how many steps were taken since it was new.
    static TAKEN: Mutex<(String, u64)> = Mutex::new((String::new(), 0));
    static FILE: OnceLock<Option<OsString>> = OnceLock::new();

    pub(super) fn step() {
        let Some(text) = text() else { return };
        let step = taken(&text);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["hang", last, tag] if last.parse() == Ok(step) => hang(&text, tag),
            ["count"] => count(),
            [last] if last.parse().is_ok_and(|last: u64| step >= last) => end(),
            _ => {}
        }
    }

    fn file() -> Option<&'static OsString> {
        FILE.get_or_init(|| std::env::var_os("CRINGLE_FAILPOINT")).as_ref()
    }

    fn text() -> Option<String> {
        fs::read_to_string(file()?).ok()
    }

    fn beside(end: &str) -> PathBuf {
        PathBuf::from(file().cloned().unwrap_or_default()).with_extension(end)
    }

    fn taken(text: &str) -> u64 {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.0 != text {
            *taken = (text.to_owned(), 0);
        }
        taken.1 += 1;
        taken.1
    }

    fn count() {
        let opened = File::options().create(true).append(true).open(beside("count"));
        // The test that wanted the count fails without it.
        let _counted = opened.and_then(|mut file| file.write_all(b"."));
    }

    fn hang(order: &str, tag: &str) {
        // The test that waits for it fails without it.
        let _shown = File::create(beside(tag));
        // Others of this thread's tasks go on.
        tokio::task::block_in_place(|| {
            while text().is_some_and(|text| text == order) {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        let _hidden = fs::remove_file(beside(tag));
    }

    fn end() {
        // Nothing is flushed and nothing unwound, as when the kernel kills us.
        let (process, kill) = (rustix::process::getpid(), rustix::process::Signal::KILL);
        if rustix::process::kill_process(process, kill).is_err() {
            std::process::abort();
        }
    }
}
