//! Parent cgroups that we had to make because nobody had: they are ours to remove once they are empty.
//!
//! A pod names its parent (`/kubepods/burstable/pod…`); the kubelet makes it beforehand, a plain client may not. Which
//! ones we made is noted before they are made, and each tear-down of a pod tries to remove those that no other pod wants.

use crate::ServiceError;
use crate::cgroups::Cgroups;
use cringle_store::{atomic, format};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The parents that this instance made.
#[derive(Debug)]
pub struct Parents {
    path: PathBuf,
    cgroups: Cgroups,
    made: Mutex<BTreeSet<String>>,
}

impl Parents {
    /// Reads which parents an earlier run made; an unreadable list is taken for empty, and said so.
    #[must_use]
    pub fn load(path: PathBuf, cgroups: Cgroups) -> Self {
        let made = match format::load(&path) {
            Ok(made) => made,
            Err(format::FormatError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                BTreeSet::new()
            }
            Err(error) => {
                tracing::warn!(error = %error, "list of parent cgroups lost");
                BTreeSet::new()
            }
        };
        Self { path, cgroups, made: Mutex::new(made) }
    }

    /// Makes `parent`, and what is missing above it, noting first what will be made.
    ///
    /// # Errors
    /// If the note cannot be written; the cgroups themselves are made by whoever uses them.
    pub fn want(&self, parent: &str) -> Result<(), ServiceError> {
        let missing: Vec<String> =
            ancestry(parent).filter(|path| !self.cgroups.exists(path)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let before = made.len();
        made.extend(missing);
        if made.len() == before { Ok(()) } else { self.write(&made) }
    }

    /// Removes those of ours that are empty, the deepest first, but for the parents in `wanted` and what is above them: a
    /// pod may have none of its containers yet, and theirs are still to be made.
    pub fn tidy(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().flat_map(|parent| ancestry(parent)).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let before = made.len();
        let stays = |path: &&String| wanted.contains(*path) || !self.cgroups.remove_if_empty(path);
        let kept: BTreeSet<String> = made.iter().rev().filter(stays).cloned().collect();
        *made = kept;
        if made.len() != before
            && let Err(error) = self.write(&made)
        {
            tracing::warn!(error = %error, "list of parent cgroups not kept");
        }
    }

    fn write(&self, made: &BTreeSet<String>) -> Result<(), ServiceError> {
        let record =
            |source| ServiceError::Record { object: "the parent cgroups".to_owned(), source };
        let content = format::encode(made).map_err(record)?;
        atomic::replace(&self.path, &content)
            .map_err(|source| ServiceError::file("write", self.path.clone(), source))
    }
}

/// `/a/b/c` is `/a`, `/a/b` and `/a/b/c`.
fn ancestry(path: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (1..=parts.len()).map(move |length| format!("/{}", parts[..length].join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_a_pod_wants_is_ours_even_before_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("parents");
        let load = || Parents::load(note.clone(), Cgroups::probe().unwrap());
        let parent = format!("/cringle-parents-{}/pod", std::process::id());
        let parents = load();
        parents.want(&parent).unwrap();
        parents.tidy(&[&parent]);
        let kept = load().made.into_inner().unwrap();
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), ancestry(&parent).collect::<Vec<_>>());
        parents.tidy(&[]);
        assert!(load().made.into_inner().unwrap().is_empty());
    }

    #[test]
    fn every_ancestor_is_named_from_the_top() {
        let found: Vec<String> = ancestry("/a/b/c").collect();
        assert_eq!(found, ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(ancestry("/").count(), 0);
    }
}
