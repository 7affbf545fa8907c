//! What CRIU says of its failures in its log, for whoever had it work.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most that is told.
const SAID_LIMIT: usize = 600;
/// What is read of a log, from its end: CRIU gives up soon after an error.
const TAIL: u64 = 1 << 20;
/// It wants more descriptors than it may have, and does without.
const IDLE: &str = "RLIMIT_NOFILE";
const SILENT: &str = "it said nothing";

/// The errors in the log at `path`, at most 600 characters; the first ones are the cause. Without any, its last line.
#[must_use]
pub fn said(path: &Path) -> String {
    // A log that is not there, or ends within a line, says as much as it says.
    errors(&String::from_utf8_lossy(&tail(path).unwrap_or_default()))
}

/// The last line that says something.
#[must_use]
pub fn last(told: &str) -> String {
    let line = told.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or(SILENT).trim().chars().take(SAID_LIMIT).collect()
}

fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(tail)
}

fn errors(log: &str) -> String {
    let lines = log.lines().filter_map(|line| line.split_once("Error (").map(|(_, rest)| rest));
    let lines: Vec<&str> = lines.filter(|line| !line.contains(IDLE)).collect();
    if lines.is_empty() { last(log) } else { lines.join("; ").chars().take(SAID_LIMIT).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_errors_of_a_log_are_told_and_the_idle_one_is_not() {
        let log = "(00.1) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self\n\
                   (00.2) Warn (x): y\n(00.3) Error (a.c:2): Can't dump\n(00.4) Error (b.c:3): FAILED.\n";
        assert_eq!(errors(log), "a.c:2): Can't dump; b.c:3): FAILED.");
        assert_eq!(errors("one\ntwo\n"), "two");
        assert_eq!(errors(""), "it said nothing");
    }

    #[test]
    fn of_a_long_log_the_end_is_read_and_of_none_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        assert_eq!(said(&path), "it said nothing");
        let mut log = b"(00.1) Error (a.c:1): long ago\n".to_vec();
        log.resize(2 << 20, b'x');
        log.extend(b"\n(00.2) Error (b.c:2): now\n");
        File::create(&path).unwrap().write_all(&log).unwrap();
        assert_eq!(said(&path), "b.c:2): now");
    }
}
