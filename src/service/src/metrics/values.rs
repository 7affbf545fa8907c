//! From readings to values.

use super::descriptors as d;
use super::detail::NamedIo;
use super::{Descriptor, Detail, Metric, Value};
use crate::stats::{ContainerStats, FileSystem, Traffic, Usage};
use cringle_domain::container::ContainerPhase;
use cringle_domain::resources::Resources;
use cringle_domain::time::Timestamp;
use cringle_kernel::cgroup::{MemoryUsage, Pressure};
use std::sync::Arc;
use std::time::Duration;

/// All that is known of a running container.
pub(super) struct Subject<'a> {
    pub(super) stats: &'a ContainerStats,
    pub(super) usage: &'a Usage,
    pub(super) detail: Option<Arc<Detail>>,
    pub(super) file_system: Option<&'a FileSystem>,
}

/// The values of a container.
pub(super) fn of_container(subject: &Subject<'_>) -> Vec<Metric> {
    let mut values = Vec::with_capacity(64);
    let Subject { stats, usage, detail, file_system } = subject;
    match detail.as_ref().and_then(|detail| detail.cpu) {
        Some(cpu) => {
            labelled(&mut values, &d::CPU_USAGE, &["total"], Value::Time(cpu.total));
            time(&mut values, &d::CPU_USER, cpu.user);
            time(&mut values, &d::CPU_SYSTEM, cpu.system);
            number(&mut values, &d::CPU_PERIODS, cpu.periods);
            number(&mut values, &d::CPU_THROTTLED_PERIODS, cpu.throttled_periods);
            time(&mut values, &d::CPU_THROTTLED, cpu.throttled);
        }
        None => labelled(&mut values, &d::CPU_USAGE, &["total"], Value::Time(usage.cpu)),
    }
    if let Some(memory) = &usage.memory {
        add_memory(&mut values, memory);
    }
    if let Some(detail) = detail {
        add_detail(&mut values, detail);
    }
    add_pressure(&mut values, usage);
    number(&mut values, &d::LAYER_USAGE, stats.layer.bytes);
    if let Some(file_system) = file_system {
        number(&mut values, &d::DISK_LIMIT, file_system.capacity);
        number(&mut values, &d::DISK_INODES, file_system.inodes);
        number(&mut values, &d::DISK_FREE_INODES, file_system.free_inodes);
    }
    if let Some(tasks) = usage.tasks {
        number(&mut values, &d::THREADS, tasks);
    }
    if let ContainerPhase::Running { started, .. } = &stats.record.phase {
        number(&mut values, &d::START_TIME, seconds(*started));
    }
    number(&mut values, &d::LAST_SEEN, seconds(usage.at));
    add_limits(&mut values, &stats.record.resources);
    values
}

/// The values of a pod's network.
pub(super) fn add_traffic(values: &mut Vec<Metric>, traffic: &Traffic) {
    for interface in &traffic.interfaces {
        let (received, sent) = (&interface.received, &interface.sent);
        for (descriptor, value) in [
            (&d::RECEIVED_BYTES, received.bytes),
            (&d::RECEIVED_PACKETS, received.packets),
            (&d::RECEIVED_DROPPED, received.dropped),
            (&d::RECEIVED_ERRORS, received.errors),
            (&d::SENT_BYTES, sent.bytes),
            (&d::SENT_PACKETS, sent.packets),
            (&d::SENT_DROPPED, sent.dropped),
            (&d::SENT_ERRORS, sent.errors),
        ] {
            labelled(values, descriptor, &[&interface.name], Value::Number(value));
        }
    }
}

fn add_memory(values: &mut Vec<Metric>, memory: &MemoryUsage) {
    for (descriptor, value) in [
        (&d::MEMORY_USAGE, memory.usage),
        (&d::MEMORY_WORKING_SET, memory.working_set),
        (&d::MEMORY_RSS, memory.anonymous),
        (&d::MEMORY_CACHE, memory.cache),
        (&d::MEMORY_MAPPED, memory.mapped),
        (&d::MEMORY_SWAP, memory.swap),
    ] {
        number(values, descriptor, value);
    }
    // A container's cgroup has none below it unless the container makes some, so both scopes are one.
    for scope in ["container", "hierarchy"] {
        for (kind, value) in
            [("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)]
        {
            labelled(values, &d::MEMORY_FAULTS, &[kind, scope], Value::Number(value));
        }
    }
}

fn add_detail(values: &mut Vec<Metric>, detail: &Detail) {
    if let Some(past) = &detail.past {
        number(values, &d::MEMORY_KERNEL, past.kernel);
        if let Some(peak) = past.peak {
            number(values, &d::MEMORY_PEAK, peak);
        }
        number(values, &d::MEMORY_LIMIT_HITS, past.events.limit_hits);
        number(values, &d::OOM_EVENTS, past.events.kills);
    }
    for pages in &detail.huge_pages {
        labelled(values, &d::HUGE_USAGE, &[&pages.size], Value::Number(pages.usage));
        if let Some(peak) = pages.peak {
            labelled(values, &d::HUGE_PEAK, &[&pages.size], Value::Number(peak));
        }
    }
    for io in &detail.io {
        add_io(values, io);
    }
    let (_, open) = detail.open_files;
    number(values, &d::PROCESSES, detail.processes);
    number(values, &d::THREADS_LIMIT, detail.task_limit.unwrap_or(0));
    number(values, &d::DESCRIPTORS_OPEN, open.descriptors);
    number(values, &d::SOCKETS, open.sockets);
    for (name, soft) in &detail.soft_limits {
        labelled(values, &d::SOFT_LIMITS, &[name], Value::Number(*soft));
    }
}

fn add_io(values: &mut Vec<Metric>, NamedIo { device, io }: &NamedIo) {
    let (major, minor) = (io.major.to_string(), io.minor.to_string());
    for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.written_bytes)] {
        let labels = [device.as_str(), &major, &minor, operation];
        labelled(values, &d::BLOCK_IO, &labels, Value::Number(bytes));
    }
    for (descriptor, value) in [
        (&d::READ_BYTES, io.read_bytes),
        (&d::READS, io.reads),
        (&d::WRITTEN_BYTES, io.written_bytes),
        (&d::WRITES, io.writes),
    ] {
        labelled(values, descriptor, &[device], Value::Number(value));
    }
}

fn add_pressure(values: &mut Vec<Metric>, usage: &Usage) {
    let mut add = |waiting, stalled, pressure: Option<&Pressure>| {
        if let Some(pressure) = pressure {
            time(values, waiting, pressure.some.total);
            time(values, stalled, pressure.full.total);
        }
    };
    add(&d::CPU_WAITING, &d::CPU_STALLED, usage.cpu_pressure.as_ref());
    add(&d::MEMORY_WAITING, &d::MEMORY_STALLED, usage.memory_pressure.as_ref());
    add(&d::IO_WAITING, &d::IO_STALLED, usage.io_pressure.as_ref());
}

/// Limits as they are in force; what is not set is what the kernel starts with.
fn add_limits(values: &mut Vec<Metric>, resources: &Resources) {
    number(values, &d::SPEC_CPU_PERIOD, resources.cpu_period.unwrap_or(100_000));
    let quota = resources.cpu_quota.and_then(|quota| u64::try_from(quota).ok());
    if let Some(quota) = quota.filter(|quota| *quota > 0) {
        number(values, &d::SPEC_CPU_QUOTA, quota);
    }
    number(values, &d::SPEC_CPU_SHARES, resources.cpu_shares.unwrap_or(1024));
    number(values, &d::SPEC_MEMORY, resources.memory_limit.unwrap_or(0));
    let low = resources.unified.get("memory.low").and_then(|low| low.trim().parse().ok());
    number(values, &d::SPEC_MEMORY_RESERVATION, low.unwrap_or(0));
    number(values, &d::SPEC_MEMORY_SWAP, resources.memory_and_swap_limit.unwrap_or(0));
}

fn number(values: &mut Vec<Metric>, descriptor: &'static Descriptor, value: u64) {
    labelled(values, descriptor, &[], Value::Number(value));
}

fn time(values: &mut Vec<Metric>, descriptor: &'static Descriptor, value: Duration) {
    labelled(values, descriptor, &[], Value::Time(value));
}

fn labelled(
    values: &mut Vec<Metric>,
    descriptor: &'static Descriptor,
    labels: &[&str],
    value: Value,
) {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    values.push(Metric { descriptor, labels, value });
}

fn seconds(at: Timestamp) -> u64 {
    Duration::from_nanos(at.nanoseconds()).as_secs()
}
