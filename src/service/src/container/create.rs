//! CreateContainer: everything decided and laid out, no process yet.

use super::places::Subject;
use crate::bundle::Draft;
use crate::metrics::Stage;
use crate::pod::Pod;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, Origin};
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::namespaces::ContainerPid;
use cringle_domain::pod::PodRecord;
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{ContainerMetadata, ContainerSpec};
use std::sync::Arc;

impl Service {
    /// Makes a container in a ready pod and answers its id. The same request again joins the one in flight, or gets the
    /// same id as long as the container was not started (R-00g): who starts it has the id.
    ///
    /// # Errors
    /// If the pod is not ready, the spec is refused, the image is not here, or another container of that name is there
    /// or being made; then nothing is left.
    pub async fn create_container(
        self: &Arc<Self>,
        pod: &str,
        spec: ContainerSpec,
    ) -> Result<ContainerId, ServiceError> {
        self.create_container_of(pod, spec, Origin::Image).await
    }

    pub(crate) async fn create_container_of(
        self: &Arc<Self>,
        pod: &str,
        spec: ContainerSpec,
        origin: Origin,
    ) -> Result<ContainerId, ServiceError> {
        let pod = self.find_ready_pod(pod)?;
        let name = (pod.pod_id().clone(), spec.metadata.clone());
        let (service, wanted) = (Arc::clone(self), spec.clone());
        let made = || async move {
            let _watch = service.stages.watch(Stage::ContainerCreate);
            Box::pin(service.container_as_wanted(&pod, wanted, origin)).await
        };
        let made = self.container_claims.carry_out(&name, spec, made).await;
        made.unwrap_or_else(|so_far| {
            Err(ServiceError::Busy { name: display_name(&name.1), so_far })
        })
    }

    async fn container_as_wanted(
        &self,
        pod: &Pod,
        spec: ContainerSpec,
        origin: Origin,
    ) -> Result<ContainerId, ServiceError> {
        let _open = pod.gate.read().await;
        let pod = pod.record();
        self.find_ready_pod(pod.id.as_str())?;
        let spec = self.with_target(&pod, spec)?;
        match self.standing_container(&pod.id, &spec, origin)? {
            Some(id) => Ok(id),
            None => self.make_container(&pod, &spec, origin).await,
        }
    }

    /// The container of that name, if it is what is wanted and waits to be started.
    fn standing_container(
        &self,
        pod: &PodId,
        spec: &ContainerSpec,
        origin: Origin,
    ) -> Result<Option<ContainerId>, ServiceError> {
        let name = (pod.clone(), spec.metadata.clone());
        let Some(container) = self.containers.named(&name) else { return Ok(None) };
        let record = container.record();
        match &record.phase {
            ContainerPhase::Created if record.spec == *spec && record.origin == origin => {
                Ok(Some(record.id.clone()))
            }
            ContainerPhase::Removing => Ok(None),
            ContainerPhase::Creating
            | ContainerPhase::Created
            | ContainerPhase::Running { .. }
            | ContainerPhase::Exited { .. } => Err(ServiceError::ContainerExists {
                name: display_name(&spec.metadata),
                container: record.id.clone(),
            }),
        }
    }

    async fn make_container(
        &self,
        pod: &PodRecord,
        spec: &ContainerSpec,
        origin: Origin,
    ) -> Result<ContainerId, ServiceError> {
        let id = ContainerId::from_bytes(self.host.random_bytes()?);
        let image = self
            .images
            .resolve(&spec.image.reference)
            .ok_or_else(|| ServiceError::NoSuchImage(spec.image.reference.clone()))?;
        self.require_mounts(&spec.mounts)?;
        let volumes = self.image_volumes(&spec.mounts)?;
        let subject = Subject { pod, spec, image: &image, volumes: &volumes, id: &id, origin };
        let mut plan = self.plan_container(subject)?;
        let mut draft = Draft::new(&plan)?;
        if !spec.cdi_devices.is_empty() {
            tokio::task::block_in_place(|| self.apply_cdi(&spec.cdi_devices, &mut draft.spec))?;
        }
        let mut record = self.record_of(subject, &plan);
        let steady = self.steady().await;
        self.let_plugins_shape(pod, &mut record, &mut plan, &mut draft).await?;
        record.identity = draft.identity();
        let laid_out =
            tokio::task::block_in_place(|| self.lay_out(subject, &plan, draft, record.clone()));
        match laid_out {
            Ok(container) => self.journal.appear(Arc::new(container)),
            Err(error) => {
                self.clear_away(&id);
                self.tell_container_undone(&record).await;
                return Err(error);
            }
        }
        drop(steady);
        self.tell_container_made(&record).await;
        Ok(id)
    }

    /// The container whose PID namespace is asked for, found among those of the pod that run.
    fn with_target(
        &self,
        pod: &PodRecord,
        mut spec: ContainerSpec,
    ) -> Result<ContainerSpec, ServiceError> {
        if let ContainerPid::Target(target) = &spec.security.pid {
            let field = "linux.security_context.namespace_options.target_id";
            let found = self.containers.find(target).ok().map(|container| container.record());
            let Some(found) = found.filter(|found| found.pod == pod.id) else {
                let problem = format!("there is no container \"{target}\" in the pod");
                return Err(Refusal::invalid(field, problem).into());
            };
            spec.security.pid = ContainerPid::Of(found.id.clone());
        }
        Ok(spec)
    }
}

fn display_name(metadata: &ContainerMetadata) -> String {
    format!("{} (attempt {})", metadata.name, metadata.attempt)
}
