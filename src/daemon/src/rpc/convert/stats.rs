//! What pods and containers use.

use super::container::metadata_to_cri as container_metadata;
use super::fields::unsorted;
use super::pod::metadata_to_cri as pod_metadata;
use cringle_proto_cri::v1;
use cringle_service::stats::{
    ContainerStats, Interface, LayerUsage, MemoryUsage, PodStats, Pressure, Traffic, Usage, Waiting,
};
use std::time::Duration;

/// The interface that is shown as the pod's own: the kubelet looks for this name.
const DEFAULT_INTERFACE: &str = "eth0";

/// What a container uses; `layers` is where writable layers lie.
pub(in crate::rpc) fn container_stats(stats: &ContainerStats, layers: &str) -> v1::ContainerStats {
    let record = &stats.record;
    let usage = stats.usage.as_deref();
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: record.id.to_string(),
            metadata: Some(container_metadata(&record.spec.metadata)),
            labels: unsorted(&record.spec.labels),
            annotations: unsorted(&record.spec.annotations),
        }),
        cpu: usage.map(cpu),
        memory: usage.and_then(memory),
        writable_layer: Some(layer(&stats.layer, layers)),
        swap: usage.and_then(swap),
        io: usage.and_then(io),
    }
}

/// What a pod uses.
pub(in crate::rpc) fn pod_stats(stats: &PodStats, layers: &str) -> v1::PodSandboxStats {
    let record = &stats.record;
    let usage = stats.usage.as_ref();
    let containers = stats.containers.iter();
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: record.id.to_string(),
            metadata: Some(pod_metadata(&record.spec.metadata)),
            labels: unsorted(&record.spec.labels),
            annotations: unsorted(&record.spec.annotations),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: usage.map(cpu),
            memory: usage.and_then(memory),
            network: stats.traffic.as_ref().map(network),
            process: usage.and_then(process),
            containers: containers.map(|stats| container_stats(stats, layers)).collect(),
            io: usage.and_then(io),
        }),
        windows: None,
    }
}

fn cpu(usage: &Usage) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: usage.at.to_wire(),
        usage_core_nano_seconds: number(nanoseconds(usage.cpu)),
        usage_nano_cores: usage.rate.per_second.and_then(|used| number(nanoseconds(used))),
        psi: usage.cpu_pressure.as_ref().map(pressure),
    }
}

fn memory(usage: &Usage) -> Option<v1::MemoryUsage> {
    let memory: &MemoryUsage = usage.memory.as_ref()?;
    let available = memory.limit.map(|limit| limit.saturating_sub(memory.working_set));
    Some(v1::MemoryUsage {
        timestamp: usage.at.to_wire(),
        working_set_bytes: number(memory.working_set),
        available_bytes: available.and_then(number),
        usage_bytes: number(memory.usage),
        rss_bytes: number(memory.anonymous),
        page_faults: number(memory.page_faults),
        major_page_faults: number(memory.major_page_faults),
        psi: usage.memory_pressure.as_ref().map(pressure),
    })
}

fn swap(usage: &Usage) -> Option<v1::SwapUsage> {
    let memory = usage.memory.as_ref()?;
    let available = memory.swap_limit.map(|limit| limit.saturating_sub(memory.swap));
    Some(v1::SwapUsage {
        timestamp: usage.at.to_wire(),
        swap_available_bytes: available.and_then(number),
        swap_usage_bytes: number(memory.swap),
    })
}

fn io(usage: &Usage) -> Option<v1::IoUsage> {
    let psi = usage.io_pressure.as_ref().map(pressure)?;
    Some(v1::IoUsage { timestamp: usage.at.to_wire(), psi: Some(psi) })
}

fn process(usage: &Usage) -> Option<v1::ProcessUsage> {
    let process_count = number(usage.tasks?);
    Some(v1::ProcessUsage { timestamp: usage.at.to_wire(), process_count })
}

fn layer(usage: &LayerUsage, directory: &str) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: usage.at.to_wire(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: directory.to_owned() }),
        used_bytes: number(usage.bytes),
        inodes_used: number(usage.inodes),
    }
}

fn network(traffic: &Traffic) -> v1::NetworkUsage {
    let interfaces = traffic.interfaces.iter();
    let (default, others): (Vec<_>, Vec<_>) =
        interfaces.map(interface).partition(|one| one.name == DEFAULT_INTERFACE);
    v1::NetworkUsage {
        timestamp: traffic.at.to_wire(),
        default_interface: default.into_iter().next(),
        interfaces: others,
    }
}

fn interface(interface: &Interface) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(interface.received.bytes),
        rx_errors: number(interface.received.errors),
        tx_bytes: number(interface.sent.bytes),
        tx_errors: number(interface.sent.errors),
    }
}

fn pressure(pressure: &Pressure) -> v1::PsiStats {
    let line = |waiting: &Waiting| v1::PsiData {
        total: nanoseconds(waiting.total),
        avg10: waiting.last_10,
        avg60: waiting.last_60,
        avg300: waiting.last_300,
    };
    v1::PsiStats { full: Some(line(&pressure.full)), some: Some(line(&pressure.some)) }
}

/// Always something: the type only lets the wire tell 0 from absent.
fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
