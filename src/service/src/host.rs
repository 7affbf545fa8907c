//! What the service knows of the host, read once at the start.

use crate::ServiceError;
use crate::cgroups::Cgroups;
use cringle_domain::planner::{CgroupLayout, HostFacts};
use cringle_domain::security::CapabilitySet;
use cringle_kernel::features::Features;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OWN_SCORE: &str = "/proc/self/oom_score_adj";

/// Facts of this boot.
#[derive(Debug)]
pub(crate) struct Host {
    /// The boot's id: what was taken in another boot is void.
    pub(crate) boot: String,
    /// What the planner has to know.
    pub(crate) facts: HostFacts,
    /// What the kernel can do.
    pub(crate) features: Features,
    /// The cgroup hierarchies.
    pub(crate) cgroups: Cgroups,
}

impl Host {
    pub(crate) fn probe() -> Result<Self, ServiceError> {
        let boot = read(BOOT_ID)?;
        let cgroups = Cgroups::probe()?;
        let bounding = cringle_kernel::capability::bounding()
            .map_err(|source| ServiceError::kernel("read our own capabilities", source))?;
        let facts = HostFacts {
            capabilities: CapabilitySet::from_bits(bounding.bits()),
            // A value that is no number would be the kernel's bug; 0 is what everybody starts with.
            oom_score_adjustment: read(OWN_SCORE)?.parse().unwrap_or(0),
            cgroups: if cgroups.is_unified() {
                CgroupLayout::Unified
            } else {
                CgroupLayout::Legacy
            },
        };
        let features = Features::probe()
            .map_err(|source| ServiceError::kernel("ask what the kernel can do", source))?;
        Ok(Self { boot, facts, features, cgroups })
    }

    /// Bytes for a new identity.
    pub(crate) fn random_bytes(&self) -> Result<[u8; 32], ServiceError> {
        let mut bytes = [0; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| ServiceError::file("read", "/dev/urandom", errno.into()))?;
        Ok(bytes)
    }
}

fn read(path: &'static str) -> Result<String, ServiceError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ServiceError::file("read", path, source))?;
    Ok(text.trim().to_owned())
}
