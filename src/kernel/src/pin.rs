//! What is mounted on the host for a pod: pins of namespaces are looked at here, a tmpfs is mounted and unmounted.

use crate::error::{Result, SystemError};
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::path::Path;

/// The magic number of nsfs (statfs(2)).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Whether a namespace is pinned at that path: the file is one of nsfs, not a plain file that a crash left.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(CWD, path, flags, Mode::empty())
        .and_then(fstatfs)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == NSFS_MAGIC))
}

/// Mounts a tmpfs with these options (tmpfs(5)), without devices, set-uid programs and programs.
///
/// # Errors
/// The kernel refused.
pub fn mount_tmpfs(target: &Path, options: &str) -> Result<()> {
    let failed = |source: std::io::Error| SystemError::new("mount", quoted(target), source);
    let data = CString::new(options).map_err(|error| failed(error.into()))?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, data.as_c_str())
        .map_err(|errno| failed(errno.into()))
}

/// Unmounts what is at `target`; what is not mounted or not there is as good.
///
/// # Errors
/// The kernel refused.
pub fn unmount(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(SystemError::new("umount2", quoted(target), errno)),
    }
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_and_an_absent_one_are_no_pins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_pinned(file.path()));
        assert!(!is_pinned(Path::new("/nonexistent")));
    }

    #[test]
    fn unmounting_what_is_not_mounted_is_as_good() {
        let directory = tempfile::tempdir().unwrap();
        unmount(directory.path()).unwrap();
        unmount(&directory.path().join("absent")).unwrap();
    }
}
