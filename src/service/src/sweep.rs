//! Removing what no record names: what a crash of an earlier run left. Only what bears this instance's name is touched.

use crate::{Service, ServiceError};
use cringle_domain::pod::PodPhase;
use cringle_domain::snapshot::SnapshotKey;
use cringle_kernel::{namespace, pin};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

impl Service {
    /// Sweeps shims, bundles, pins, directories, writable layers, cgroups and network objects that no record names.
    ///
    /// # Errors
    /// If a directory of ours cannot be listed. What will not go is logged and tried again at the next start.
    pub async fn sweep(self: &Arc<Self>) -> Result<(), ServiceError> {
        let containers: HashSet<String> =
            self.containers.all().iter().map(|one| one.container_id().to_string()).collect();
        let pods: HashSet<String> =
            self.pods.all().iter().map(|one| one.pod_id().to_string()).collect();
        self.sweep_bundles(&containers).await?;
        self.sweep_pods(&pods).await?;
        self.sweep_pins(&pods)?;
        for directory in [self.layout.volumes(), self.layout.restores()] {
            for name in strangers(&directory, &containers)? {
                tell(crate::teardown::remove_tree(&directory.join(name)));
            }
        }
        self.sweep_snapshots();
        self.sweep_cgroups();
        self.sweep_network().await;
        self.tidy_parents();
        Ok(())
    }

    async fn sweep_bundles(&self, known: &HashSet<String>) -> Result<(), ServiceError> {
        for name in strangers(&self.layout.bundles(), known)? {
            let bundle = self.layout.bundles().join(name);
            tracing::info!(bundle = %bundle.display(), "sweeping a bundle without a record");
            tell(crate::pod::end_reaper(&bundle).await);
            tell(crate::teardown::remove_tree(&bundle));
        }
        Ok(())
    }

    async fn sweep_pods(&self, known: &HashSet<String>) -> Result<(), ServiceError> {
        for name in strangers(&self.layout.pod_directories(), known)? {
            let directory = self.layout.pod_directories().join(name);
            tracing::info!(directory = %directory.display(), "sweeping a pod without a record");
            tell(crate::pod::end_reaper(&directory.join("reaper")).await);
            for name in ["ipc", "uts", "user"] {
                tell(kernel(namespace::unpin(&directory.join(name)), &directory));
            }
            tell(kernel(pin::unmount(&directory.join("shm")), &directory));
            tell(crate::teardown::remove_tree(&directory));
        }
        for name in strangers(&self.layout.journals(), known)? {
            let path = self.layout.journals().join(name);
            let removed = cringle_store::atomic::remove(&path);
            tell(removed.map_err(|source| ServiceError::file("remove", path, source)));
        }
        Ok(())
    }

    fn sweep_pins(&self, pods: &HashSet<String>) -> Result<(), ServiceError> {
        let prefix = self.layout.netns_prefix();
        let directory = self.layout.netns_directory();
        for name in names(directory)? {
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
                continue;
            };
            if !pods.contains(id) {
                let path = directory.join(&name);
                tracing::info!(pin = %path.display(), "sweeping a network namespace");
                tell(kernel(namespace::unpin(&path), &path));
            }
        }
        Ok(())
    }

    fn sweep_snapshots(&self) {
        let all = self.containers.all();
        let keys: HashSet<SnapshotKey> =
            all.iter().map(|one| SnapshotKey::from(one.container_id())).collect();
        if let Err(error) = self.images.snapshots().sweep(&keys) {
            tracing::error!(error = crate::error::chain(&error), "writable layers not swept");
        }
    }

    /// Below the instance's own parent a cgroup without a record is an orphan. Below a client's parent the containers of
    /// a lost record are found by their bundle, which names their cgroup.
    fn sweep_cgroups(&self) {
        let all = self.containers.all();
        let known: HashSet<String> = all.iter().map(|one| one.record().cgroup.clone()).collect();
        let parent = &self.settings.plan.cgroup_parent;
        for cgroup in self.host.cgroups.children(parent) {
            let used = known.contains(&cgroup) || self.is_reaper_cgroup(&cgroup);
            if !used {
                tracing::info!(cgroup, "sweeping a cgroup without a record");
                tell(self.remove_cgroup(&cgroup));
            }
        }
    }

    fn is_reaper_cgroup(&self, cgroup: &str) -> bool {
        self.pods.all().iter().any(|pod| self.reaper_cgroup(&pod.record()) == cgroup)
    }

    async fn sweep_network(&self) {
        let mut valid = Vec::new();
        for pod in self.pods.all() {
            let record = pod.record();
            if matches!(record.phase, PodPhase::Ready { .. } | PodPhase::NotReady { .. }) {
                valid.extend(record.attachments.iter().cloned());
            }
        }
        if let Err(error) = self.network.collect(&valid).await {
            tracing::warn!(error = crate::error::chain(&error), "networks not swept");
        }
    }
}

/// The entries of a directory of ours whose name is not known.
fn strangers(directory: &Path, known: &HashSet<String>) -> Result<Vec<OsString>, ServiceError> {
    let mut names = names(directory)?;
    names.retain(|name| name.to_str().is_none_or(|name| !known.contains(name)));
    Ok(names)
}

fn names(directory: &Path) -> Result<Vec<OsString>, ServiceError> {
    let listed = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect());
    listed.map_err(|source| ServiceError::file("list", directory, source))
}

fn kernel(result: cringle_kernel::error::Result<()>, path: &Path) -> Result<(), ServiceError> {
    result.map_err(|source| ServiceError::kernel(format!("sweep \"{}\"", path.display()), source))
}

/// An orphan that will not go is told of, and left to the next start.
fn tell(result: Result<(), ServiceError>) {
    if let Err(error) = result {
        tracing::warn!(error = crate::error::chain(&error), "an orphan stays");
    }
}
