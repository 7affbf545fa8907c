//! Deleting in two steps: one rename, after which a thing is gone for everyone, and the work of it later on a thread.
//!
//! Trees in here were written by strangers, so deleting must not depend on their shape: a directory that isn't empty is
//! moved up to the top of the trash and emptied from there. No path is longer than two names, and only one directory is
//! open, however deep the tree was.

use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory whose content is to be deleted.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
    serial: AtomicU64,
}

impl Trash {
    /// Trash in that directory, which exists.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, serial: AtomicU64::new(0) }
    }

    /// Makes a file or tree disappear. What is gone already is as good.
    pub(crate) fn throw(&self, path: &Path) -> io::Result<()> {
        loop {
            match fs::renameat_with(
                CWD,
                path,
                CWD,
                self.directory.join(self.new_name()),
                fs::RenameFlags::NOREPLACE,
            ) {
                Err(Errno::NOENT) => return Ok(()),
                // A number of an earlier process: take the next.
                Err(Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Deletes what was thrown away.
    pub(crate) fn empty(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let trash = fs::openat(CWD, &self.directory, flags, Mode::empty())?;
        loop {
            let names = names_in(&trash)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                self.delete(&trash, &name)?;
            }
        }
    }

    fn delete(&self, trash: &OwnedFd, name: &CStr) -> io::Result<()> {
        match fs::unlinkat(trash, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(trash, name, flags, Mode::empty())?;
        for child in names_in(&directory)? {
            match fs::unlinkat(&directory, &child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => self.delete_or_move_up(trash, &directory, &child)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        match fs::unlinkat(trash, name, AtFlags::REMOVEDIR) {
            // Someone who was being killed wrote a last file: the next round finds it.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn delete_or_move_up(
        &self,
        trash: &OwnedFd,
        directory: &OwnedFd,
        child: &CStr,
    ) -> io::Result<()> {
        match fs::unlinkat(directory, child, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {}
            other => return Ok(other?),
        }
        loop {
            let name = self.new_name();
            match fs::renameat_with(directory, child, trash, &name, fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return Ok(other?),
            }
        }
    }

    fn new_name(&self) -> String {
        self.serial.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

fn names_in(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// The names in a directory, for those who sweep it.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = fs::openat(CWD, directory, flags, Mode::empty())?;
    Ok(names_in(&opened)?
        .iter()
        .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{DirBuilder, File};

    #[test]
    fn a_deep_and_wide_tree_is_deleted_without_following_links() {
        let root = tempfile::tempdir().expect("a directory");
        let (trash, tree) = (root.path().join("trash"), root.path().join("tree"));
        let canary = root.path().join("canary");
        File::create(&canary).expect("a file");
        for directory in [&trash, &tree] {
            DirBuilder::new().create(directory).expect("a directory");
        }
        // Deeper than paths may be long and descriptors open: each level is made in a directory that is then moved in.
        let mut top = root.path().join("level");
        DirBuilder::new().create(&top).expect("a directory");
        for level in 0..3000 {
            let next = root.path().join(format!("next-{level}"));
            DirBuilder::new().create(&next).expect("a directory");
            File::create(next.join("file")).expect("a file");
            std::os::unix::fs::symlink(&canary, next.join("link")).expect("a link");
            std::fs::rename(&top, next.join("d")).expect("moved");
            top = next;
        }
        std::fs::rename(&top, tree.join("deep")).expect("moved");
        let trash = Trash::new(trash);
        trash.throw(&tree).expect("thrown away");
        assert!(!tree.exists());
        trash.throw(&tree).expect("gone is as good");
        trash.empty().expect("emptied");
        assert_eq!(
            list(&root.path().join("trash")).expect("listed"),
            Vec::<std::ffi::OsString>::new()
        );
        assert!(canary.exists());
    }
}
