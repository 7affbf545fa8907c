//! CreateContainer: everything decided and laid out, no process yet.

use super::account;
use super::places::Subject;
use crate::claims::{Claim, Ticket};
use crate::metrics::Stage;
use crate::pod::Pod;
use crate::service::ContainerName;
use crate::{Service, ServiceError};
use cringle_domain::container::ContainerPhase;
use cringle_domain::id::ContainerId;
use cringle_domain::namespaces::ContainerPid;
use cringle_domain::plan::ContainerPlan;
use cringle_domain::pod::PodRecord;
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::ContainerSpec;
use std::sync::Arc;

type CreateTicket = Ticket<ContainerName, ContainerSpec, ContainerId>;

impl Service {
    /// Makes a container in a ready pod and answers its id. The same request again joins the one in flight, or gets the
    /// same id if nobody had it yet (R-00g).
    ///
    /// # Errors
    /// If the pod is not ready, the spec is refused, the image is not here, or a container of that name is there; then
    /// nothing is left.
    pub async fn create_container(
        self: &Arc<Self>,
        pod: &str,
        spec: ContainerSpec,
    ) -> Result<ContainerId, ServiceError> {
        let pod = self.find_ready_pod(pod)?;
        let name = (pod.pod_id().clone(), spec.metadata.clone());
        loop {
            let id = match self.container_claims.claim(&name, spec.clone()) {
                Claim::Mine(ticket) => match self.parked_container(&name, &spec)? {
                    Some(id) => return Ok(id),
                    None => self.create_claimed(Arc::clone(&pod), spec.clone(), ticket).await?,
                },
                Claim::Joined(joined) => match joined.result().await {
                    Some(result) => result?,
                    None => continue,
                },
                Claim::Conflict => return Err(ServiceError::Busy(display_name(&spec))),
            };
            if let Ok(container) = self.containers.find(id.as_str()) {
                container.hand_over();
            }
            return Ok(id);
        }
    }

    /// The container of that name, if it was made for this very request and nobody had the answer.
    fn parked_container(
        &self,
        name: &ContainerName,
        spec: &ContainerSpec,
    ) -> Result<Option<ContainerId>, ServiceError> {
        let Some(container) = self.containers.named(name) else { return Ok(None) };
        let record = container.record();
        if matches!(record.phase, ContainerPhase::Removing) {
            return Ok(None);
        }
        let created = matches!(record.phase, ContainerPhase::Created);
        if created && record.spec == *spec && container.hand_over() {
            return Ok(Some(record.id.clone()));
        }
        Err(ServiceError::ContainerExists {
            name: display_name(spec),
            container: record.id.clone(),
        })
    }

    async fn create_claimed(
        self: &Arc<Self>,
        pod: Arc<Pod>,
        spec: ContainerSpec,
        ticket: CreateTicket,
    ) -> Result<ContainerId, ServiceError> {
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            let _watch = service.stages.watch(Stage::ContainerCreate);
            let made = service.make_container(&pod, spec).await;
            ticket.land(made)
        })
        .await
    }

    async fn make_container(
        &self,
        pod: &Pod,
        spec: ContainerSpec,
    ) -> Result<ContainerId, ServiceError> {
        let _open = pod.gate.read().await;
        let pod = pod.record();
        self.find_ready_pod(pod.id.as_str())?;
        let id = ContainerId::from_bytes(self.host.random_bytes()?);
        let image = self
            .images
            .resolve(&spec.image.reference)
            .ok_or_else(|| ServiceError::NoSuchImage(spec.image.reference.clone()))?;
        let spec = self.with_target(&pod, spec)?;
        self.require_mounts(&spec.mounts)?;
        let volumes = self.image_volumes(&spec.mounts)?;
        let subject = Subject { pod: &pod, spec: &spec, image: &image, volumes: &volumes, id: &id };
        let plan = self.plan_container(subject)?;
        let laid_out = tokio::task::block_in_place(|| self.lay_out(subject, &plan));
        match laid_out {
            Ok(container) => {
                self.journal.appear(Arc::new(container));
                Ok(id)
            }
            Err(error) => {
                self.clear_away(&id);
                Err(error)
            }
        }
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

    fn plan_container(&self, subject: Subject<'_>) -> Result<ContainerPlan, ServiceError> {
        let lower = self.images.lower_directories(&subject.image.record);
        let files = account::read(&lower)?;
        self.plan_with(subject, &files)
    }
}

fn display_name(spec: &ContainerSpec) -> String {
    format!("{} (attempt {})", spec.metadata.name, spec.metadata.attempt)
}
