//! A container: its record, its phases, and what may happen in which.
//!
//! CREATED is data, RUNNING is a process: the child is cloned at the start, so that creation cannot leave a stray one.
//!
//! ```text
//!   Creating --Prepared--> Created --Started--> Running --Exited--> Exited
//!      |                      |  \--StartFailed----------------------> |
//!      +---- RemoveOrdered ---+------------- RemoveOrdered ------------+--> Removing --> record deleted
//! ```
//!
//! Stopping is not a phase but an order to the shim, which owns the timer. The first exit seen is kept.

use crate::id::{ContainerId, PodId};
use crate::plan::Identity;
use crate::process::{Exit, Outcome, ProcessIdentity, Signal};
use crate::reference::Digest;
use crate::resources::Resources;
use crate::spec::ContainerSpec;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its identity.
    pub id: ContainerId,
    /// Its pod.
    pub pod: PodId,
    /// What the client asked for.
    pub spec: ContainerSpec,
    /// What its processes are made of.
    #[serde(default)]
    pub origin: Origin,
    /// Its image.
    pub image: Digest,
    /// The image with its digest, as clients are shown it.
    pub image_reference: String,
    /// Diff ids of the image's layers, topmost last: held while the container is there.
    pub layers: Vec<Digest>,
    /// The images that are its volumes, in the order of its mounts; their layers are held as well.
    #[serde(default)]
    pub image_volumes: Vec<Digest>,
    /// Who its first process is.
    pub identity: Identity,
    /// The signal that stops it.
    pub stop_signal: Signal,
    /// Its limits as they are in force.
    pub resources: Resources,
    /// Its cgroup, below each hierarchy.
    pub cgroup: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// The boot in which it was made.
    pub boot: String,
    /// Its phase.
    pub phase: ContainerPhase,
}

/// What the processes of a container are made of when it is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A program of its image is executed.
    #[default]
    Image,
    /// They are those of a checkpoint.
    Checkpoint,
}

/// The phases of a container, with what exists in each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// The call that makes it has not returned.
    Creating,
    /// Its bundle and its writable layer are there; no process is.
    Created,
    /// Its first process runs.
    Running {
        /// That process.
        process: ProcessIdentity,
        /// Since when.
        started: Timestamp,
    },
    /// It ended, or could not be started.
    Exited {
        /// When it was started, if it was.
        started: Option<Timestamp>,
        /// How and when it ended.
        exit: Exit,
    },
    /// It is being torn down for good.
    Removing,
}

/// What can happen to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// Bundle and writable layer are there.
    Prepared,
    /// Its first process runs.
    Started(ProcessIdentity, Timestamp),
    /// Its first process could not be started.
    StartFailed(String, Timestamp),
    /// Its first process ended.
    Exited(Exit),
    /// Its limits were changed.
    Limited(Resources),
    /// A client wants it removed.
    RemoveOrdered,
}

/// An event that may not happen now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("container {container} is {phase}")]
pub struct ContainerRefusal {
    /// The container.
    pub container: ContainerId,
    /// Its phase.
    pub phase: &'static str,
}

impl ContainerPhase {
    /// Its name, as in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
            Self::Removing => "removing",
        }
    }
}

impl ContainerRecord {
    /// The record after the event; `None` if it is so already.
    ///
    /// # Errors
    /// If the event may not happen in this phase.
    pub fn apply(&self, event: ContainerEvent) -> Result<Option<Self>, ContainerRefusal> {
        if let ContainerEvent::Limited(resources) = event {
            return self.limited(resources);
        }
        Ok(self.next(event)?.map(|phase| Self { phase, ..self.clone() }))
    }

    fn limited(&self, resources: Resources) -> Result<Option<Self>, ContainerRefusal> {
        match self.phase {
            ContainerPhase::Created | ContainerPhase::Running { .. } => {
                let changed = resources != self.resources;
                Ok(changed.then(|| Self { resources, ..self.clone() }))
            }
            ContainerPhase::Creating | ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
                Err(self.refused())
            }
        }
    }

    fn next(&self, event: ContainerEvent) -> Result<Option<ContainerPhase>, ContainerRefusal> {
        use ContainerEvent as E;
        use ContainerPhase as P;
        match (&self.phase, event) {
            (P::Creating, E::Prepared) => Ok(Some(P::Created)),
            (P::Created, E::Started(process, started)) => Ok(Some(P::Running { process, started })),
            (P::Running { process: running, .. }, E::Started(process, _))
                if *running == process =>
            {
                Ok(None)
            }
            (P::Created, E::StartFailed(why, at)) => {
                let exit = Exit { outcome: Outcome::NeverStarted(why), at };
                Ok(Some(P::Exited { started: None, exit }))
            }
            (P::Created, E::Exited(exit)) => Ok(Some(P::Exited { started: None, exit })),
            (P::Running { started, .. }, E::Exited(exit)) => {
                // A clock may be set back; clients subtract.
                let exit = Exit { at: exit.at.max(*started), ..exit };
                Ok(Some(P::Exited { started: Some(*started), exit }))
            }
            (P::Exited { .. }, E::Exited(_)) | (P::Removing, E::RemoveOrdered) => Ok(None),
            (P::Creating | P::Created | P::Exited { .. }, E::RemoveOrdered) => {
                Ok(Some(P::Removing))
            }
            // A running container is stopped first.
            (
                P::Running { .. },
                E::RemoveOrdered | E::Prepared | E::Started(..) | E::StartFailed(..),
            )
            | (P::Creating, E::Started(..) | E::StartFailed(..) | E::Exited(_))
            | (P::Created, E::Prepared)
            | (P::Exited { .. }, E::Prepared | E::Started(..) | E::StartFailed(..))
            | (P::Removing, E::Prepared | E::Started(..) | E::StartFailed(..) | E::Exited(_))
            | (_, E::Limited(_)) => Err(self.refused()),
        }
    }

    fn refused(&self) -> ContainerRefusal {
        ContainerRefusal { container: self.id.clone(), phase: self.phase.name() }
    }
}

#[cfg(test)]
mod tests;
