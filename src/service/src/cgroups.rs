//! The daemon's own dealings with cgroups: parents and leftovers. What is in a container's cgroup is the shim's.

use crate::{Service, ServiceError};
use cringle_kernel::cgroup::{Cgroup, CgroupPaths, Layout, Version};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// How long dying processes may take to leave a cgroup.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every hierarchy of the host.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
}

impl Cgroups {
    /// Finds the hierarchies.
    ///
    /// # Errors
    /// If the host has none that can be used.
    pub fn probe() -> Result<Self, ServiceError> {
        Ok(Self { layout: Layout::probe().map_err(ServiceError::Cgroup)? })
    }

    /// Whether all controllers are in the v2 tree.
    pub(crate) fn is_unified(&self) -> bool {
        self.layout.hierarchies.iter().all(|one| one.version == Version::V2)
    }

    /// Whether `path` is there in any hierarchy.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.directories(path).any(|directory| directory.exists())
    }

    /// The cgroup at `path`, which need not be there; none if the path names none.
    pub(crate) fn at(&self, path: &str) -> Option<Cgroup> {
        CgroupPaths::new(&self.layout, path.trim_end_matches('/')).ok().map(Cgroup::at)
    }

    /// Removes `path` in every hierarchy where it is empty; answers whether it is gone from all.
    pub(crate) fn remove_if_empty(&self, path: &str) -> bool {
        self.directories(path).fold(true, |gone, directory| {
            let removed = match std::fs::remove_dir(&directory) {
                Ok(()) => true,
                Err(error) => error.kind() == ErrorKind::NotFound,
            };
            gone && removed
        })
    }

    /// The cgroups right below `path`, in any hierarchy.
    pub(crate) fn children(&self, path: &str) -> BTreeSet<String> {
        let entries = self.directories(path).filter_map(|directory| directory.read_dir().ok());
        let directories = entries
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = directories.filter_map(|entry| entry.file_name().into_string().ok());
        names.map(|name| format!("{}/{name}", path.trim_end_matches('/'))).collect()
    }

    fn directories(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        let hierarchies = self.layout.hierarchies.iter();
        hierarchies.map(move |one| one.mount.join(path.trim_start_matches('/')))
    }
}

impl Service {
    /// Ends what is in a cgroup and removes it; success on one that is gone.
    pub(crate) fn remove_cgroup(&self, path: &str) -> Result<(), ServiceError> {
        if self.host.cgroups.remove_if_empty(path) {
            return Ok(());
        }
        let paths =
            CgroupPaths::new(&self.host.cgroups.layout, path).map_err(ServiceError::Cgroup)?;
        let cgroup = Cgroup::at(paths);
        cgroup.kill().map_err(ServiceError::Cgroup)?;
        cgroup.remove(PATIENCE).map_err(ServiceError::Cgroup)
    }
}
