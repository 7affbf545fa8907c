//! What the use cases share, put together once.

use crate::checkpoint::Criu;
use crate::checkpoint::wanted::{PodRestore, RestoredPod};
use crate::claims::Claims;
use crate::clock::Clock;
use crate::container::Container;
use crate::events::Journal;
use crate::host::Host;
use crate::index::Index;
use crate::metrics::{PullCounter, Stages};
use crate::parents::Parents;
use crate::pod::{Maker, Pod};
use crate::stats::{Rounds, Stats};
use crate::supervisor::{ExecBounds, ShimProgram};
use crate::{ServiceError, ServiceSettings};
use cringle_cdi::Catalog;
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::pod::PodRecord;
use cringle_domain::spec::{ContainerMetadata, ContainerSpec, PodMetadata, PodSpec};
use cringle_image::Images;
use cringle_network::Network;
use cringle_nri::Nri;
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
    /// Whether pods can have users of their own, or why not.
    user_namespaces: Result<(), String>,
    pub(crate) exec_bounds: ExecBounds,
    pub(crate) cdi: Option<Catalog>,
    /// The program for checkpoints, once it was found.
    pub(crate) criu: tokio::sync::OnceCell<Criu>,
    /// Held while a pod is captured.
    pub(crate) pod_checkpoints: tokio::sync::Mutex<()>,
    pub(crate) images: Arc<Images>,
    pub(crate) network: Arc<Network>,
    pub(crate) nri: Arc<Nri>,
    pub(crate) parents: Parents,
    pub(crate) pods: Arc<Index<Pod>>,
    pub(crate) containers: Arc<Index<Container>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stats: Stats,
    pub(crate) details: Arc<Rounds<Container>>,
    pub(crate) stages: Stages,
    pub(crate) pulls: PullCounter,
    pub(crate) pod_claims: Arc<Claims<PodMetadata, (Maker, PodSpec), PodId>>,
    pub(crate) container_claims: Arc<Claims<ContainerName, ContainerSpec, ContainerId>>,
    /// Pods that are being made of checkpoints.
    pub(crate) restore_claims: Arc<Claims<PodMetadata, PodRestore, RestoredPod>>,
    /// Containers that are being started.
    pub(crate) start_claims: Arc<Claims<ContainerId, (), ()>>,
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
        let probed = crate::supervisor::probe(&shim, layout.root());
        let user_namespaces = probed.map_err(|error| crate::error::chain(&error));
        if let Err(error) = &user_namespaces {
            tracing::warn!(error, "pods can't have users of their own");
        }
        let features = &host.features;
        let missing: Vec<_> = features.missing().map(|feature| feature.name()).collect();
        if !missing.is_empty() {
            tracing::warn!(kernel = features.release(), ?missing, "the kernel can't do everything");
        }
        let parents = Parents::load(layout.state().join("parents"), host.cgroups.clone());
        let (pods, containers) = (Arc::default(), Arc::default());
        let journal = Journal::new(clock, Arc::clone(&pods), Arc::clone(&containers));
        let details = Self::details(&host, clock);
        let stats = Stats::new(&host, &layout, clock);
        let nri = Nri::new(settings.nri.clone());
        Ok(Arc::new(Self {
            cdi: settings.cdi.catalog(),
            criu: tokio::sync::OnceCell::new(),
            pod_checkpoints: tokio::sync::Mutex::default(),
            settings,
            layout,
            clock,
            host,
            shim,
            user_namespaces,
            exec_bounds: crate::container::exec::bounds(),
            images,
            network,
            nri,
            parents,
            pods,
            containers,
            journal: Arc::new(journal),
            stats,
            details,
            stages: Stages::default(),
            pulls: PullCounter::default(),
            pod_claims: Arc::default(),
            container_claims: Arc::default(),
            restore_claims: Arc::default(),
            start_claims: Arc::default(),
        }))
    }

    /// Whether pods can have users of their own.
    ///
    /// # Errors
    /// Why not.
    pub fn user_namespaces(&self) -> Result<(), &str> {
        self.user_namespaces.as_ref().map_err(String::as_str).copied()
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
