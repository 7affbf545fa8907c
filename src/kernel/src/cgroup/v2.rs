//! Limits as writes to cgroup v2 files: one pure function, tested as a table.

use super::CgroupError;
use super::layout::Controller;
use super::limits::{Ceiling, CpuLimits, Current, Limits, MemoryLimits};
use super::write::{Tolerance, Write};
use std::collections::BTreeMap;

/// The writes that set these limits, in an order the kernel accepts.
pub(super) fn writes(limits: &Limits, current: &Current) -> Result<Vec<Write>, CgroupError> {
    let mut list = Vec::new();
    cpu(&limits.cpu, current, &mut list);
    memory(&limits.memory, current, &mut list)?;
    if let Some(pids) = limits.pids {
        list.push(Write::new(Controller::Pids, "pids.max", text(pids)));
    }
    for (size, bytes) in &limits.huge_pages {
        for name in ["max", "rsvd.max"] {
            let write = Write::new(Controller::Hugetlb, format!("hugetlb.{size}.{name}"), bytes);
            list.push(write.tolerating(Tolerance::Missing));
        }
    }
    Ok(list)
}

/// The writes of the `unified` map: any file of any v2 controller, one line at a time.
pub(super) fn unified(files: &BTreeMap<String, String>) -> Result<Vec<Write>, CgroupError> {
    let mut list = Vec::new();
    for (file, value) in files {
        let controller =
            owner(file).ok_or_else(|| CgroupError::UnifiedFile { file: file.clone() })?;
        list.extend(value.lines().map(|line| Write::new(controller, file.clone(), line)));
    }
    Ok(list)
}

/// The controller that a file belongs to. Files of the core (`cgroup.procs`, `cgroup.kill`) are not limits.
fn owner(file: &str) -> Option<Controller> {
    let (prefix, rest) = file.split_once('.')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    if rest.is_empty() || !file.chars().all(plain) || file.contains("..") {
        return None;
    }
    Controller::from_name(prefix)
}

fn cpu(cpu: &CpuLimits, current: &Current, list: &mut Vec<Write>) {
    if let Some(shares) = cpu.shares {
        list.push(Write::new(Controller::Cpu, "cpu.weight", weight(shares)));
    }
    let burst = cpu.burst.map(|burst| {
        Write::new(Controller::Cpu, "cpu.max.burst", burst).tolerating(Tolerance::Missing)
    });
    let maximum = maximum(cpu, current).map(|value| Write::new(Controller::Cpu, "cpu.max", value));
    // A burst may never exceed the quota, not even between two writes.
    if cpu.burst.is_some_and(|burst| burst > current.cpu_burst) {
        list.extend(maximum.into_iter().chain(burst));
    } else {
        list.extend(burst.into_iter().chain(maximum));
    }
    if let Some(cpus) = &cpu.cpus {
        list.push(Write::new(Controller::Cpuset, "cpuset.cpus", cpus));
    }
    if let Some(nodes) = &cpu.memory_nodes {
        list.push(Write::new(Controller::Cpuset, "cpuset.mems", nodes));
    }
}

fn maximum(cpu: &CpuLimits, current: &Current) -> Option<String> {
    match (cpu.quota, cpu.period) {
        (None, None) => None,
        // The kernel keeps the period when only the quota is given.
        (Some(quota), None) => Some(text(quota)),
        (quota, Some(period)) => {
            Some(format!("{} {period}", text(quota.unwrap_or(current.cpu_quota))))
        }
    }
}

fn memory(
    memory: &MemoryLimits,
    current: &Current,
    list: &mut Vec<Write>,
) -> Result<(), CgroupError> {
    if let Some(limit) = memory.limit {
        list.push(Write::new(Controller::Memory, "memory.max", text(limit)));
    }
    if let Some(with_swap) = memory.with_swap {
        let swap = swap(memory.limit.unwrap_or(current.memory), with_swap)?;
        let write = Write::new(Controller::Memory, "memory.swap.max", text(swap));
        list.push(write.tolerating(Tolerance::Missing));
    }
    if let Some(reservation) = memory.reservation {
        list.push(Write::new(Controller::Memory, "memory.low", text(reservation)));
    }
    Ok(())
}

/// Swap alone, out of memory and swap together.
fn swap(memory: Ceiling, with_swap: Ceiling) -> Result<Ceiling, CgroupError> {
    let refuse = |problem| Err(CgroupError::Contradiction { problem });
    match (memory, with_swap) {
        (_, Ceiling::Unlimited) => Ok(Ceiling::Unlimited),
        (Ceiling::Unlimited, Ceiling::At(_)) => refuse("swap is limited but memory is not"),
        (Ceiling::At(memory), Ceiling::At(both)) => match both.checked_sub(memory) {
            Some(swap) => Ok(Ceiling::At(swap)),
            None => refuse("memory with swap is limited to less than memory"),
        },
    }
}

fn text(ceiling: Ceiling) -> String {
    match ceiling {
        Ceiling::Unlimited => "max".to_owned(),
        Ceiling::At(value) => value.to_string(),
    }
}

/// The v2 weight for v1 shares: the curve through both ends and both defaults (2 → 1, 1024 → 100, 262144 → 10000),
/// a parabola in the logarithms: `log10(weight) = l²/612 + 125·l/612 − 7/34` with `l = log2(shares)`.
pub(super) fn weight(shares: u64) -> u64 {
    // 18 bits at most: exact in every type used below.
    let shares = u32::try_from(shares.clamp(2, 262_144)).unwrap_or(262_144);
    let l = f64::from(shares).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    smallest_not_below(10_f64.powf(exponent))
}

/// The smallest whole weight that is not below `wanted`, up to rounding noise.
fn smallest_not_below(wanted: f64) -> u64 {
    let (mut low, mut high) = (1_u16, 10_000_u16);
    while low < high {
        let middle = low.midpoint(high);
        if f64::from(middle) + 1e-6 >= wanted {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limits: &Limits, current: &Current) -> Vec<(String, String)> {
        let list = writes(limits, current).unwrap();
        list.into_iter().map(|write| (write.file.into_owned(), write.value)).collect()
    }

    fn table(limits: &Limits, expected: &[(&str, &str)]) {
        let lines = lines(limits, &Current::FRESH);
        let lines: Vec<_> = lines.iter().map(|(f, v)| (f.as_str(), v.as_str())).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn shares_map_onto_weights_with_both_ends_and_the_default_matching() {
        for (shares, expected) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        let mut last = 0;
        for shares in (2..=262_144).step_by(97) {
            let weight = weight(shares);
            assert!(weight >= last, "weight falls at {shares}");
            last = weight;
        }
    }

    #[test]
    fn nothing_given_is_nothing_written() {
        table(&Limits::default(), &[]);
    }

    #[test]
    fn all_limits_are_written_in_order() {
        let limits = Limits {
            cpu: CpuLimits {
                shares: Some(1024),
                quota: Some(Ceiling::At(50_000)),
                period: Some(100_000),
                burst: Some(1000),
                cpus: Some("0-1".to_owned()),
                memory_nodes: Some("0".to_owned()),
            },
            memory: MemoryLimits {
                limit: Some(Ceiling::At(100)),
                with_swap: Some(Ceiling::At(150)),
                reservation: Some(Ceiling::At(60)),
            },
            pids: Some(Ceiling::Unlimited),
            huge_pages: BTreeMap::from([("2MB".to_owned(), 4_194_304)]),
            ..Limits::default()
        };
        table(
            &limits,
            &[
                ("cpu.weight", "100"),
                ("cpu.max", "50000 100000"),
                ("cpu.max.burst", "1000"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("memory.max", "100"),
                ("memory.swap.max", "50"),
                ("memory.low", "60"),
                ("pids.max", "max"),
                ("hugetlb.2MB.max", "4194304"),
                ("hugetlb.2MB.rsvd.max", "4194304"),
            ],
        );
    }

    #[test]
    fn a_lower_burst_is_written_before_the_quota() {
        let limits = Limits {
            cpu: CpuLimits {
                quota: Some(Ceiling::At(10_000)),
                burst: Some(5_000),
                ..CpuLimits::default()
            },
            ..Limits::default()
        };
        let current = Current { cpu_burst: 20_000, ..Current::FRESH };
        let lines = lines(&limits, &current);
        assert_eq!(lines[0].0, "cpu.max.burst");
        assert_eq!(lines[1], ("cpu.max".to_owned(), "10000".to_owned()));
    }

    #[test]
    fn a_period_alone_keeps_the_quota() {
        let limits = Limits {
            cpu: CpuLimits { period: Some(50_000), ..CpuLimits::default() },
            ..Limits::default()
        };
        let current = Current { cpu_quota: Ceiling::At(7_000), ..Current::FRESH };
        assert_eq!(lines(&limits, &current), [("cpu.max".to_owned(), "7000 50000".to_owned())]);
    }

    #[test]
    fn swap_is_what_remains_over_memory() {
        use Ceiling::{At, Unlimited};
        assert_eq!(swap(At(100), At(100)).unwrap(), At(0));
        assert_eq!(swap(At(100), Unlimited).unwrap(), Unlimited);
        assert_eq!(swap(Unlimited, Unlimited).unwrap(), Unlimited);
        assert!(matches!(swap(At(100), At(99)), Err(CgroupError::Contradiction { .. })));
        assert!(matches!(swap(Unlimited, At(99)), Err(CgroupError::Contradiction { .. })));
    }

    #[test]
    fn unified_files_are_written_line_by_line() {
        let files = BTreeMap::from([
            ("io.max".to_owned(), "8:0 rbps=1\n8:16 rbps=2".to_owned()),
            ("memory.high".to_owned(), "max".to_owned()),
        ]);
        let list = unified(&files).unwrap();
        let lines: Vec<_> = list.iter().map(|w| (w.controller, w.value.as_str())).collect();
        assert_eq!(
            lines,
            [
                (Controller::Io, "8:0 rbps=1"),
                (Controller::Io, "8:16 rbps=2"),
                (Controller::Memory, "max"),
            ]
        );
    }

    #[test]
    fn a_unified_file_that_is_no_limit_is_refused() {
        for file in [
            "",
            "memory",
            "memory.",
            "cgroup.procs",
            "cgroup.subtree_control",
            "../memory.max",
            "memory/../x.max",
            "memory..max",
            "memory.max\n",
            "nothing.max",
        ] {
            let files = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
            assert!(
                matches!(unified(&files), Err(CgroupError::UnifiedFile { .. })),
                "{file:?} was not refused"
            );
        }
    }
}
