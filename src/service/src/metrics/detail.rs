//! What only metrics want to know of a container, and what is dear to find out.

use crate::cgroups::Cgroups;
use crate::clock::Clock;
use crate::container::Container;
use cringle_domain::container::ContainerPhase;
use cringle_domain::process::ProcessIdentity;
use cringle_domain::time::Timestamp;
use cringle_kernel::cgroup::{Cgroup, CgroupError, CpuUsage, DeviceIo, HugePages, MemoryPast};
use cringle_kernel::proc::{self, OpenFiles};
use std::time::Duration;

/// How old the count of open files may be: each of them has to be looked at.
const OPEN_FILES_AGE: Duration = Duration::from_secs(10);

/// How many open files of one container are counted at most.
const OPEN_FILES_LIMIT: u64 = 1 << 16;

/// Details of a container.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(super) cpu: Option<CpuUsage>,
    pub(super) past: Option<MemoryPast>,
    pub(super) io: Vec<NamedIo>,
    pub(super) huge_pages: Vec<HugePages>,
    pub(super) processes: u64,
    pub(super) task_limit: Option<u64>,
    pub(super) soft_limits: Vec<(String, u64)>,
    pub(super) open_files: (Timestamp, OpenFiles),
}

/// What went to and from a device, and the device's name.
#[derive(Debug)]
pub(super) struct NamedIo {
    /// `/dev/vda`; its numbers if the kernel has no name for it (any more).
    pub(super) device: String,
    pub(super) io: DeviceIo,
}

/// Reads the details of a container anew, if it runs.
pub(super) fn read(cgroups: &Cgroups, clock: Clock, container: &Container) {
    let record = container.record();
    container.detail.read(|last| {
        let process = match &record.phase {
            ContainerPhase::Running { process, .. } => *process,
            ContainerPhase::Creating
            | ContainerPhase::Created
            | ContainerPhase::Exited { .. }
            | ContainerPhase::Removing => return None,
        };
        let cgroup = cgroups.at(&record.cgroup)?;
        match detail(&cgroup, process, clock.now(), last) {
            Ok(detail) => Some(detail),
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(container = %record.id, error, "details not read");
                None
            }
        }
    });
}

fn detail(
    cgroup: &Cgroup,
    process: ProcessIdentity,
    now: Timestamp,
    last: Option<&Detail>,
) -> Result<Detail, CgroupError> {
    let pids = cgroup.pids()?;
    let counted = last.map(|last| last.open_files).filter(|(at, _)| {
        let age = now.nanoseconds().saturating_sub(at.nanoseconds());
        Duration::from_nanos(age) < OPEN_FILES_AGE
    });
    Ok(Detail {
        cpu: cgroup.cpu_usage()?,
        past: cgroup.memory_past()?,
        io: cgroup.device_io()?.into_iter().map(named).collect(),
        huge_pages: cgroup.huge_pages()?,
        processes: u64::try_from(pids.len()).unwrap_or(u64::MAX),
        task_limit: cgroup.task_limit()?,
        // It may have ended meanwhile.
        soft_limits: proc::soft_limits(process.pid).unwrap_or_default(),
        open_files: counted.unwrap_or_else(|| (now, open_files(&pids))),
    })
}

fn named(io: DeviceIo) -> NamedIo {
    let numbers = format!("{}:{}", io.major, io.minor);
    let link = std::fs::read_link(format!("/sys/dev/block/{numbers}")).ok();
    let name = link.as_deref().and_then(|link| link.file_name()?.to_str());
    let device = name.map_or(numbers, |name| format!("/dev/{name}"));
    NamedIo { device, io }
}

fn open_files(pids: &[u32]) -> OpenFiles {
    let mut sum = OpenFiles::default();
    for pid in pids {
        // One that is gone has none.
        let left = OPEN_FILES_LIMIT.saturating_sub(sum.descriptors);
        let Ok(files) = proc::open_files(*pid, left) else { continue };
        sum.descriptors += files.descriptors;
        sum.sockets += files.sockets;
    }
    sum
}
