//! What a container has on disk before it has a process: bundle, volumes, writable layer, record.

use super::Container;
use super::places::Subject;
use crate::bundle::Draft;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::id::ContainerId;
use cringle_domain::image::Image;
use cringle_domain::plan::{ContainerPlan, VolumeDirectory};
use cringle_domain::snapshot::SnapshotKey;
use cringle_image::Ground;
use cringle_store::tracked::Tracked;
use std::os::unix::fs::DirBuilderExt;

impl Service {
    /// Makes bundle, volumes and writable layer, then the record. What a crash leaves of it is named by no record and
    /// swept.
    pub(super) fn lay_out(
        &self,
        subject: Subject<'_>,
        plan: &ContainerPlan,
        draft: Draft,
        record: ContainerRecord,
    ) -> Result<Container, ServiceError> {
        let Subject { pod, image, volumes, id, .. } = subject;
        let directory = self.layout.bundle(id);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|source| ServiceError::file("make", directory.clone(), source))?;
        draft.write(&directory)?;
        for volume in &plan.volumes {
            make_volume(volume)?;
        }
        let key = SnapshotKey::from(id);
        let ground = Ground {
            image: &image.record,
            volumes: &volumes.records(),
            mapping: pod.spec.namespaces.users.mapping(),
        };
        self.images.snapshots().prepare(&key, ground).map_err(|source| ServiceError::Images {
            action: format!("make the writable layer of container {id}"),
            source,
        })?;
        let tracked = Tracked::create(self.layout.container_record(id), record)?;
        Ok(Container::new(tracked, &self.journal))
    }

    /// The record of a container that will be laid out by this plan.
    pub(super) fn record_of(&self, subject: Subject<'_>, plan: &ContainerPlan) -> ContainerRecord {
        let Subject { pod, spec, image, volumes, id, origin } = subject;
        ContainerRecord {
            id: id.clone(),
            pod: pod.id.clone(),
            spec: spec.clone(),
            origin,
            image: image.record.id.clone(),
            image_reference: reference_of(image),
            layers: image.record.layers.iter().map(|layer| layer.key().clone()).collect(),
            image_volumes: volumes.recorded(),
            identity: plan.process.identity.clone(),
            stop_signal: plan.stop_signal,
            resources: plan.resources.clone(),
            cgroup: plan.cgroup.clone(),
            created: self.clock.now(),
            boot: self.host.boot.clone(),
            phase: ContainerPhase::Created,
        }
    }

    /// Takes back what a failed creation made.
    pub(super) fn clear_away(&self, id: &ContainerId) {
        let cleared = [
            crate::teardown::remove_tree(&self.layout.bundle(id)),
            crate::teardown::remove_tree(&self.layout.container_volumes(id)),
            crate::teardown::remove_tree(&self.layout.restore(id)),
            self.images.snapshots().remove(&SnapshotKey::from(id)).map_err(|source| {
                ServiceError::Images {
                    action: format!("remove the writable layer of {id}"),
                    source,
                }
            }),
        ];
        for error in cleared.into_iter().filter_map(Result::err) {
            tracing::warn!(container = %id, error = crate::error::chain(&error), "swept later");
        }
    }
}

/// Makes a directory that backs a volume of the image, with the owner that the plan gives it.
fn make_volume(volume: &VolumeDirectory) -> Result<(), ServiceError> {
    let path = &volume.directory;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.and_then(|()| std::os::unix::fs::chown(path, Some(volume.user), Some(volume.group)))
        .map_err(|source| ServiceError::file("make volume", path, source))
}

/// The image with its digest: what clients are shown as `image_ref`.
fn reference_of(image: &Image) -> String {
    image.digests.first().map_or_else(|| image.record.id.to_string(), ToString::to_string)
}
