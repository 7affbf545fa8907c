//! CreateContainer: everything decided and laid out, no process yet.

use super::places::Subject;
use super::{Container, account};
use crate::claims::{Claim, Ticket};
use crate::pod::Pod;
use crate::service::ContainerName;
use crate::{Error, Service, bundle};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::id::ContainerId;
use cringle_domain::image::Image;
use cringle_domain::namespaces::ContainerPid;
use cringle_domain::plan::ContainerPlan;
use cringle_domain::pod::PodRecord;
use cringle_domain::refusal::Refusal;
use cringle_domain::snapshot::SnapshotKey;
use cringle_domain::spec::ContainerSpec;
use cringle_store::tracked::Tracked;
use std::os::unix::fs::DirBuilderExt;
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
    ) -> Result<ContainerId, Error> {
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
                Claim::Conflict => return Err(Error::Busy(display_name(&spec))),
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
    ) -> Result<Option<ContainerId>, Error> {
        let Some(container) = self.containers.named(name) else { return Ok(None) };
        let record = container.record();
        if matches!(record.phase, ContainerPhase::Removing) {
            return Ok(None);
        }
        let created = matches!(record.phase, ContainerPhase::Created);
        if created && record.spec == *spec && container.hand_over() {
            return Ok(Some(record.id.clone()));
        }
        Err(Error::ContainerExists { name: display_name(spec), container: record.id.clone() })
    }

    async fn create_claimed(
        self: &Arc<Self>,
        pod: Arc<Pod>,
        spec: ContainerSpec,
        ticket: CreateTicket,
    ) -> Result<ContainerId, Error> {
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            let made = service.make_container(&pod, spec).await;
            ticket.land(made)
        })
        .await
    }

    async fn make_container(&self, pod: &Pod, spec: ContainerSpec) -> Result<ContainerId, Error> {
        let _open = pod.gate.read().await;
        let pod = pod.record();
        self.find_ready_pod(pod.id.as_str())?;
        let id = ContainerId::from_bytes(self.host.random_bytes()?);
        let image = self
            .images
            .resolve(&spec.image.reference)
            .ok_or_else(|| Error::NoSuchImage(spec.image.reference.clone()))?;
        let spec = self.with_target(&pod, spec)?;
        let subject = Subject { pod: &pod, spec: &spec, image: &image, id: &id };
        let plan = self.plan_container(subject)?;
        let laid_out = tokio::task::block_in_place(|| self.lay_out(subject, &plan));
        match laid_out {
            Ok(container) => {
                self.containers.insert(Arc::new(container));
                Ok(id)
            }
            Err(error) => {
                self.clear_away(&id);
                Err(error)
            }
        }
    }

    /// The container whose PID namespace is asked for, found among those of the pod that run.
    fn with_target(&self, pod: &PodRecord, mut spec: ContainerSpec) -> Result<ContainerSpec, Error> {
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

    /// Makes bundle, volumes and writable layer, then the record. What a crash leaves of it is named by no record and
    /// swept.
    fn lay_out(&self, subject: Subject<'_>, plan: &ContainerPlan) -> Result<Container, Error> {
        let Subject { pod, spec, image, id } = subject;
        let directory = self.layout.bundle(id);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|source| Error::file("make", directory.clone(), source))?;
        bundle::write(&directory, plan)?;
        for volume in &plan.volumes {
            make_volume(volume)?;
        }
        let key = SnapshotKey::from(id);
        self.images.snapshots().prepare(&key, &image.record).map_err(|source| Error::Images {
            action: format!("make the writable layer of container {id}"),
            source,
        })?;
        let record = ContainerRecord {
            id: id.clone(),
            pod: pod.id.clone(),
            spec: spec.clone(),
            image: image.record.id.clone(),
            image_reference: reference_of(image),
            layers: image.record.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            identity: plan.process.identity.clone(),
            stop_signal: plan.stop_signal,
            resources: plan.resources.clone(),
            cgroup: plan.cgroup.clone(),
            created: self.clock.now(),
            boot: self.host.boot.clone(),
            phase: ContainerPhase::Created,
        };
        Ok(Container::new(Tracked::create(self.layout.container_record(id), record)?))
    }

    fn clear_away(&self, id: &ContainerId) {
        let cleared = [
            crate::teardown::remove_tree(&self.layout.bundle(id)),
            crate::teardown::remove_tree(&self.layout.container_volumes(id)),
            self.images.snapshots().remove(&SnapshotKey::from(id)).map_err(|source| {
                Error::Images { action: format!("remove the writable layer of {id}"), source }
            }),
        ];
        for error in cleared.into_iter().filter_map(Result::err) {
            tracing::warn!(container = %id, error = crate::error::chain(&error), "swept later");
        }
    }

    fn plan_container(&self, subject: Subject<'_>) -> Result<ContainerPlan, Error> {
        let lower = self.images.lower_directories(&subject.image.record);
        let files = account::read(&lower)?;
        self.plan_with(subject, &files)
    }
}

/// Makes a directory that backs a volume of the image, with the owner that the plan gives it.
fn make_volume(volume: &cringle_domain::plan::VolumeDirectory) -> Result<(), Error> {
    let path = &volume.directory;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.and_then(|()| {
        std::os::unix::fs::chown(path, Some(volume.user), Some(volume.group))
    })
    .map_err(|source| Error::file("make volume", path, source))
}

/// The image with its digest: what clients are shown as `image_ref`.
fn reference_of(image: &Image) -> String {
    image.digests.first().map_or_else(|| image.record.id.to_string(), ToString::to_string)
}

fn display_name(spec: &ContainerSpec) -> String {
    format!("{} (attempt {})", spec.metadata.name, spec.metadata.attempt)
}
