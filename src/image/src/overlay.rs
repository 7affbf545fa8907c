//! Writable layers on overlayfs: for each container two directories, and a note of the layers that they stand on.
//!
//! The note is what keeps those layers: it is written with the snapshot and goes with it, so an image can be removed while
//! containers use it, and nobody has to tell us after a restart who needs what.

mod fill;
mod usage;

pub use fill::FillError;

use crate::layout::{self, Layout};
use crate::open::make_public_directory;
use crate::state::Store;
use crate::trash;
use cringle_domain::id::ContainerId;
use cringle_domain::image::ImageRecord;
use cringle_domain::namespaces::IdMapping;
use cringle_domain::reference::Digest;
use cringle_domain::snapshot::{Active, SnapshotKey};
use cringle_store::{atomic, format};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The writable layers of all containers.
#[derive(Debug)]
pub struct Snapshots {
    store: Arc<Store>,
}

/// What a writable layer stands on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The image below it.
    pub image: &'a ImageRecord,
    /// Images that are kept along with it: the container has them for volumes.
    pub volumes: &'a [Arc<ImageRecord>],
    /// The users and groups that the container has instead of the host's.
    pub mapping: Option<IdMapping>,
}

impl<'a> Ground<'a> {
    /// An image and nothing else.
    #[must_use]
    pub const fn of(image: &'a ImageRecord) -> Self {
        Self { image, volumes: &[], mapping: None }
    }
}

/// What a writable layer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotUsage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
}

impl Snapshots {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Makes a writable layer on top of an image.
    ///
    /// # Errors
    /// There is one of that key, a layer of the image is gone, or the file system refuses.
    pub fn prepare(&self, key: &SnapshotKey, ground: Ground<'_>) -> io::Result<Active> {
        let keys = |record: &ImageRecord| -> Vec<Digest> {
            record.layers.iter().map(|layer| layer.key().clone()).collect()
        };
        let layers = keys(ground.image);
        let active = self.active_at(key, &layers);
        let volumes = ground.volumes.iter().flat_map(|volume| keys(volume));
        let needed: Vec<Digest> = layers.into_iter().chain(volumes).collect();
        self.register(key, &needed)?;
        let made = self.make(key, &needed, &active, ground.mapping);
        if let Err(error) = made {
            // The cause is what the caller must know; what is left is swept.
            let _left = self.remove(key);
            return Err(error);
        }
        Ok(active)
    }

    /// The directories of a container's writable layer.
    #[must_use]
    pub fn active(&self, id: &ContainerId, layers: &[Digest]) -> Active {
        self.active_at(&SnapshotKey::from(id), layers)
    }

    /// Makes a writable layer fit to be mounted again after a mount that was given up before anything ran on it: overlayfs
    /// marks the work directory of a mount that syncs nothing, and refuses a marked one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn make_mountable(&self, key: &SnapshotKey) -> io::Result<()> {
        let work = self.active_at(key, &[]).work;
        if !work.join("work/incompat").try_exists()? {
            return Ok(());
        }
        std::fs::remove_dir_all(&work)?;
        make_public_directory(&work)
    }

    /// Removes a writable layer; its space is free soon after. One that is gone is as good.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, key: &SnapshotKey) -> io::Result<()> {
        self.store.trash.throw(&self.store.layout.snapshot(key))?;
        self.store.state().snapshots.remove(key);
        self.store.sweeper.wake();
        Ok(())
    }

    /// Removes all writable layers but these.
    ///
    /// # Errors
    /// The file system refuses; the others are removed all the same.
    pub fn sweep(&self, keep: &HashSet<SnapshotKey>) -> io::Result<()> {
        let directory = self.store.layout.snapshots();
        let mut result = Ok(());
        for name in trash::list(&directory)? {
            let key = name.to_str().and_then(|name| SnapshotKey::try_from(name.to_owned()).ok());
            let removed = match key {
                Some(key) if keep.contains(&key) => continue,
                Some(key) => self.remove(&key),
                None => self.store.trash.throw(&directory.join(name)),
            };
            result = result.and(removed);
        }
        self.store.sweeper.wake();
        result
    }

    /// What a container wrote. This walks its files: not for a thread that others wait for.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn usage(&self, key: &SnapshotKey) -> io::Result<SnapshotUsage> {
        usage::below(&self.store.layout.snapshot(key).join("upper"))
    }

    /// From here on the layers stay, for they are needed.
    fn register(&self, key: &SnapshotKey, diff_ids: &[Digest]) -> io::Result<()> {
        let mut state = self.store.state();
        if state.snapshots.contains_key(key) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if !diff_ids.iter().all(|diff_id| state.layers.contains_key(diff_id)) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "a layer of the image was removed",
            ));
        }
        state.snapshots.insert(key.clone(), diff_ids.to_vec());
        Ok(())
    }

    fn make(
        &self,
        key: &SnapshotKey,
        diff_ids: &[Digest],
        active: &Active,
        mapping: Option<IdMapping>,
    ) -> io::Result<()> {
        let directory = self.store.layout.snapshot(key);
        atomic::private_directory(&directory)?;
        let note = format::encode(&diff_ids).map_err(io::Error::other)?;
        atomic::replace(&layout::parents_in(&directory), &note)?;
        make_public_directory(&active.work)?;
        make_public_directory(&active.upper)?;
        // The topmost directory of the overlay is this one, so it must look like the image's.
        let Some(top) = active.lower.first() else { return Ok(()) };
        take_after(&active.upper, top, mapping)
    }

    fn active_at(&self, key: &SnapshotKey, diff_ids: &[Digest]) -> Active {
        let directory = self.store.layout.snapshot(key);
        Active {
            lower: lower_directories(&self.store.layout, diff_ids),
            upper: directory.join("upper"),
            work: directory.join("work"),
        }
    }
}

/// The directories of layers, the topmost first. A layer that occurs twice counts where it is topmost: overlayfs refuses the
/// same directory twice, and whatever a lower occurrence adds, the upper one adds again.
pub(crate) fn lower_directories(layout: &Layout, diff_ids: &[Digest]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let topmost_first = diff_ids.iter().rev().filter(|diff_id| seen.insert(*diff_id));
    let lower: Vec<PathBuf> = topmost_first.map(|diff_id| layout.layer_files(diff_id)).collect();
    if lower.is_empty() { vec![layout.empty()] } else { lower }
}

fn take_after(upper: &Path, top: &Path, mapping: Option<IdMapping>) -> io::Result<()> {
    let model = std::fs::metadata(top)?;
    let upper = File::open(upper)?;
    // Unlike those of an image, files that a container writes are on disk as whose they are on the host: none of them is the
    // host's root's.
    let (user, group) = match mapping {
        Some(IdMapping { users, groups }) => (
            users.of_host(model.uid()).unwrap_or(users.first()),
            groups.of_host(model.gid()).unwrap_or(groups.first()),
        ),
        None => (model.uid(), model.gid()),
    };
    if (user, group) != (0, 0) {
        fchown(&upper, Some(user), Some(group))?;
    }
    if model.mode() & 0o7777 != 0o755 {
        upper.set_permissions(std::fs::Permissions::from_mode(model.mode() & 0o7777))?;
    }
    Ok(())
}
