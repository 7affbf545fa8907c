//! The result of an ADD, in the shape of the newest version.

mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Error, Version};

/// What a chain of plugins has made so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Result {
    /// The interfaces, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// The addresses given to them.
    pub ips: Vec<IpConfig>,
    /// The routes set in the container.
    pub routes: Vec<Route>,
    /// What the resolver should be told.
    pub dns: Dns,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address as text; empty if it has none.
    pub mac: String,
    /// Its MTU, if known.
    pub mtu: Option<u32>,
    /// The network namespace it is in; absent for one on the host.
    pub sandbox: Option<String>,
    /// The socket of a user space device.
    pub socket_path: Option<String>,
    /// The PCI address of the device.
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// The place in `interfaces` of the one that has it, if known.
    pub interface: Option<usize>,
    /// The address and the length of its prefix.
    pub address: IpNet,
    /// The default gateway of that subnet.
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    #[serde(deserialize_with = "wire::network")]
    pub dst: IpNet,
    /// By which way; the gateway of the address if absent.
    #[serde(default, deserialize_with = "wire::address", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The largest packet on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The largest TCP segment to advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Its metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The table it is in; the main one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its scope, as the kernel numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A plain route.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// The settings of a resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers, in order of preference.
    #[serde(
        default,
        deserialize_with = "super::conf::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        default,
        deserialize_with = "super::conf::null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub domain: String,
    /// Domains to search short names in.
    #[serde(
        default,
        deserialize_with = "super::conf::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub search: Vec<String>,
    /// Options, as in resolv.conf.
    #[serde(
        default,
        deserialize_with = "super::conf::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nameservers.is_empty()
            && self.domain.is_empty()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

impl Result {
    /// Reads a result in the version it names, or else in that of the configuration that led to it. No text and `null`
    /// are an empty result, as old plugins answer so.
    ///
    /// # Errors
    /// If the text is no result of a version we know.
    pub fn parse(json: &str, fallback: Version) -> std::result::Result<Self, Error> {
        wire::read(json, fallback)
    }

    /// The result as JSON of that version. What the version has no words for is left out.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        wire::write(self, version)
    }
}
