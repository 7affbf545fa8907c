//! The daemon's socket: free, or in the hands of a daemon of the same directories.

use super::finding::{Area, Finding};
use crate::config::Settings;
use cringle_store::instance;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let daemon = &settings.daemon;
    let socket = daemon.socket.as_path();
    let held = [daemon.root.as_path(), daemon.state.as_path()].into_iter().any(instance::is_held);
    vec![judge(socket, held)]
}

/// `held`: a daemon with these directories runs.
fn judge(socket: &Path, held: bool) -> Finding {
    let shown = format!("\"{}\"", socket.display());
    let found = |text: &str| Finding::fine(Area::Daemon, "socket", format!("{shown} {text}"));
    let fails = |text: &str, hint: &str| {
        Finding::failure(Area::Daemon, "socket", format!("{shown} {text}"), hint)
    };
    let Ok(there) = std::fs::symlink_metadata(socket) else {
        return if held {
            fails("is not there, and a daemon of this instance runs", "restart the daemon")
        } else {
            found("is free")
        };
    };
    if !there.file_type().is_socket() {
        return fails("is no socket, and would not be replaced", "move it away");
    }
    match (UnixStream::connect(socket).is_ok(), held) {
        (true, true) => found("is served by a daemon of this instance"),
        (true, false) => fails(
            "is served by another program",
            "end that program, or choose another `socket` in the configuration",
        ),
        (false, true) => {
            fails("is not served, though a daemon of this instance runs", "look at its log")
        }
        (false, false) => found("is left over, and will be replaced"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_is_free_served_by_ours_or_taken() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("test.sock");
        let verdict = |held| judge(&socket, held).verdict;
        assert_eq!((verdict(false), verdict(true)), (Verdict::Ok, Verdict::Failed));
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!((verdict(false), verdict(true)), (Verdict::Failed, Verdict::Ok));
        drop(listener);
        assert_eq!((verdict(false), verdict(true)), (Verdict::Ok, Verdict::Failed));
        std::fs::remove_file(&socket).unwrap();
        drop(std::fs::File::create(&socket).unwrap());
        assert_eq!((verdict(false), verdict(true)), (Verdict::Failed, Verdict::Failed));
    }
}
