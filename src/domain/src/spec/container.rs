//! What a client asks of a container (ContainerConfig).

use crate::cdi::DeviceName;
use crate::mounts::{DeviceRequest, MountRequest};
use crate::process::Signal;
use crate::resources::Resources;
use crate::security::ContainerSecurity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kubelet's name for a container: unique within its pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Name of the container.
    pub name: String,
    /// How often it was made anew.
    pub attempt: u32,
}

/// The image as the client named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Id, digest, or name; never empty.
    pub reference: String,
    /// What the user wrote; empty: the same as `reference`.
    pub user_specified: String,
    /// Annotations of the image request, echoed.
    pub annotations: BTreeMap<String, String>,
    /// Runtime handler to pull for; empty: the default one.
    pub runtime_handler: String,
}

/// What the container's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// `/dev/null`.
    Closed,
    /// A pipe that stays open.
    Open,
    /// A pipe that is closed when the first attached client leaves.
    Once,
}

/// Whether the container has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminal {
    /// It has pipes.
    Absent,
    /// It has a pseudo-terminal.
    Present,
}

/// A container as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name in its pod.
    pub metadata: ContainerMetadata,
    /// Its image.
    pub image: ImageRequest,
    /// Replaces the image's entry point and command; empty: the image's.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Working directory; empty: the image's, else `/`.
    pub working_dir: String,
    /// Environment in the request's order; values are bytes.
    pub environment: Vec<(String, Vec<u8>)>,
    /// Mounts in the request's order.
    pub mounts: Vec<MountRequest>,
    /// Devices of the host.
    pub devices: Vec<DeviceRequest>,
    /// Devices that files of vendors describe, by field and by annotation, each once.
    #[serde(default)]
    pub cdi_devices: Vec<DeviceName>,
    /// Echoed unchanged.
    pub labels: BTreeMap<String, String>,
    /// Echoed unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the pod's log directory; empty: no log.
    pub log_path: String,
    /// Standard input.
    pub input: Input,
    /// Terminal.
    pub terminal: Terminal,
    /// Signal that stops it; absent: the image's, else SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Limits.
    pub resources: Resources,
    /// Security context, its PID namespace included.
    pub security: ContainerSecurity,
}
