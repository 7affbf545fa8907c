//! A directory to try things in, that is gone afterwards.

use std::io;
use std::path::{Path, PathBuf};

/// A directory of our own, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in this directory.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = place.join(format!(".cringle-check-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub(super) fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::DirBuilder::new().create(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            // The user has to know, and there is no log.
            let line = format!("cringle: failed to remove \"{}\": {error}\n", self.0.display());
            drop(io::Write::write_all(&mut io::stderr(), line.as_bytes()));
        }
    }
}

/// The path itself or what of it is there.
pub(super) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_scratch_directory() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(place.path()).unwrap();
        scratch.directory("one").unwrap();
        assert_eq!(place.path().read_dir().unwrap().count(), 1);
        drop(scratch);
        assert_eq!(place.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn of_a_path_that_is_not_there_the_beginning_counts() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(existing(&place.path().join("a/b")), place.path());
    }
}
