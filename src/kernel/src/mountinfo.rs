//! The mount table of a process, as `/proc/PID/mountinfo` tells it.
//!
//! A line that does not parse is left out: the table is the kernel's, and a newer kernel may add to it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Result, SystemError};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u64,
    /// The id of the mount it is on.
    pub parent: u64,
    /// Major and minor number of its device.
    pub device: (u32, u32),
    /// The directory of the filesystem that is its root.
    pub root: PathBuf,
    /// Where it is, seen from the process' root.
    pub point: PathBuf,
    /// Its own options: `rw`, `nosuid`, …
    pub options: String,
    /// The peer group it shares mounts with, if it is shared.
    pub shared: Option<u64>,
    /// The peer group it receives mounts from, if it is a slave.
    pub master: Option<u64>,
    /// The filesystem's type.
    pub kind: String,
    /// The filesystem's source.
    pub source: String,
    /// The filesystem's options.
    pub filesystem_options: String,
}

/// The mounts of this process.
///
/// # Errors
/// `/proc` can't be read.
pub fn own() -> Result<Vec<Mount>> {
    read("/proc/self/mountinfo")
}

/// The mounts that the process with that id sees.
///
/// # Errors
/// The process is gone.
pub fn of(pid: i32) -> Result<Vec<Mount>> {
    read(&format!("/proc/{pid}/mountinfo"))
}

/// Parses a table.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn read(path: &str) -> Result<Vec<Mount>> {
    let text = std::fs::read(path)
        .map_err(|error| SystemError::new("read", format!("{path:?}"), error))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse_line(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let options = fields.next()?.to_owned();
    let (mut shared, mut master) = (None, None);
    for tag in fields {
        match tag.split_once(':') {
            Some(("shared", group)) => shared = group.parse().ok(),
            Some(("master", group)) => master = group.parse().ok(),
            Some(_) | None => {}
        }
    }
    let mut fields = filesystem.splitn(3, ' ');
    Some(Mount {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        options,
        shared,
        master,
        kind: fields.next()?.to_owned(),
        source: fields.next()?.to_owned(),
        filesystem_options: fields.next().unwrap_or_default().to_owned(),
    })
}

/// Undoes the octal escapes of blank, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', Some(digits)) = (first, tail.get(..3))
            && let Some(byte) = octal(digits)
        {
            plain.push(byte);
            rest = tail.get(3..).unwrap_or_default();
            continue;
        }
        plain.push(first);
        rest = tail;
    }
    PathBuf::from(OsString::from_vec(plain))
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_tags_and_escapes_is_read_in_full() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue";
        let mounts = parse(line);
        let mount = mounts.first().unwrap();
        assert_eq!((mount.id, mount.parent, mount.device), (36, 35, (98, 0)));
        assert_eq!(mount.point, PathBuf::from(r"/a b\c"));
        assert_eq!((mount.shared, mount.master), (Some(7), Some(1)));
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(mount.filesystem_options, "rw,errors=continue");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert!(parse("\n36 35\n - \nx y 1:2 / / rw - a b c\n").is_empty());
    }

    #[test]
    fn the_own_table_has_a_root() {
        assert!(own().unwrap().iter().any(|mount| mount.point == std::path::Path::new("/")));
    }
}
