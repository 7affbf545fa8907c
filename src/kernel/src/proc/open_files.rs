//! What a process has open, and what it may have.

use crate::error::{Result, SystemError};
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// How many descriptors a process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// All of them.
    pub descriptors: u64,
    /// Those that are sockets.
    pub sockets: u64,
}

/// Counts the descriptors of a process, but no further than `limit`. It looks at each, so it is not cheap.
///
/// # Errors
/// The process is gone, or not ours to look at.
pub fn open_files(pid: u32, limit: u64) -> Result<OpenFiles> {
    let directory = format!("/proc/{pid}/fd");
    let failed = |source| SystemError::new("open", directory.clone(), source);
    let mut count = OpenFiles::default();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        if count.descriptors >= limit {
            break;
        }
        let Ok(entry) = entry else { break };
        count.descriptors += 1;
        let target = fs::read_link(entry.path());
        let socket = |path: std::path::PathBuf| path.as_os_str().as_bytes().starts_with(b"socket:");
        count.sockets += u64::from(target.is_ok_and(socket));
    }
    Ok(count)
}

/// The soft limits of a process that are numbers, by name: `max_open_files`.
///
/// # Errors
/// The process is gone.
pub fn soft_limits(pid: i32) -> Result<Vec<(String, u64)>> {
    let path = format!("/proc/{pid}/limits");
    let text = fs::read_to_string(&path).map_err(|error| SystemError::new("read", path, error))?;
    Ok(text.lines().skip(1).filter_map(parse_limit).collect())
}

/// `Max open files            1024                 4096                 files`: the name's words are one blank apart, the
/// columns at least two.
fn parse_limit(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once("  ")?;
    let soft = rest.split_whitespace().next()?.parse().ok()?;
    Some((name.to_lowercase().replace(' ', "_"), soft))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_told_from_a_file_and_the_limit_holds() {
        let before = open_files(std::process::id(), 10_000).unwrap();
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        let after = open_files(std::process::id(), 10_000).unwrap();
        assert!(after.sockets >= before.sockets + 2, "{before:?} {after:?}");
        assert!(after.descriptors > after.sockets);
        drop(pair);
        assert_eq!(open_files(std::process::id(), 2).unwrap().descriptors, 2);
        open_files(u32::MAX, 1).unwrap_err();
    }

    #[test]
    fn soft_limits_have_names_and_unlimited_ones_are_left_out() {
        let line = "Max open files            1024                 4096                 files     ";
        assert_eq!(parse_limit(line), Some(("max_open_files".to_owned(), 1024)));
        let line = "Max cpu time              unlimited            unlimited            seconds   ";
        assert_eq!(parse_limit(line), None);
        let own = soft_limits(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.iter().any(|(name, _)| name == "max_open_files"), "{own:?}");
    }
}
