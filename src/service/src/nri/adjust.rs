//! What plugins want of a container that is made, put into its plan and its document.
//!
//! What a client could not ask for either, because this runtime does not do it, is refused with the name of the plugin that
//! asked: no container is made that is not as its plugins believe it to be.

mod document;
mod linux;
mod priority;

use super::limits;
use crate::bundle::{self, Draft};
use crate::{ServiceError, bundle::BundleError};
use cringle_domain::cdi::{DeviceName, MalformedName};
use cringle_domain::plan::ContainerPlan;
use cringle_domain::planner::{self, HostFacts};
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::Resources;
use cringle_nri::{Creation, Owners};
use cringle_proto_nri::v1alpha1::{Field, LinuxContainerAdjustment, LinuxResources};
use oci_spec::runtime::{Linux, Process, Spec};
use std::collections::BTreeSet;
use std::path::Path;

/// Why a wish is not met, and which.
#[derive(Debug)]
struct Unmet {
    field: Field,
    /// The entry, if the field has entries.
    key: String,
    refusal: Refusal,
}

impl Unmet {
    fn of(field: Field, refusal: impl Into<Refusal>) -> Self {
        Self { field, key: String::new(), refusal: refusal.into() }
    }

    fn of_entry(field: Field, key: &str, refusal: impl Into<Refusal>) -> Self {
        Self { field, key: key.to_owned(), refusal: refusal.into() }
    }

    fn invalid(field: Field, key: &str, problem: impl Into<String>) -> Self {
        Self::of_entry(field, key, Refusal::invalid(field.as_str_name(), problem))
    }

    /// The error, which names who asked.
    fn by(self, owners: &Owners) -> ServiceError {
        let entry = owners.of_entries(self.field).find(|(key, _)| *key == self.key);
        let owner = owners.of(self.field).or(entry.map(|(_, owner)| owner)).map(str::to_owned);
        let plugin = owner.unwrap_or_else(|| owners.everybody());
        ServiceError::Adjustment { plugin, source: Box::new(self.refusal.into()) }
    }
}

/// The devices that plugins want by their CDI names.
///
/// # Errors
/// A name that no device can have.
pub(super) fn devices(creation: &Creation) -> Result<Vec<DeviceName>, ServiceError> {
    let wanted = creation.adjustment.cdi_devices.iter();
    let names = wanted.map(|device| {
        let unmet = |error: MalformedName| {
            Unmet::invalid(Field::CdiDevices, &device.name, error.to_string()).by(&creation.owners)
        };
        device.name.parse().map_err(unmet)
    });
    names.collect()
}

/// The error of devices that plugins want and can't have, with the names of those who want some.
pub(super) fn without_devices(creation: &Creation, source: ServiceError) -> ServiceError {
    let owners = creation.owners.of_entries(Field::CdiDevices).map(|(_, owner)| owner);
    let plugin = owners.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
    ServiceError::Adjustment { plugin, source: Box::new(source) }
}

/// Changes plan and document as the plugins want. `is_taken` says whether something else has a cgroup.
///
/// # Errors
/// Something can't be done here, or makes no sense; the container must not be made then.
pub(super) fn apply(
    creation: &Creation,
    facts: &HostFacts,
    is_taken: impl FnOnce(&str) -> bool,
    plan: &mut ContainerPlan,
    draft: &mut Draft,
) -> Result<(), ServiceError> {
    let wishes = &creation.adjustment;
    let nothing = LinuxContainerAdjustment::default();
    let of_linux = wishes.linux.as_ref().unwrap_or(&nothing);
    let applied = refuse_unsupported(of_linux)
        .and_then(|()| document::apply(wishes, &mut draft.spec))
        .and_then(|()| place(of_linux, is_taken, plan, draft))
        .and_then(|()| limit(of_linux.resources.as_ref(), facts, plan))
        .and_then(|()| linux::apply(of_linux, plan, draft))
        .and_then(|()| priority::apply(of_linux, &mut draft.spec));
    applied.map_err(|unmet| unmet.by(&creation.owners))?;
    if of_linux.resources.is_some() {
        write_limits(&plan.resources, draft)?;
    }
    Ok(())
}

/// What no client can have either.
fn refuse_unsupported(linux: &LinuxContainerAdjustment) -> Result<(), Unmet> {
    let asked = [
        (Field::LinuxNetDevices, linux.net_devices.keys().any(|name| !name.starts_with('-'))),
        (Field::RdtClosId, linux.rdt.as_ref().is_some_and(|rdt| rdt.clos_id.is_some())),
        (Field::RdtSchemata, linux.rdt.as_ref().is_some_and(|rdt| rdt.schemata.is_some())),
        (
            Field::RdtEnableMonitoring,
            linux.rdt.as_ref().is_some_and(|rdt| rdt.enable_monitoring.is_some()),
        ),
    ];
    if let Some((field, _)) = asked.iter().find(|(_, asked)| *asked) {
        let key = linux.net_devices.keys().next().map_or("", String::as_str);
        let refusal = Refusal::Unsupported(field.as_str_name().to_owned());
        return Err(Unmet::of_entry(*field, key, refusal));
    }
    Ok(())
}

/// Another cgroup: of any name, but a new one beside those of the pod's other containers. Whatever is in it is ended with
/// the container, and nothing else would remove what is above it.
fn place(
    wishes: &LinuxContainerAdjustment,
    is_taken: impl FnOnce(&str) -> bool,
    plan: &mut ContainerPlan,
    draft: &mut Draft,
) -> Result<(), Unmet> {
    let wanted = wishes.cgroups_path.as_str();
    if wanted.is_empty() {
        return Ok(());
    }
    let parent = Path::new(&plan.cgroup).parent().unwrap_or(Path::new("/"));
    let plain = cringle_domain::resources::check_cgroup_parent(wanted).is_ok();
    if !plain || Path::new(wanted).parent() != Some(parent) {
        let problem =
            format!("\"{wanted}\" is not right below the pod's, \"{}\"", parent.display());
        return Err(Unmet::invalid(Field::CgroupsPath, "", problem));
    }
    if is_taken(wanted) {
        let problem = format!("\"{wanted}\" is another one's");
        return Err(Unmet::invalid(Field::CgroupsPath, "", problem));
    }
    wanted.clone_into(&mut plan.cgroup);
    linux_of(&mut draft.spec).set_cgroups_path(Some(wanted.into()));
    Ok(())
}

/// Other limits, into the plan; from there they come into the record.
fn limit(
    wishes: Option<&LinuxResources>,
    facts: &HostFacts,
    plan: &mut ContainerPlan,
) -> Result<(), Unmet> {
    let Some(wishes) = wishes else { return Ok(()) };
    let refused = |refusal| Unmet::of(Field::None, refusal);
    let change = limits::from_nri(wishes, &plan.resources)
        .map_err(|(field, refusal)| Unmet::of(field, refusal))?;
    let merged = plan.resources.merged(&change).map_err(refused)?;
    plan.resources = planner::plan_limits(&merged, facts).map_err(refused)?;
    Ok(())
}

/// The plan's limits into the document, where the rules about devices stay.
fn write_limits(limits: &Resources, draft: &mut Draft) -> Result<(), BundleError> {
    let mut resources = bundle::resources(limits)?;
    let place = linux_of(&mut draft.spec).resources_mut();
    let rules = place.as_ref().and_then(|present| present.devices().clone());
    resources.set_devices(rules);
    *place = Some(resources);
    Ok(())
}

/// Its part about Linux, which every document of ours has.
fn linux_of(spec: &mut Spec) -> &mut Linux {
    spec.linux_mut().get_or_insert_default()
}

/// Its first process, which every document of ours has.
fn process_of(spec: &mut Spec) -> &mut Process {
    spec.process_mut().get_or_insert_default()
}

#[cfg(test)]
mod tests;
