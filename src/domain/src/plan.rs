//! Everything decided: a plan leaves no choice to whoever carries it out.
//!
//! A plan is data without descriptors or handles, so that it can be recorded, compared and tested. Paths are the host's
//! where they name a source, and the container's where they name a target.

mod environment;

use crate::mounts::{Access, Propagation, Restrictions};
use crate::namespaces::IdMapping;
use crate::process::Signal;
use crate::resources::Resources;
use crate::security::CapabilitySet;
use crate::spec::Terminal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use environment::Environment;

/// A pod, decided. Its hosts file is not here: it names addresses that only the network knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlan {
    /// Host name of the pod, in its UTS namespace and in `$HOSTNAME`.
    pub hostname: String,
    /// Content of /etc/resolv.conf.
    pub resolv_conf: String,
    /// Sysctls to write in the pod's namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Parent of the containers' cgroups.
    pub cgroup_parent: String,
}

/// A container, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its first process.
    pub process: ProcessPlan,
    /// Whether the root file system may be written.
    pub rootfs: Access,
    /// Propagation of the root, the widest that a mount of the client asks for.
    pub rootfs_propagation: Propagation,
    /// Its namespaces; mount and cgroup namespaces are always its own.
    pub namespaces: PlannedNamespaces,
    /// Mounts in the order to make them.
    pub mounts: Vec<PlannedMount>,
    /// Device nodes beside the six that every container has.
    pub devices: Vec<PlannedDevice>,
    /// What devices may be used beside those that every container has; whatever no rule allows is denied.
    pub device_rules: Vec<DeviceRule>,
    /// Paths hidden; missing ones are passed over.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only; missing ones are passed over.
    pub readonly_paths: Vec<PathBuf>,
    /// Seccomp profile.
    pub seccomp: PlannedSeccomp,
    /// Limits.
    pub resources: Resources,
    /// Its cgroup, absolute within each hierarchy.
    pub cgroup: String,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// Directories to make before the start, because a mount above has one for its source.
    pub volumes: Vec<VolumeDirectory>,
}

/// A process, decided: the first of a container, or a later one in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Program and arguments, at least one.
    pub args: Vec<String>,
    /// Environment.
    pub environment: Environment,
    /// Working directory, absolute and clean; made if missing.
    pub working_directory: PathBuf,
    /// User and groups.
    pub identity: Identity,
    /// Capability sets.
    pub capabilities: PlannedCapabilities,
    /// Resource limits (getrlimit(2)).
    pub rlimits: Vec<ResourceLimit>,
    /// Whether set-uid programs gain nothing.
    pub no_new_privileges: bool,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adjustment: i16,
    /// Terminal or pipes.
    pub terminal: Terminal,
}

/// User and groups of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Primary group.
    pub group: u32,
    /// Supplementary groups in ascending order, the primary one among them.
    pub groups: Vec<u32>,
}

/// The five sets (capabilities(7)), each no wider than the daemon's own bounding set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCapabilities {
    /// What can be gained at all.
    pub bounding: CapabilitySet,
    /// What counts now; execve(2) clears it for users other than root unless it is ambient.
    pub effective: CapabilitySet,
    /// What may be made effective.
    pub permitted: CapabilitySet,
    /// Kept across execve for files that ask; empty but for ambient ones.
    pub inheritable: CapabilitySet,
    /// Kept across execve by users other than root.
    pub ambient: CapabilitySet,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Which: `NOFILE`, without `RLIMIT_`.
    pub name: String,
    /// The limit that counts.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// Namespaces that may be somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNamespaces {
    /// Network.
    pub network: NamespaceChoice,
    /// System V IPC and message queues.
    pub ipc: NamespaceChoice,
    /// Host name.
    pub uts: NamespaceChoice,
    /// Processes.
    pub pid: NamespaceChoice,
    /// Users and groups, if not the host's.
    pub users: Option<PlannedUsers>,
}

/// A user namespace that the container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedUsers {
    /// The file that it is behind.
    pub namespace: PathBuf,
    /// What it maps.
    pub mapping: IdMapping,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceChoice {
    /// Made for the container.
    New,
    /// The one behind this file.
    Join(PathBuf),
    /// The host's.
    Host,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMount {
    /// Where, in the container; resolved inside its root, and made if missing.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
    /// How it may be written.
    pub access: Access,
    /// Propagation.
    pub propagation: Propagation,
    /// What files in it cannot do.
    pub restrictions: Restrictions,
    /// Which ids it shows instead of those that files have; absent: theirs.
    pub mapping: Option<IdMapping>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host with all that is mounted below it.
    Tree(PathBuf),
    /// A path of the host alone.
    Path(PathBuf),
    /// A procfs of the container's PID namespace.
    Proc,
    /// A sysfs of the container's network namespace.
    Sysfs,
    /// The container's own view of its cgroups.
    Cgroup,
    /// The tmpfs for device nodes.
    Dev,
    /// Pseudo-terminals of its own.
    Devpts,
    /// POSIX message queues of its IPC namespace.
    Mqueue,
    /// An image, never to be written.
    Image {
        /// Its layers, at least two, the topmost first.
        layers: Vec<PathBuf>,
        /// The part of it that is meant; empty: all.
        sub_path: PathBuf,
    },
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// Path in the container.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
}

/// One rule that allows devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Which kind; absent: both.
    pub kind: Option<DeviceKind>,
    /// Major number; absent: any.
    pub major: Option<u32>,
    /// Minor number; absent: any.
    pub minor: Option<u32>,
    /// A subset of `rwm`, in that order.
    pub access: String,
}

/// Seccomp profile, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedSeccomp {
    /// None.
    Unconfined,
    /// The built-in one for the bounding set of the container.
    RuntimeDefault,
    /// The file of that absolute path; no file, no container.
    Localhost(PathBuf),
}

/// A directory of the host that backs a volume of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDirectory {
    /// The directory, mode 0755.
    pub directory: PathBuf,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
}
