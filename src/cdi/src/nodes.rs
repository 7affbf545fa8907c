//! Device nodes: what a file leaves out is asked of the host.

use crate::apply::EditError;
use crate::document::Node;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{FileType, Stat};
use std::path::Path;

/// What a container may do with a device if the file does not say.
const ALL: &str = "rwm";

/// A node of the container, and the rule that allows its use; a pipe needs none. `owner` is the user and group of the
/// container's program, whose a node is whose owner is not said.
///
/// # Errors
/// The host has no such device.
pub(crate) fn node(
    node: &Node,
    owner: (u32, u32),
) -> Result<(LinuxDevice, Option<LinuxDeviceCgroup>), EditError> {
    let kind = kind(&node.kind);
    let host = if node.host_path.as_os_str().is_empty() { &node.path } else { &node.host_path };
    let said = kind.filter(|kind| *kind == LinuxDeviceType::P || node.major != 0);
    let found = match (said, stat(host)) {
        (_, Ok(found)) => Some(found),
        // What the file says is enough.
        (Some(_), Err(_)) => None,
        (None, Err(error)) => return Err(error),
    };
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone());
    match (said, &found) {
        (Some(kind), _) => {
            device.set_typ(kind).set_major(node.major).set_minor(node.minor);
        }
        (None, Some((found_kind, stat))) => {
            if kind.is_some_and(|kind| kind != *found_kind) {
                let (path, kind) = (host.clone(), node.kind.clone());
                return Err(EditError::Kind { path, kind });
            }
            let number = stat.st_rdev;
            device
                .set_typ(*found_kind)
                .set_major(i64::from(rustix::fs::major(number)))
                .set_minor(i64::from(rustix::fs::minor(number)));
        }
        (None, None) => {}
    }
    let mode = found.map(|(_, stat)| stat.st_mode & 0o7777);
    let own = |id: u32| (id > 0).then_some(id);
    device
        .set_file_mode(node.file_mode.or(mode))
        .set_uid(node.uid.or(own(owner.0)))
        .set_gid(node.gid.or(own(owner.1)));
    let rule = (device.typ() != LinuxDeviceType::P).then(|| rule(&device, &node.permissions));
    Ok((device, rule))
}

/// A "u" is an unbuffered character device, which Linux does not tell from others.
fn kind(text: &str) -> Option<LinuxDeviceType> {
    match text {
        "b" => Some(LinuxDeviceType::B),
        "c" | "u" => Some(LinuxDeviceType::C),
        "p" => Some(LinuxDeviceType::P),
        _ => None,
    }
}

fn stat(path: &Path) -> Result<(LinuxDeviceType, Stat), EditError> {
    let found = rustix::fs::stat(path).map_err(|errno| EditError::HostFile {
        what: "device",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let kind = if kind == FileType::CharacterDevice {
        LinuxDeviceType::C
    } else if kind == FileType::BlockDevice {
        LinuxDeviceType::B
    } else if kind == FileType::Fifo {
        LinuxDeviceType::P
    } else {
        return Err(EditError::NoDevice(path.to_owned()));
    };
    Ok((kind, found))
}

fn rule(device: &LinuxDevice, permissions: &str) -> LinuxDeviceCgroup {
    let access = if permissions.is_empty() { ALL } else { permissions };
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(device.typ()))
        .set_major(Some(device.major()))
        .set_minor(Some(device.minor()))
        .set_access(Some(access.to_owned()));
    rule
}
