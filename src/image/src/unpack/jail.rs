//! What a worker gives up before it reads the first foreign byte.
//!
//! ```text
//! limits -> the layer's directory as the root, on a mount without devices -> namespaces of its own -> Landlock
//!        -> only those capabilities that files of any owner and mode need -> only those system calls that unpacking makes
//! ```
//!
//! What it keeps is its three descriptors. The last step is each thread's own, so that the second one can be started.

mod calls;

use super::report::UnpackError;
use crate::settings::LayerLimits;
use cringle_kernel::capability::{self, Capability, CapabilitySet, CapabilitySets};
use cringle_kernel::mount::{self, Attributes, Change, Depth};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::seccomp::{self, Filter};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Enough for the stream and the layer, and to remove a tree as deep as layers may be.
const OPEN_FILES: u64 = 2048;
/// A zstd window of 128 MiB, the pieces in flight and notes on five million entries fit.
const ADDRESS_SPACE: u64 = 2 << 30;
/// No layer takes that long; a worker that spins ends.
const PROCESSOR_SECONDS: u64 = 4 * 3600;

/// The last door of the jail; each thread closes it behind itself.
#[derive(Debug, Clone)]
pub(super) struct Seal(Filter);

/// Limits what the process may take.
pub(super) fn limit_resources(limits: &LayerLimits) -> Result<(), UnpackError> {
    for (resource, limit) in [
        (Resource::Nofile, OPEN_FILES),
        (Resource::As, ADDRESS_SPACE),
        (Resource::Cpu, PROCESSOR_SECONDS),
        (Resource::Fsize, limits.bytes),
        (Resource::Memlock, 0),
        (Resource::Core, 0),
    ] {
        // Never above what we were given: raising a limit takes a privilege that may be missing.
        let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Some(limit.min(allowed));
        rustix::process::setrlimit(resource, Rlimit { current: limit, maximum: limit })
            .map_err(jail("limit resources"))?;
    }
    Ok(())
}

/// Locks the calling thread and those it will start in, and returns the layer's directory, which is their whole world then.
pub(super) fn enter(directory: &OwnedFd) -> Result<OwnedFd, UnpackError> {
    let directory = without_devices(directory)?;
    rustix::process::fchdir(&directory).map_err(jail("enter the layer directory"))?;
    rustix::process::chroot(".").map_err(jail("make the layer directory the root"))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&directory, ".", flags, Mode::empty())
        .map_err(jail("open the layer directory"))?;
    confine_to(&root).map_err(|error| {
        UnpackError::Jail("confine the process", io::Error::other(error.to_string()))
    })?;
    drop_capabilities()?;
    Ok(root)
}

impl Seal {
    /// Prepares it.
    pub(super) fn new() -> Result<Self, UnpackError> {
        let compiled = seccomp::compile(&calls::profile()).map_err(|error| {
            UnpackError::Jail("compile the filter of system calls", io::Error::other(error))
        })?;
        Ok(Self(compiled.filter))
    }

    /// Leaves the calling thread no other system calls than those that unpacking makes.
    pub(super) fn close(&self) -> io::Result<()> {
        Ok(self.0.load()?)
    }
}

/// The layer's directory on a mount of its own, attached nowhere: the layer may have device nodes, but nobody here opens them.
/// The worker's namespaces begin after it is made, because a mount can only be cloned from one's own.
fn without_devices(directory: &OwnedFd) -> Result<OwnedFd, UnpackError> {
    let own = mount::clone_descriptor(directory, Depth::One)
        .map_err(|error| UnpackError::Jail("clone the layer's mount", error.source))?;
    let set = Attributes::NO_DEVICES
        .with(Attributes::NO_EXECUTE)
        .with(Attributes::NO_SET_ID)
        .with(Attributes::NO_ACCESS_TIME);
    let change = Change { set, clear: Attributes::ACCESS_TIME, propagation: None };
    mount::change(&own, &change, Depth::One)
        .map_err(|error| UnpackError::Jail("restrict the layer's mount", error.source))?;
    let kinds =
        Namespaces::MOUNT.with(Namespaces::NETWORK).with(Namespaces::IPC).with(Namespaces::UTS);
    namespace::unshare(kinds)
        .map_err(|error| UnpackError::Jail("leave the host's namespaces", error.source))?;
    // Modes are exactly those of the archive.
    rustix::process::umask(Mode::empty());
    Ok(own)
}

/// Landlock: only below the layer's directory, no TCP at all, no signals to others. On a kernel without it the rest must do.
fn confine_to(directory: impl AsFd) -> Result<(), RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(directory, AccessFs::from_all(abi) & !AccessFs::Execute))?
        .restrict_self()?;
    Ok(())
}

fn drop_capabilities() -> Result<(), UnpackError> {
    rustix::thread::set_no_new_privs(true).map_err(jail("renounce new privileges"))?;
    let keep: CapabilitySet = [
        Capability::Chown,
        Capability::Fowner,
        Capability::DacOverride,
        Capability::Fsetid,
        Capability::Setfcap,
        Capability::Mknod,
    ]
    .into_iter()
    .collect();
    let own = capability::current()
        .map_err(|error| UnpackError::Jail("read own capabilities", error.source))?;
    let kept = own.permitted.and(keep);
    if own.permitted.contains(Capability::Setpcap) {
        capability::drop_bounding(kept).map_err(jail("drop the bounding set"))?;
    }
    let sets = CapabilitySets {
        bounding: kept,
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::EMPTY,
        ambient: CapabilitySet::EMPTY,
    };
    sets.after_identity_change().map_err(jail("drop capabilities"))
}

fn jail<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> UnpackError {
    move |error| UnpackError::Jail(action, error.into())
}

#[cfg(test)]
mod tests;
