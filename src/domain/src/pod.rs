//! A pod: its record, its phases, and what may happen in which.
//!
//! ```text
//!             BroughtUp            Fell | StopOrdered            RemoveOrdered
//!  Creating ------------> Ready ------------------> NotReady ------------------> Removing --> record deleted
//!     |                                                ^  |                          ^
//!     +-- BringUpFailed (holds could not be released) -+  +-- StopOrdered: no-op ----+
//!     +-- BringUpFailed (all released) --> record deleted
//! ```
//!
//! Ready means that every hold of the plan is taken; from NotReady on no network is shown. Removing is for ever.

use crate::attachment::AttachmentRecord;
use crate::id::PodId;
use crate::plan::PodPlan;
use crate::process::ProcessIdentity;
use crate::resources::{PodResources, PodResourcesChange};
use crate::spec::PodSpec;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Everything that is known of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its identity.
    pub id: PodId,
    /// What the client asked for.
    pub spec: PodSpec,
    /// What was decided for it.
    pub plan: PodPlan,
    /// When it was asked for.
    pub created: Timestamp,
    /// The boot (`/proc/sys/kernel/random/boot_id`) in which it was made.
    pub boot: String,
    /// Its networks, exactly as they were or will be attached.
    pub attachments: Vec<AttachmentRecord>,
    /// What it may use as a whole now: as asked for at first, then as updated.
    #[serde(default)]
    pub resources: PodResources,
    /// A RestorePod that makes it has not answered: no client has it, and if the daemon ends now, none ever will.
    #[serde(default)]
    pub is_being_restored: bool,
    /// Its phase.
    pub phase: PodPhase,
}

/// The phases of a pod, with what exists in each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// The call that makes it has not returned; holds may be half taken.
    Creating,
    /// It can take containers.
    Ready {
        /// Its addresses, the primary one first; none with the host's network.
        addresses: Vec<IpAddr>,
        /// PID 1 of its shared PID namespace, if it has one.
        reaper: Option<ProcessIdentity>,
    },
    /// It can't; what it still holds is given back by the next stop.
    NotReady {
        /// Why.
        why: Downfall,
        /// Since when.
        since: Timestamp,
    },
    /// It is being torn down for good.
    Removing,
}

/// Why a pod is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Downfall {
    /// A client stopped it.
    Stopped,
    /// Its bring-up failed and could not be undone.
    BringUpFailed,
    /// Its reaper or its pinned namespaces are gone.
    Lost(String),
    /// The machine was restarted.
    Rebooted,
}

/// What can happen to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodEvent {
    /// Every hold is taken.
    BroughtUp {
        /// Its addresses, the primary one first.
        addresses: Vec<IpAddr>,
        /// PID 1 of its shared PID namespace.
        reaper: Option<ProcessIdentity>,
    },
    /// The bring-up failed and something could not be given back.
    BringUpFailed(Timestamp),
    /// Something that it needs is gone.
    Fell(Downfall, Timestamp),
    /// A client changed what it may use as a whole.
    Resized(Box<PodResourcesChange>),
    /// All that RestorePod makes of it is there.
    Restored,
    /// A client wants it stopped.
    StopOrdered(Timestamp),
    /// A client wants it removed.
    RemoveOrdered,
}

/// An event that may not happen now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod {pod} is {phase}")]
pub struct PodRefusal {
    /// The pod.
    pub pod: PodId,
    /// Its phase.
    pub phase: &'static str,
}

impl PodPhase {
    /// Its name, as in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready { .. } => "ready",
            Self::NotReady { .. } => "not ready",
            Self::Removing => "removing",
        }
    }
}

impl PodRecord {
    /// The record after the event; `None` if it is so already.
    ///
    /// # Errors
    /// If the event may not happen in this phase.
    pub fn apply(&self, event: PodEvent) -> Result<Option<Self>, PodRefusal> {
        if let PodEvent::Resized(change) = event {
            return self.resized(*change);
        }
        if event == PodEvent::Restored {
            return self.restored();
        }
        Ok(self.next(event)?.map(|phase| Self { phase, ..self.clone() }))
    }

    /// The phase stays; a pod that has ended, or will never begin, uses nothing.
    fn resized(&self, change: PodResourcesChange) -> Result<Option<Self>, PodRefusal> {
        match self.phase {
            PodPhase::Ready { .. } => {
                let resources = self.resources.changed(change);
                let is_new = resources != self.resources;
                Ok(is_new.then(|| Self { resources, ..self.clone() }))
            }
            PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => {
                Err(self.refused())
            }
        }
    }

    /// A pod that was stopped meanwhile is not what was asked for.
    fn restored(&self) -> Result<Option<Self>, PodRefusal> {
        match self.phase {
            PodPhase::Ready { .. } => {
                let whole = || Self { is_being_restored: false, ..self.clone() };
                Ok(self.is_being_restored.then(whole))
            }
            PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => {
                Err(self.refused())
            }
        }
    }

    fn refused(&self) -> PodRefusal {
        PodRefusal { pod: self.id.clone(), phase: self.phase.name() }
    }

    fn next(&self, event: PodEvent) -> Result<Option<PodPhase>, PodRefusal> {
        use PodEvent as E;
        use PodPhase as P;
        match (&self.phase, event) {
            (P::Creating, E::BroughtUp { addresses, reaper }) => {
                Ok(Some(P::Ready { addresses, reaper }))
            }
            (P::Creating, E::BringUpFailed(since)) => {
                Ok(Some(P::NotReady { why: Downfall::BringUpFailed, since }))
            }
            (P::Creating | P::Ready { .. }, E::StopOrdered(since)) => {
                Ok(Some(P::NotReady { why: Downfall::Stopped, since }))
            }
            (P::Creating | P::Ready { .. }, E::Fell(why, since)) => {
                Ok(Some(P::NotReady { why, since }))
            }
            (P::NotReady { .. }, E::StopOrdered(_) | E::Fell(..) | E::BringUpFailed(_))
            | (P::Removing, E::StopOrdered(_) | E::Fell(..) | E::RemoveOrdered) => Ok(None),
            (P::Creating | P::NotReady { .. }, E::RemoveOrdered) => Ok(Some(P::Removing)),
            // A ready pod is stopped first: its network must not vanish under running containers.
            (P::Ready { .. }, E::RemoveOrdered | E::BringUpFailed(_))
            | (P::Ready { .. } | P::NotReady { .. } | P::Removing, E::BroughtUp { .. })
            | (P::Removing, E::BringUpFailed(_))
            // They change no phase, so they do not come here.
            | (_, E::Resized(_) | E::Restored) => Err(self.refused()),
        }
    }
}

#[cfg(test)]
mod tests;
