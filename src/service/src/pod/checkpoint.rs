//! CheckpointPod: the states of containers of a pod, all of one moment.
//!
//! All of them stand still before the first is captured, and until the last one is. Each becomes an archive like that of
//! CheckpointContainer, named after its id; `pod.options` tells which is whose and is written last.

use crate::checkpoint::archive::Limit;
use crate::checkpoint::places::empty_directory;
use crate::checkpoint::pod_options::{OPTIONS, list};
use crate::checkpoint::work::{Frozen, Note, Work};
use crate::checkpoint::{CheckpointError, Criu};
use crate::container::checkpoint::write;
use crate::container::{Container, require_running};
use crate::{Service, ServiceError};
use cringle_domain::id::PodId;
use cringle_domain::refusal::Refusal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct PodCheckpoint {
    /// The pod.
    pub pod: String,
    /// The directory to write to.
    pub output: String,
    /// Which of its containers.
    pub containers: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Service {
    /// Writes the states of containers of a pod, all of one moment, to an empty directory. They go on before the answer,
    /// whatever becomes of the attempt.
    ///
    /// # Errors
    /// If checkpoints are off or cannot be made here, the pod is not ready, the directory is not empty, one of the
    /// containers is not the pod's or does not run, or something cannot be kept; then the directory is empty.
    pub async fn checkpoint_pod(
        self: &Arc<Self>,
        wanted: PodCheckpoint,
    ) -> Result<(), ServiceError> {
        self.require_checkpoints()?;
        let limit = Limit::of(wanted.timeout);
        let pod = self.find_ready_pod(&wanted.pod)?;
        let containers = self.chosen(pod.pod_id(), &wanted.containers)?;
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            let pod = pod.pod_id();
            // One at a time: two of a pod would have one directory of work, and an output directory has to stay empty.
            let turn = tokio::time::timeout(wanted.timeout, service.pod_checkpoints.lock()).await;
            let _turn =
                turn.map_err(|_elapsed| failed(pod, CheckpointError::Late(wanted.timeout)))?;
            let output = empty_directory(&wanted.output)?;
            service.checkpoint_containers(pod, &output, (&containers, limit)).await
        })
        .await
    }

    /// The containers of a pod that are named, each once and each running, in the order of their ids.
    fn chosen(&self, pod: &PodId, named: &[String]) -> Result<Vec<Arc<Container>>, ServiceError> {
        const FIELD: &str = "container_ids";
        if named.is_empty() {
            return Err(Refusal::invalid(FIELD, "is empty").into());
        }
        let mut chosen = BTreeMap::new();
        let mut names = BTreeMap::new();
        for id in named {
            let container = self.containers.find(id)?;
            if container.pod_id() != pod {
                let problem = format!("\"{id}\" is not a container of pod {pod}");
                return Err(Refusal::invalid(FIELD, problem).into());
            }
            let record = container.record();
            require_running(&record)?;
            let name = record.spec.metadata.name.clone();
            if names.insert(name.clone(), id).is_some() {
                let problem = format!("container \"{name}\" is named twice");
                return Err(Refusal::invalid(FIELD, problem).into());
            }
            chosen.insert(record.id.to_string(), container);
        }
        Ok(chosen.into_values().collect())
    }

    async fn checkpoint_containers(
        &self,
        pod: &PodId,
        output: &Path,
        (containers, limit): (&[Arc<Container>], Limit),
    ) -> Result<(), ServiceError> {
        // Always in the order of their ids, so that two who want the same ones do not wait for each other.
        let mut operations = Vec::new();
        for container in containers {
            operations.push(container.operation.lock().await);
        }
        let failed = |source| failed(pod, source);
        let criu = self.criu().await.map_err(failed)?;
        let archives = containers.iter().map(|one| archive_of(output, one));
        let files = archives.flat_map(|(draft, archive)| [draft, archive]);
        let note = Note {
            containers: containers.iter().map(|one| one.container_id().clone()).collect(),
            files: files.chain([output.join(OPTIONS)]).collect(),
        };
        let work = self.begin_checkpoint(pod.as_str(), note).map_err(failed)?;
        let made = async {
            self.capture_all(containers, (&criu, &work, limit)).await?;
            for container in containers {
                let place = work.place(container.container_id()).map_err(failed)?;
                let (draft, archive) = archive_of(output, container);
                write(place, draft, archive, limit).await.map_err(failed)?;
            }
            tokio::task::block_in_place(|| list(output, containers, limit)).map_err(failed)
        }
        .await;
        work.end(made)
    }

    async fn capture_all(
        &self,
        containers: &[Arc<Container>],
        (criu, work, limit): (&Criu, &Work, Limit),
    ) -> Result<(), ServiceError> {
        // What of them stands still goes on when this is left, however that is.
        let frozen: Vec<Frozen> = containers
            .iter()
            .map(|container| self.freeze(container, limit))
            .collect::<Result<_, _>>()?;
        for (container, frozen) in containers.iter().zip(&frozen) {
            let id = container.container_id();
            let place = work
                .place(id)
                .map_err(|source| ServiceError::Checkpoint { container: id.clone(), source })?;
            self.capture(container, frozen, (criu, &place, limit)).await?;
        }
        Ok(())
    }
}

fn failed(pod: &PodId, source: CheckpointError) -> ServiceError {
    ServiceError::PodCheckpoint { pod: pod.clone(), source }
}

/// The archive of a container under its name while it is written, and under its own.
fn archive_of(output: &Path, container: &Container) -> (PathBuf, PathBuf) {
    let id = container.container_id().as_str();
    (output.join(format!(".{id}.tar")), output.join(format!("{id}.tar")))
}
