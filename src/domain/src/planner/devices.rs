//! Device nodes and the rules that allow their use, beside those that every container has (null, zero, full, random, urandom,
//! tty, ptmx, and the pseudo-terminals), which are the engine's to give. Everything else is denied.

use super::{ContainerInput, HostDevice};
use crate::mounts::DeviceRequest;
use crate::plan::{DeviceRule, PlannedDevice};
use crate::refusal::Refusal;
use crate::security::Privilege;
use std::path::{Path, PathBuf};

/// Nodes that a container has its own of, so that a privileged one does not get the host's.
const OWN: [&str; 11] = [
    "/dev/console",
    "/dev/fd",
    "/dev/full",
    "/dev/mqueue",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/shm",
    "/dev/tty",
    "/dev/urandom",
];

/// Nodes and rules.
pub(super) struct Devices {
    pub(super) nodes: Vec<PlannedDevice>,
    pub(super) rules: Vec<DeviceRule>,
}

pub(super) fn plan(input: &ContainerInput<'_>) -> Result<Devices, Refusal> {
    let requests =
        input.spec.devices.iter().map(DeviceRequest::checked).collect::<Result<Vec<_>, _>>()?;
    let mut devices = match input.spec.security.privilege {
        Privilege::Privileged => {
            Devices { nodes: of_host(input.host_devices), rules: vec![anything()] }
        }
        Privilege::Ordinary => Devices { nodes: vec![], rules: vec![] },
    };
    for (index, request) in requests.iter().enumerate() {
        let found = input.requested_devices.get(index).map_or(&[][..], Vec::as_slice);
        if found.is_empty() {
            return Err(Refusal::invalid(
                "devices.host_path",
                format!("there is no device at {:?}", request.host_path),
            ));
        }
        for device in found {
            add(&mut devices, request, device, input.spec.security.privilege)?;
        }
    }
    Ok(devices)
}

/// Adds one node found for a request. What a privileged container has already at the same path stays.
fn add(
    devices: &mut Devices,
    request: &DeviceRequest,
    device: &HostDevice,
    privilege: Privilege,
) -> Result<(), Refusal> {
    let path = target(request, &device.path)?;
    if !path.starts_with("/dev") && path.starts_with("/proc") {
        return Err(Refusal::invalid(
            "devices.container_path",
            format!("{path:?} is inside procfs"),
        ));
    }
    if !devices.nodes.iter().any(|node| node.path == path) {
        devices.nodes.push(node(device, path));
    }
    if privilege == Privilege::Ordinary {
        devices.rules.push(DeviceRule {
            kind: Some(device.kind),
            major: Some(device.major),
            minor: Some(device.minor),
            access: request.permissions.clone(),
        });
    }
    Ok(())
}

/// The container's path of a node found at, or below, the path asked for.
fn target(request: &DeviceRequest, found: &Path) -> Result<PathBuf, Refusal> {
    match found.strip_prefix(&request.host_path) {
        Ok(rest) if rest.as_os_str().is_empty() => Ok(request.container_path.clone()),
        Ok(rest) => Ok(request.container_path.join(rest)),
        // A symbolic link of the host was followed: one node stands for the path asked for.
        Err(_) => Ok(request.container_path.clone()),
    }
}

fn of_host(found: &[HostDevice]) -> Vec<PlannedDevice> {
    found
        .iter()
        .filter(|device| device.path.starts_with("/dev"))
        .filter(|device| !OWN.iter().any(|own| device.path.starts_with(own)))
        .filter(|device| device.path != Path::new("/dev/zero"))
        .map(|device| node(device, device.path.clone()))
        .collect()
}

fn node(device: &HostDevice, path: PathBuf) -> PlannedDevice {
    PlannedDevice {
        path,
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        mode: device.mode & 0o777,
        user: device.user,
        group: device.group,
    }
}

fn anything() -> DeviceRule {
    DeviceRule { kind: None, major: None, minor: None, access: "rwm".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, container};
    use super::*;
    use crate::plan::DeviceKind;
    use crate::spec::ContainerSpec;

    fn found(path: &str, minor: u32) -> HostDevice {
        HostDevice {
            path: path.into(),
            kind: DeviceKind::Character,
            major: 10,
            minor,
            mode: 0o020_640,
            user: 0,
            group: 5,
        }
    }

    fn asking(host: &str, target: &str) -> ContainerSpec {
        let devices = vec![DeviceRequest {
            host_path: host.into(),
            container_path: target.into(),
            permissions: "mr".to_owned(),
        }];
        ContainerSpec { devices, ..container() }
    }

    #[test]
    fn an_ordinary_container_has_no_devices_but_the_standard_ones() {
        let devices = plan(&Case::default().input()).unwrap();
        assert!(devices.nodes.is_empty() && devices.rules.is_empty());
    }

    #[test]
    fn a_device_asked_for_comes_with_its_rule() {
        let case = Case {
            spec: asking("/dev/fuse", "/dev/f"),
            requested_devices: vec![vec![found("/dev/fuse", 229)]],
            ..Case::default()
        };
        let devices = plan(&case.input()).unwrap();
        assert_eq!(devices.nodes[0].path, PathBuf::from("/dev/f"));
        assert_eq!(devices.nodes[0].mode, 0o640);
        let rule = devices.rules.last().unwrap();
        assert_eq!((rule.major, rule.minor, rule.access.as_str()), (Some(10), Some(229), "rm"));
    }

    #[test]
    fn a_directory_stands_for_all_devices_below_it() {
        let case = Case {
            spec: asking("/dev/snd", "/dev/sound"),
            requested_devices: vec![vec![found("/dev/snd/a", 1), found("/dev/snd/by/b", 2)]],
            ..Case::default()
        };
        let paths: Vec<_> =
            plan(&case.input()).unwrap().nodes.into_iter().map(|node| node.path).collect();
        assert_eq!(paths, [PathBuf::from("/dev/sound/a"), PathBuf::from("/dev/sound/by/b")]);
    }

    #[test]
    fn a_link_followed_keeps_the_path_asked_for() {
        let case = Case {
            spec: asking("/dev/disk/by-id/x", "/dev/x"),
            requested_devices: vec![vec![found("/dev/vda", 0)]],
            ..Case::default()
        };
        assert_eq!(plan(&case.input()).unwrap().nodes[0].path, PathBuf::from("/dev/x"));
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        for requested_devices in [vec![], vec![vec![]]] {
            let case = Case {
                spec: asking("/dev/nope", "/dev/nope"),
                requested_devices,
                ..Case::default()
            };
            assert!(plan(&case.input()).is_err());
        }
    }

    #[test]
    fn a_privileged_container_has_the_hosts_devices_but_its_own_standard_ones() {
        let mut case = Case::privileged();
        case.spec.devices = asking("/dev/fuse", "/dev/fuse").devices;
        case.requested_devices = vec![vec![found("/dev/fuse", 229)]];
        case.host_devices = [
            "/dev/fuse",
            "/dev/null",
            "/dev/zero",
            "/dev/pts/3",
            "/dev/tty",
            "/dev/tty1",
            "/dev/console",
        ]
        .into_iter()
        .enumerate()
        .map(|(minor, path)| found(path, u32::try_from(minor).unwrap()))
        .collect();
        let devices = plan(&case.input()).unwrap();
        let paths: Vec<_> = devices.nodes.iter().map(|node| node.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/dev/fuse", "/dev/tty1"]);
        assert_eq!(devices.rules, [anything()]);
    }
}
