//! What pods and containers use.
//!
//! Every answer is put together from last readings. A request first has what it asks about read anew, in rounds
//! ([`rounds`]): requests that come at the same time share one reading, and an object whose reading hangs keeps its last
//! one and holds up nobody. Nothing of this is on a thread that serves requests.
//!
//! - [`Usage`] ([`usage`]): CPU, memory and pressure, from the cgroup, by plain reads.
//! - [`Traffic`] ([`traffic`]): the network interfaces of a pod, seen from inside its namespace: whatever plugin made them,
//!   and whatever they lead to.
//! - [`LayerUsage`] ([`layers`]): what a container wrote. To know it, each file must be looked at: that goes on in the
//!   background, whether anybody asks or not.
//!
//! A pod's own numbers are those of its parent cgroup if that is the pod's alone, as the kubelet's are; they count ended
//! containers too. Else they are the sums of its running containers, and fall when one ends.

mod gauge;
mod layers;
mod list;
mod rounds;
mod traffic;
mod usage;

pub use layers::{FileSystem, LayerUsage};
pub use list::{ContainerStats, PodStats};
pub(crate) use traffic::PodReading;
pub use traffic::Traffic;
pub use usage::Usage;

pub use cringle_kernel::cgroup::{MemoryUsage, Pressure, Waiting};
pub use cringle_kernel::traffic::Interface;

pub(crate) use gauge::Gauge;
pub(crate) use layers::Layers;
pub(crate) use rounds::Rounds;

use crate::clock::Clock;
use crate::container::Container;
use crate::host::Host;
use crate::pod::Pod;
use cringle_store::layout::Layout;
use std::sync::Arc;

/// Who reads what.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) containers: Arc<Rounds<Container>>,
    pub(crate) pods: Arc<Rounds<Pod>>,
    pub(crate) layers: Layers,
}

impl Stats {
    pub(crate) fn new(host: &Host, layout: &Layout, clock: Clock) -> Self {
        let cgroups = host.cgroups.clone();
        let containers = move |container: &Container| usage::read(&cgroups, clock, container);
        let (cgroups, layout) = (host.cgroups.clone(), layout.clone());
        let pods = move |pod: &Pod| traffic::read(&cgroups, &layout, clock, pod);
        Self {
            containers: Rounds::new("container usage", containers),
            pods: Rounds::new("pod usage", pods),
            layers: Layers::default(),
        }
    }
}
