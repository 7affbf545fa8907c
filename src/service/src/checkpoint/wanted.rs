//! A pod that is to be made of a checkpoint, and one that was.

use super::{CheckpointError, CheckpointLevel};
use crate::{Service, ServiceError};
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{ContainerSpec, PodSpec, Terminal};
use std::collections::BTreeSet;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct PodRestore {
    /// The directory that CheckpointPod wrote.
    pub checkpoint: String,
    /// The pod.
    pub pod: PodSpec,
    /// Its containers.
    pub containers: Vec<ContainerSpec>,
}

/// A pod that was made of a checkpoint.
#[derive(Debug, Clone)]
pub struct RestoredPod {
    /// The pod.
    pub pod: PodId,
    /// The names of its containers, and which they are.
    pub containers: Vec<(String, ContainerId)>,
}

impl PodRestore {
    /// Refuses before anything is made what would fail at the start of a container.
    ///
    /// # Errors
    /// What it is.
    pub(crate) fn require_restorable(&self) -> Result<(), Refusal> {
        if self.containers.is_empty() {
            return Err(Refusal::invalid("container_configs", "is empty"));
        }
        let mut names = BTreeSet::new();
        for name in self.containers.iter().map(|one| one.metadata.name.as_str()) {
            if !names.insert(name) {
                let problem = format!("container \"{name}\" is there twice");
                return Err(Refusal::invalid("container_configs", problem));
            }
        }
        if self.pod.namespaces.users.mapping().is_some() {
            let what = "making a pod with a user namespace of a checkpoint";
            return Err(Refusal::Unsupported(what.to_owned()));
        }
        match self.containers.iter().find(|one| one.terminal == Terminal::Present) {
            Some(spec) => {
                let name = &spec.metadata.name;
                let what =
                    format!("making container \"{name}\", which has a terminal, of a checkpoint");
                Err(Refusal::Unsupported(what))
            }
            None => Ok(()),
        }
    }
}

impl Service {
    /// Refuses if pods are not made of checkpoints here.
    ///
    /// # Errors
    /// By the configuration.
    pub fn require_restores(&self) -> Result<(), ServiceError> {
        match self.settings.checkpoint.level {
            CheckpointLevel::None => Err(ServiceError::NoCheckpoints(CheckpointError::Off)),
            CheckpointLevel::CheckpointOnly => {
                Err(ServiceError::NoCheckpoints(CheckpointError::NoRestore))
            }
            CheckpointLevel::CheckpointRestore => Ok(()),
        }
    }
}
