//! Replacing a file: after a crash of ours it has its old content or its new one, never a mixture.

use rustix::fs::{self, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Writes `content` to `path` (mode 0600) by a temporary file beside it and a rename. Whole or absent after our own
/// death; not synced, so after a power cut a reader must check it (see [`crate::format`]).
///
/// # Errors
/// The file system's; the temporary file is removed.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content, Durability::Process)?;
    put_in_place(&temporary, path)
}

/// The same, and on disk when it returns: the content is synced before the rename and the directory after it.
///
/// # Errors
/// The file system's; the temporary file is removed. After a failed sync of the directory the new content may be there.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content, Durability::Machine)?;
    put_in_place(&temporary, path)?;
    sync_directory(parent_of(path))
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// Those of open(2) and fsync(2).
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fs::fsync(&directory)?)
}

/// Removes a file; one that is gone already is as good.
///
/// # Errors
/// Those of unlink(2) but ENOENT.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a directory and its parents with mode 0700; one that exists is tightened to that mode.
///
/// # Errors
/// Those of mkdir(2) and chmod(2).
pub fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Process,
    Machine,
}

fn write_beside(path: &Path, content: &[u8], durability: Durability) -> io::Result<PathBuf> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = parent_of(path).join(format!(".{name}.{}.{serial}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = fs::openat(CWD, &temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(io::Error::from)
        .and_then(|descriptor: OwnedFd| {
            let mut file = File::from(descriptor);
            file.write_all(content)?;
            if durability == Durability::Machine { file.sync_all() } else { Ok(()) }
        });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => Err(discard(&temporary, error)),
    }
}

fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(temporary, path).map_err(|error| discard(temporary, error))
}

/// The first error is the one to tell; a temporary file that stays behind is swept at the next start.
fn discard(temporary: &Path, error: io::Error) -> io::Error {
    match remove(temporary) {
        Ok(()) | Err(_) => error,
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_replaced_file_has_the_new_content_and_is_private_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        replace(&path, b"one").unwrap();
        replace_durably(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(replace(&path, b"one").is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_twice_is_as_good_as_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        replace(&path, b"one").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
