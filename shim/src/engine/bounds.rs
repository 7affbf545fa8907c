//! What binds every process of a container alike: its system call filter, its personality, its user namespace, the nodes that
//! its memory is on.
//!
//! It is decided once, with the container. An exec needs no more of the specification than this, so the specification
//! itself, many times larger, is not kept.

use std::sync::Arc;

use cringle_kernel::seccomp::Filter;
use oci_spec::runtime::{Linux, LinuxPersonalityDomain, Spec};

use super::error::Result;
use super::namespaces::UserPlan;
use super::priority::MemoryPolicy;
use super::{namespaces, seccomp};

/// The bounds of a container's processes.
#[derive(Debug)]
pub(super) struct Bounds {
    /// The filter of their system calls, if there is one.
    pub filter: Option<Filter>,
    /// The personality, if one was asked for.
    pub personality: Option<u32>,
    /// The user namespace, if it has one.
    pub users: Option<UserPlan>,
    /// Where its memory is, if that was asked for.
    pub memory: Option<MemoryPolicy>,
}

/// `PER_LINUX32` of `linux/personality.h`.
const LINUX_32: u32 = 8;

impl Bounds {
    /// The bounds that a specification sets.
    ///
    /// # Errors
    /// A filter that makes no sense or is not supported.
    pub(super) fn of(spec: &Spec) -> Result<Arc<Self>> {
        let linux = spec.linux().as_ref();
        let filter = linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::compile);
        Ok(Arc::new(Self {
            filter: filter.transpose()?,
            personality: linux.and_then(personality),
            users: linux.map(namespaces::users).transpose()?.flatten(),
            memory: linux.map(MemoryPolicy::of).transpose()?.flatten(),
        }))
    }
}

fn personality(linux: &Linux) -> Option<u32> {
    linux.personality().as_ref().map(|asked| match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => LINUX_32,
    })
}
