//! Limits as writes to cgroup v1 files: one pure function, tested as a table.

use super::layout::Controller;
use super::limits::{
    Ceiling, CpuLimits, Current, DeviceKind, DeviceRule, Devices, Limits, MemoryLimits, Permission,
};
use super::write::{Tolerance, Write};

/// The writes that set these limits, in an order the kernel accepts.
pub(super) fn writes(limits: &Limits, current: &Current) -> Vec<Write> {
    let mut list = Vec::new();
    cpu(&limits.cpu, current, &mut list);
    memory(&limits.memory, current, &mut list);
    if let Some(pids) = limits.pids {
        let value = match pids {
            Ceiling::Unlimited => "max".to_owned(),
            Ceiling::At(number) => number.to_string(),
        };
        list.push(Write::new(Controller::Pids, "pids.max", value));
    }
    for (size, bytes) in &limits.huge_pages {
        for name in ["limit_in_bytes", "rsvd.limit_in_bytes"] {
            let write = Write::new(Controller::Hugetlb, format!("hugetlb.{size}.{name}"), bytes);
            list.push(write.tolerating(Tolerance::Missing));
        }
    }
    list
}

/// The writes that leave only these devices: first none, then rule by rule.
pub(super) fn devices(devices: &Devices) -> Vec<Write> {
    let Devices::Only(rules) = devices else {
        return Vec::new();
    };
    let mut list = vec![Write::new(Controller::Devices, "devices.deny", "a *:* rwm")];
    list.extend(rules.iter().flat_map(device_rule));
    list
}

/// The kernel takes `a` for "everything", whatever numbers and access follow; a rule about both kinds that is not about
/// everything is one rule for each kind.
fn device_rule(rule: &DeviceRule) -> Vec<Write> {
    let is_everything = rule.is_total() && rule.major.is_none() && rule.minor.is_none();
    let kinds: &[&str] = match rule.kind {
        DeviceKind::All if is_everything => &["a"],
        DeviceKind::All => &["b", "c"],
        DeviceKind::Block => &["b"],
        DeviceKind::Character => &["c"],
    };
    let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(rule.major), number(rule.minor));
    let (file, tolerance) = match rule.permission {
        Permission::Allow => ("devices.allow", Tolerance::Withheld),
        Permission::Deny => ("devices.deny", Tolerance::None),
    };
    let line = |kind: &&str| {
        let value = format!("{kind} {major}:{minor} {}", rule.access);
        Write::new(Controller::Devices, file, value).tolerating(tolerance)
    };
    kinds.iter().map(line).collect()
}

fn cpu(cpu: &CpuLimits, current: &Current, list: &mut Vec<Write>) {
    if let Some(shares) = cpu.shares {
        list.push(Write::new(Controller::Cpu, "cpu.shares", shares.clamp(2, 262_144)));
    }
    let burst = cpu.burst.map(|burst| {
        Write::new(Controller::Cpu, "cpu.cfs_burst_us", burst).tolerating(Tolerance::Missing)
    });
    let bandwidth = bandwidth(cpu, current);
    // A burst may never exceed the quota, not even between two writes.
    if cpu.burst.is_some_and(|burst| burst > current.cpu_burst) {
        list.extend(bandwidth.into_iter().chain(burst));
    } else {
        list.extend(burst.into_iter().chain(bandwidth));
    }
    if let Some(cpus) = &cpu.cpus {
        list.push(Write::new(Controller::Cpuset, "cpuset.cpus", cpus));
    }
    if let Some(nodes) = &cpu.memory_nodes {
        list.push(Write::new(Controller::Cpuset, "cpuset.mems", nodes));
    }
}

/// Quota and period are two files, and the kernel compares their ratio with the parent's after each write: so the
/// share of the time in between must be the smaller one.
fn bandwidth(cpu: &CpuLimits, current: &Current) -> Vec<Write> {
    let period = cpu.period.map(|value| Write::new(Controller::Cpu, "cpu.cfs_period_us", value));
    let quota =
        cpu.quota.map(|quota| Write::new(Controller::Cpu, "cpu.cfs_quota_us", signed(quota)));
    if cpu.period.is_some_and(|period| period >= current.cpu_period) {
        period.into_iter().chain(quota).collect()
    } else {
        quota.into_iter().chain(period).collect()
    }
}

/// Memory alone may never exceed memory with swap: whichever makes room goes first.
fn memory(memory: &MemoryLimits, current: &Current, list: &mut Vec<Write>) {
    let limit = memory
        .limit
        .map(|limit| Write::new(Controller::Memory, "memory.limit_in_bytes", signed(limit)));
    // Without a bound on memory there can't be one on memory with swap.
    let with_swap = match (memory.limit, memory.with_swap) {
        (Some(Ceiling::Unlimited), None) => Some(Ceiling::Unlimited),
        (_, given) => given,
    };
    let with_swap = with_swap.map(|both| {
        let write = Write::new(Controller::Memory, "memory.memsw.limit_in_bytes", signed(both));
        write.tolerating(Tolerance::Missing)
    });
    if memory.limit.is_some_and(|limit| limit.exceeds(current.memory_with_swap)) {
        list.extend(with_swap.into_iter().chain(limit));
    } else {
        list.extend(limit.into_iter().chain(with_swap));
    }
    if let Some(reservation) = memory.reservation {
        let value = signed(reservation);
        list.push(Write::new(Controller::Memory, "memory.soft_limit_in_bytes", value));
    }
}

fn signed(ceiling: Ceiling) -> String {
    match ceiling {
        Ceiling::Unlimited => "-1".to_owned(),
        Ceiling::At(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::DeviceAccess;
    use super::*;
    use std::collections::BTreeMap;

    fn table(limits: &Limits, current: &Current, expected: &[(&str, &str)]) {
        let list = writes(limits, current);
        let lines: Vec<_> = list.iter().map(|w| (w.file.as_ref(), w.value.as_str())).collect();
        assert_eq!(lines, expected);
    }

    fn memory_limits(limit: Ceiling, with_swap: Ceiling) -> Limits {
        Limits {
            memory: MemoryLimits {
                limit: Some(limit),
                with_swap: Some(with_swap),
                reservation: None,
            },
            ..Limits::default()
        }
    }

    #[test]
    fn all_limits_are_written_in_order() {
        let limits = Limits {
            cpu: CpuLimits {
                shares: Some(1),
                quota: Some(Ceiling::At(50_000)),
                period: Some(100_000),
                burst: Some(1000),
                cpus: Some("0".to_owned()),
                memory_nodes: Some("0".to_owned()),
            },
            memory: MemoryLimits {
                limit: Some(Ceiling::At(100)),
                with_swap: Some(Ceiling::Unlimited),
                reservation: Some(Ceiling::At(60)),
            },
            pids: Some(Ceiling::At(7)),
            huge_pages: BTreeMap::from([("1GB".to_owned(), 0)]),
            ..Limits::default()
        };
        table(
            &limits,
            &Current::FRESH,
            &[
                ("cpu.shares", "2"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.cfs_burst_us", "1000"),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("memory.limit_in_bytes", "100"),
                ("memory.memsw.limit_in_bytes", "-1"),
                ("memory.soft_limit_in_bytes", "60"),
                ("pids.max", "7"),
                ("hugetlb.1GB.limit_in_bytes", "0"),
                ("hugetlb.1GB.rsvd.limit_in_bytes", "0"),
            ],
        );
    }

    #[test]
    fn raising_memory_beyond_the_old_bound_with_swap_moves_that_bound_first() {
        use Ceiling::{At, Unlimited};
        let current = Current { memory: At(100), memory_with_swap: At(100), ..Current::FRESH };
        let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        let raise = memory_limits(At(200), At(200));
        table(&raise, &current, &[(both, "200"), (memory, "200")]);
        let lower = memory_limits(At(50), At(50));
        table(&lower, &current, &[(memory, "50"), (both, "50")]);
        let lift = memory_limits(Unlimited, Unlimited);
        table(&lift, &current, &[(both, "-1"), (memory, "-1")]);
    }

    #[test]
    fn lifting_the_memory_limit_lifts_the_one_with_swap() {
        let mut limits = Limits::default();
        limits.memory.limit = Some(Ceiling::Unlimited);
        let current = Current {
            memory: Ceiling::At(100),
            memory_with_swap: Ceiling::At(100),
            ..Current::FRESH
        };
        table(
            &limits,
            &current,
            &[("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")],
        );
    }

    #[test]
    fn quota_and_period_are_ordered_so_that_the_share_never_peaks() {
        let (quota, period) = ("cpu.cfs_quota_us", "cpu.cfs_period_us");
        let limits = |q, p| Limits {
            cpu: CpuLimits { quota: Some(Ceiling::At(q)), period: Some(p), ..CpuLimits::default() },
            ..Limits::default()
        };
        let current = Current { cpu_quota: Ceiling::At(50_000), ..Current::FRESH };
        table(&limits(80_000, 200_000), &current, &[(period, "200000"), (quota, "80000")]);
        table(&limits(5_000, 10_000), &current, &[(quota, "5000"), (period, "10000")]);
    }

    #[test]
    fn device_rules_start_from_none() {
        let rule = |permission, kind, major, access| DeviceRule {
            permission,
            kind,
            major,
            minor: None,
            access: DeviceAccess::from_letters(access).unwrap(),
        };
        let rules = vec![
            rule(Permission::Allow, DeviceKind::Character, Some(1), "rwm"),
            rule(Permission::Allow, DeviceKind::All, None, "m"),
            rule(Permission::Deny, DeviceKind::Block, Some(8), "w"),
            rule(Permission::Allow, DeviceKind::All, None, "rwm"),
        ];
        let list = devices(&Devices::Only(rules));
        let lines: Vec<_> = list.iter().map(|w| (w.file.as_ref(), w.value.as_str())).collect();
        assert_eq!(
            lines,
            [
                ("devices.deny", "a *:* rwm"),
                ("devices.allow", "c 1:* rwm"),
                ("devices.allow", "b *:* m"),
                ("devices.allow", "c *:* m"),
                ("devices.deny", "b 8:* w"),
                ("devices.allow", "a *:* rwm"),
            ]
        );
        assert_eq!(devices(&Devices::Only(Vec::new())).len(), 1, "an empty list grants nothing");
        assert!(devices(&Devices::Untouched).is_empty());
    }
}
