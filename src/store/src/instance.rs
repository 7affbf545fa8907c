//! A lock against a second daemon on the same roots. It is the kernel's (flock(2)): it ends with the process, however
//! that ends.

use rustix::fs::{self, CWD, FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Proof that no other daemon uses these roots; held as long as it lives.
#[derive(Debug)]
pub struct InstanceLock {
    _files: Vec<OwnedFd>,
}

/// Why the roots cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has them.
    #[error("another daemon uses \"{}\" (lock \"{}\" is held)", root.display(), lock.display())]
    Held {
        /// The root.
        root: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// A root or its lock file cannot be made.
    #[error("failed to lock \"{}\"", lock.display())]
    Lock {
        /// The lock file.
        lock: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
}

/// Makes the directories (mode 0700) and locks each.
///
/// # Errors
/// If one is held by another process, or can't be made.
pub fn lock(roots: &[&Path]) -> Result<InstanceLock, LockError> {
    let files = roots.iter().map(|root| lock_one(root)).collect::<Result<_, _>>()?;
    Ok(InstanceLock { _files: files })
}

/// Whether a daemon holds the lock of this root. Nothing is made; a root whose lock cannot be looked at has none.
#[must_use]
pub fn is_held(root: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = fs::openat(CWD, root.join("lock"), flags, Mode::empty()) else { return false };
    // Shared, so that two who ask are not taken for daemons by each other; it ends with the descriptor.
    let asked = fs::flock(&file, FlockOperation::NonBlockingLockShared);
    asked == Err(rustix::io::Errno::WOULDBLOCK)
}

fn lock_one(root: &Path) -> Result<OwnedFd, LockError> {
    let path = root.join("lock");
    let failed = |source: io::Error| LockError::Lock { lock: path.clone(), source };
    crate::atomic::private_directory(root).map_err(failed)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed(error.into()))?;
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(LockError::Held { root: root.to_owned(), lock: path })
        }
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let roots = [directory.path()];
        assert!(!is_held(roots[0]) && directory.path().read_dir().unwrap().count() == 0);
        let first = lock(&roots).unwrap();
        assert!(is_held(roots[0]));
        assert!(matches!(lock(&roots), Err(LockError::Held { .. })));
        drop(first);
        assert!(!is_held(roots[0]));
        lock(&roots).unwrap();
    }
}
