//! What a plan says of namespaces, devices and limits, as `linux` of the spec.

use super::BundleError;
use cringle_domain::mounts::Propagation;
use cringle_domain::namespaces::IdRange;
use cringle_domain::plan::{
    ContainerPlan, DeviceKind, DeviceRule, NamespaceChoice, PlannedDevice, PlannedNamespaces,
    PlannedUsers,
};
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::Resources;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxCpu, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxHugepageLimit, LinuxHugepageLimitBuilder,
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemory, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
};
use std::path::{Path, PathBuf};

pub(super) fn of(plan: &ContainerPlan) -> Result<Linux, BundleError> {
    let mut linux = LinuxBuilder::default()
        .cgroups_path(plan.cgroup.as_str())
        .namespaces(namespaces(&plan.namespaces)?)
        .resources(resources(&plan.resources, &plan.device_rules)?)
        .masked_paths(texts(&plan.masked_paths))
        .readonly_paths(texts(&plan.readonly_paths))
        .build()?;
    if !plan.devices.is_empty() {
        linux.set_devices(Some(plan.devices.iter().map(device).collect::<Result<_, _>>()?));
    }
    let propagation = match plan.rootfs_propagation {
        Propagation::Private => None,
        Propagation::HostToContainer => Some("rslave".to_owned()),
        Propagation::Bidirectional => Some("rshared".to_owned()),
    };
    linux.set_rootfs_propagation(propagation);
    map_users(&mut linux, plan.namespaces.users.as_ref())?;
    Ok(linux)
}

/// Says the maps of the user namespace that is joined: a shim can't ask a namespace for them.
fn map_users(linux: &mut Linux, users: Option<&PlannedUsers>) -> Result<(), BundleError> {
    let Some(PlannedUsers { mapping, .. }) = users else { return Ok(()) };
    linux.set_uid_mappings(Some(vec![id_range(mapping.users)?]));
    linux.set_gid_mappings(Some(vec![id_range(mapping.groups)?]));
    Ok(())
}

pub(super) fn id_range(range: IdRange) -> Result<LinuxIdMapping, BundleError> {
    let builder = LinuxIdMappingBuilder::default().container_id(0_u32);
    Ok(builder.host_id(range.first()).size(range.length()).build()?)
}

pub(super) fn of_reaper(cgroup: &str, users: Option<&PlannedUsers>) -> Result<Linux, BundleError> {
    let own = [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount];
    let mut namespaces =
        own.into_iter().map(|kind| namespace(kind, None)).collect::<Result<Vec<_>, _>>()?;
    namespaces.extend(user_namespace(users)?);
    let mut linux = LinuxBuilder::default()
        .cgroups_path(cgroup)
        .namespaces(namespaces)
        .resources(resources(&Resources::default(), &[])?)
        .masked_paths(Vec::new())
        .readonly_paths(Vec::new())
        .build()?;
    map_users(&mut linux, users)?;
    Ok(linux)
}

fn user_namespace(users: Option<&PlannedUsers>) -> Result<Option<LinuxNamespace>, BundleError> {
    users.map(|users| namespace(LinuxNamespaceType::User, Some(&users.namespace))).transpose()
}

pub(super) fn resources(
    limits: &Resources,
    rules: &[DeviceRule],
) -> Result<LinuxResources, BundleError> {
    let mut resources = LinuxResourcesBuilder::default().devices(device_rules(rules)?).build()?;
    resources.set_cpu(cpu(limits)).set_memory(memory(limits)?);
    if !limits.huge_pages.is_empty() {
        resources.set_hugepage_limits(Some(huge_pages(limits)?));
    }
    if !limits.unified.is_empty() {
        resources.set_unified(Some(limits.unified.clone().into_iter().collect()));
    }
    if let Some(limit) = limits.pids_limit {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(limit).build()?));
    }
    Ok(resources)
}

fn namespaces(planned: &PlannedNamespaces) -> Result<Vec<LinuxNamespace>, BundleError> {
    let mut namespaces = vec![
        namespace(LinuxNamespaceType::Mount, None)?,
        namespace(LinuxNamespaceType::Cgroup, None)?,
    ];
    for (kind, choice) in [
        (LinuxNamespaceType::Network, &planned.network),
        (LinuxNamespaceType::Ipc, &planned.ipc),
        (LinuxNamespaceType::Uts, &planned.uts),
        (LinuxNamespaceType::Pid, &planned.pid),
    ] {
        match choice {
            NamespaceChoice::New => namespaces.push(namespace(kind, None)?),
            NamespaceChoice::Join(path) => namespaces.push(namespace(kind, Some(path))?),
            // What the list leaves out is the host's.
            NamespaceChoice::Host => {}
        }
    }
    namespaces.extend(user_namespace(planned.users.as_ref())?);
    Ok(namespaces)
}

fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> Result<LinuxNamespace, BundleError> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    Ok(match path {
        Some(path) => builder.path(path).build()?,
        None => builder.build()?,
    })
}

fn device(device: &PlannedDevice) -> Result<LinuxDevice, BundleError> {
    Ok(LinuxDeviceBuilder::default()
        .path(device.path.clone())
        .typ(device_type(device.kind))
        .major(i64::from(device.major))
        .minor(i64::from(device.minor))
        .file_mode(device.mode)
        .uid(device.user)
        .gid(device.group)
        .build()?)
}

/// Deny all, then what is allowed.
fn device_rules(rules: &[DeviceRule]) -> Result<Vec<LinuxDeviceCgroup>, BundleError> {
    let deny = LinuxDeviceCgroupBuilder::default()
        .allow(false)
        .typ(LinuxDeviceType::A)
        .access("rwm")
        .build()?;
    let mut all = vec![deny];
    for rule in rules {
        let mut allow = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(rule.kind.map_or(LinuxDeviceType::A, device_type))
            .access(rule.access.as_str())
            .build()?;
        allow.set_major(rule.major.map(i64::from)).set_minor(rule.minor.map(i64::from));
        all.push(allow);
    }
    Ok(all)
}

fn device_type(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Character => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

fn cpu(limits: &Resources) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares)
        .set_quota(limits.cpu_quota)
        .set_period(limits.cpu_period)
        .set_cpus(limits.cpuset_cpus.clone())
        .set_mems(limits.cpuset_memory_nodes.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn memory(limits: &Resources) -> Result<Option<LinuxMemory>, BundleError> {
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limits.memory_limit.map(signed).transpose()?)
        .set_reservation(limits.memory_reservation.map(signed).transpose()?)
        .set_swap(limits.memory_and_swap_limit.map(signed).transpose()?);
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn huge_pages(limits: &Resources) -> Result<Vec<LinuxHugepageLimit>, BundleError> {
    let limits = limits.huge_pages.iter().map(|(size, limit)| {
        // "No limit" comes as the largest number there is.
        let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
        Ok(LinuxHugepageLimitBuilder::default().page_size(size.as_str()).limit(limit).build()?)
    });
    limits.collect()
}

/// The document counts bytes with a sign.
fn signed(bytes: u64) -> Result<i64, Refusal> {
    i64::try_from(bytes).map_err(|_large| {
        Refusal::invalid("linux.resources", format!("{bytes} is more than the kernel can count"))
    })
}

/// Planned paths are UTF-8: the planner's `clean` lets no other through.
fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}
