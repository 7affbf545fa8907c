//! What a client asks of a pod (PodSandboxConfig).

use crate::namespaces::PodNamespaces;
use crate::resources::PodResources;
use crate::security::PodSecurity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The kubelet's name for a pod: unique while the pod exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodMetadata {
    /// Name of the pod.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its Kubernetes UID.
    pub uid: String,
    /// How often this pod was made anew.
    pub attempt: u32,
}

/// A pod as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// The pod's name.
    pub metadata: PodMetadata,
    /// Host name; empty: the host's own for a NODE network, else the pod's name cut to a legal host name.
    pub hostname: String,
    /// Where the containers' logs go; absent: no logs.
    pub log_directory: Option<PathBuf>,
    /// Resolver settings; absent: a copy of the host's.
    pub dns: Option<DnsConfig>,
    /// Published ports with a host port.
    pub port_mappings: Vec<PortMapping>,
    /// Echoed unchanged.
    pub labels: BTreeMap<String, String>,
    /// Echoed unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Parent of the containers' cgroups, absolute within each hierarchy, checked to have no `..`.
    pub cgroup_parent: Option<String>,
    /// Sysctls of the pod's own namespaces, in dotted form.
    pub sysctls: BTreeMap<String, String>,
    /// Whose namespaces the pod uses.
    pub namespaces: PodNamespaces,
    /// Security context of the pod.
    pub security: PodSecurity,
    /// What it may use as a whole; records of earlier versions say nothing of it.
    #[serde(default)]
    pub resources: PodResources,
    /// The runtime handler asked for; empty: the default one.
    pub runtime_handler: String,
}

/// Content of a pod's resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port on the host, never 0.
    pub host_port: u16,
    /// Port in the pod, never 0.
    pub container_port: u16,
    /// Address of the host to listen on; absent: all of both families.
    pub host_address: Option<IpAddr>,
}
