//! The three shapes a result has had: one address per family (0.1, 0.2), a list with the family in each address (0.3, 0.4),
//! and a list without it (1.0, 1.1).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Dns, Interface, IpConfig, Result, Route};
use crate::spec::conf::{self, null_as_default};
use crate::spec::error::DECODING;
use crate::spec::{Error, Version};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Legacy {
    #[serde(rename = "cniVersion", default)]
    cni_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<LegacyIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<LegacyIp>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Debug, Serialize, Deserialize)]
struct LegacyIp {
    #[serde(deserialize_with = "network")]
    ip: IpNet,
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Modern {
    #[serde(rename = "cniVersion", default)]
    cni_version: Option<String>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<ModernInterface>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ModernIp>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Debug, Serialize, Deserialize)]
struct ModernInterface {
    name: String,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
    #[serde(rename = "socketPath", default, skip_serializing_if = "Option::is_none")]
    socket_path: Option<String>,
    #[serde(rename = "pciID", default, skip_serializing_if = "Option::is_none")]
    pci_id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ModernIp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Some plugins write −1 for *unknown*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    #[serde(deserialize_with = "network")]
    address: IpNet,
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

pub(super) fn read(json: &str, fallback: Version) -> std::result::Result<Result, Error> {
    #[derive(Deserialize)]
    struct Stamp {
        #[serde(rename = "cniVersion", default)]
        cni_version: Option<String>,
    }
    let json = json.trim();
    if json.is_empty() || json == "null" {
        return Ok(Result::default());
    }
    // A list would be taken for the fields of a structure in their order.
    if !json.starts_with('{') {
        return Err(Error::with_details(
            DECODING,
            "failed to read a result",
            "it is not an object",
        ));
    }
    let stamp: Stamp = parse(json)?;
    let version = match stamp.cni_version.as_deref() {
        Some(text) if !text.is_empty() => conf::version(Some(text))?,
        Some(_) | None => fallback,
    };
    if version <= Version::V0_2_0 {
        Ok(parse::<Legacy>(json)?.into())
    } else {
        Ok(parse::<Modern>(json)?.into())
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> std::result::Result<T, Error> {
    serde_json::from_str(json).map_err(|cause| {
        Error::with_details(DECODING, "failed to read a result", cause.to_string())
    })
}

pub(super) fn write(result: &Result, version: Version) -> String {
    let json = if version <= Version::V0_2_0 {
        serde_json::to_string(&legacy(result, version))
    } else {
        serde_json::to_string(&modern(result, version))
    };
    // Neither shape has a map with keys other than strings, the only thing that can fail here.
    json.unwrap_or_default()
}

impl From<Legacy> for Result {
    fn from(legacy: Legacy) -> Self {
        let mut result = Self { dns: legacy.dns, ..Self::default() };
        for ip in [legacy.ip4, legacy.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { interface: None, address: ip.ip, gateway: ip.gateway });
            result.routes.extend(ip.routes);
        }
        result
    }
}

impl From<Modern> for Result {
    fn from(modern: Modern) -> Self {
        let interfaces = modern.interfaces.into_iter().map(|interface| Interface {
            name: interface.name,
            mac: interface.mac,
            mtu: interface.mtu.filter(|mtu| *mtu != 0),
            sandbox: present(interface.sandbox),
            socket_path: present(interface.socket_path),
            pci_id: present(interface.pci_id),
        });
        let interfaces: Vec<Interface> = interfaces.collect();
        let ips = modern.ips.into_iter().map(|ip| IpConfig {
            interface: ip
                .interface
                .and_then(|index| usize::try_from(index).ok())
                .filter(|index| *index < interfaces.len()),
            address: ip.address,
            gateway: ip.gateway,
        });
        Self { ips: ips.collect(), interfaces, routes: modern.routes, dns: modern.dns }
    }
}

fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn legacy(result: &Result, version: Version) -> Legacy {
    let family = |wanted: fn(&IpNet) -> bool| {
        let ip = result.ips.iter().find(|ip| wanted(&ip.address))?;
        let routes = result.routes.iter().filter(|route| wanted(&route.dst));
        let routes = routes.map(|route| Route::new(route.dst, route.gw)).collect();
        Some(LegacyIp { ip: ip.address, gateway: ip.gateway, routes })
    };
    Legacy {
        cni_version: Some(version.to_string()),
        ip4: family(|net| matches!(net, IpNet::V4(_))),
        ip6: family(|net| matches!(net, IpNet::V6(_))),
        dns: result.dns.clone(),
    }
}

fn modern(result: &Result, version: Version) -> Modern {
    let newest = version >= Version::V1_1_0;
    let interfaces = result.interfaces.iter().map(|interface| ModernInterface {
        name: interface.name.clone(),
        mac: interface.mac.clone(),
        mtu: interface.mtu.filter(|_| newest),
        sandbox: interface.sandbox.clone(),
        socket_path: interface.socket_path.clone().filter(|_| newest),
        pci_id: interface.pci_id.clone().filter(|_| newest),
    });
    let ips = result.ips.iter().map(|ip| ModernIp {
        version: (version < Version::V1_0_0)
            .then(|| if ip.address.addr().is_ipv4() { "4" } else { "6" }.to_owned()),
        interface: ip.interface.and_then(|index| i64::try_from(index).ok()),
        address: ip.address,
        gateway: ip.gateway,
    });
    let routes = result
        .routes
        .iter()
        .map(|route| if newest { route.clone() } else { Route::new(route.dst, route.gw) });
    Modern {
        cni_version: Some(version.to_string()),
        interfaces: interfaces.collect(),
        ips: ips.collect(),
        routes: routes.collect(),
        dns: result.dns.clone(),
    }
}

/// Reads an address with the length of its prefix.
pub(super) fn network<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|cause| {
        serde::de::Error::custom(format!("{text:?} is not an address with a prefix: {cause}"))
    })
}

/// Reads an address that may be absent, `null` or empty.
pub(super) fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<IpAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let address = text.parse().map_err(|cause| {
        serde::de::Error::custom(format!("{text:?} is not an address: {cause}"))
    })?;
    Ok(Some(address))
}

#[cfg(test)]
mod tests;
