//! From what was asked, the image, the host's facts and the settings to a plan that leaves no choice.
//!
//! Pure: the caller reads files and finds devices, and gives what it found. Each step refuses what it cannot honour; nothing
//! of a request is passed over in silence. The steps are independent of each other but for the identity, which the
//! environment (`$HOME`) and the volumes (their owner) need.
//!
//! ```text
//! request + image + accounts + facts + settings + places
//!    command, user, environment, security, resources, devices, mounts
//! plan
//! ```

pub mod files;

mod classes;
mod command;
mod devices;
mod environment;
mod mounts;
mod namespaces;
mod pod;
mod resources;
mod security;
mod user;

use crate::image::ImageConfig;
use crate::mounts::Access;
use crate::plan::{ContainerPlan, DeviceKind, ProcessPlan, ResourceLimit};
use crate::process::Signal;
use crate::refusal::Refusal;
use crate::security::{CapabilitySet, Privilege, Seccomp};
use crate::spec::{ContainerSpec, PodSpec};
use std::path::PathBuf;

pub use command::command_line;
pub use pod::{HostFiles, plan_pod};
pub use resources::plan as plan_limits;

/// What is known of the machine and of this daemon's own powers.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The daemon's bounding set: no container can have more.
    pub capabilities: CapabilitySet,
    /// The daemon's own `oom_score_adj`.
    pub oom_score_adjustment: i16,
    /// Where limits live.
    pub cgroups: CgroupLayout,
}

/// Which cgroup hierarchies hold the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupLayout {
    /// All in the v2 tree.
    Unified,
    /// Some or all in v1 hierarchies.
    Legacy,
}

/// What the operator decides for all containers.
#[derive(Debug, Clone)]
pub struct PlanSettings {
    /// Capabilities of a container that asks for none.
    pub default_capabilities: CapabilitySet,
    /// The profile of a container whose client names none.
    pub unset_seccomp: Seccomp,
    /// Limits of every process.
    pub rlimits: Vec<ResourceLimit>,
    /// Whether a pod with its own network lets every user bind ports below 1024.
    pub unprivileged_ports: bool,
    /// Whether a pod with its own network lets every user send ICMP echo requests.
    pub unprivileged_ping: bool,
    /// Parent of cgroups of pods that name none.
    pub cgroup_parent: String,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            default_capabilities: security::default_capabilities(),
            unset_seccomp: Seccomp::Unconfined,
            rlimits: vec![ResourceLimit { name: "NOFILE".to_owned(), soft: 1024, hard: 524_288 }],
            unprivileged_ports: true,
            unprivileged_ping: true,
            cgroup_parent: "/cringle".to_owned(),
        }
    }
}

/// Where the pod's and the container's things are on the host.
#[derive(Debug, Clone)]
pub struct Places {
    /// The pod's network namespace; absent: the pod uses the host's.
    pub network: Option<PathBuf>,
    /// The pod's IPC namespace; absent: the pod uses the host's.
    pub ipc: Option<PathBuf>,
    /// The pod's UTS namespace; absent: the pod uses the host's.
    pub uts: Option<PathBuf>,
    /// The pod's user namespace; absent: the pod uses the host's.
    pub users: Option<PathBuf>,
    /// The PID namespace to join: the pod's, or the target container's; absent: none.
    pub pid: Option<PathBuf>,
    /// The pod's host name, for `$HOSTNAME`.
    pub hostname: String,
    /// The pod's /etc/hostname.
    pub hostname_file: PathBuf,
    /// The pod's /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// The pod's /etc/hosts.
    pub hosts: PathBuf,
    /// The pod's /dev/shm: its tmpfs, or the host's directory.
    pub shared_memory: PathBuf,
    /// The container's cgroup, absolute within each hierarchy.
    pub cgroup: String,
    /// Where directories for the image's volumes may be made.
    pub volumes: PathBuf,
}

/// The image's account files; absent: the image has none. The caller caps their size.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'a> {
    /// Text of /etc/passwd.
    pub passwd: Option<&'a str>,
    /// Text of /etc/group.
    pub group: Option<&'a str>,
}

/// A device node that was found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Its path on the host.
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

/// Everything that a container's plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod as asked for.
    pub pod: &'a PodSpec,
    /// The container as asked for.
    pub spec: &'a ContainerSpec,
    /// What its image says.
    pub image: &'a ImageConfig,
    /// Accounts of the image.
    pub accounts: Accounts<'a>,
    /// The machine.
    pub facts: &'a HostFacts,
    /// The operator's choices.
    pub settings: &'a PlanSettings,
    /// Where things are.
    pub places: &'a Places,
    /// For each device asked for, in the same order: the node of that path, or all below it.
    pub requested_devices: &'a [Vec<HostDevice>],
    /// For each image asked for as a volume, in the order of the mounts: its layers, at least two, the topmost first.
    pub image_volumes: &'a [Vec<PathBuf>],
    /// All devices of the host; read for privileged containers only.
    pub host_devices: &'a [HostDevice],
}

/// Plans a container.
///
/// # Errors
/// A refusal that names the field, when the request contradicts itself, its pod or its image, or cannot be honoured here.
pub fn plan_container(input: &ContainerInput<'_>) -> Result<ContainerPlan, Refusal> {
    let ContainerInput { pod, spec, image, places, .. } = *input;
    let security = &spec.security;
    classes::refuse(pod, spec)?;
    if security.privilege == Privilege::Privileged && pod.security.privilege == Privilege::Ordinary
    {
        return Err(Refusal::invalid(
            "linux.security_context.privileged",
            "the pod is not privileged, so its containers cannot be",
        ));
    }
    let account = user::resolve(security, &image.user, &input.accounts)?;
    if let Some(mapping) = pod.namespaces.users.mapping() {
        user::require_mapped(&account.identity, mapping)?;
    }
    let process = ProcessPlan {
        args: command::args(spec, image)?,
        environment: environment::plan(spec, image, &places.hostname, &account.home)?,
        working_directory: command::working_directory(spec, image)?,
        capabilities: security::capabilities(security, input.settings, input.facts.capabilities),
        rlimits: input.settings.rlimits.clone(),
        no_new_privileges: security.no_new_privileges,
        oom_score_adjustment: resources::oom_score(&spec.resources, input.facts),
        terminal: spec.terminal,
        identity: account.identity,
    };
    let devices = devices::plan(input)?;
    let mounts = mounts::plan(input, &process.identity)?;
    let hidden = security::hidden_paths(security)?;
    Ok(ContainerPlan {
        rootfs: if security.readonly_rootfs { Access::ReadOnly } else { Access::ReadWrite },
        rootfs_propagation: mounts.propagation,
        namespaces: namespaces::plan(pod, spec, places)?,
        mounts: mounts.mounts,
        volumes: mounts.volumes,
        devices: devices.nodes,
        device_rules: devices.rules,
        masked_paths: hidden.masked,
        readonly_paths: hidden.readonly,
        seccomp: security::seccomp(security, input.settings)?,
        resources: resources::plan(&spec.resources, input.facts)?,
        cgroup: places.cgroup.clone(),
        stop_signal: stop_signal(spec, image)?,
        process,
    })
}

/// The request's signal, else the image's, else SIGTERM.
fn stop_signal(spec: &ContainerSpec, image: &ImageConfig) -> Result<Signal, Refusal> {
    if let Some(signal) = spec.stop_signal {
        return Ok(signal);
    }
    if image.stop_signal.is_empty() {
        return Ok(Signal::TERM);
    }
    Signal::parse(&image.stop_signal)
        .map_err(|error| Refusal::invalid("image.stop_signal", error.to_string()))
}

#[cfg(test)]
mod tests;
