//! Readings: what a cgroup uses, and how often it hit its memory limit.

use super::layout::{Controller, Version};
use super::processes::{children, read_if_there};
use super::{Cgroup, CgroupError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Memory trouble, counted since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    /// Processes that the out-of-memory killer ended.
    pub kills: u64,
    /// Times the limit stood in the way. Newer kernels don't count this on v1.
    pub limit_hits: u64,
}

/// CPU time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: Duration,
    /// In programs.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled: Duration,
}

/// Memory used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// All that is charged.
    pub usage: u64,
    /// What can't easily be reclaimed: usage less inactive file pages.
    pub working_set: u64,
    /// Anonymous memory.
    pub anonymous: u64,
    /// Swap.
    pub swap: u64,
    /// The limit; none if there isn't one.
    pub limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to read.
    pub major_page_faults: u64,
}

impl Cgroup {
    /// How often the out-of-memory killer struck in it or below.
    ///
    /// # Errors
    /// If a file can't be read. A cgroup that is gone, or without the controller, has seen nothing.
    pub fn memory_events(&self) -> Result<MemoryEvents, CgroupError> {
        let Some(home) = self.home(Controller::Memory) else { return Ok(MemoryEvents::default()) };
        match home.version {
            Version::V2 => {
                let events = Keyed::read(&home.path.join("memory.events"))?;
                Ok(MemoryEvents {
                    kills: events.value("oom_kill"),
                    limit_hits: events.value("max"),
                })
            }
            Version::V1 => v1_memory_events(&home.path),
        }
    }

    /// CPU time used in it and below.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn cpu_usage(&self) -> Result<CpuUsage, CgroupError> {
        let Some(cpu) = self.home(Controller::Cpu).or_else(|| self.v2_home()) else {
            return Ok(CpuUsage::default());
        };
        let stat = Keyed::read(&cpu.path.join("cpu.stat"))?;
        let mut usage = CpuUsage {
            periods: stat.value("nr_periods"),
            throttled_periods: stat.value("nr_throttled"),
            ..CpuUsage::default()
        };
        match (cpu.version, self.home(Controller::Cpuacct)) {
            (Version::V2, _) => {
                usage.total = Duration::from_micros(stat.value("usage_usec"));
                usage.user = Duration::from_micros(stat.value("user_usec"));
                usage.system = Duration::from_micros(stat.value("system_usec"));
                usage.throttled = Duration::from_micros(stat.value("throttled_usec"));
            }
            (Version::V1, accounting) => {
                usage.throttled = Duration::from_nanos(stat.value("throttled_time"));
                if let Some(home) = accounting {
                    usage.total = nanoseconds(&home.path.join("cpuacct.usage"))?;
                    usage.user = nanoseconds(&home.path.join("cpuacct.usage_user"))?;
                    usage.system = nanoseconds(&home.path.join("cpuacct.usage_sys"))?;
                }
            }
        }
        Ok(usage)
    }

    /// Memory used in it and below.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn memory_usage(&self) -> Result<MemoryUsage, CgroupError> {
        let Some(home) = self.home(Controller::Memory) else { return Ok(MemoryUsage::default()) };
        let stat = Keyed::read(&home.path.join("memory.stat"))?;
        let file = |name: &str| number(&home.path.join(name));
        let (usage, limit, swap, prefix) = match home.version {
            Version::V1 => {
                let usage = file("memory.usage_in_bytes")?.unwrap_or(0);
                let both = file("memory.memsw.usage_in_bytes")?.unwrap_or(usage);
                let limit = file("memory.limit_in_bytes")?.filter(|limit| *limit < V1_UNLIMITED);
                (usage, limit, both.saturating_sub(usage), "total_")
            }
            Version::V2 => {
                let usage = file("memory.current")?.unwrap_or(0);
                (usage, file("memory.max")?, file("memory.swap.current")?.unwrap_or(0), "")
            }
        };
        let value = |name: &str| stat.value(&format!("{prefix}{name}"));
        Ok(MemoryUsage {
            usage,
            working_set: usage.saturating_sub(value("inactive_file")),
            anonymous: value(if home.version == Version::V1 { "rss" } else { "anon" }),
            swap,
            limit,
            page_faults: value("pgfault"),
            major_page_faults: value("pgmajfault"),
        })
    }

    /// The number of processes and threads in it and below; none without the controller.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn task_count(&self) -> Result<Option<u64>, CgroupError> {
        self.home(Controller::Pids).map_or(Ok(None), |home| number(&home.path.join("pids.current")))
    }
}

/// v1 shows "no limit" as the largest multiple of any page size; nobody has that much memory.
pub(super) const V1_UNLIMITED: u64 = 1 << 62;

/// On v1 each cgroup counts only its own.
fn v1_memory_events(path: &Path) -> Result<MemoryEvents, CgroupError> {
    let mut sum = MemoryEvents::default();
    let mut below = vec![path.to_path_buf()];
    while let Some(directory) = below.pop() {
        sum.kills += Keyed::read(&directory.join("memory.oom_control"))?.value("oom_kill");
        // Which of the two limits stood in the way depends on which is lower.
        for file in ["memory.failcnt", "memory.memsw.failcnt"] {
            sum.limit_hits += number(&directory.join(file))?.unwrap_or(0);
        }
        below.extend(children(&directory)?);
    }
    Ok(sum)
}

/// A file of lines `key value`.
struct Keyed(String);

impl Keyed {
    fn read(file: &Path) -> Result<Self, CgroupError> {
        Ok(Self(read_if_there(file)?.unwrap_or_default()))
    }

    /// The value of that key; 0 if it isn't there, as counters that a kernel lacks have counted nothing.
    fn value(&self, key: &str) -> u64 {
        let line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(line).unwrap_or(0)
    }
}

/// A file that is one number; none if it isn't there, or says `max`.
pub(super) fn number(file: &Path) -> Result<Option<u64>, CgroupError> {
    Ok(read_if_there(file)?.and_then(|text| text.trim().parse().ok()))
}

fn nanoseconds(file: &Path) -> Result<Duration, CgroupError> {
    Ok(Duration::from_nanos(number(file)?.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let stat = Keyed("total_rss 7\nrss_huge 5\nrss 3\n".to_owned());
        assert_eq!(stat.value("rss"), 3);
        assert_eq!(stat.value("total_rss"), 7);
        assert_eq!(stat.value("cache"), 0);
    }
}
