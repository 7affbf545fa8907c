//! Capability arguments: what the runtime offers to plugins that ask for it (`runtimeConfig`).

use crate::bandwidth;
use crate::conf::{Object, PlanError};
use cringle_domain::spec::{PodSpec, Protocol};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::net::IpAddr;

/// The capability of plugins that publish ports.
pub(crate) const PORT_MAPPINGS: &str = "portMappings";

#[derive(Serialize)]
struct PortWire {
    #[serde(rename = "hostPort")]
    host_port: u16,
    #[serde(rename = "containerPort")]
    container_port: u16,
    protocol: &'static str,
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    host_address: Option<IpAddr>,
}

#[derive(Serialize)]
struct DnsWire<'a> {
    servers: &'a [String],
    searches: &'a [String],
    options: &'a [String],
}

/// The capability arguments of a pod as one JSON object; a plugin gets those that it declares.
///
/// # Errors
/// If an annotation asks for a bandwidth that is none.
pub(crate) fn arguments(spec: &PodSpec) -> Result<String, PlanError> {
    let mut object = Object::new();
    let mut offer = |name: &str, value: Box<RawValue>| drop(object.insert(name.to_owned(), value));
    if !spec.port_mappings.is_empty() {
        offer(PORT_MAPPINGS, encoded(&ports(spec))?);
    }
    if let Some(bandwidth) = bandwidth::of(&spec.annotations)? {
        offer("bandwidth", encoded(&bandwidth)?);
    }
    if let Some(dns) = &spec.dns {
        let cringle_domain::spec::DnsConfig { servers, searches, options } = dns;
        offer("dns", encoded(&DnsWire { servers, searches, options })?);
    }
    if let Some(parent) = &spec.cgroup_parent {
        offer("cgroupPath", encoded(parent)?);
    }
    if !spec.annotations.is_empty() {
        offer("io.kubernetes.cri.pod-annotations", encoded(&spec.annotations)?);
    }
    serde_json::to_string(&object).map_err(PlanError::Encode)
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, PlanError> {
    to_raw_value(value).map_err(PlanError::Encode)
}

fn ports(spec: &PodSpec) -> Vec<PortWire> {
    let wire = |port: &cringle_domain::spec::PortMapping| PortWire {
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        },
        host_address: port.host_address,
    };
    spec.port_mappings.iter().map(wire).collect()
}
