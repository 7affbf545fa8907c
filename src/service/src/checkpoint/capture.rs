//! What a running container is, written to a directory in the form in which archives have it, while it stands still.

use super::archive::{self, Limit};
use super::changes::Root;
use super::criu::Dump;
use super::documents::Subject;
use super::outside::{Outside, Processes, STREAM_NAMES};
use super::work::Frozen;
use super::{CheckpointError, Criu};
use crate::container::{Container, require_running};
use crate::{Service, ServiceError, bundle};
use cringle_domain::container::ContainerRecord;
use cringle_domain::namespaces::ContainerPid;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Has a running container stand still.
    pub(crate) fn freeze(
        &self,
        container: &Container,
        limit: Limit,
    ) -> Result<Frozen, ServiceError> {
        let record = container.record();
        let stopped = || ServiceError::NotRunning(record.id.clone());
        let failed = |source| ServiceError::Checkpoint { container: record.id.clone(), source };
        let process = require_running(&record)?;
        let cgroup = self.host.cgroups.at(&record.cgroup).ok_or_else(stopped)?;
        let still = Arc::clone(&container.stillness);
        let frozen = tokio::task::block_in_place(|| Frozen::freeze(cgroup, still, limit));
        let frozen = frozen.map_err(failed)?;
        // Only now nobody of them can end any more.
        let pids = frozen.cgroup().pids().map_err(|error| failed(error.into()))?;
        if pids.iter().any(|pid| i32::try_from(*pid) == Ok(process)) {
            Ok(frozen)
        } else {
            Err(stopped())
        }
    }

    /// Writes everything of a frozen container to a directory, in the form in which archives have it.
    pub(crate) async fn capture(
        &self,
        container: &Container,
        frozen: &Frozen,
        (criu, place, limit): (&Criu, &Path, Limit),
    ) -> Result<(), ServiceError> {
        let record = container.record();
        let process = require_running(&record)?;
        let failed = |source| ServiceError::Checkpoint { container: record.id.clone(), source };
        let document = bundle::document(&self.layout.bundle(&record.id))?;
        let processes = match record.spec.security.pid {
            ContainerPid::Container => Processes::Own,
            ContainerPid::Pod
            | ContainerPid::Node
            | ContainerPid::Target(_)
            | ContainerPid::Of(_) => Processes::Shared,
        };
        let outside = tokio::task::block_in_place(|| {
            let pids = frozen.cgroup().pids()?;
            Outside::of(process, &pids, &given(&document), processes)
        });
        let outside = outside.map_err(failed)?;
        let images = place.join(archive::IMAGES);
        let dump = Dump {
            tree: process,
            images: &images,
            work: place,
            freezer: frozen.cgroup().freezer(),
            outside: &outside,
            patience: limit.left().map_err(failed)?,
        };
        tokio::select! {
            biased;
            () = container.stillness.until_stopped() => {
                return Err(ServiceError::NotRunning(record.id.clone()));
            }
            dumped = criu.dump(&dump) => dumped.map_err(failed)?,
        }
        let described = || self.describe(&record, (place, &outside, document));
        tokio::task::block_in_place(described).map_err(failed)?;
        self.keep_changes(&record, place, (outside.mounts, limit)).await.map_err(failed)
    }

    /// Writes what the archive says of the container.
    fn describe(
        &self,
        record: &ContainerRecord,
        (place, outside, document): (&Path, &Outside, Value),
    ) -> Result<(), CheckpointError> {
        let streams = Value::from(outside.streams.clone());
        let images = place.join(archive::IMAGES);
        put(&images.join(archive::STREAMS), &streams)?;
        put(&images.join(STREAM_NAMES), &json!({"streams": outside.stream_names}))?;
        let Ok(pod) = self.pods.find(record.pod.as_str()) else { return Ok(()) };
        let subject = Subject { container: record, pod: &pod.record(), at: self.clock.now() };
        put(&place.join(archive::CONFIG), &subject.config())?;
        put(&place.join(archive::SPEC), &subject.spec(document))?;
        put(&place.join(archive::STATUS), &subject.status())
    }

    /// Writes what the container wrote to its root.
    async fn keep_changes(
        &self,
        record: &ContainerRecord,
        place: &Path,
        (mounts, limit): (Vec<PathBuf>, Limit),
    ) -> Result<(), CheckpointError> {
        let active = self.images.snapshots().active(&record.id, &record.layers);
        let pod = self.pods.find(record.pod.as_str()).ok().map(|pod| pod.record());
        let mapping = pod.and_then(|pod| pod.spec.namespaces.users.mapping());
        let place = place.to_owned();
        let told = move || {
            let root = Root { active: &active, mapping, mounts: &mounts };
            let file = archive::Timed::create(&place.join(archive::CHANGES), limit)?;
            let gone = root.write(std::io::BufWriter::new(file));
            let gone = archive::or_late(gone, limit)?;
            let gone = gone.iter().map(|path| Value::from(path.to_string_lossy())).collect();
            put(&place.join(archive::GONE), &Value::Array(gone))
        };
        tokio::task::spawn_blocking(told).await.map_err(CheckpointError::Panicked)?
    }
}

/// Where the mounts are that come from the host, by the container's document.
fn given(document: &Value) -> Vec<PathBuf> {
    let mounts = document["mounts"].as_array().into_iter().flatten();
    let from_host =
        mounts.filter(|mount| matches!(mount["type"].as_str(), Some("bind" | "overlay")));
    from_host.filter_map(|mount| mount["destination"].as_str()).map(PathBuf::from).collect()
}

fn put(path: &Path, document: &Value) -> Result<(), CheckpointError> {
    let text = serde_json::to_vec_pretty(document);
    let text = text.map_err(|error| CheckpointError::file("encode", path)(error.into()))?;
    let mut file = archive::Timed::create(path, Limit::of(Duration::MAX))?;
    file.write_all(&text).map_err(CheckpointError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_from_the_host_are_those_of_files_and_images() {
        let document = serde_json::json!({"mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/etc/hosts", "type": "bind"},
            {"destination": "/models", "type": "overlay"},
        ]});
        assert_eq!(given(&document), ["/etc/hosts", "/models"].map(PathBuf::from));
        assert_eq!(given(&Value::Null), Vec::<PathBuf>::new());
    }
}
