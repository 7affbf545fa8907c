//! The edits of devices, made to the runtime specification of a container.

use crate::catalog::{Catalog, Fault, Found};
use crate::document::{Edits, Hook, Mount};
use crate::nodes;
use crate::read::Source;
use cringle_domain::cdi::DeviceName;
use oci_spec::runtime::{self, Hooks, LinuxResources, Spec};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a container can't have the devices it asks for.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No file describes these.
    #[error("no CDI device {} in {directories:?}{}", list(names), hint(faults))]
    Unknown {
        /// The devices.
        names: Vec<DeviceName>,
        /// Where they were looked for.
        directories: Vec<PathBuf>,
        /// What there can't be used, and may be what describes them.
        faults: Vec<Fault>,
    },
    /// Several files describe it.
    #[error("CDI device {name} is described by more than one file: {paths:?}")]
    Conflict {
        /// The device.
        name: DeviceName,
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// It asks for something that is not offered.
    #[error("CDI file {path:?} asks for {what}, which is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
    /// Something that it needs is not there.
    #[error("failed to give what CDI file {path:?} describes")]
    Edit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: EditError,
    },
}

/// Something on the host that is not as a file has it.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A device, the source of a mount or a hook is not there.
    #[error("failed to look at {what} {path:?}")]
    HostFile {
        /// Which of these.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What is there is no device.
    #[error("{0:?} is no device")]
    NoDevice(PathBuf),
    /// It is a device of another kind.
    #[error("device {path:?} is not of type {kind:?}")]
    Kind {
        /// Where it is.
        path: PathBuf,
        /// The type in the file.
        kind: String,
    },
}

impl Catalog {
    /// Gives the container of this specification these devices, each once, in this order. It looks at the directories and at
    /// the devices, so it may wait for a disk. After an error the specification is half edited, and of no use.
    ///
    /// # Errors
    /// A device that nobody describes, or several do; or what one asks for that can't be had.
    pub fn apply(&self, names: &[DeviceName], spec: &mut Spec) -> Result<(), ApplyError> {
        if names.is_empty() {
            return Ok(());
        }
        let chosen = self.choose(names)?;
        let mut sources: Vec<&Arc<Source>> = Vec::new();
        for (source, index) in &chosen {
            if !sources.iter().any(|other| Arc::ptr_eq(other, source)) {
                sources.push(source);
                edit(source, &source.document.container_edits, spec)?;
            }
            if let Some(device) = source.document.devices.get(*index) {
                edit(source, &device.container_edits, spec)?;
            }
        }
        sort_mounts(spec);
        Ok(())
    }

    /// The devices of these names, each once.
    fn choose(&self, names: &[DeviceName]) -> Result<Vec<(Arc<Source>, usize)>, ApplyError> {
        let view = self.look();
        let (mut chosen, mut unknown) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            if names.get(..index).unwrap_or_default().contains(name) {
                continue;
            }
            match view.find(name) {
                Some(Found::Device(source, place)) => chosen.push((Arc::clone(source), *place)),
                Some(Found::Conflict(paths)) => {
                    let (name, paths) = (name.clone(), paths.clone());
                    return Err(ApplyError::Conflict { name, paths });
                }
                None => unknown.push(name.clone()),
            }
        }
        if unknown.is_empty() {
            return Ok(chosen);
        }
        let directories = self.directories().to_vec();
        Err(ApplyError::Unknown { names: unknown, directories, faults: view.faults })
    }
}

fn edit(source: &Source, edits: &Edits, spec: &mut Spec) -> Result<(), ApplyError> {
    let unsupported = |what| ApplyError::Unsupported { path: source.path.clone(), what };
    if edits.intel_rdt.is_some() {
        return Err(unsupported("a class of cache and memory bandwidth (intelRdt)"));
    }
    if !edits.net_devices.is_empty() {
        return Err(unsupported("network interfaces of the host (netDevices)"));
    }
    set_variables(&edits.env, spec);
    add_nodes(edits, spec)
        .map_err(|error| ApplyError::Edit { path: source.path.clone(), source: error })?;
    look_for_files(edits)
        .map_err(|error| ApplyError::Edit { path: source.path.clone(), source: error })?;
    add_mounts(&edits.mounts, spec);
    add_hooks(&edits.hooks, spec);
    add_groups(&edits.additional_gids, spec);
    Ok(())
}

/// A variable that is there gets the new value.
fn set_variables(entries: &[String], spec: &mut Spec) {
    let Some(process) = spec.process_mut().as_mut().filter(|_| !entries.is_empty()) else { return };
    let environment = process.env_mut().get_or_insert_default();
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in entries {
        match environment.iter_mut().find(|known| name(known) == name(entry)) {
            Some(known) => known.clone_from(entry),
            None => environment.push(entry.clone()),
        }
    }
}

/// A device of the same path is replaced.
fn add_nodes(edits: &Edits, spec: &mut Spec) -> Result<(), EditError> {
    if edits.device_nodes.is_empty() {
        return Ok(());
    }
    let user = spec.process().as_ref().map(|process| (process.user().uid(), process.user().gid()));
    let linux = spec.linux_mut().get_or_insert_default();
    for node in &edits.device_nodes {
        let (device, rule) = nodes::node(node, user.unwrap_or_default())?;
        let devices = linux.devices_mut().get_or_insert_default();
        devices.retain(|other| other.path() != device.path());
        devices.push(device);
        let resources = linux.resources_mut().get_or_insert_with(LinuxResources::default);
        resources.devices_mut().get_or_insert_default().extend(rule);
    }
    Ok(())
}

/// What is bound or run from the host must be there when the container is made, not only when it starts.
fn look_for_files(edits: &Edits) -> Result<(), EditError> {
    let bound = edits.mounts.iter().filter(|mount| is_bound(mount));
    let bound = bound.map(|mount| ("mount source", &mount.host_path));
    // The one that runs on the container's files.
    let outside = edits.hooks.iter().filter(|hook| hook.hook_name != "startContainer");
    for (what, path) in bound.chain(outside.map(|hook| ("hook", &hook.path))) {
        if let Err(errno) = rustix::fs::stat(path) {
            return Err(EditError::HostFile { what, path: path.clone(), source: errno.into() });
        }
    }
    Ok(())
}

/// A path of the host without a word on how it is mounted can only mean this.
fn is_bound(mount: &Mount) -> bool {
    let said = mount.options.iter().any(|word| word == "bind" || word == "rbind");
    said || matches!(mount.kind.as_str(), "" | "none" | "bind")
}

/// A mount at the same path is replaced.
fn add_mounts(mounts: &[Mount], spec: &mut Spec) {
    for mount in mounts {
        let all = spec.mounts_mut().get_or_insert_default();
        all.retain(|other| *other.destination() != mount.container_path);
        all.push(translated(mount));
    }
}

fn translated(mount: &Mount) -> runtime::Mount {
    let bound = is_bound(mount);
    let mut options = mount.options.clone();
    if bound && !options.iter().any(|word| word == "bind" || word == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    let mut translated = runtime::Mount::default();
    let kind = if bound { "bind" } else { mount.kind.as_str() };
    translated
        .set_destination(mount.container_path.clone())
        .set_source(Some(mount.host_path.clone()))
        .set_typ(Some(kind.to_owned()))
        .set_options(Some(options));
    translated
}

/// Parents first, so that no mount covers another; among mounts of one depth the order stays.
fn sort_mounts(spec: &mut Spec) {
    let depth = |path: &Path| path.components().count();
    if let Some(mounts) = spec.mounts_mut() {
        mounts.sort_by_key(|mount| depth(mount.destination()));
    }
}

fn add_hooks(hooks: &[Hook], spec: &mut Spec) {
    for hook in hooks {
        let mut translated = runtime::Hook::default();
        let given = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
        translated
            .set_path(hook.path.clone())
            .set_args(given(&hook.args))
            .set_env(given(&hook.env))
            .set_timeout(hook.timeout);
        let all = spec.hooks_mut().get_or_insert_with(Hooks::default);
        let list = match hook.hook_name.as_str() {
            "createRuntime" => all.create_runtime_mut(),
            "createContainer" => all.create_container_mut(),
            "startContainer" => all.start_container_mut(),
            "poststart" => all.poststart_mut(),
            "poststop" => all.poststop_mut(),
            // The only other one that a file is read with.
            _ => all.prestart_mut(),
        };
        list.get_or_insert_default().push(translated);
    }
}

/// Group 0 is none that could be added.
fn add_groups(groups: &[u32], spec: &mut Spec) {
    let Some(process) = spec.process_mut().as_mut() else { return };
    let mut user = process.user().clone();
    let mut all = user.additional_gids().clone().unwrap_or_default();
    for group in groups {
        if *group != 0 && !all.contains(group) {
            all.push(*group);
        }
    }
    if !all.is_empty() {
        user.set_additional_gids(Some(all));
    }
    process.set_user(user);
}

fn list(names: &[DeviceName]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The device may be in a file that can't be used.
fn hint(faults: &[Fault]) -> String {
    match faults.first() {
        None => String::new(),
        Some(Fault { path, problem }) => {
            let more = match faults.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("; {path:?} can't be used: {problem}{more}")
        }
    }
}

#[cfg(test)]
mod tests;
