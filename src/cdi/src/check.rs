//! What a file must be to be used at all. Whether its devices are there is asked when a container wants them.

use crate::document::{Device, Document, Edits, Hook, Mount, NetDevice, Node, Rdt};
use crate::version::Version;
use cringle_domain::cdi::{DeviceClass, DeviceName, MalformedName};
use std::path::Path;

/// A file that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The version is none.
    #[error("cdiVersion {0:?} is none of {known}", known = Version::all())]
    Version(String),
    /// It uses what its version did not have.
    #[error("cdiVersion is {found}, but what the file uses is there since {needed}")]
    TooOld {
        /// The version it names.
        found: Version,
        /// The version it needs.
        needed: Version,
    },
    /// The kind, or the name of a device, is none.
    #[error(transparent)]
    Name(#[from] MalformedName),
    /// It describes no device.
    #[error("it has no devices")]
    NoDevices,
    /// It describes a device twice.
    #[error("it has device {0:?} twice")]
    Twice(String),
    /// A device without effect.
    #[error("device {0:?} has no edits")]
    Empty(String),
    /// An edit makes no sense.
    #[error("{place}: {problem}")]
    Edit {
        /// `device "x"`, or `containerEdits`.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

/// Checks a file. Gives the names of its devices, in their order.
///
/// # Errors
/// The first thing that makes no sense.
pub(crate) fn check(document: &Document) -> Result<Vec<DeviceName>, CheckError> {
    let found = Version::parse(&document.cdi_version)
        .ok_or_else(|| CheckError::Version(document.cdi_version.clone()))?;
    let class: DeviceClass = document.kind.parse()?;
    let needed = Version::needed(document, class.class());
    if needed > found {
        return Err(CheckError::TooOld { found, needed });
    }
    let edit = |place: String| move |problem| CheckError::Edit { place, problem };
    edits(&document.container_edits).map_err(edit("containerEdits".to_owned()))?;
    let mut names = Vec::with_capacity(document.devices.len());
    for Device { name, container_edits, .. } in &document.devices {
        let qualified = class.device(name)?;
        if names.contains(&qualified) {
            return Err(CheckError::Twice(name.clone()));
        }
        if *container_edits == Edits::default() {
            return Err(CheckError::Empty(name.clone()));
        }
        edits(container_edits).map_err(edit(format!("device {name:?}")))?;
        names.push(qualified);
    }
    if names.is_empty() { Err(CheckError::NoDevices) } else { Ok(names) }
}

type Checked = Result<(), String>;

fn edits(edits: &Edits) -> Checked {
    edits.env.iter().try_for_each(|entry| variable(entry))?;
    edits.device_nodes.iter().try_for_each(node)?;
    edits.hooks.iter().try_for_each(hook)?;
    edits.mounts.iter().try_for_each(mount)?;
    net_devices(&edits.net_devices)?;
    edits.intel_rdt.as_ref().map_or(Ok(()), rdt)
}

fn variable(entry: &str) -> Checked {
    match entry.split_once('=') {
        Some((name, _)) if !name.is_empty() && !entry.contains('\0') => Ok(()),
        Some(_) | None => Err(format!("env {entry:?} is not NAME=VALUE")),
    }
}

fn absolute(what: &str, path: &Path) -> Checked {
    let plain = path.is_absolute() && path.to_str().is_some_and(|text| !text.contains('\0'));
    if plain { Ok(()) } else { Err(format!("{what} {path:?} is not an absolute path")) }
}

fn node(node: &Node) -> Checked {
    absolute("deviceNodes.path", &node.path)?;
    if !node.host_path.as_os_str().is_empty() {
        absolute("deviceNodes.hostPath", &node.host_path)?;
    }
    if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
        return Err(format!(
            "device node {:?} has the type {:?}, not b, c, u or p",
            node.path, node.kind
        ));
    }
    if node.permissions.chars().any(|letter| !"rwm".contains(letter)) {
        let permissions = &node.permissions;
        return Err(format!(
            "device node {:?} has permissions {permissions:?}, not of r, w and m",
            node.path
        ));
    }
    let in_range = |number: i64| u32::try_from(number).is_ok();
    if in_range(node.major) && in_range(node.minor) {
        return Ok(());
    }
    Err(format!("device node {:?} has a number that is out of range", node.path))
}

fn hook(hook: &Hook) -> Checked {
    const NAMES: [&str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    if !NAMES.contains(&hook.hook_name.as_str()) {
        return Err(format!("hook {:?} is none of {}", hook.hook_name, NAMES.join(", ")));
    }
    absolute("hooks.path", &hook.path)?;
    hook.env.iter().try_for_each(|entry| variable(entry))?;
    match hook.timeout {
        Some(seconds) if seconds <= 0 => {
            Err(format!("hook {:?} has the time-out {seconds}, which is not above zero", hook.path))
        }
        Some(_) | None => Ok(()),
    }
}

fn mount(mount: &Mount) -> Checked {
    absolute("mounts.containerPath", &mount.container_path)?;
    if mount.host_path.as_os_str().is_empty() {
        return Err(format!("mount {:?} has no hostPath", mount.container_path));
    }
    Ok(())
}

fn net_devices(devices: &[NetDevice]) -> Checked {
    for (index, device) in devices.iter().enumerate() {
        if device.host_interface_name.is_empty() || device.name.is_empty() {
            return Err("netDevices has an interface without a name".to_owned());
        }
        let before = devices.get(..index).unwrap_or_default();
        if before.iter().any(|other| {
            other.host_interface_name == device.host_interface_name || other.name == device.name
        }) {
            return Err(format!("netDevices has interface {:?} twice", device.name));
        }
    }
    Ok(())
}

/// The class is the name of a directory, or "/" for the one that everything is in.
fn rdt(rdt: &Rdt) -> Checked {
    let class = rdt.clos_id.as_str();
    let odd = class != "/" && (class.contains(['/', '\n']) || [".", ".."].contains(&class));
    if odd || class.len() >= 4096 {
        return Err(format!("intelRdt.closID {class:?} is no name of a class"));
    }
    Ok(())
}
