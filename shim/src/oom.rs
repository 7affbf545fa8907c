//! What the kernel did to the container for lack of memory.

use crate::engine::Running;
use crate::{chain, note};

/// How many of the container's processes the kernel has killed. Counted by the cgroup, so it can be asked after the end.
pub(crate) fn kills(running: &Running) -> u64 {
    match running.cgroup().memory_events() {
        Ok(events) => events.kills,
        Err(error) => {
            note(&format!("failed to read memory events: {}", chain(&error)));
            0
        }
    }
}
