//! Setting aside what cannot be read, so that it neither stops the start nor is lost.

use std::io;
use std::path::{Path, PathBuf};

/// Moves `path` into the directory `aside` (made if absent) under its own name, with a number if that is taken.
/// Answers where it is now.
///
/// # Errors
/// Those of mkdir(2) and rename(2).
pub fn set_aside(path: &Path, aside: &Path) -> io::Result<PathBuf> {
    crate::atomic::private_directory(aside)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let free = (0..)
        .map(|number: u32| match number {
            0 => aside.join(&*name),
            _ => aside.join(format!("{name}.{number}")),
        })
        .find(|target| !target.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &free)?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_one_name_are_both_kept() {
        let directory = tempfile::tempdir().unwrap();
        let aside = directory.path().join("aside");
        let path = directory.path().join("record");
        for content in [b"1", b"2"] {
            crate::atomic::replace(&path, content).unwrap();
            set_aside(&path, &aside).unwrap();
        }
        assert_eq!(std::fs::read_dir(&aside).unwrap().count(), 2);
        assert!(!path.exists());
    }
}
