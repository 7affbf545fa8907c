//! The journal of what an object has of the host.
//!
//! A hold is noted before it is taken: a crash in between costs one idle release, the other order would leak. Giving back
//! goes newest first ([`Holds::newest`], [`Holds::released`], [`Holds::settle`]) and stops at the first thing that will not
//! go; calling again resumes there. The journal survives our
//! death, not the machine's: it is stamped with the boot and lies where a reboot empties.

use crate::{atomic, failpoint, format};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// The journal of one object. `H` names the kinds of things it can hold.
#[derive(Debug)]
pub struct Holds<H> {
    path: PathBuf,
    noted: Vec<H>,
}

#[derive(Serialize, Deserialize)]
struct Journal<H> {
    boot: String,
    noted: Vec<H>,
}

/// Why the journal failed, or what would not go.
#[derive(Debug, thiserror::Error)]
pub enum HoldsError {
    /// The journal cannot be read or encoded.
    #[error(transparent)]
    Format(format::FormatError),
    /// The journal cannot be written.
    #[error("failed to write journal \"{}\"", path.display())]
    Write {
        /// The journal.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl<H> Holds<H>
where
    H: Clone + Debug + PartialEq + Serialize + DeserializeOwned,
{
    /// An empty journal; no file yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, noted: Vec::new() }
    }

    /// The journal at `path`; `None` if there is none, or if it is of another boot than `boot`: kernel objects of
    /// another boot are void.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn load(path: PathBuf, boot: &str) -> Result<Option<Self>, HoldsError> {
        let journal: Journal<H> = match format::load(&path) {
            Ok(journal) => journal,
            Err(format::FormatError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            Err(error) => return Err(HoldsError::Format(error)),
        };
        Ok((journal.boot == boot).then_some(Self { path, noted: journal.noted }))
    }

    /// Notes everything that is about to be taken, oldest first, in one write.
    ///
    /// # Errors
    /// If it cannot be written; then nothing may be taken.
    pub fn note(
        &mut self,
        holds: impl IntoIterator<Item = H>,
        boot: &str,
    ) -> Result<(), HoldsError> {
        let before = self.noted.len();
        self.noted.extend(holds);
        self.write(boot).inspect_err(|_error| self.noted.truncate(before))
    }

    /// Takes one thing that was noted.
    ///
    /// # Errors
    /// The action's; the note stays, and giving back succeeds on what was never taken.
    ///
    /// # Panics
    /// Never in a release; a debug build asserts that the hold was noted.
    pub async fn take<T, E>(
        &self,
        hold: &H,
        action: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        debug_assert!(self.noted.contains(hold), "a hold was taken that was not noted: {hold:?}");
        failpoint::step();
        let taken = action.await;
        failpoint::step();
        taken
    }

    /// What is noted, oldest first.
    #[must_use]
    pub fn noted(&self) -> &[H] {
        &self.noted
    }

    /// What is to be given back next: the newest.
    #[must_use]
    pub fn newest(&self) -> Option<&H> {
        failpoint::step();
        self.noted.last()
    }

    /// The newest was given back, or was never taken.
    pub fn released(&mut self) {
        self.noted.pop();
    }

    /// Ends a giving back: the journal is removed if nothing is left, else it says what is. Until then it says more than
    /// is held, which costs idle releases and leaks nothing.
    ///
    /// # Errors
    /// If the journal cannot be written or removed.
    pub fn settle(&self, boot: &str) -> Result<(), HoldsError> {
        if !self.noted.is_empty() {
            return self.write(boot);
        }
        failpoint::step();
        atomic::remove(&self.path)
            .map_err(|source| HoldsError::Write { path: self.path.clone(), source })
    }

    /// Where the journal is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, boot: &str) -> Result<(), HoldsError> {
        failpoint::step();
        let journal = Journal { boot: boot.to_owned(), noted: self.noted.clone() };
        let content = format::encode(&journal).map_err(HoldsError::Format)?;
        atomic::replace(&self.path, &content)
            .map_err(|source| HoldsError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests;
