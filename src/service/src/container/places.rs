//! What the planner needs besides the request: where the pod's things are, and the devices that the request means.

use super::account;
use super::image_volumes::ImageVolumes;
use crate::{Service, ServiceError};
use cringle_domain::container::Origin;
use cringle_domain::id::ContainerId;
use cringle_domain::image::Image;
use cringle_domain::namespaces::{ContainerPid, Sharing};
use cringle_domain::plan::{ContainerPlan, DeviceKind};
use cringle_domain::planner::{self, Accounts, ContainerInput, HostDevice, Places};
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::security::Privilege;
use cringle_domain::spec::ContainerSpec;
use cringle_kernel::device;
use std::path::PathBuf;

/// What is being made, of what, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) pod: &'a PodRecord,
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) image: &'a Image,
    pub(crate) volumes: &'a ImageVolumes,
    pub(crate) id: &'a ContainerId,
    pub(crate) origin: Origin,
}

impl Service {
    /// Plans a container.
    pub(super) fn plan_container(
        &self,
        subject: Subject<'_>,
    ) -> Result<ContainerPlan, ServiceError> {
        let Subject { pod, spec, image, .. } = subject;
        let files = account::read(&self.images.lower_directories(&image.record))?;
        let privileged = spec.security.privilege == Privilege::Privileged;
        let host_devices = if privileged { all_devices()? } else { Vec::new() };
        let requested = spec.devices.iter().map(|request| devices_at(&request.host_path));
        let requested_devices = requested.collect::<Result<Vec<_>, ServiceError>>()?;
        let places = self.places(subject)?;
        let input = ContainerInput {
            pod: &pod.spec,
            spec,
            image: &image.record.config,
            accounts: Accounts { passwd: files.passwd.as_deref(), group: files.group.as_deref() },
            facts: &self.host.facts,
            settings: &self.settings.plan,
            places: &places,
            requested_devices: &requested_devices,
            image_volumes: &subject.volumes.layers,
            host_devices: &host_devices,
        };
        Ok(planner::plan_container(&input)?)
    }

    fn places(&self, subject: Subject<'_>) -> Result<Places, ServiceError> {
        let Subject { pod, spec, id, .. } = subject;
        let directory = self.layout.pod_directory(&pod.id);
        let own_network = pod.spec.namespaces.network == Sharing::Pod;
        let own_ipc = pod.spec.namespaces.ipc == Sharing::Pod;
        Ok(Places {
            network: own_network.then(|| self.layout.netns(&pod.id)),
            ipc: own_ipc.then(|| directory.join("ipc")),
            uts: own_network.then(|| directory.join("uts")),
            users: pod.spec.namespaces.users.mapping().map(|_| directory.join("user")),
            pid: self.pid_namespace(pod, spec)?,
            hostname: pod.plan.hostname.clone(),
            hostname_file: directory.join("hostname"),
            resolv_conf: directory.join("resolv.conf"),
            hosts: directory.join("hosts"),
            shared_memory: if own_ipc { directory.join("shm") } else { "/dev/shm".into() },
            cgroup: self.cgroup_of(pod, id.as_str()),
            volumes: self.layout.container_volumes(id),
        })
    }

    /// The PID namespace to join: that of the pod's reaper, or of the container that is asked for.
    fn pid_namespace(
        &self,
        pod: &PodRecord,
        spec: &ContainerSpec,
    ) -> Result<Option<PathBuf>, ServiceError> {
        let pid = match &spec.security.pid {
            ContainerPid::Pod => match &pod.phase {
                PodPhase::Ready { reaper: Some(reaper), .. } => reaper.pid,
                PodPhase::Ready { reaper: None, .. }
                | PodPhase::Creating
                | PodPhase::NotReady { .. }
                | PodPhase::Removing => {
                    let field = "linux.security_context.namespace_options.pid";
                    let problem = "POD, but the pod was made without a PID namespace of its own";
                    return Err(Refusal::invalid(field, problem).into());
                }
            },
            ContainerPid::Of(target) => {
                super::require_running(&self.containers.find(target.as_str())?.record())?
            }
            ContainerPid::Container | ContainerPid::Node | ContainerPid::Target(_) => {
                return Ok(None);
            }
        };
        Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))))
    }
}

fn all_devices() -> Result<Vec<HostDevice>, ServiceError> {
    let found =
        device::all().map_err(|source| ServiceError::kernel("list the host's devices", source))?;
    Ok(found.into_iter().map(described).collect())
}

fn devices_at(path: &std::path::Path) -> Result<Vec<HostDevice>, ServiceError> {
    let found = device::at(path).map_err(|error| {
        let problem = format!("device \"{}\": {}", path.display(), crate::error::chain(&error));
        Refusal::invalid("devices.host_path", problem)
    })?;
    Ok(found.into_iter().map(described).collect())
}

fn described(found: device::Device) -> HostDevice {
    HostDevice {
        path: found.path,
        kind: match found.kind {
            device::Kind::Character => DeviceKind::Character,
            device::Kind::Block => DeviceKind::Block,
        },
        major: found.major,
        minor: found.minor,
        mode: found.mode,
        user: found.user,
        group: found.group,
    }
}
