//! Resource limits of a specification in the kernel crate's terms.

use cringle_kernel::cgroup::{
    Ceiling, CpuLimits, DeviceAccess, DeviceKind, DeviceRule, Devices, Limits, MemoryLimits,
    Permission,
};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::error::{EngineError, Result};

/// What a container may always use, whatever its rules say first: making nodes, the default devices, terminals.
/// Major, minor, access.
const ALWAYS: [(Option<u32>, Option<u32>, &str); 9] = [
    (None, None, "m"),
    (Some(1), Some(3), "rwm"),
    (Some(1), Some(5), "rwm"),
    (Some(1), Some(7), "rwm"),
    (Some(1), Some(8), "rwm"),
    (Some(1), Some(9), "rwm"),
    (Some(5), Some(0), "rwm"),
    (Some(5), Some(2), "rwm"),
    (Some(136), None, "rwm"),
];

/// The limits of a container that is made: without any rule about devices it gets the default ones only.
///
/// # Errors
/// A limit that is not supported or makes no sense.
pub(super) fn initial(resources: Option<&LinuxResources>) -> Result<Limits> {
    let mut limits = resources.map(common).transpose()?.unwrap_or_default();
    let asked = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    limits.devices = Devices::Only(rules(asked)?);
    Ok(limits)
}

/// The limits of a change: devices stay as they are unless rules are given.
///
/// # Errors
/// A limit that is not supported or makes no sense.
pub(super) fn change(resources: &LinuxResources) -> Result<Limits> {
    let mut limits = common(resources)?;
    if let Some(asked) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) {
        limits.devices = Devices::Only(rules(asked)?);
    }
    Ok(limits)
}

fn common(resources: &LinuxResources) -> Result<Limits> {
    refuse_unsupported(resources)?;
    let mut limits = Limits::default();
    if let Some(cpu) = resources.cpu() {
        limits.cpu = CpuLimits {
            shares: cpu.shares().filter(|&shares| shares != 0),
            quota: cpu.quota().filter(|&quota| quota != 0).map(Ceiling::from_signed),
            period: cpu.period().filter(|&period| period != 0),
            burst: cpu.burst(),
            cpus: cpu.cpus().clone().filter(|list| !list.is_empty()),
            memory_nodes: cpu.mems().clone().filter(|list| !list.is_empty()),
        };
    }
    if let Some(memory) = resources.memory() {
        let ceiling =
            |value: Option<i64>| value.filter(|&value| value != 0).map(Ceiling::from_signed);
        limits.memory = MemoryLimits {
            limit: ceiling(memory.limit()),
            with_swap: ceiling(memory.swap()),
            reservation: ceiling(memory.reservation()),
        };
    }
    limits.pids = resources.pids().map(|pids| match pids.limit() {
        // Zero and less mean no limit, as in the other runtimes.
        ..=0 => Ceiling::Unlimited,
        limit => Ceiling::from_signed(limit),
    });
    for huge in resources.hugepage_limits().iter().flatten() {
        let limit = u64::try_from(huge.limit()).map_err(|_negative| {
            EngineError::invalid("linux.resources.hugepageLimits", "a limit is negative")
        })?;
        limits.huge_pages.insert(huge.page_size().clone(), limit);
    }
    for (file, value) in resources.unified().iter().flatten() {
        limits.unified.insert(file.clone(), value.clone());
    }
    Ok(limits)
}

fn refuse_unsupported(resources: &LinuxResources) -> Result<()> {
    let cpu = resources.cpu().as_ref();
    let memory = resources.memory().as_ref();
    let positive = |value: Option<i64>| value.is_some_and(|value| value > 0);
    let asked = [
        (
            "blockIO",
            resources.block_io().as_ref().is_some_and(|limits| *limits != Default::default()),
        ),
        (
            "network",
            resources.network().as_ref().is_some_and(|limits| *limits != Default::default()),
        ),
        ("rdma", resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())),
        ("cpu.realtimeRuntime", positive(cpu.and_then(|cpu| cpu.realtime_runtime()))),
        ("cpu.idle", positive(cpu.and_then(|cpu| cpu.idle()))),
        ("memory.swappiness", memory.and_then(|memory| memory.swappiness()).is_some()),
        (
            "memory.disableOOMKiller",
            memory.and_then(|memory| memory.disable_oom_killer()) == Some(true),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(EngineError::Unsupported(format!("linux.resources.{field}"))),
        None => Ok(()),
    }
}

fn rules(asked: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let mut rules = Vec::with_capacity(asked.len() + ALWAYS.len() + 1);
    // What the specification denies in general comes first and is the rule anyway; its exceptions come after the defaults.
    for (major, minor, letters) in ALWAYS {
        let Some(access) = DeviceAccess::from_letters(letters) else { continue };
        let kind = if major.is_none() { DeviceKind::All } else { DeviceKind::Character };
        rules.push(DeviceRule { permission: Permission::Allow, kind, major, minor, access });
    }
    for rule in asked {
        let rule = device_rule(rule)?;
        let denies_all = rule.permission == Permission::Deny
            && rule.kind == DeviceKind::All
            && rule.access == DeviceAccess::ALL
            && (rule.major, rule.minor) == (None, None);
        if !denies_all {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    const FIELD: &str = "linux.resources.devices";
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_range| EngineError::invalid(FIELD, "a number is out of range")),
    };
    let letters = rule.access().as_deref().filter(|letters| !letters.is_empty()).unwrap_or("rwm");
    let access = DeviceAccess::from_letters(letters).ok_or_else(|| {
        EngineError::invalid(FIELD, format!("access {letters:?} is not of r, w, m"))
    })?;
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceKind::All,
        Some(LinuxDeviceType::B) => DeviceKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
        Some(LinuxDeviceType::P) => return Err(EngineError::invalid(FIELD, "a FIFO is no device")),
    };
    let permission = if rule.allow() { Permission::Allow } else { Permission::Deny };
    Ok(DeviceRule {
        permission,
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn zero_means_unset_and_minus_one_means_unlimited() {
        let json = r#"{"cpu":{"shares":0,"quota":-1,"cpus":""},"memory":{"limit":0,"swap":-1},"pids":{"limit":0}}"#;
        let limits = change(&parse(json)).unwrap();
        assert_eq!((limits.cpu.shares, limits.cpu.quota), (None, Some(Ceiling::Unlimited)));
        assert_eq!((limits.cpu.cpus, limits.memory.limit), (None, None));
        assert_eq!(
            (limits.memory.with_swap, limits.pids),
            (Some(Ceiling::Unlimited), Some(Ceiling::Unlimited))
        );
        assert_eq!(limits.devices, Devices::Untouched);
    }

    #[test]
    fn no_rules_mean_the_default_devices_and_not_all_devices() {
        let Devices::Only(rules) = initial(None).unwrap().devices else {
            panic!("devices are untouched")
        };
        assert_eq!(rules.len(), ALWAYS.len());
        assert!(rules.iter().all(|rule| rule.major.is_some() || rule.access != DeviceAccess::ALL));
    }

    #[test]
    fn denying_everything_does_not_take_the_default_devices_and_allowing_everything_is_last() {
        let json = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"}]}"#;
        let Devices::Only(rules) = initial(Some(&parse(json))).unwrap().devices else {
            panic!("none")
        };
        assert_eq!(rules.len(), ALWAYS.len() + 1);
        let last = rules.last().unwrap();
        assert_eq!(
            (last.permission, last.kind, last.major),
            (Permission::Allow, DeviceKind::All, None)
        );
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let error = change(&parse(r#"{"memory":{"swappiness":10}}"#)).unwrap_err();
        assert_eq!(error.to_string(), "linux.resources.memory.swappiness not supported");
        change(&parse(r#"{"devices":[{"allow":true,"access":"x"}]}"#)).unwrap_err();
    }
}
