//! What the service needs to know that is not in a request.

use crate::cdi::CdiFiles;
use crate::checkpoint::CheckpointSettings;
use cringle_domain::planner::PlanSettings;
use cringle_nri::NriSettings;
use cringle_store::layout::Layout;
use std::path::PathBuf;

/// Settings of the use cases.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where everything lies.
    pub layout: Layout,
    /// The shim program.
    pub shim: PathBuf,
    /// What becomes of a container's writes at a power cut.
    pub writes: Writes,
    /// Where vendors describe their devices.
    pub cdi: CdiFiles,
    /// Where plugins are, and how long they may take.
    pub nri: NriSettings,
    /// What may be done with checkpoints, and by what.
    pub checkpoint: CheckpointSettings,
    /// What the planner needs.
    pub plan: PlanSettings,
}

/// How a container's writable layer is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writes {
    /// Overlay with `volatile`: never synced; after a power cut the container is made anew.
    #[default]
    Volatile,
    /// Overlay as it is: sync calls in the container reach the disk.
    Synced,
}
