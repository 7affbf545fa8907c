//! CheckpointContainer: the state of a running container as an archive, while it goes on.

use super::Container;
use crate::checkpoint::archive::{self, Limit};
use crate::checkpoint::changes::Root;
use crate::checkpoint::criu::Dump;
use crate::checkpoint::documents::Subject;
use crate::checkpoint::outside::{Outside, Processes};
use crate::checkpoint::work::{Frozen, Note, Work};
use crate::checkpoint::{CheckpointError, CheckpointLevel, Criu};
use crate::{Service, ServiceError, bundle};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::namespaces::ContainerPid;
use cringle_domain::refusal::Refusal;
use serde_json::Value;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Writes the state of a running container to the file `location`, within `timeout` or what is configured. It stands
    /// still meanwhile and goes on, whatever becomes of the attempt. What was executed in it besides its own processes is
    /// not in the archive.
    ///
    /// # Errors
    /// If checkpoints are off or cannot be made here, the location is no place for a file, the container does not run, or
    /// something of it cannot be kept; then nothing is left.
    pub async fn checkpoint_container(
        self: &Arc<Self>,
        id: &str,
        location: &str,
        timeout: Option<Duration>,
    ) -> Result<(), ServiceError> {
        self.require_checkpoints()?;
        let location = file_place(location)?;
        let container = self.containers.find(id)?;
        let limit = Limit::of(timeout.unwrap_or(self.settings.checkpoint.timeout));
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            service.checkpoint_found_container(&container, &location, limit).await
        })
        .await
    }

    async fn checkpoint_found_container(
        &self,
        container: &Container,
        location: &Path,
        limit: Limit,
    ) -> Result<(), ServiceError> {
        let _operation = container.operation.lock().await;
        require_running(&container.record())?;
        let id = container.container_id();
        let failed = |source| ServiceError::Checkpoint { container: id.clone(), source };
        let criu = self.criu().await.map_err(failed)?;
        let draft = location.with_file_name(format!(".cringle-{}", &id.as_str()[..16]));
        let note = Note { containers: vec![id.clone()], files: vec![draft.clone()] };
        let work = Work::begin(self.layout.checkpoint(id.as_str()), note).map_err(failed)?;
        let made = async {
            let place = work.place(id).map_err(failed)?;
            let frozen = self.freeze(container, limit)?;
            let captured = self.capture(container, &frozen, (&criu, &place, limit)).await;
            drop(frozen);
            captured?;
            write(place, draft, location.to_owned(), limit).await.map_err(failed)
        }
        .await;
        work.end(made)
    }

    /// Refuses if checkpoints are off.
    ///
    /// # Errors
    /// If they are.
    pub fn require_checkpoints(&self) -> Result<(), ServiceError> {
        match self.settings.checkpoint.level {
            CheckpointLevel::None => Err(ServiceError::NoCheckpoints(CheckpointError::Off)),
            CheckpointLevel::CheckpointOnly | CheckpointLevel::CheckpointRestore => Ok(()),
        }
    }

    /// The program, looked for until it is found: it may be installed at any time.
    pub(crate) async fn criu(&self) -> Result<Criu, CheckpointError> {
        let configured = self.settings.checkpoint.criu.as_deref();
        let find = async || Criu::find(configured).await.map_err(CheckpointError::Unfit);
        self.criu.get_or_try_init(find).await.cloned()
    }

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
        let frozen = tokio::task::block_in_place(|| Frozen::freeze(cgroup, limit));
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
        criu.dump(&dump).await.map_err(failed)?;
        self.describe(&record, (place, &outside, document)).map_err(failed)?;
        self.keep_changes(&record, place, (outside.mounts, limit)).await.map_err(failed)
    }

    /// Writes what the archive says of the container.
    fn describe(
        &self,
        record: &ContainerRecord,
        (place, outside, document): (&Path, &Outside, Value),
    ) -> Result<(), CheckpointError> {
        let streams = Value::from(outside.streams.clone());
        put(&place.join(archive::IMAGES).join(archive::STREAMS), &streams)?;
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

/// Writes the archive of what was captured.
pub(crate) async fn write(
    place: PathBuf,
    draft: PathBuf,
    location: PathBuf,
    limit: Limit,
) -> Result<(), CheckpointError> {
    let write = move || archive::write(&place, &draft, &location, limit);
    tokio::task::spawn_blocking(write).await.map_err(CheckpointError::Panicked)?
}

/// The first process of a container that runs.
pub(crate) fn require_running(record: &ContainerRecord) -> Result<i32, ServiceError> {
    match record.phase {
        ContainerPhase::Running { process, .. } => Ok(process.pid),
        ContainerPhase::Creating
        | ContainerPhase::Created
        | ContainerPhase::Exited { .. }
        | ContainerPhase::Removing => Err(ServiceError::NotRunning(record.id.clone())),
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

/// A path at which a file can be made.
fn file_place(text: &str) -> Result<PathBuf, Refusal> {
    let refuse = |problem: &str| Refusal::invalid("location", format!("\"{text}\" {problem}"));
    let path = PathBuf::from(text);
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || text.contains('\0') {
        return Err(refuse("is not an absolute path without \"..\""));
    }
    if text.ends_with('/') || path.is_dir() {
        return Err(refuse("is a directory, not a file"));
    }
    if path.parent().is_none_or(|parent| !parent.is_dir()) {
        return Err(refuse("is in no directory that is there"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_an_absolute_path_of_a_file_in_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        file_place(&at("a.tar")).unwrap();
        std::fs::File::create(at("there.tar")).unwrap();
        file_place(&at("there.tar")).unwrap();
        for wrong in
            ["", "a.tar", "/", &at(""), &at("none/a.tar"), &at("../a.tar"), &at("a.tar/"), "/a\0b"]
        {
            let refused = file_place(wrong).unwrap_err();
            assert!(matches!(refused, Refusal::Invalid { .. }), "{wrong:?}: {refused}");
        }
    }

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
