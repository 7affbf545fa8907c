//! Containers: one file per verb, and what a container is in memory.

pub mod attach;
pub mod checkpoint;
pub mod create;
pub mod exec;
pub mod list;
pub mod logs;
pub mod remove;
pub mod session;
pub mod start;
pub mod stop;
pub mod update;

mod account;
mod force;
mod image_volumes;
mod launch;
mod lay_out;
mod places;
mod restore;
pub(crate) mod stillness;

use crate::ServiceError;
use crate::events::Journal;
use crate::index::Indexed;
use crate::metrics::Detail;
use crate::stats::{Gauge, LayerUsage, Usage};
use crate::supervisor::Supervisor;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::spec::ContainerMetadata;
use cringle_store::tracked::Tracked;
use serde_json::value::RawValue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError};
use stillness::Stillness;
use tokio::sync::Mutex;

/// A container in memory.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    /// Its pod, for ever.
    pod: PodId,
    pub(crate) tracked: Tracked<ContainerRecord>,
    /// One operation at a time: start, update, remove. Stop is an order and takes it not.
    pub(crate) operation: Mutex<()>,
    /// Whether it stands still, for who wants something of it.
    pub(crate) stillness: Arc<Stillness>,
    /// The shim, while there is one.
    supervisor: StdMutex<Option<Supervisor>>,
    /// Its first process, once another one was executed: each probe would have to find it in the bundle again.
    first_process: OnceLock<Box<RawValue>>,
    /// Whether it was started and no client has had the answer yet.
    start_unheard: AtomicBool,
    /// Whether plugins were told that it has ended, or there were none.
    pub(crate) end_told: Mutex<bool>,
    /// Last readings of what it uses.
    pub(crate) usage: Gauge<Usage>,
    pub(crate) layer: Gauge<LayerUsage>,
    pub(crate) detail: Gauge<Detail>,
}

impl Container {
    pub(crate) fn new(tracked: Tracked<ContainerRecord>, journal: &Arc<Journal>) -> Self {
        let record = tracked.now();
        Self {
            id: record.id.clone(),
            pod: record.pod.clone(),
            tracked: tracked.witnessed(Arc::<Journal>::clone(journal)),
            operation: Mutex::new(()),
            stillness: Arc::default(),
            supervisor: StdMutex::new(None),
            first_process: OnceLock::new(),
            start_unheard: AtomicBool::new(false),
            end_told: Mutex::new(false),
            usage: Gauge::default(),
            layer: Gauge::default(),
            detail: Gauge::default(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn container_id(&self) -> &ContainerId {
        &self.id
    }

    /// Its pod's id.
    #[must_use]
    pub fn pod_id(&self) -> &PodId {
        &self.pod
    }

    /// Its last published record.
    #[must_use]
    pub fn record(&self) -> Arc<ContainerRecord> {
        self.tracked.now()
    }

    pub(crate) fn supervisor(&self) -> Option<Supervisor> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn supervise(&self, supervisor: Option<Supervisor>) {
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = supervisor;
    }

    /// Notes that it was started, which no client has heard yet.
    pub(crate) fn keep_start(&self) {
        self.start_unheard.store(true, Ordering::Release);
    }

    /// Notes that a client hears of its start now; answers whether none had yet.
    pub(crate) fn tell_start(&self) -> bool {
        self.start_unheard.swap(false, Ordering::AcqRel)
    }
}

/// The first process of a container that runs.
///
/// # Errors
/// It does not.
pub(crate) fn require_running(record: &ContainerRecord) -> Result<i32, ServiceError> {
    match record.phase {
        ContainerPhase::Running { process, .. } => Ok(process.pid),
        ContainerPhase::Creating
        | ContainerPhase::Created
        | ContainerPhase::Exited { .. }
        | ContainerPhase::Removing => Err(ServiceError::NotRunning(record.id.clone())),
    }
}

impl Indexed for Container {
    type Name = (PodId, ContainerMetadata);

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn name(&self) -> Self::Name {
        let record = self.tracked.now();
        (record.pod.clone(), record.spec.metadata.clone())
    }

    fn absent(id: &str) -> ServiceError {
        ServiceError::NoSuchContainer(id.to_owned())
    }
}
