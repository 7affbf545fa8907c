//! One network of one pod: what CNI was or will be told, exactly, so that DEL sees what ADD saw.
//!
//! ```text
//!  Planned --AddOrdered--> Adding --Added--> Attached --DeleteOrdered--> Deleting --> gone
//!                             \-------- DeleteOrdered ------------------->/
//! ```
//!
//! From Adding on, DEL is owed, also after a failed ADD.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
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
    /// Where it is.
    pub phase: AttachmentPhase,
}

/// The phases of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentPhase {
    /// Decided; nothing was executed.
    Planned,
    /// ADD was ordered; DEL is owed.
    Adding,
    /// ADD succeeded.
    Attached {
        /// The pod's addresses in this network.
        addresses: Vec<IpAddr>,
    },
    /// DEL was ordered and did not succeed yet.
    Deleting,
}
