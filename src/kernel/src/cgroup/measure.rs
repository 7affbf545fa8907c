//! Readings: what a cgroup uses, and how often it hit its memory limit.
//!
//! A cgroup that is gone has no reading: a counter that falls back to zero would be taken for a new one.

mod hugetlb;
mod io;
mod pressure;
mod text;

pub use hugetlb::HugePages;
pub use io::DeviceIo;
pub use pressure::{Pressure, Resource, Waiting};

pub(super) use text::number;

use super::layout::{Controller, Version};
use super::processes::children;
use super::{Cgroup, CgroupError, Directory};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use text::Keyed;

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
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped: u64,
    /// Swap.
    pub swap: u64,
    /// The limit; none if there isn't one.
    pub limit: Option<u64>,
    /// The limit of swap; none if there isn't one.
    pub swap_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to read.
    pub major_page_faults: u64,
}

/// What is rarely asked of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryPast {
    /// The most that was ever charged; kernels before 5.19 don't keep it on v2.
    pub peak: Option<u64>,
    /// Memory of the kernel itself.
    pub kernel: u64,
    /// Trouble.
    pub events: MemoryEvents,
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
                let value = |key| events.as_ref().map_or(0, |events| events.value(key));
                Ok(MemoryEvents { kills: value("oom_kill"), limit_hits: value("max") })
            }
            Version::V1 => v1_memory_events(&home.path),
        }
    }

    /// CPU time used in it and below; none if it is gone.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn cpu_time(&self) -> Result<Option<Duration>, CgroupError> {
        if let Some(home) = self.home(Controller::Cpuacct) {
            return nanoseconds(&home.path.join("cpuacct.usage"));
        }
        let Some(home) = self.v2_home() else { return Ok(None) };
        let stat = Keyed::read(&home.path.join("cpu.stat"))?;
        Ok(stat.map(|stat| Duration::from_micros(stat.value("usage_usec"))))
    }

    /// CPU time used in it and below, and what its quota did; none if it is gone.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn cpu_usage(&self) -> Result<Option<CpuUsage>, CgroupError> {
        let Some(cpu) = self.home(Controller::Cpu).or_else(|| self.v2_home()) else {
            return Ok(None);
        };
        let Some(stat) = Keyed::read(&cpu.path.join("cpu.stat"))? else { return Ok(None) };
        let mut usage = CpuUsage {
            periods: stat.value("nr_periods"),
            throttled_periods: stat.value("nr_throttled"),
            ..CpuUsage::default()
        };
        match cpu.version {
            Version::V2 => {
                usage.total = Duration::from_micros(stat.value("usage_usec"));
                usage.user = Duration::from_micros(stat.value("user_usec"));
                usage.system = Duration::from_micros(stat.value("system_usec"));
                usage.throttled = Duration::from_micros(stat.value("throttled_usec"));
            }
            Version::V1 => {
                usage.throttled = Duration::from_nanos(stat.value("throttled_time"));
                if let Some(home) = self.home(Controller::Cpuacct) {
                    let file = |name: &str| nanoseconds(&home.path.join(name));
                    let Some(total) = file("cpuacct.usage")? else { return Ok(None) };
                    usage.total = total;
                    usage.user = file("cpuacct.usage_user")?.unwrap_or_default();
                    usage.system = file("cpuacct.usage_sys")?.unwrap_or_default();
                }
            }
        }
        Ok(Some(usage))
    }

    /// Memory used in it and below; none if it is gone, or without the controller.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn memory_usage(&self) -> Result<Option<MemoryUsage>, CgroupError> {
        let Some(home) = self.home(Controller::Memory) else { return Ok(None) };
        let Some(stat) = Keyed::read(&home.path.join("memory.stat"))? else { return Ok(None) };
        match home.version {
            Version::V1 => v1_memory(home, &stat),
            Version::V2 => v2_memory(home, &stat),
        }
    }

    /// The past of its memory; none if it is gone, or without the controller.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn memory_past(&self) -> Result<Option<MemoryPast>, CgroupError> {
        let Some(home) = self.home(Controller::Memory) else { return Ok(None) };
        let file = |name: &str| number(&home.path.join(name));
        let (peak, kernel) = match home.version {
            Version::V1 => {
                (file("memory.max_usage_in_bytes")?, file("memory.kmem.usage_in_bytes")?)
            }
            Version::V2 => {
                let stat = Keyed::read(&home.path.join("memory.stat"))?;
                (file("memory.peak")?, stat.map(|stat| stat.value("kernel")))
            }
        };
        let Some(kernel) = kernel else { return Ok(None) };
        Ok(Some(MemoryPast { peak, kernel, events: self.memory_events()? }))
    }

    /// The number of threads in it and below; none if it is gone, or without the controller.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn task_count(&self) -> Result<Option<u64>, CgroupError> {
        self.home(Controller::Pids).map_or(Ok(None), |home| number(&home.path.join("pids.current")))
    }

    /// The most threads that it may have; none if there is no limit.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn task_limit(&self) -> Result<Option<u64>, CgroupError> {
        self.home(Controller::Pids).map_or(Ok(None), |home| number(&home.path.join("pids.max")))
    }
}

/// v1 shows "no limit" as the largest multiple of any page size; nobody has that much memory.
pub(super) const V1_UNLIMITED: u64 = 1 << 62;

fn v1_memory(home: &Directory, stat: &Keyed) -> Result<Option<MemoryUsage>, CgroupError> {
    let file = |name: &str| number(&home.path.join(name));
    let Some(usage) = file("memory.usage_in_bytes")? else { return Ok(None) };
    // Where no limit is above it there is none of its own, and a file less to read.
    let own = |above: &str, name: &str| match stat.value(above) {
        0..V1_UNLIMITED => Ok(file(name)?.filter(|limit| *limit < V1_UNLIMITED)),
        V1_UNLIMITED.. => Ok::<_, CgroupError>(None),
    };
    let limit = own("hierarchical_memory_limit", "memory.limit_in_bytes")?;
    let both = own("hierarchical_memsw_limit", "memory.memsw.limit_in_bytes")?;
    Ok(Some(MemoryUsage {
        usage,
        working_set: usage.saturating_sub(stat.value("total_inactive_file")),
        anonymous: stat.value("total_rss"),
        cache: stat.value("total_cache"),
        mapped: stat.value("total_mapped_file"),
        swap: stat.value("total_swap"),
        limit,
        swap_limit: both.zip(limit).map(|(both, limit)| both.saturating_sub(limit)),
        page_faults: stat.value("total_pgfault"),
        major_page_faults: stat.value("total_pgmajfault"),
    }))
}

fn v2_memory(home: &Directory, stat: &Keyed) -> Result<Option<MemoryUsage>, CgroupError> {
    let file = |name: &str| number(&home.path.join(name));
    let Some(usage) = file("memory.current")? else { return Ok(None) };
    Ok(Some(MemoryUsage {
        usage,
        working_set: usage.saturating_sub(stat.value("inactive_file")),
        anonymous: stat.value("anon"),
        cache: stat.value("file"),
        mapped: stat.value("file_mapped"),
        swap: file("memory.swap.current")?.unwrap_or(0),
        limit: file("memory.max")?,
        swap_limit: file("memory.swap.max")?,
        page_faults: stat.value("pgfault"),
        major_page_faults: stat.value("pgmajfault"),
    }))
}

/// On v1 each cgroup counts only its own.
fn v1_memory_events(path: &Path) -> Result<MemoryEvents, CgroupError> {
    let mut sum = MemoryEvents::default();
    let mut below = vec![path.to_path_buf()];
    while let Some(directory) = below.pop() {
        let control = Keyed::read(&directory.join("memory.oom_control"))?;
        sum.kills += control.map_or(0, |control| control.value("oom_kill"));
        // Which of the two limits stood in the way depends on which is lower.
        for file in ["memory.failcnt", "memory.memsw.failcnt"] {
            sum.limit_hits += number(&directory.join(file))?.unwrap_or(0);
        }
        below.extend(children(&directory)?);
    }
    Ok(sum)
}

fn nanoseconds(file: &Path) -> Result<Option<Duration>, CgroupError> {
    Ok(number(file)?.map(Duration::from_nanos))
}
