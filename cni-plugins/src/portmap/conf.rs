//! The keys of the configuration, and the mappings that the runtime passes.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::plugin::Call;
use crate::spec::Error;
use crate::spec::conf::{null_as_default, parse_as};
use crate::spec::error::UNSUPPORTED_FIELD;

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "runtimeConfig", default, deserialize_with = "null_as_default")]
    runtime: Runtime,
    #[serde(default)]
    snat: Option<bool>,
    #[serde(rename = "conditionsV4", default, deserialize_with = "null_as_default")]
    conditions4: Vec<String>,
    #[serde(rename = "conditionsV6", default, deserialize_with = "null_as_default")]
    conditions6: Vec<String>,
    #[serde(rename = "masqAll", default)]
    masquerade_all: Value,
}

#[derive(Default, Deserialize)]
struct Runtime {
    #[serde(rename = "portMappings", default, deserialize_with = "null_as_default")]
    mappings: Vec<MappingWire>,
}

#[derive(Deserialize)]
struct MappingWire {
    #[serde(rename = "hostPort", default)]
    host_port: i64,
    #[serde(rename = "containerPort", default)]
    container_port: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    protocol: String,
    #[serde(rename = "hostIP", default, deserialize_with = "null_as_default")]
    host_ip: String,
}

/// A checked configuration.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) mappings: Vec<Mapping>,
    /// Whether the container is reached by its own published port, and by containers beside it.
    pub(super) snat: bool,
}

/// One port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) protocol: u8,
    pub(super) host_port: u16,
    pub(super) container_port: u16,
    pub(super) host_ip: Option<IpAddr>,
}

impl Mapping {
    /// Whether a container's address is reached by it.
    pub(super) fn is_for(&self, address: IpAddr) -> bool {
        self.host_ip.is_none_or(|host| host.is_ipv4() == address.is_ipv4())
    }

    /// The one address of the host that it is on, if it isn't on every one.
    pub(super) fn specific_host_ip(&self) -> Option<IpAddr> {
        self.host_ip.filter(|host| !host.is_unspecified())
    }

    /// Whether the host reaches it by 127.0.0.1.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.host_ip
            .is_none_or(|host| host.is_ipv4() && (host.is_unspecified() || host.is_loopback()))
    }
}

impl Conf {
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let wire: Wire = parse_as(call.config())?;
        let unsupported = [
            ("conditionsV4", !wire.conditions4.is_empty()),
            ("conditionsV6", !wire.conditions6.is_empty()),
            ("masqAll", wire.masquerade_all == Value::Bool(true)),
        ];
        if let Some((key, _)) = unsupported.into_iter().find(|(_, is_set)| *is_set) {
            return Err(Error::with_details(
                UNSUPPORTED_FIELD,
                format!("portmap does not support {key}"),
                key,
            ));
        }
        let mut mappings: Vec<Mapping> = Vec::new();
        for mapping in wire.runtime.mappings.iter().map(check) {
            let mapping = mapping?;
            // The same mapping twice is the same mapping.
            if !mappings.contains(&mapping) {
                mappings.push(mapping);
            }
        }
        Ok(Self { mappings, snat: wire.snat.unwrap_or(true) })
    }
}

fn check(wire: &MappingWire) -> Result<Mapping, Error> {
    let port = |what: &str, number: i64| {
        u16::try_from(number).ok().filter(|number| *number != 0).ok_or_else(|| {
            Error::configuration(format!("{what} {number} is not between 1 and 65535"))
        })
    };
    let protocol = match wire.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        other => {
            return Err(Error::configuration(format!(
                "protocol {other:?} is none of tcp, udp, sctp"
            )));
        }
    };
    let host_ip = match wire.host_ip.trim_matches(['[', ']']) {
        "" => None,
        text => Some(text.parse().map_err(|cause| {
            Error::unparsed(format!("hostIP {text:?} is not an address"), &cause)
        })?),
    };
    Ok(Mapping {
        protocol,
        host_port: port("hostPort", wire.host_port)?,
        container_port: port("containerPort", wire.container_port)?,
        host_ip,
    })
}
