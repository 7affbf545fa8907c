//! The directory in which a checkpoint is made, and the note of all that it takes: written before anything is taken, gone
//! when everything is given back. What a daemon that died left of one is made good from it.

use super::archive::Limit;
use super::criu::WORK_WORD;
use super::{CheckpointError, archive};
use crate::container::Container;
use crate::container::stillness::Stillness;
use crate::{Service, ServiceError};
use cringle_domain::id::ContainerId;
use cringle_kernel::cgroup::Cgroup;
use cringle_kernel::{proc, process};
use cringle_store::atomic;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// The note in the directory.
const NOTE: &str = "note.json";
/// How long the processes of a container may take to stand still.
const FREEZING: Duration = Duration::from_secs(5);
/// How long a CRIU whose daemon died may go on: it has the processes in its hands, and gives them back at its end.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);
const KILL: i32 = 9;

/// What is taken for a checkpoint besides its directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The containers that stand still meanwhile.
    pub(crate) containers: Vec<ContainerId>,
    /// Files elsewhere that are to go unless everything is done.
    pub(crate) files: Vec<PathBuf>,
}

/// A checkpoint that is being made.
#[derive(Debug)]
pub(crate) struct Work {
    directory: PathBuf,
    note: Note,
}

impl Work {
    /// Makes the directory and notes what will be taken.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn begin(directory: PathBuf, note: Note) -> Result<Self, CheckpointError> {
        let fails = || CheckpointError::file("make", &directory);
        // What an earlier one could not remove.
        remove(&directory)?;
        make(&directory)?;
        let text = serde_json::to_vec(&note).map_err(|error| fails()(error.into()))?;
        let path = directory.join(NOTE);
        atomic::replace(&path, &text).map_err(CheckpointError::file("write", path))?;
        Ok(Self { directory, note })
    }

    /// Where the checkpoint of one container is made.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn place(&self, container: &ContainerId) -> Result<PathBuf, CheckpointError> {
        let place = self.directory.join(container.as_str());
        for directory in [&place, &place.join(archive::IMAGES)] {
            make(directory)?;
        }
        Ok(place)
    }

    /// Gives everything back. What it was for is kept if it is done.
    ///
    /// # Errors
    /// The file system refuses; the next start goes on then.
    pub(crate) fn end<T>(self, outcome: Result<T, ServiceError>) -> Result<T, ServiceError> {
        let removed = tokio::task::block_in_place(|| {
            match outcome {
                // From here on it is done, also for a next start.
                Ok(_) => remove_files(&[self.directory.join(NOTE)]),
                Err(_) => remove_files(&self.note.files),
            }
            .and_then(|()| remove(&self.directory))
        });
        if let Err(error) = removed {
            let (directory, error) = (self.directory.display(), crate::error::chain(&error));
            tracing::warn!(%directory, error, "a checkpoint's files are removed at the next start");
        }
        outcome
    }
}

/// A container that stands still until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    cgroup: Cgroup,
    still: Arc<Stillness>,
}

impl Frozen {
    /// Freezes it. This waits for its processes: not for a thread that others wait for.
    ///
    /// # Errors
    /// They do not stand still; then they go on.
    pub(crate) fn freeze(
        cgroup: Cgroup,
        still: Arc<Stillness>,
        limit: Limit,
    ) -> Result<Self, CheckpointError> {
        let patience = limit.left()?.min(FREEZING);
        still.note(true);
        // From here on it is thawed again, whatever becomes of the attempt.
        let frozen = Self { cgroup, still };
        frozen.cgroup.freeze(patience)?;
        Ok(frozen)
    }

    /// The container's cgroup.
    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.cgroup.thaw() {
            let error = crate::error::chain(&error);
            tracing::error!(cgroup = self.cgroup.name(), error, "a container was not thawed");
        }
        self.still.note(false);
    }
}

impl Service {
    /// Begins a checkpoint of a container or a pod, whose id it has.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn begin_checkpoint(&self, id: &str, note: Note) -> Result<Work, CheckpointError> {
        tokio::task::block_in_place(|| Work::begin(self.layout.checkpoint(id), note))
    }

    /// Makes good what checkpoints left whose daemon died: their containers go on, their files go.
    ///
    /// # Errors
    /// The directory cannot be listed. What goes wrong with one of them is logged.
    pub(crate) fn settle_checkpoints(self: &Arc<Self>) -> Result<(), ServiceError> {
        let directory = self.layout.checkpoints();
        let listed = std::fs::read_dir(&directory)
            .and_then(|entries| entries.map(|entry| entry.map(|one| one.path())).collect());
        let found: Vec<PathBuf> =
            listed.map_err(|source| ServiceError::file("list", directory, source))?;
        for directory in found {
            tracing::info!(directory = %directory.display(), "a checkpoint was cut short");
            // Without a note nothing was taken yet, or everything was given back.
            let note = read_note(&directory).unwrap_or_default();
            let orphans = orphans_of(&directory);
            if orphans.is_empty() {
                tell(self.settle(&directory, &note));
                continue;
            }
            // It has the processes in its hands: nobody but the container itself has to wait for that.
            let service = Arc::clone(self);
            tokio::spawn(async move {
                let containers: Vec<_> = service.stood_still(&note).collect();
                let mut operations = Vec::new();
                for container in &containers {
                    operations.push(container.operation.lock().await);
                }
                let end = orphans.into_iter().map(end_of_orphan);
                futures::future::join_all(end).await;
                tell(tokio::task::block_in_place(|| service.settle(&directory, &note)));
            });
        }
        Ok(())
    }

    /// The containers of a note that are there, in the order in which operations take them.
    fn stood_still(&self, note: &Note) -> impl Iterator<Item = Arc<Container>> {
        note.containers.iter().filter_map(|id| self.containers.find(id.as_str()).ok())
    }

    /// The note goes last: what could not be made good is tried again at the next start.
    fn settle(&self, directory: &Path, note: &Note) -> Result<(), CheckpointError> {
        for container in self.stood_still(note) {
            if let Some(cgroup) = self.host.cgroups.at(&container.record().cgroup) {
                cgroup.thaw()?;
            }
        }
        remove_files(&note.files)?;
        remove(directory)
    }
}

fn read_note(directory: &Path) -> Option<Note> {
    let text = std::fs::read(directory.join(NOTE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The processes that dump into a directory.
fn orphans_of(directory: &Path) -> Vec<OwnedFd> {
    let Ok(listed) = std::fs::read_dir(directory) else { return Vec::new() };
    let places = listed.filter_map(|entry| Some(entry.ok()?.path()));
    let found = places.flat_map(|place| {
        let line = [WORK_WORD.as_bytes(), place.as_os_str().as_bytes()];
        let found = proc::with_arguments(&line).unwrap_or_default();
        let opened = found.into_iter().filter_map(|pid| Some((pid, process::open(pid).ok()?)));
        let meant = opened.filter(|(pid, _)| proc::has_arguments(*pid, &line));
        meant.map(|(_, process)| process).collect::<Vec<_>>()
    });
    found.collect()
}

/// Waits for the end of a process; it is ended when it takes too long.
#[expect(
    deprecated,
    reason = "the successor is unsafe for types that may change their descriptor, which an OwnedFd does not"
)]
async fn end_of_orphan(orphan: OwnedFd) {
    let orphan = match AsyncFd::new(orphan) {
        Ok(orphan) => orphan,
        Err(error) => return tracing::error!(%error, "a dump of a dead daemon is not waited for"),
    };
    for _ in 0..2 {
        if tokio::time::timeout(ORPHAN_PATIENCE, orphan.readable()).await.is_ok() {
            return;
        }
        if let Err(error) = process::signal(orphan.get_ref(), KILL) {
            tracing::error!(error = crate::error::chain(&error), "a dump of a dead daemon goes on");
        }
    }
}

fn remove_files(files: &[PathBuf]) -> Result<(), CheckpointError> {
    let mut outcome = Ok(());
    for file in files {
        let removed = atomic::remove(file).map_err(CheckpointError::file("remove", file));
        outcome = outcome.and(removed);
    }
    outcome
}

/// Makes a directory for root alone; one that is there becomes so.
///
/// # Errors
/// The file system refuses.
pub(crate) fn make(directory: &Path) -> Result<(), CheckpointError> {
    atomic::private_directory(directory).map_err(CheckpointError::file("make", directory))
}

/// Removes a directory with all that is in it. Success if it is not there.
///
/// # Errors
/// The file system refuses.
pub(crate) fn remove(directory: &Path) -> Result<(), CheckpointError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(CheckpointError::file("remove", directory)),
    }
}

fn tell(result: Result<(), CheckpointError>) {
    if let Err(error) = result {
        tracing::warn!(error = crate::error::chain(&error), "something of a checkpoint stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(file: &Path) -> Note {
        let containers = vec![ContainerId::from_bytes([3; 32])];
        Note { containers, files: vec![file.to_owned()] }
    }

    #[test]
    fn after_the_end_the_files_are_there_only_if_it_was_done() {
        let place = tempfile::tempdir().unwrap();
        let (directory, file) = (place.path().join("work"), place.path().join("draft"));
        for (outcome, stays) in [(Ok(()), true), (Err(ServiceError::NoSuchPod("x".into())), false)]
        {
            std::fs::create_dir_all(directory.join("left/of/an/earlier/one")).unwrap();
            let work = Work::begin(directory.clone(), note(&file)).unwrap();
            assert!(!directory.join("left").exists());
            let container = ContainerId::from_bytes([3; 32]);
            assert!(work.place(&container).unwrap().join(archive::IMAGES).is_dir());
            std::fs::File::create(&file).unwrap();
            assert_eq!(work.end(outcome).is_ok(), stays);
            assert_eq!(file.exists(), stays);
            assert!(!directory.exists());
        }
    }
}
