//! What a worker gives up before it reads the first foreign byte.
//!
//! Namespaces of its own (no network, no way to other processes' mounts), a root that is the layer's directory, Landlock on
//! top where the kernel has it, and of its capabilities only those that files of any owner and mode need. What it keeps
//! is its three descriptors.

use super::report::UnpackError;
use cringle_kernel::namespace::{self, Namespaces};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Enough for the stream and the layer, and to remove a tree as deep as layers may be.
const OPEN_FILES: u64 = 2048;
/// A zstd window of 128 MiB, the pieces in flight and notes on five million entries fit.
const ADDRESS_SPACE: u64 = 2 << 30;
/// No layer takes that long; a worker that spins ends.
const PROCESSOR_SECONDS: u64 = 4 * 3600;

/// Locks the process in and returns the layer's directory, which is its whole world then.
pub(super) fn enter(directory: &OwnedFd) -> Result<OwnedFd, UnpackError> {
    limit_resources()?;
    // Modes are exactly those of the archive.
    rustix::process::umask(Mode::empty());
    let kinds =
        Namespaces::MOUNT.with(Namespaces::NETWORK).with(Namespaces::IPC).with(Namespaces::UTS);
    namespace::unshare(kinds)
        .map_err(|error| UnpackError::Jail("leave the host's namespaces", error.source))?;
    rustix::process::fchdir(directory).map_err(jail("enter the layer directory"))?;
    rustix::process::chroot(".").map_err(jail("make the layer directory the root"))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(directory, ".", flags, Mode::empty())
        .map_err(jail("open the layer directory"))?;
    confine_to(&root).map_err(|error| {
        UnpackError::Jail("confine the process", io::Error::other(error.to_string()))
    })?;
    drop_capabilities()?;
    Ok(root)
}

fn limit_resources() -> Result<(), UnpackError> {
    for (resource, limit) in [
        (Resource::Nofile, OPEN_FILES),
        (Resource::As, ADDRESS_SPACE),
        (Resource::Cpu, PROCESSOR_SECONDS),
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

/// Landlock: only below the layer's directory, no TCP at all. On a kernel without it the root and the namespaces must do.
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
    let keep = CapabilitySet::CHOWN
        | CapabilitySet::FOWNER
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::SETFCAP
        | CapabilitySet::MKNOD;
    let own = rustix::thread::capabilities(None).map_err(jail("read own capabilities"))?;
    let kept = own.permitted & keep;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
    .map_err(jail("drop capabilities"))
}

fn jail<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> UnpackError {
    move |error| UnpackError::Jail(action, error.into())
}
