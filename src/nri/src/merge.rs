//! The answers of all plugins to a request made into one, with an error where two of them want different things.
//!
//! A key, path or kind with "-" before it is taken away: from what the container has, and from what plugins before set. A
//! plugin sees in the request what those before it changed.

mod entries;
mod limits;
mod updates;

pub use updates::Update;
pub(crate) use updates::{Updates, Updating};

use crate::HookError;
use crate::owners::{Claimant, Owners};
use cringle_proto_nri::v1alpha1::{
    ContainerAdjustment, ContainerEviction, ContainerUpdate, CreateContainerRequest,
    CreateContainerResponse, Field, Hooks, KeyValue, LinuxContainer, LinuxContainerAdjustment,
    LinuxNamespace, LinuxRdt,
};

/// What plugins want of a container that is made.
#[derive(Debug, Clone, Default)]
pub struct Creation {
    /// How it shall be changed.
    pub adjustment: ContainerAdjustment,
    /// Who set what of that.
    pub owners: Owners,
    /// Changes of other containers.
    pub updates: Vec<ContainerUpdate>,
    /// Containers that shall go.
    pub evictions: Vec<ContainerEviction>,
}

/// The answers to a request to create a container, being collected.
#[derive(Debug)]
pub(crate) struct Creating {
    /// The request as the next plugin gets it.
    pub(crate) request: CreateContainerRequest,
    adjustment: ContainerAdjustment,
    owners: Owners,
    updates: Updates,
    evictions: Vec<ContainerEviction>,
}

impl Creating {
    /// No answer yet.
    pub(crate) fn new(request: CreateContainerRequest) -> Self {
        Self {
            request,
            adjustment: ContainerAdjustment::default(),
            owners: Owners::default(),
            updates: Updates::default(),
            evictions: Vec::new(),
        }
    }

    /// Takes the answer of a plugin.
    ///
    /// # Errors
    /// It sets what another has set, or asks for an update of the container that is made.
    pub(crate) fn take(
        &mut self,
        plugin: &str,
        answer: CreateContainerResponse,
    ) -> Result<(), HookError> {
        if let Some(asked) = answer.adjust {
            self.adjust(plugin, asked)?;
        }
        let own = self.request.container.as_ref().map_or("", |container| container.id.as_str());
        for update in answer.update {
            if update.container_id == own {
                let (plugin, container) = (plugin.to_owned(), own.to_owned());
                return Err(HookError::UpdateOfTheNew { plugin, container });
            }
            self.updates.take(plugin, update)?;
        }
        self.evictions.extend(answer.evict);
        Ok(())
    }

    /// What all want.
    pub(crate) fn finish(self) -> Creation {
        Creation {
            adjustment: self.adjustment,
            owners: self.owners,
            updates: self.updates.finish(),
            evictions: self.evictions,
        }
    }

    fn adjust(&mut self, plugin: &str, asked: ContainerAdjustment) -> Result<(), HookError> {
        let claimant = &mut Claimant { owners: &mut self.owners, plugin };
        let container = self.request.container.get_or_insert_default();
        let sum = &mut self.adjustment;
        let (present, whole) = (&mut container.annotations, &mut sum.annotations);
        entries::map(claimant, Field::Annotations, asked.annotations, present, whole)?;
        let (present, whole) = (&mut container.mounts, &mut sum.mounts);
        entries::list(claimant, Field::Mounts, asked.mounts, present, whole)?;
        let mut variables = split(&container.env);
        entries::list(claimant, Field::Env, asked.env, &mut variables, &mut sum.env)?;
        container.env = variables.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
        args(claimant, asked.args, &mut container.args, &mut sum.args)?;
        if let Some(hooks) = asked.hooks.filter(|hooks| *hooks != Hooks::default()) {
            claimant.join(Field::OciHooks);
            add_hooks(container.hooks.get_or_insert_default(), &hooks);
            add_hooks(sum.hooks.get_or_insert_default(), &hooks);
        }
        let (present, whole) = (&mut container.rlimits, &mut sum.rlimits);
        entries::list(claimant, Field::Rlimits, asked.rlimits, present, whole)?;
        for device in asked.cdi_devices {
            claimant.claim_entry(Field::CdiDevices, &device.name)?;
            sum.cdi_devices.push(device);
        }
        match asked.linux {
            Some(asked) => {
                let present = container.linux.get_or_insert_default();
                adjust_linux(claimant, asked, present, sum.linux.get_or_insert_default())
            }
            None => Ok(()),
        }
    }
}

fn adjust_linux(
    claimant: &mut Claimant<'_>,
    asked: LinuxContainerAdjustment,
    present: &mut LinuxContainer,
    sum: &mut LinuxContainerAdjustment,
) -> Result<(), HookError> {
    entries::list(claimant, Field::Devices, asked.devices, &mut present.devices, &mut sum.devices)?;
    if let Some(asked) = asked.resources {
        for into in [&mut sum.resources, &mut present.resources] {
            let into = into.get_or_insert_default();
            limits::merge(claimant, &asked, into)?;
            into.devices.extend(asked.devices.clone());
        }
    }
    if !asked.cgroups_path.is_empty() {
        claimant.claim(Field::CgroupsPath)?;
        present.cgroups_path.clone_from(&asked.cgroups_path);
        sum.cgroups_path = asked.cgroups_path;
    }
    let (had, whole) = (&mut present.oom_score_adj, &mut sum.oom_score_adj);
    one(claimant, Field::OomScoreAdj, asked.oom_score_adj, [had, whole])?;
    let (had, whole) = (&mut present.io_priority, &mut sum.io_priority);
    one(claimant, Field::IoPriority, asked.io_priority, [had, whole])?;
    let (had, whole) = (&mut present.seccomp_policy, &mut sum.seccomp_policy);
    one(claimant, Field::SeccompPolicy, asked.seccomp_policy, [had, whole])?;
    namespaces(claimant, asked.namespaces, &mut present.namespaces, &mut sum.namespaces)?;
    entries::map(claimant, Field::Sysctl, asked.sysctl, &mut present.sysctl, &mut sum.sysctl)?;
    let (had, whole) = (&mut present.net_devices, &mut sum.net_devices);
    entries::map(claimant, Field::LinuxNetDevices, asked.net_devices, had, whole)?;
    let (had, whole) = (&mut present.scheduler, &mut sum.scheduler);
    one(claimant, Field::LinuxSched, asked.scheduler, [had, whole])?;
    if let Some(asked) = asked.rdt {
        rdt(claimant, asked, sum.rdt.get_or_insert_default())?;
    }
    one(claimant, Field::MemoryPolicy, asked.memory_policy, [&mut sum.memory_policy])
}

/// A field that is there or not.
fn one<T: Clone, const N: usize>(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: Option<T>,
    into: [&mut Option<T>; N],
) -> Result<(), HookError> {
    let Some(asked) = asked else { return Ok(()) };
    claimant.claim(field)?;
    for place in into {
        *place = Some(asked.clone());
    }
    Ok(())
}

/// A command line is one plugin's, unless a later one begins its own with an empty word.
fn args(
    claimant: &mut Claimant<'_>,
    mut asked: Vec<String>,
    present: &mut Vec<String>,
    sum: &mut Vec<String>,
) -> Result<(), HookError> {
    match asked.first() {
        None => return Ok(()),
        Some(word) if word.is_empty() => {
            claimant.clear(Field::Args);
            asked.remove(0);
        }
        Some(_) => {}
    }
    claimant.claim(Field::Args)?;
    present.clone_from(&asked);
    *sum = asked;
    Ok(())
}

/// Namespaces are claimed also when they are taken away: to be in the host's is a choice.
fn namespaces(
    claimant: &mut Claimant<'_>,
    asked: Vec<LinuxNamespace>,
    present: &mut Vec<LinuxNamespace>,
    sum: &mut Vec<LinuxNamespace>,
) -> Result<(), HookError> {
    entries::bound(claimant, Field::Namespace, asked.len())?;
    for namespace in asked {
        let (kind, removed) = match namespace.r#type.strip_prefix('-') {
            Some(kind) => (kind.to_owned(), true),
            None => (namespace.r#type.clone(), false),
        };
        claimant.claim_entry(Field::Namespace, &kind)?;
        present.retain(|one| one.r#type != kind);
        if !removed {
            present.push(namespace.clone());
        }
        sum.push(namespace);
    }
    Ok(())
}

fn rdt(claimant: &mut Claimant<'_>, asked: LinuxRdt, sum: &mut LinuxRdt) -> Result<(), HookError> {
    if asked.remove {
        for field in [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring] {
            claimant.clear(field);
        }
        *sum = LinuxRdt { remove: true, ..LinuxRdt::default() };
    }
    one(claimant, Field::RdtClosId, asked.clos_id, [&mut sum.clos_id])?;
    one(claimant, Field::RdtSchemata, asked.schemata, [&mut sum.schemata])?;
    let monitoring = [&mut sum.enable_monitoring];
    one(claimant, Field::RdtEnableMonitoring, asked.enable_monitoring, monitoring)
}

fn add_hooks(into: &mut Hooks, hooks: &Hooks) {
    into.prestart.extend(hooks.prestart.clone());
    into.create_runtime.extend(hooks.create_runtime.clone());
    into.create_container.extend(hooks.create_container.clone());
    into.start_container.extend(hooks.start_container.clone());
    into.poststart.extend(hooks.poststart.clone());
    into.poststop.extend(hooks.poststop.clone());
}

fn split(environment: &[String]) -> Vec<KeyValue> {
    let parts = environment.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    parts.map(|(key, value)| KeyValue { key: key.to_owned(), value: value.to_owned() }).collect()
}

#[cfg(test)]
mod tests;
