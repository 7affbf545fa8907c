//! CPU, memory and pressure of a container or a pod, from its cgroup.

use crate::cgroups::Cgroups;
use crate::clock::Clock;
use crate::container::Container;
use cringle_domain::container::ContainerPhase;
use cringle_domain::time::Timestamp;
use cringle_kernel::cgroup::{Cgroup, CgroupError, MemoryUsage, Pressure, Resource};
use std::time::Duration;

/// CPU time is charged by the tick, so that a rate over less would say little.
const RATE_INTERVAL: Duration = Duration::from_millis(500);

/// What is used now, and was used so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// When this was read.
    pub at: Timestamp,
    /// CPU time used.
    pub cpu: Duration,
    /// CPUs used over the last while.
    pub rate: Rate,
    /// Memory, if the host counts it.
    pub memory: Option<MemoryUsage>,
    /// Threads, if the host counts them.
    pub tasks: Option<u64>,
    /// Waiting for CPU time, if the kernel counts it.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory, if the kernel counts it.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for input and output, if the kernel counts it.
    pub io_pressure: Option<Pressure>,
}

/// How fast CPU time is used: the difference of two readings that are far enough apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// CPU time used in a second, by the last two readings that were far enough apart.
    pub per_second: Option<Duration>,
    /// The later of them, from which the next rate counts.
    since: (Timestamp, Duration),
}

impl Rate {
    fn next(last: Option<Self>, at: Timestamp, cpu: Duration) -> Self {
        let Some(last) = last else { return Self { per_second: None, since: (at, cpu) } };
        let (then, before) = last.since;
        let elapsed = at.nanoseconds().saturating_sub(then.nanoseconds());
        match (cpu.checked_sub(before), Duration::from_nanos(elapsed)) {
            // A new cgroup of the same name counts anew, and a clock may be set back.
            (None, _) => Self { per_second: None, since: (at, cpu) },
            (Some(_), _) if at < then => Self { since: (at, cpu), ..last },
            (Some(_), elapsed) if elapsed < RATE_INTERVAL => last,
            (Some(used), elapsed) => {
                let rate = used.as_secs_f64() / elapsed.as_secs_f64();
                let per_second = Duration::try_from_secs_f64(rate).ok();
                Self { per_second, since: (at, cpu) }
            }
        }
    }
}

/// Reads a container's cgroup anew, if it runs.
pub(super) fn read(cgroups: &Cgroups, clock: Clock, container: &Container) {
    let record = container.record();
    let runs = matches!(record.phase, ContainerPhase::Running { .. });
    container.usage.read(|last| {
        if !runs {
            return None;
        }
        of(&cgroups.at(&record.cgroup)?, clock, last)
    });
}

/// What a cgroup uses; none if it is gone.
pub(super) fn of(cgroup: &Cgroup, clock: Clock, last: Option<&Usage>) -> Option<Usage> {
    match measure(cgroup, clock, last) {
        Ok(usage) => usage,
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::warn!(cgroup = cgroup.name(), error, "usage not read");
            last.cloned()
        }
    }
}

fn measure(
    cgroup: &Cgroup,
    clock: Clock,
    last: Option<&Usage>,
) -> Result<Option<Usage>, CgroupError> {
    let at = clock.now();
    let Some(cpu) = cgroup.cpu_time()? else { return Ok(None) };
    Ok(Some(Usage {
        at,
        cpu,
        rate: Rate::next(last.map(|last| last.rate), at, cpu),
        memory: cgroup.memory_usage()?,
        tasks: cgroup.task_count()?,
        cpu_pressure: cgroup.pressure(Resource::Cpu)?,
        memory_pressure: cgroup.pressure(Resource::Memory)?,
        io_pressure: cgroup.pressure(Resource::Io)?,
    }))
}

impl Usage {
    /// What several use together. Pressure can't be added up: two that wait at the same time wait once.
    pub(super) fn sum(parts: &mut dyn Iterator<Item = &Self>) -> Option<Self> {
        parts.cloned().reduce(|sum, part| Self {
            // As old as its oldest part.
            at: sum.at.min(part.at),
            cpu: sum.cpu + part.cpu,
            rate: Rate {
                per_second: both(sum.rate.per_second, part.rate.per_second, |a, b| a + b),
                since: sum.rate.since,
            },
            memory: both(sum.memory, part.memory, add),
            tasks: both(sum.tasks, part.tasks, |a, b| a + b),
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
        })
    }
}

fn both<T>(one: Option<T>, other: Option<T>, add: fn(T, T) -> T) -> Option<T> {
    one.zip(other).map(|(one, other)| add(one, other))
}

/// Together they have a limit if each has one.
fn add(one: MemoryUsage, other: MemoryUsage) -> MemoryUsage {
    MemoryUsage {
        usage: one.usage + other.usage,
        working_set: one.working_set + other.working_set,
        anonymous: one.anonymous + other.anonymous,
        cache: one.cache + other.cache,
        mapped: one.mapped + other.mapped,
        swap: one.swap + other.swap,
        limit: both(one.limit, other.limit, u64::saturating_add),
        swap_limit: both(one.swap_limit, other.swap_limit, u64::saturating_add),
        page_faults: one.page_faults + other.page_faults,
        major_page_faults: one.major_page_faults + other.major_page_faults,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanoseconds(1_000_000_000_000 + milliseconds * 1_000_000)
    }

    fn used(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_rate_needs_two_readings_that_are_far_enough_apart() {
        let first = Rate::next(None, at(0), used(100));
        assert_eq!(first.per_second, None);
        let soon = Rate::next(Some(first), at(10), used(110));
        assert_eq!(soon, first);
        let second = Rate::next(Some(soon), at(1000), used(1100));
        assert_eq!(second.per_second, Some(used(1000)));
        // What came in between does not shorten the interval.
        let third = Rate::next(Some(second), at(3000), used(2100));
        assert_eq!(third.per_second, Some(used(500)));
    }

    #[test]
    fn a_new_count_and_a_clock_set_back_make_no_rate() {
        let first = Rate::next(None, at(0), used(5000));
        let second = Rate::next(Some(first), at(1000), used(6000));
        assert_eq!(Rate::next(Some(second), at(2000), used(10)).per_second, None);
        let back = Rate::next(Some(second), at(500), used(6500));
        assert_eq!(back.per_second, second.per_second);
        assert_eq!(Rate::next(Some(back), at(1500), used(7000)).per_second, Some(used(500)));
    }

    #[test]
    fn a_sum_has_what_all_parts_have() {
        let part = |limit| Usage {
            at: at(0),
            cpu: used(1),
            rate: Rate { per_second: Some(used(2)), since: (at(0), used(0)) },
            memory: Some(MemoryUsage { usage: 3, limit, ..MemoryUsage::default() }),
            tasks: Some(4),
            cpu_pressure: Some(Pressure::default()),
            memory_pressure: None,
            io_pressure: None,
        };
        let sum = Usage::sum(&mut [&part(Some(5)), &part(Some(6))].into_iter()).unwrap();
        assert_eq!((sum.cpu, sum.rate.per_second, sum.tasks), (used(2), Some(used(4)), Some(8)));
        assert_eq!(sum.memory.unwrap().limit, Some(11));
        assert_eq!(sum.cpu_pressure, None);
        let sum = Usage::sum(&mut [&part(None), &part(Some(6))].into_iter()).unwrap();
        assert_eq!(sum.memory.unwrap().limit, None);
        assert_eq!(Usage::sum(&mut [].into_iter()), None);
    }
}
