//! What `/proc` says about processes, and a procfs to write to that nobody could have mounted something over.

mod open_files;
mod own;

pub use open_files::{OpenFiles, open_files, soft_limits};
pub use own::{Own, own, wall_clock};

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Result, SystemError};
use crate::mount::{self, Attributes};
use crate::process::Exit;

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC: libc::c_long = 0x9fa0;

/// Whether an open path is on a procfs.
///
/// # Errors
/// The kernel refused.
pub fn is_procfs(place: impl AsFd) -> Result<bool> {
    let filesystem =
        rustix::fs::fstatfs(place).map_err(|error| SystemError::new("fstatfs", "", error))?;
    Ok(filesystem.f_type == PROC)
}

/// A procfs of the caller's PID namespace that is mounted nowhere: what is opened below it is the true file.
///
/// # Errors
/// The caller may not mount.
pub fn detached() -> Result<OwnedFd> {
    mount::filesystem(c"proc", &[], Attributes::NONE)
}

/// The state letter and the start time, in ticks since boot, of a process. With its id, the start time is an identity.
///
/// # Errors
/// The process is gone, or `/proc` is not there.
pub fn stat(pid: i32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text =
        std::fs::read(&path).map_err(|error| SystemError::new("read", path.clone(), error))?;
    parse_stat(&text)
        .ok_or_else(|| SystemError::new("read", path, io::Error::from(io::ErrorKind::InvalidData)))
}

/// The processes that have these arguments, one after the other, somewhere in their command line. Whoever acts on one opens
/// it first and asks [`has_arguments`] then: the number may be another's by now.
///
/// # Errors
/// `/proc` is not there.
pub fn with_arguments(arguments: &[&[u8]]) -> Result<Vec<i32>> {
    let listed = std::fs::read_dir("/proc");
    let listed = listed.map_err(|source| SystemError::new("open", "/proc", source))?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.parse().ok());
    Ok(numbers.filter(|pid| has_arguments(*pid, arguments)).collect())
}

/// Whether a process has these arguments, one after the other; not if it is gone.
#[must_use]
pub fn has_arguments(pid: i32, arguments: &[&[u8]]) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.windows(arguments.len().max(1)).any(|window| window == arguments)
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// The parent's process id.
    pub parent: i32,
    /// The session's id.
    pub session: i32,
    /// Ticks since boot at which it started.
    pub start_time: u64,
    /// How it ended, if it has and was not reaped yet. Shown as success to callers that may not trace it.
    pub ended: Option<Exit>,
}

impl Stat {
    /// Whether the process has ended and was not reaped yet.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        is_zombie(self.state)
    }
}

fn is_zombie(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// A status of wait(2) of a process that ended.
fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

/// The fields of `/proc/PID/stat` from number 3 on. The command, number 2, may hold blanks and parentheses, so what follows
/// its *last* parenthesis is taken.
fn after_command(text: &[u8]) -> Option<&str> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(text.get(end + 1..)?).ok()
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    let mut fields = after_command(text)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    let session = fields.next()?.parse().ok()?;
    // Four fields were taken, of which the first is number 3; the start time is number 22.
    let start_time = fields.nth(15)?.parse().ok()?;
    // The status is number 52, the last; zero while the process runs.
    let status = fields.nth(29).and_then(|field| field.parse().ok()).map(exit_of);
    let ended = status.filter(|_| is_zombie(state));
    Some(Stat { state, parent, session, start_time, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_confuse() {
        let line = b"12 (a) b) (c) S 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
        let stat = parse_stat(line).unwrap();
        let known = Stat { state: 'S', parent: 3, session: 5, start_time: 987_654, ended: None };
        assert_eq!(stat, known);
        assert_eq!(parse_stat(b"12 (x) S 1"), None);
    }

    #[test]
    fn the_own_start_time_is_after_that_of_the_parent() {
        let own = stat(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(stat(own.parent).unwrap().start_time <= own.start_time);
        assert!(!own.is_zombie());
    }

    #[test]
    fn how_a_process_ended_is_seen_until_it_is_reaped() {
        for (body, expected) in [
            ("exit 7", Exit::Code(7)),
            ("exit 0", Exit::Code(0)),
            ("kill -KILL $$", Exit::Signal(9)),
        ] {
            let mut child = std::process::Command::new("sh").args(["-c", body]).spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let process = crate::process::open(pid).unwrap();
            crate::poll::readable(process.as_fd(), None).unwrap();
            assert_eq!(stat(pid).unwrap().ended, Some(expected));
            child.wait().unwrap();
        }
        assert_eq!(stat(i32::try_from(std::process::id()).unwrap()).unwrap().ended, None);
    }

    #[test]
    fn a_detached_procfs_is_a_procfs_and_a_tmpfs_is_none() {
        assert!(is_procfs(detached().unwrap()).unwrap());
        assert!(!is_procfs(std::fs::File::open("/dev/null").unwrap()).unwrap());
    }
}
