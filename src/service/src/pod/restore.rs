//! RestorePod: a new pod whose containers are made of a checkpoint, when they are started.
//!
//! Pod and containers come to be as any others do, by what the request says of them; of the checkpoint come memory and written
//! files only. Until all is there, the pod's record says that it is being restored: if the daemon dies in the middle, the next
//! one takes the pod away, as no client has it.

use crate::checkpoint::archive::Limit;
use crate::checkpoint::intake::Intake;
use crate::checkpoint::pod_options::{self, Archives};
use crate::checkpoint::wanted::{PodRestore, RestoredPod};
use crate::checkpoint::{CheckpointError, Criu};
use crate::pod::{Maker, Pod};
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, Origin};
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::pod::PodEvent;
use cringle_domain::spec::ContainerSpec;
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Makes a pod and its containers of a checkpoint. The same request again joins the one in flight, or gets the same
    /// answer as long as none of the containers was started. It may take `timeout`, or what is configured.
    ///
    /// # Errors
    /// If this is off or cannot be done here, the checkpoint has other containers or is none, a pod of that name is there, or
    /// something cannot be made; then nothing is left.
    pub async fn restore_pod(
        self: &Arc<Self>,
        wanted: PodRestore,
        timeout: Option<Duration>,
    ) -> Result<RestoredPod, ServiceError> {
        let limit = Limit::of(timeout.unwrap_or(self.settings.checkpoint.timeout));
        self.require_restores()?;
        self.require_known_handler(&wanted.pod.runtime_handler)?;
        wanted.require_restorable()?;
        let name = wanted.pod.metadata.clone();
        let (service, asked) = (Arc::clone(self), wanted.clone());
        let made = || async move { Box::pin(service.pod_of_checkpoint(asked, limit)).await };
        let made = self.restore_claims.carry_out(&name, wanted, made).await;
        made.unwrap_or_else(|so_far| {
            Err(ServiceError::Busy { name: super::display_name(&name), so_far })
        })
    }

    async fn pod_of_checkpoint(
        self: &Arc<Self>,
        wanted: PodRestore,
        limit: Limit,
    ) -> Result<RestoredPod, ServiceError> {
        if let Some(standing) = self.standing_restore(&wanted).await? {
            return Ok(standing);
        }
        let names = wanted.containers.iter().map(|one| one.metadata.name.as_str());
        let archives = tokio::task::block_in_place(|| {
            pod_options::archives(&wanted.checkpoint, &names.collect())
        })?;
        let criu = self.criu().await.map_err(ServiceError::NoCheckpoints)?;
        let name = super::display_name(&wanted.pod.metadata);
        let id = self.run_pod_for(Maker::RestorePod, wanted.pod).await?;
        let pod = self.pods.find(id.as_str())?;
        // Somebody else may have run the same pod just now, and it is not ours to take away then.
        if !pod.record().is_being_restored {
            return Err(ServiceError::PodExists { name, pod: id });
        }
        let filled = self.fill_pod(&id, wanted.containers, (archives, &criu, limit)).await;
        self.hand_over(&pod, filled).await
    }

    /// Gives a pod to the client, or takes it away.
    async fn hand_over(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        filled: Result<Vec<(String, ContainerId)>, ServiceError>,
    ) -> Result<RestoredPod, ServiceError> {
        let whole = async {
            let containers = filled?;
            pod.tracked.advance(PodEvent::Restored).await?;
            Ok(RestoredPod { pod: pod.pod_id().clone(), containers })
        };
        match whole.await {
            Ok(restored) => Ok(restored),
            Err(error) => {
                if let Err(error) = self.remove_found_pod(pod).await {
                    let (pod, error) = (pod.pod_id(), crate::error::chain(&error));
                    tracing::error!(%pod, error, "a pod that was not restored stays");
                }
                Err(error)
            }
        }
    }

    async fn fill_pod(
        self: &Arc<Self>,
        pod: &PodId,
        specs: Vec<ContainerSpec>,
        (mut archives, criu, limit): (Archives, &Criu, Limit),
    ) -> Result<Vec<(String, ContainerId)>, ServiceError> {
        let mut made = Vec::new();
        for spec in specs {
            let name = spec.metadata.name.clone();
            let failed = |source| ServiceError::Restore { name: name.clone(), source };
            let archive: Intake =
                archives.remove(&name).ok_or_else(|| failed(CheckpointError::Incomplete))?;
            let id = self.create_container_of(pod.as_str(), spec, Origin::Checkpoint).await?;
            let container = self.containers.find(id.as_str())?;
            self.take_checkpoint_in(&container, archive, (criu, limit)).await.map_err(failed)?;
            made.push((name, id));
        }
        Ok(made)
    }

    /// The pod of that name, if it was made by the same request and waits for its containers to be started. The caller has the
    /// claim on the name, so that nobody restores it now.
    async fn standing_restore(
        self: &Arc<Self>,
        wanted: &PodRestore,
    ) -> Result<Option<RestoredPod>, ServiceError> {
        let Some(pod) = self.pods.named(&wanted.pod.metadata) else { return Ok(None) };
        if pod.record().is_being_restored {
            // It failed and could not be taken away.
            self.remove_found_pod(&pod).await?;
            return Ok(None);
        }
        let id = pod.pod_id().clone();
        let is_made = |spec: &ContainerSpec| {
            let container = self.containers.named(&(id.clone(), spec.metadata.clone()))?;
            let record = container.record();
            let is_so = matches!(record.phase, ContainerPhase::Created)
                && record.origin == Origin::Checkpoint
                && record.spec == *spec
                && self.has_checkpoint(&record.id);
            is_so.then(|| (spec.metadata.name.clone(), record.id.clone()))
        };
        let containers: Option<Vec<_>> = wanted.containers.iter().map(is_made).collect();
        let is_ready = self.find_ready_pod(id.as_str()).is_ok();
        match containers.filter(|_| is_ready && pod.record().spec == wanted.pod) {
            Some(containers) => Ok(Some(RestoredPod { pod: id, containers })),
            None => {
                let name = super::display_name(&wanted.pod.metadata);
                Err(ServiceError::PodExists { name, pod: id })
            }
        }
    }
}
