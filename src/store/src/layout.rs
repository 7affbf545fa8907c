//! Where everything of one instance lies. No other module makes a path below our roots.
//!
//! ```text
//! <root>/                    survives a reboot
//!   lock
//!   pods/<id>                record of a pod
//!   containers/<id>          record of a container
//!   images/                  records, layers, ingests, writable layers (the image crate's own)
//!   volumes/<id>/            what backs the image's VOLUMEs of a container
//!   checkpoints/<id>/        a checkpoint that is being made of a container or a pod
//!   restores/<id>/           what a container is made of that comes of a checkpoint, until it is started
//!   quarantine/              records that could not be read
//! <state>/                   emptied by a reboot
//!   lock
//!   holds/<id>               journal of what a pod holds
//!   pods/<id>/               ipc, uts, shm/, resolv.conf, hostname, hosts
//!   containers/<id>/         the bundle: config.json, sockets, exit record
//!   cni/                     results of attachments
//! ```

use crate::atomic;
use cringle_domain::id::{ContainerId, InstanceId, PodId};
use std::io;
use std::path::{Path, PathBuf};

/// The paths of one instance.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    state: PathBuf,
    netns: PathBuf,
    instance: InstanceId,
}

impl Layout {
    /// The layout below these directories; network namespaces are pinned in `netns`.
    #[must_use]
    pub fn new(root: PathBuf, state: PathBuf, netns: PathBuf, instance: InstanceId) -> Self {
        Self { root, state, netns, instance }
    }

    /// Makes the directories that are shared by all objects, mode 0700.
    ///
    /// # Errors
    /// Those of mkdir(2) and chmod(2), with the path.
    pub fn prepare(&self) -> io::Result<()> {
        let own = [
            self.root.clone(),
            self.pod_records(),
            self.container_records(),
            self.volumes(),
            self.checkpoints(),
            self.restores(),
            self.state.clone(),
            self.pod_directories(),
            self.journals(),
            self.bundles(),
        ];
        for directory in own {
            atomic::private_directory(&directory)?;
        }
        // Others pin here as well, so its mode is not ours to tighten.
        std::fs::create_dir_all(&self.netns)
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// What survives a reboot.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a reboot empties.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Directory of the pods' records.
    #[must_use]
    pub fn pod_records(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Record of one pod.
    #[must_use]
    pub fn pod_record(&self, pod: &PodId) -> PathBuf {
        self.pod_records().join(pod.as_str())
    }

    /// Directory of the containers' records.
    #[must_use]
    pub fn container_records(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Record of one container.
    #[must_use]
    pub fn container_record(&self, container: &ContainerId) -> PathBuf {
        self.container_records().join(container.as_str())
    }

    /// Directory of the image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Directory of all image volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// What backs the image's VOLUMEs of one container.
    #[must_use]
    pub fn container_volumes(&self, container: &ContainerId) -> PathBuf {
        self.volumes().join(container.as_str())
    }

    /// Directory of the checkpoints that are being made.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Where a checkpoint of a container or a pod is being made.
    #[must_use]
    pub fn checkpoint(&self, id: &str) -> PathBuf {
        self.checkpoints().join(id)
    }

    /// Directory of the checkpoints that containers are made of.
    #[must_use]
    pub fn restores(&self) -> PathBuf {
        self.root.join("restores")
    }

    /// The checkpoint that a container is made of.
    #[must_use]
    pub fn restore(&self, container: &ContainerId) -> PathBuf {
        self.restores().join(container.as_str())
    }

    /// Records that could not be read.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Directory of the pods' run-time files.
    #[must_use]
    pub fn pod_directories(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// Run-time files of one pod.
    #[must_use]
    pub fn pod_directory(&self, pod: &PodId) -> PathBuf {
        self.pod_directories().join(pod.as_str())
    }

    /// Journal of what a pod holds.
    #[must_use]
    pub fn pod_holds(&self, pod: &PodId) -> PathBuf {
        self.journals().join(pod.as_str())
    }

    /// Directory of the pods' journals.
    #[must_use]
    pub fn journals(&self) -> PathBuf {
        self.state.join("holds")
    }

    /// Directory of all bundles.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// Bundle of one container.
    #[must_use]
    pub fn bundle(&self, container: &ContainerId) -> PathBuf {
        self.bundles().join(container.as_str())
    }

    /// Bundle of the process that is PID 1 of a pod's shared PID namespace.
    #[must_use]
    pub fn reaper_bundle(&self, pod: &PodId) -> PathBuf {
        self.pod_directory(pod).join("reaper")
    }

    /// Directory where network namespaces are pinned; others pin there as well.
    #[must_use]
    pub fn netns_directory(&self) -> &Path {
        &self.netns
    }

    /// Pin of a pod's network namespace.
    #[must_use]
    pub fn netns(&self, pod: &PodId) -> PathBuf {
        self.netns.join(format!("{}{}", self.netns_prefix(), pod.as_str()))
    }

    /// What the names of our pins in the shared directory begin with.
    #[must_use]
    pub fn netns_prefix(&self) -> String {
        format!("cringle-{}-", self.instance)
    }

    /// Results of attachments, in the form of the CNI library.
    #[must_use]
    pub fn cni(&self) -> PathBuf {
        self.state.join("cni")
    }
}
