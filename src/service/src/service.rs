//! What the use cases share, put together once.

use crate::claims::Claims;
use crate::clock::Clock;
use crate::container::Container;
use crate::host::Host;
use crate::index::Index;
use crate::parents::Parents;
use crate::pod::Pod;
use crate::supervisor::ShimProgram;
use crate::{ServiceError, ServiceSettings};
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::pod::PodRecord;
use cringle_domain::spec::{ContainerMetadata, ContainerSpec, PodMetadata, PodSpec};
use cringle_image::Images;
use cringle_network::Network;
use cringle_store::layout::Layout;
use std::sync::Arc;

/// The name of a container: its pod and its name in it.
pub(crate) type ContainerName = (PodId, ContainerMetadata);

/// The use cases and what they work on.
#[derive(Debug)]
pub struct Service {
    pub(crate) settings: ServiceSettings,
    pub(crate) layout: Layout,
    pub(crate) clock: Clock,
    pub(crate) host: Host,
    pub(crate) shim: ShimProgram,
    pub(crate) images: Arc<Images>,
    pub(crate) network: Arc<Network>,
    pub(crate) parents: Parents,
    pub(crate) pods: Index<Pod>,
    pub(crate) containers: Index<Container>,
    pub(crate) pod_claims: Arc<Claims<PodMetadata, PodSpec, PodId>>,
    pub(crate) container_claims: Arc<Claims<ContainerName, ContainerSpec, ContainerId>>,
}

impl Service {
    /// The service, before it has looked at what is there ([`Service::recover`]).
    ///
    /// # Errors
    /// If the directories cannot be made, the host cannot be probed, or the shim cannot be read.
    pub fn new(
        settings: ServiceSettings,
        images: Arc<Images>,
        network: Arc<Network>,
        clock: Clock,
    ) -> Result<Arc<Self>, ServiceError> {
        let layout = settings.layout.clone();
        layout.prepare().map_err(|source| ServiceError::file("prepare", layout.root(), source))?;
        let host = Host::probe()?;
        let shim =
            ShimProgram::load(&settings.shim).map_err(|source| ServiceError::Supervisor {
                container: format!("(program \"{}\")", settings.shim.display()),
                source,
            })?;
        let parents = Parents::load(layout.state().join("parents"), host.cgroups.clone());
        Ok(Arc::new(Self {
            settings,
            layout,
            clock,
            host,
            shim,
            images,
            network,
            parents,
            pods: Index::default(),
            containers: Index::default(),
            pod_claims: Arc::default(),
            container_claims: Arc::default(),
        }))
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// The networks.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The cgroup of something in a pod, below each hierarchy.
    pub(crate) fn cgroup_of(&self, pod: &PodRecord, name: &str) -> String {
        let parent = pod.plan.cgroup_parent.trim_end_matches('/');
        format!("{parent}/cringle-{}-{name}", self.layout.instance())
    }

    /// Gives back the parents that were made for pods which are gone.
    pub(crate) fn tidy_parents(&self) {
        let pods: Vec<_> = self.pods.all().iter().map(|pod| pod.record()).collect();
        let wanted: Vec<&str> = pods.iter().map(|pod| pod.plan.cgroup_parent.as_str()).collect();
        self.parents.tidy(&wanted);
    }

    pub(crate) fn reaper_cgroup(&self, pod: &PodRecord) -> String {
        self.cgroup_of(pod, &format!("{}-reaper", pod.id))
    }
}
