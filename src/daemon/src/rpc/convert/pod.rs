//! Pods.

use super::fields::{filled, known, present, sorted, unsorted};
use super::{namespaces, resources, security};
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::check_cgroup_parent;
use cringle_domain::spec::{DnsConfig, PodMetadata, PodSpec, PortMapping, Protocol};
use cringle_proto_cri::v1;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pod as RunPodSandbox asks for it.
pub(in crate::rpc) fn pod_spec(request: v1::RunPodSandboxRequest) -> Result<PodSpec, Refusal> {
    let config = present(request.config, "config")?;
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let cgroup_parent = Some(linux.cgroup_parent).filter(|parent| !parent.is_empty());
    if let Some(parent) = &cgroup_parent {
        check_cgroup_parent(parent)?;
    }
    Ok(PodSpec {
        metadata: metadata(present(config.metadata, "config.metadata")?)?,
        hostname: config.hostname,
        log_directory: log_directory(&config.log_directory)?,
        dns: config.dns_config.map(|dns| DnsConfig {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        port_mappings: port_mappings(&config.port_mappings)?,
        labels: sorted(config.labels),
        annotations: sorted(config.annotations),
        cgroup_parent,
        sysctls: sorted(linux.sysctls),
        namespaces: namespaces::pod(context.namespace_options.as_ref())?,
        security: security::pod(context)?,
        resources: resources::pod_resources(linux.overhead, linux.resources)?,
        runtime_handler: request.runtime_handler,
    })
}

/// Which pods a list is about: an id or the beginning of one, and what else they must be.
pub(in crate::rpc) fn pod_filter(
    filter: Option<v1::PodSandboxFilter>,
) -> Result<(String, impl Fn(&PodRecord) -> bool), Refusal> {
    let filter = filter.unwrap_or_default();
    let state = filter.state.map(|state| known::<v1::PodSandboxState>(state.state, "filter.state"));
    let wanted = state.transpose()?;
    let selector = sorted(filter.label_selector);
    let passes = move |record: &PodRecord| {
        wanted.is_none_or(|wanted| wanted == state_of(record))
            && selects(&selector, &record.spec.labels)
    };
    Ok((filter.id, passes))
}

/// A pod in a list.
pub(in crate::rpc) fn pod_item(record: &PodRecord) -> v1::PodSandbox {
    v1::PodSandbox {
        id: record.id.to_string(),
        metadata: Some(metadata_to_cri(&record.spec.metadata)),
        state: state_of(record).into(),
        created_at: record.created.to_wire(),
        labels: unsorted(&record.spec.labels),
        annotations: unsorted(&record.spec.annotations),
        runtime_handler: record.spec.runtime_handler.clone(),
    }
}

/// The state of a pod.
pub(in crate::rpc) fn pod_status(record: &PodRecord) -> v1::PodSandboxStatus {
    let options = namespaces::to_cri(record.spec.namespaces);
    v1::PodSandboxStatus {
        id: record.id.to_string(),
        metadata: Some(metadata_to_cri(&record.spec.metadata)),
        state: state_of(record).into(),
        created_at: record.created.to_wire(),
        network: Some(network(record)),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(options) }),
        }),
        labels: unsorted(&record.spec.labels),
        annotations: unsorted(&record.spec.annotations),
        runtime_handler: record.spec.runtime_handler.clone(),
    }
}

/// Whether labels have every pair of a selector.
pub(super) fn selects(
    selector: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn metadata(metadata: v1::PodSandboxMetadata) -> Result<PodMetadata, Refusal> {
    Ok(PodMetadata {
        name: filled(metadata.name, "config.metadata.name")?,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
    })
}

pub(super) fn metadata_to_cri(metadata: &PodMetadata) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

fn log_directory(path: &str) -> Result<Option<PathBuf>, Refusal> {
    if path.is_empty() {
        return Ok(None);
    }
    cringle_domain::mounts::clean(path.as_ref())
        .map(Some)
        .map_err(|error| Refusal::invalid("config.log_directory", error.to_string()))
}

/// The ports that are published: a mapping without a port of the host asks for nothing (F-005).
fn port_mappings(mappings: &[v1::PortMapping]) -> Result<Vec<PortMapping>, Refusal> {
    mappings.iter().filter(|mapping| mapping.host_port != 0).map(port_mapping).collect()
}

fn port_mapping(mapping: &v1::PortMapping) -> Result<PortMapping, Refusal> {
    let protocol = match known(mapping.protocol, "config.port_mappings.protocol")? {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Sctp => Protocol::Sctp,
    };
    let host_address = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_malformed| {
            let problem = format!("{text:?} is not an address");
            Refusal::invalid("config.port_mappings.host_ip", problem)
        })?),
    };
    Ok(PortMapping {
        protocol,
        host_port: port(mapping.host_port, "config.port_mappings.host_port")?,
        container_port: port(mapping.container_port, "config.port_mappings.container_port")?,
        host_address,
    })
}

/// A number of a port.
pub(super) fn port(number: i32, field: &str) -> Result<u16, Refusal> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Refusal::invalid(field, format!("{number} is not in 1 to 65535")))
}

fn state_of(record: &PodRecord) -> v1::PodSandboxState {
    match record.phase {
        PodPhase::Ready { .. } => v1::PodSandboxState::SandboxReady,
        PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => {
            v1::PodSandboxState::SandboxNotready
        }
    }
}

fn network(record: &PodRecord) -> v1::PodSandboxNetworkStatus {
    let addresses = match &record.phase {
        PodPhase::Ready { addresses, .. } => addresses.as_slice(),
        PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => &[],
    };
    let mut texts = addresses.iter().map(ToString::to_string);
    v1::PodSandboxNetworkStatus {
        ip: texts.next().unwrap_or_default(),
        additional_ips: texts.map(|ip| v1::PodIp { ip }).collect(),
    }
}

/// The part of a container's security context that is the pod's.
pub(super) fn namespace_options(
    config: Option<&v1::PodSandboxConfig>,
) -> Option<&v1::NamespaceOption> {
    config?.linux.as_ref()?.security_context.as_ref()?.namespace_options.as_ref()
}

#[cfg(test)]
mod tests;
