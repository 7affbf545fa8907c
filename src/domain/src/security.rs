//! Users, groups, capabilities and profiles, as asked for.

mod capability;
pub mod user;

use crate::namespaces::{ContainerPid, PodUsers};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub use capability::{CapabilityList, CapabilitySet, MalformedCapability};

/// Whether something is privileged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privilege {
    /// It is not.
    #[default]
    Ordinary,
    /// It has all of the daemon's capabilities, all devices, and no profiles.
    Privileged,
}

/// The user that a request names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserRequest {
    /// The image's user.
    #[default]
    Image,
    /// This number.
    Id(u32),
    /// This name in the image's /etc/passwd.
    Name(String),
}

/// How the image's groups are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Groups of the image's /etc/group are added.
    #[default]
    Merge,
    /// Only the primary group and the groups asked for.
    Strict,
}

/// Which seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The client said nothing: the daemon's setting decides.
    #[default]
    Unset,
    /// None.
    Unconfined,
    /// The built-in one.
    RuntimeDefault,
    /// The file of that absolute path.
    Localhost(PathBuf),
}

/// Security context of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSecurity {
    /// Whether privileged containers are allowed in it.
    pub privilege: Privilege,
    /// For the pod's own process, if it has one.
    pub seccomp: Seccomp,
}

/// Capabilities to add and to drop, against the daemon's default set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRequest {
    /// Added to the effective, permitted and bounding sets.
    pub add: CapabilityList,
    /// Dropped from all sets.
    pub drop: CapabilityList,
    /// Added to all sets.
    pub add_ambient: CapabilityList,
}

impl CapabilityRequest {
    /// The request with the names as the client wrote them (with or without `CAP_`, `ALL` for all).
    ///
    /// # Errors
    /// Invalid, naming the list, when a name is no capability.
    pub fn from_names(
        add: &[String],
        drop: &[String],
        add_ambient: &[String],
    ) -> Result<Self, Refusal> {
        let list = |field: &str, names: &[String]| {
            CapabilityList::from_names(names).map_err(|error| {
                Refusal::invalid(
                    format!("linux.security_context.capabilities.{field}"),
                    error.to_string(),
                )
            })
        };
        Ok(Self {
            add: list("add_capabilities", add)?,
            drop: list("drop_capabilities", drop)?,
            add_ambient: list("add_ambient_capabilities", add_ambient)?,
        })
    }
}

/// Security context of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSecurity {
    /// Privileged or not.
    pub privilege: Privilege,
    /// Capabilities.
    pub capabilities: CapabilityRequest,
    /// PID namespace.
    pub pid: ContainerPid,
    /// Whose users it expects, which can only be its pod's; absent: those.
    #[serde(default)]
    pub users: Option<PodUsers>,
    /// User.
    pub user: UserRequest,
    /// Primary group; only together with a user.
    pub group: Option<u32>,
    /// Supplementary groups.
    pub supplemental_groups: Vec<u32>,
    /// What becomes of the image's groups.
    pub groups_policy: GroupsPolicy,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Whether set-uid programs gain nothing (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// Paths hidden from the container.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// Seccomp profile.
    pub seccomp: Seccomp,
}
