//! One network of one pod: what CNI was or will be told, exactly, so that DEL sees what ADD saw.
//!
//! Whether DEL is owed is not said here but by the pod's journal of holds: from the moment the hold is noted, before ADD.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was or will be attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Name of the network.
    pub network: String,
    /// The configuration list, byte for byte as ADD got it.
    pub configuration: String,
    /// Name of the interface in the pod.
    pub interface: String,
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// The id that plugins are told (the pod's).
    pub container_id: String,
    /// `CNI_ARGS` as pairs, in order.
    pub arguments: Vec<(String, String)>,
    /// Capability arguments as one JSON object.
    pub capabilities: String,
}
