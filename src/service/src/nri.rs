//! Plugins (NRI): when they are told what, and what becomes of what they want.
//!
//! Without plugins nothing here costs more than a look whether there are any. What plugins are told is made from the record
//! and from the document of the container, which both have what plugins changed.
//!
//! The end of a container or a pod is told once, whoever brings it about: the mark for that is behind a lock, so that who
//! comes second knows that it *was* told. After a start of the daemon everything that has ended counts as told, as no
//! plugin of this run knew it.

mod adjust;
mod describe;
mod limits;
mod pods;
mod runtime;

use crate::bundle::{self, Draft};
use crate::container::Container;
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::plan::ContainerPlan;
use cringle_domain::pod::PodRecord;
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::Resources;
use cringle_nri::{Creation, Hook, Steady};
use cringle_proto_nri::v1alpha1::{
    Container as ToldContainer, ContainerEviction, ContainerUpdate, PodSandbox,
    PostCreateContainerRequest, PostStartContainerRequest, PostUpdateContainerRequest,
    RemoveContainerRequest, StartContainerRequest, StopContainerRequest,
};
use runtime::Ties;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::Instant;

/// How long updates that plugins want wait, together, for what is done to the containers just then: two of those that end
/// may each wait for an update of the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// What plugins want to happen to other containers.
#[derive(Debug)]
struct Aftermath {
    updates: Vec<ContainerUpdate>,
    evictions: Vec<ContainerEviction>,
}

impl Service {
    /// Launches the installed plugins, which are told of everything that there is, and takes connections of others.
    pub async fn start_plugins(self: &Arc<Self>, listener: Option<UnixListener>) {
        for container in self.containers.all() {
            if matches!(container.record().phase, ContainerPhase::Exited { .. }) {
                *container.end_told.lock().await = true;
            }
        }
        for pod in self.pods.all() {
            if !pod.is_ready() && pod.holds.lock().await.noted().is_empty() {
                *pod.end_told.lock().await = true;
            }
        }
        self.nri.start(Arc::new(Ties(Arc::downgrade(self))), listener).await;
    }

    /// Ends the connections of all plugins.
    pub async fn stop_plugins(&self) {
        self.nri.shut_down().await;
    }

    /// Keeps plugins from joining half-way through an operation.
    pub(crate) async fn steady(&self) -> Steady<'_> {
        self.nri.steady().await
    }

    /// Asks how a container shall be made, and changes its record, its plan and its document accordingly; and other
    /// containers, if plugins want that.
    ///
    /// # Errors
    /// A plugin refuses, two want different things, or what they want can't be done; then all were told that the container
    /// is gone again.
    pub(crate) async fn let_plugins_shape(
        &self,
        pod: &PodRecord,
        record: &mut ContainerRecord,
        plan: &mut ContainerPlan,
        draft: &mut Draft,
    ) -> Result<(), ServiceError> {
        if !self.nri.shapes_containers() {
            return Ok(());
        }
        // On the heap: it holds all that plugins are told, which without them nobody needs room for.
        Box::pin(self.shape(pod, record, plan, draft)).await
    }

    async fn shape(
        &self,
        pod: &PodRecord,
        record: &mut ContainerRecord,
        plan: &mut ContainerPlan,
        draft: &mut Draft,
    ) -> Result<(), ServiceError> {
        let told = describe::container(record, Some(&draft.spec));
        let asked = Box::pin(self.nri.create(self.described_pod(pod), told)).await;
        let shaped = match asked {
            Ok(creation) => self.adjust(&creation, plan, draft).map(|()| creation),
            Err(error) => Err(error.into()),
        };
        match shaped {
            Ok(creation) => {
                record.resources = plan.resources.clone();
                record.cgroup.clone_from(&plan.cgroup);
                let (updates, evictions) = (creation.updates, creation.evictions);
                self.carry_out(Aftermath { updates, evictions }).await;
                Ok(())
            }
            Err(error) => {
                self.tell_container_undone(record).await;
                Err(error)
            }
        }
    }

    /// Devices come first, so that what else plugins want has the last word on what comes with a device.
    fn adjust(
        &self,
        creation: &Creation,
        plan: &mut ContainerPlan,
        draft: &mut Draft,
    ) -> Result<(), ServiceError> {
        let devices = adjust::devices(creation)?;
        tokio::task::block_in_place(|| self.apply_cdi(&devices, &mut draft.spec))
            .map_err(|error| adjust::without_devices(creation, error))?;
        let is_taken = |path: &str| {
            let mut others = self.containers.all().into_iter();
            self.host.cgroups.exists(path) || others.any(|other| other.record().cgroup == path)
        };
        adjust::apply(creation, &self.host.facts, is_taken, plan, draft)
    }

    /// Tells that a container that was told to be made is not.
    pub(crate) async fn tell_container_undone(&self, record: &ContainerRecord) {
        self.inform_of(record, |pod, container| StopContainerRequest { pod, container }).await;
        self.inform_of(record, |pod, container| RemoveContainerRequest { pod, container }).await;
    }

    /// Does what plugins want to happen to other containers. What can't be done is said in the log.
    async fn carry_out(&self, aftermath: Aftermath) {
        for eviction in aftermath.evictions {
            let (container, reason) = (eviction.container_id, eviction.reason);
            match self.evict(&container).await {
                Ok(()) => tracing::info!(container, reason, "evicted by an NRI plugin"),
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(container, reason, error, "eviction by an NRI plugin failed");
                }
            }
        }
        self.update_others(aftermath.updates).await;
    }

    async fn update_others(&self, updates: Vec<ContainerUpdate>) {
        let deadline = Instant::now() + PATIENCE;
        for update in updates {
            if let Err(error) = self.update_for_plugin(&update, deadline).await {
                let (container, error) = (&update.container_id, crate::error::chain(&error));
                tracing::warn!(container, error, "update by an NRI plugin failed");
            }
        }
    }

    /// Tells that a container was made.
    pub(crate) async fn tell_container_made(&self, record: &ContainerRecord) {
        self.inform_of(record, |pod, container| PostCreateContainerRequest { pod, container })
            .await;
    }

    /// Tells that a container is about to start.
    ///
    /// # Errors
    /// A plugin refuses.
    pub(crate) async fn tell_container_starts(
        &self,
        record: &ContainerRecord,
    ) -> Result<(), ServiceError> {
        if !self.nri.has_plugins() {
            return Ok(());
        }
        let (pod, container) = self.described(record);
        let (pod, container) = (Some(pod), Some(container));
        Ok(Box::pin(self.nri.tell(&StartContainerRequest { pod, container })).await?)
    }

    /// Tells that a container has started; of one whose end was told meanwhile there is no more to tell.
    pub(crate) async fn tell_container_started(&self, container: &Container) {
        let ended = container.end_told.lock().await;
        if !*ended {
            let started = |pod, container| PostStartContainerRequest { pod, container };
            self.inform_of(&container.record(), started).await;
        }
    }

    /// Asks what limits a container shall get instead of those of a request, and changes other containers, if plugins want
    /// that.
    ///
    /// # Errors
    /// A plugin refuses, two want different things, or what they want can't be done.
    pub(crate) async fn let_plugins_limit(
        &self,
        record: &ContainerRecord,
        change: Resources,
    ) -> Result<Resources, ServiceError> {
        if !self.nri.has_plugins() {
            return Ok(change);
        }
        let (pod, container) = self.described(record);
        let update = Box::pin(self.nri.update(pod, container, limits::to_nri(&change))).await?;
        let limited = limits::from_nri(&update.resources, &record.resources);
        let limited = limited.map_err(|(_, refusal)| refusal)?;
        let (updates, evictions) = (update.updates, update.evictions);
        self.carry_out(Aftermath { updates, evictions }).await;
        Ok(Resources { oom_score_adjustment: change.oom_score_adjustment, ..limited })
    }

    /// Tells that a container has other limits.
    pub(crate) async fn tell_container_limited(&self, record: &ContainerRecord) {
        self.inform_of(record, |pod, container| PostUpdateContainerRequest { pod, container })
            .await;
    }

    /// Tells, once, that a container has ended, or will never start. Its record is as it then is.
    pub(crate) async fn tell_container_ended(&self, container: &Container) {
        let mut told = container.end_told.lock().await;
        let mut updates = Vec::new();
        if !*told && self.nri.has_plugins() {
            let (pod, described) = self.described(&container.record());
            match Box::pin(self.nri.stopped(pod, described)).await {
                Ok(wanted) => updates = wanted,
                Err(error) => warn("StopContainer", &error),
            }
        }
        *told = true;
        drop(told);
        self.update_others(updates).await;
    }

    /// Tells that a container is removed. `record` is how it was before.
    pub(crate) async fn tell_container_removed(&self, record: &ContainerRecord) {
        self.inform_of(record, |pod, container| RemoveContainerRequest { pod, container }).await;
    }

    /// Gives a container the limits that a plugin wants.
    async fn update_for_plugin(
        &self,
        update: &ContainerUpdate,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let asked = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let Some(asked) = asked else { return Ok(()) };
        let container = self.containers.find(&update.container_id)?;
        let change = limits::from_nri(asked, &container.record().resources);
        let change = change.map_err(|(_, refusal)| refusal)?;
        let operation = tokio::time::timeout_at(deadline, container.operation.lock()).await;
        let _operation = operation.map_err(|_elapsed| {
            Refusal::WrongState(format!("container {} is busy", update.container_id))
        })?;
        self.set_limits(&container, &change).await
    }

    /// Ends a container at once, as a plugin wants.
    async fn evict(&self, id: &str) -> Result<(), ServiceError> {
        let container = self.containers.find(id)?;
        self.stop_found_container(&container, Duration::ZERO).await
    }

    /// Tells what nobody can refuse any more.
    async fn inform<Q: Hook>(&self, request: &Q) {
        // On the heap, so that nobody who only might tell something has room for it.
        if let Err(error) = Box::pin(self.nri.tell(request)).await {
            warn(Q::METHOD, &error);
        }
    }

    /// Tells, if there is anybody to be told, what nobody can refuse any more of a container.
    async fn inform_of<Q: Hook>(
        &self,
        record: &ContainerRecord,
        request: impl FnOnce(Option<PodSandbox>, Option<ToldContainer>) -> Q,
    ) {
        if self.nri.has_plugins() {
            let (pod, container) = self.described(record);
            self.inform(&request(Some(pod), Some(container))).await;
        }
    }

    /// A container and its pod as plugins are told of them.
    fn described(&self, record: &ContainerRecord) -> (PodSandbox, ToldContainer) {
        let pod = self.pods.find(record.pod.as_str()).map(|pod| self.described_pod(&pod.record()));
        let lost = PodSandbox { id: record.pod.to_string(), ..PodSandbox::default() };
        let directory = self.layout.bundle(&record.id);
        // What is lost of the document is not told; the container's end is, all the same.
        let document = tokio::task::block_in_place(|| bundle::written(&directory)).ok();
        (pod.unwrap_or(lost), describe::container(record, document.as_ref()))
    }

    fn described_pod(&self, record: &PodRecord) -> PodSandbox {
        describe::pod(record, &self.pinned(record), &[])
    }
}

fn warn(hook: &'static str, error: &dyn std::error::Error) {
    tracing::warn!(hook, error = crate::error::chain(error), "NRI plugins could not be told");
}
