//! What a writable layer takes, by looking at each of its files.
//!
//! The container changes the tree meanwhile, and it may be hostile: a directory that becomes a link must not lead the count
//! to the host's files. So each level is opened below the one above it, never by a path, no link is followed, and nothing
//! but directories is opened.

use super::SnapshotUsage;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::io;
use std::path::Path;

/// How deep the count goes: each level needs a descriptor.
const DEPTH: usize = 256;

/// How many files with several names are remembered, to be counted once.
const LINKED: usize = 1 << 16;

/// Counts what is below a directory.
pub(super) fn below(directory: &Path) -> io::Result<SnapshotUsage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut usage = SnapshotUsage::default();
    let mut linked = HashSet::new();
    let mut levels = vec![Dir::new(rustix::fs::open(directory, flags, Mode::empty())?)?];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { break };
        let entry = match level.read() {
            Some(Ok(entry)) => entry,
            // The container removed the directory under us.
            None | Some(Err(Errno::NOENT)) => {
                levels.pop();
                continue;
            }
            Some(Err(errno)) => return Err(errno.into()),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let place = level.fd()?;
        let Ok(found) = rustix::fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        let is_directory = kind == FileType::Directory;
        let again = !is_directory && found.st_nlink > 1 && {
            let new = linked.len() >= LINKED || linked.insert((found.st_dev, found.st_ino));
            !new
        };
        if !again {
            let blocks = u64::try_from(found.st_blocks).unwrap_or(0);
            usage.bytes = usage.bytes.saturating_add(blocks.saturating_mul(512));
            usage.inodes += 1;
        }
        if is_directory && depth < DEPTH {
            // One that is gone or is a link by now has nothing to count.
            let Ok(below) = rustix::fs::openat(place, name, flags, Mode::empty()) else { continue };
            levels.push(Dir::new(below)?);
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed_pipes_not_opened_and_names_of_one_file_count_once() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let write = |path: &Path, length: usize| {
            io::Write::write_all(&mut std::fs::File::create(path).unwrap(), &vec![1; length])
                .unwrap();
        };
        write(&outside.path().join("large"), 1 << 20);
        let upper = directory.path();
        symlink(outside.path(), upper.join("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            upper.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        std::fs::DirBuilder::new().recursive(true).create(upper.join("a/b")).unwrap();
        write(&upper.join("a/b/file"), 64 << 10);
        std::fs::hard_link(upper.join("a/b/file"), upper.join("again")).unwrap();
        let usage = below(upper).unwrap();
        // The link, the pipe, two directories, and one file with two names.
        assert_eq!(usage.inodes, 5, "{usage:?}");
        assert!((64 << 10..200 << 10).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn a_tree_that_is_too_deep_ends_the_count_and_not_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let mut place =
            rustix::fs::open(directory.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .unwrap();
        for _ in 0..DEPTH + 50 {
            rustix::fs::mkdirat(&place, "d", Mode::RWXU).unwrap();
            place = rustix::fs::openat(&place, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        assert_eq!(below(directory.path()).unwrap().inodes, DEPTH as u64);
    }
}
