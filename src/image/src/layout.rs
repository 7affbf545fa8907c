//! Where everything of the image store lies.
//!
//! ```text
//! names.json              which names there are, and the id of each: an image is here if this file says so
//! records/<id>.json       one image each
//! blobs/<digest>          configurations and manifests as the registry sent them
//! layers/<diff id>/       fs/ and layer.json, complete since the day it got this name
//! ingest/<number>/        the same while it is being filled; void after a crash
//! snapshots/<key>/        upper/, work/ and layers.json, which says what it stands on
//! trash/                  what is being deleted
//! empty/                  the layer of an image that has none
//! aside/                  what could not be read
//! ```

use cringle_domain::reference::Digest;
use cringle_domain::snapshot::SnapshotKey;
use std::path::{Path, PathBuf};

/// The paths below one root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names.json")
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    pub(crate) fn record(&self, id: &Digest) -> PathBuf {
        self.records().join(format!("{}.json", id.file_name()))
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.file_name())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.file_name())
    }

    pub(crate) fn layer_files(&self, diff_id: &Digest) -> PathBuf {
        files_in(&self.layer(diff_id))
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, key: &SnapshotKey) -> PathBuf {
        self.snapshots().join(key.as_str())
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }
}

/// The files of the layer in that directory, finished or not.
pub(crate) fn files_in(layer: &Path) -> PathBuf {
    layer.join("fs")
}

/// The facts about the layer in that directory.
pub(crate) fn facts_in(layer: &Path) -> PathBuf {
    layer.join("layer.json")
}

/// What the snapshot in that directory stands on.
pub(crate) fn parents_in(snapshot: &Path) -> PathBuf {
    snapshot.join("layers.json")
}
