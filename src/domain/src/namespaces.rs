//! Whose namespaces pods and containers use.

use crate::id::ContainerId;
use serde::{Deserialize, Serialize};

/// A namespace of the pod's own, or the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// The pod has its own.
    #[default]
    Pod,
    /// The host's.
    Node,
}

/// The default PID namespace of a pod's containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPid {
    /// One for all containers, with a reaper of ours as PID 1.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The host's.
    Node,
}

/// The namespaces of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNamespaces {
    /// Network.
    pub network: Sharing,
    /// System V IPC, message queues and /dev/shm.
    pub ipc: Sharing,
    /// Processes.
    pub pid: PodPid,
}

/// The PID namespace of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPid {
    /// The pod's shared one.
    Pod,
    /// Its own.
    #[default]
    Container,
    /// The host's.
    Node,
    /// That of another container of the same pod (id or unique prefix as the client gave it).
    Target(String),
    /// That of another container of the same pod, found.
    Of(ContainerId),
}
