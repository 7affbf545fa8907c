//! Is a plugin file ours? Only then may it be replaced by a call.
//!
//! Others overwrite plugins in place, so a name says nothing and a link must not be trusted. A file is ours if its content is that
//! of our own program; the comparison is done once for each (device, inode, size, change time).

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Comparisons done so far.
#[derive(Debug)]
pub(crate) struct Identities {
    program: PathBuf,
    known: Mutex<HashMap<(Stamp, Stamp), bool>>,
}

impl Identities {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, known: Mutex::new(HashMap::new()) }
    }

    /// Whether the file has the content of our own program. One that cannot be read is not ours.
    pub(crate) fn is_ours(&self, file: &Path) -> bool {
        let (Some(own), Some(other)) = (stamp(&self.program), stamp(file)) else { return false };
        if own.size != other.size {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known
            .entry((own, other))
            .or_insert_with(|| same_content(&self.program, file).unwrap_or(false))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn same_content(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (mut one, mut other) = (std::fs::File::open(one)?, std::fs::File::open(other)?);
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        other.read_exact(&mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_ours_until_its_content_changes() {
        let directory = tempfile::tempdir().unwrap();
        let [own, copy] = ["own", "copy"].map(|name| directory.path().join(name));
        cringle_store::atomic::replace(&own, b"program").unwrap();
        cringle_store::atomic::replace(&copy, b"program").unwrap();
        let identities = Identities::new(own);
        assert!(identities.is_ours(&copy));
        cringle_store::atomic::replace(&copy, b"another").unwrap();
        assert!(!identities.is_ours(&copy));
        assert!(!identities.is_ours(&directory.path().join("absent")));
    }
}
