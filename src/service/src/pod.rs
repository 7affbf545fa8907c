//! Pods: one file per verb, and what a pod is in memory.

pub mod checkpoint;
pub mod forward;
pub mod list;
pub mod remove;
pub mod restore;
pub mod run;
pub mod stop;
pub mod update;

mod bring_up;
mod files;
mod namespaces;
mod reaper;

pub(crate) use bring_up::plan_holds;
pub(crate) use reaper::end as end_reaper;

use crate::ServiceError;
use crate::events::Journal;
use crate::index::Indexed;
use crate::stats::{Gauge, PodReading};
use cringle_domain::id::PodId;
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::spec::PodMetadata;
use cringle_store::holds::Holds;
use cringle_store::tracked::Tracked;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{Mutex, RwLock};

/// One thing that a pod has of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Its directory of run-time files.
    Directory,
    /// The pin of its user namespace.
    Users,
    /// The pin of its network namespace.
    Network,
    /// The pin of its IPC namespace.
    Ipc,
    /// The pin of its UTS namespace.
    Uts,
    /// The tmpfs that is its /dev/shm.
    Shm,
    /// Its attachment to the network of that place in its record.
    Attachment(usize),
    /// The process that is PID 1 of its shared PID namespace, under its shim.
    Reaper,
}

/// Which verb makes a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// RunPodSandbox: when it is ready, it is the client's.
    RunPod,
    /// RestorePod: there is more to make before.
    RestorePod,
}

/// A pod in memory.
#[derive(Debug)]
pub struct Pod {
    id: PodId,
    pub(crate) tracked: Tracked<PodRecord>,
    /// Making a container takes it shared, stopping the pod takes it alone.
    pub(crate) gate: RwLock<()>,
    pub(crate) holds: Mutex<Holds<Hold>>,
    /// Whether plugins were told that it stops, or there were none.
    pub(crate) end_told: Mutex<bool>,
    /// The last reading of what it uses.
    pub(crate) reading: Gauge<PodReading>,
}

impl Pod {
    pub(crate) fn new(
        tracked: Tracked<PodRecord>,
        holds: Holds<Hold>,
        journal: &Arc<Journal>,
    ) -> Self {
        Self {
            id: tracked.now().id.clone(),
            tracked: tracked.witnessed(Arc::<Journal>::clone(journal)),
            gate: RwLock::new(()),
            holds: Mutex::new(holds),
            end_told: Mutex::new(false),
            reading: Gauge::default(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn pod_id(&self) -> &PodId {
        &self.id
    }

    /// Its last published record.
    #[must_use]
    pub fn record(&self) -> Arc<PodRecord> {
        self.tracked.now()
    }

    /// Whether it can take containers.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.tracked.now().phase, PodPhase::Ready { .. })
    }
}

impl Indexed for Pod {
    type Name = PodMetadata;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn name(&self) -> PodMetadata {
        self.tracked.now().spec.metadata.clone()
    }

    fn absent(id: &str) -> ServiceError {
        ServiceError::NoSuchPod(id.to_owned())
    }
}

/// A pod's name for people: `namespace/name (uid, attempt)`.
pub(crate) fn display_name(metadata: &PodMetadata) -> String {
    let PodMetadata { name, namespace, uid, attempt } = metadata;
    format!("{namespace}/{name} (uid {uid}, attempt {attempt})")
}
