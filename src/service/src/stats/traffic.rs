//! What a pod as such uses: its network interfaces, and its parent cgroup if that is its own.

use super::usage::{self, Usage};
use crate::cgroups::Cgroups;
use crate::clock::Clock;
use crate::pod::Pod;
use cringle_domain::id::PodId;
use cringle_domain::namespaces::Sharing;
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::time::Timestamp;
use cringle_kernel::error::Result as KernelResult;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::traffic::{self, Interface};
use cringle_store::layout::Layout;
use std::os::fd::AsFd;

/// What went through the interfaces of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// When this was read.
    pub at: Timestamp,
    /// The interfaces, loopback left out.
    pub interfaces: Vec<Interface>,
}

/// A last reading of a pod.
#[derive(Debug)]
pub(crate) struct PodReading {
    /// None if its parent cgroup is not its own, or is gone.
    pub(super) usage: Option<Usage>,
    /// None with the host's network.
    pub(crate) traffic: Option<Traffic>,
}

/// Reads a pod anew, if it is ready. This leaves the calling thread in the pod's network namespace.
pub(super) fn read(cgroups: &Cgroups, layout: &Layout, clock: Clock, pod: &Pod) {
    let record = pod.record();
    pod.reading.read(|last| {
        if !matches!(record.phase, PodPhase::Ready { .. }) {
            return None;
        }
        let parent = own_parent(&record).and_then(|parent| cgroups.at(parent));
        let before = last.and_then(|last| last.usage.as_ref());
        Some(PodReading {
            usage: parent.and_then(|parent| usage::of(&parent, clock, before)),
            traffic: traffic_of(layout, clock, &record),
        })
    });
}

/// The parent cgroup, if the client gave one that bears the pod's uid: the kubelet makes one for each pod and names it so.
fn own_parent(record: &PodRecord) -> Option<&str> {
    let parent = record.spec.cgroup_parent.as_deref()?;
    let name = parent.trim_end_matches('/').rsplit('/').next()?;
    let uid = &record.spec.metadata.uid;
    // As a slice of systemd it has no dashes.
    let is_own = !uid.is_empty() && (name.contains(uid) || name.contains(&uid.replace('-', "_")));
    is_own.then_some(parent)
}

fn traffic_of(layout: &Layout, clock: Clock, record: &PodRecord) -> Option<Traffic> {
    match record.spec.namespaces.network {
        Sharing::Node => return None,
        Sharing::Pod => {}
    }
    match interfaces(layout, &record.id) {
        Ok(interfaces) => Some(Traffic { at: clock.now(), interfaces }),
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::warn!(pod = %record.id, error, "traffic not read");
            None
        }
    }
}

fn interfaces(layout: &Layout, pod: &PodId) -> KernelResult<Vec<Interface>> {
    let namespace = namespace::open(&layout.netns(pod), Namespaces::NETWORK)?;
    namespace::join(namespace.as_fd(), Namespaces::NETWORK)?;
    traffic::interfaces()
}
