//! Removing what stands in the place of a new entry, whole trees included.

use super::FileName;
use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Removes a name and all that is below it, following no link.
pub(super) fn remove_at(parent: &impl AsFd, name: FileName<'_>) -> rustix::io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => remove_directory(parent, name.as_bytes()),
        other => other,
    }
}

/// One descriptor is open for each level; how deep a layer may nest is limited.
fn remove_directory(parent: &impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = Dir::new(fs::openat(parent, name, flags, Mode::empty())?)?;
    while let Some(entry) = directory.read() {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if matches!(child, b"." | b"..") {
            continue;
        }
        match fs::unlinkat(directory.fd()?, child, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_directory(&directory.fd()?, child)?,
            other => other?,
        }
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
