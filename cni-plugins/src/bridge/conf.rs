//! The keys of the bridge's configuration.

use serde::Deserialize;
use serde_json::Value;

use crate::link::parse_mac;
use crate::plugin::Call;
use crate::spec::conf::{null_as_default, parse_as};
use crate::spec::error::UNSUPPORTED_FIELD;
use crate::spec::{Error, name};

#[derive(Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the keys of the reference's configuration"
)]
struct Wire {
    #[serde(default, deserialize_with = "null_as_default")]
    bridge: String,
    #[serde(rename = "isGateway", default, deserialize_with = "null_as_default")]
    is_gateway: bool,
    #[serde(rename = "isDefaultGateway", default, deserialize_with = "null_as_default")]
    is_default_gateway: bool,
    #[serde(rename = "forceAddress", default, deserialize_with = "null_as_default")]
    force_address: bool,
    #[serde(rename = "ipMasq", default, deserialize_with = "null_as_default")]
    ip_masq: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    mtu: u32,
    #[serde(rename = "hairpinMode", default, deserialize_with = "null_as_default")]
    hairpin_mode: bool,
    #[serde(rename = "promiscMode", default, deserialize_with = "null_as_default")]
    promisc_mode: bool,
    #[serde(rename = "portIsolation", default, deserialize_with = "null_as_default")]
    port_isolation: bool,
    #[serde(rename = "disableContainerInterface", default, deserialize_with = "null_as_default")]
    disable_container_interface: bool,
    #[serde(default)]
    vlan: Value,
    #[serde(rename = "vlanTrunk", default)]
    vlan_trunk: Value,
    #[serde(rename = "macspoofchk", default)]
    mac_spoof_check: Value,
    #[serde(default, deserialize_with = "null_as_default")]
    mac: String,
    #[serde(default, deserialize_with = "null_as_default")]
    args: Args,
    #[serde(rename = "runtimeConfig", default, deserialize_with = "null_as_default")]
    runtime: WithMac,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default, deserialize_with = "null_as_default")]
    cni: WithMac,
}

#[derive(Default, Deserialize)]
struct WithMac {
    #[serde(default, deserialize_with = "null_as_default")]
    mac: String,
}

/// A checked configuration.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, and none excludes another"
)]
pub(super) struct Conf {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) mtu: Option<u32>,
    pub(super) hairpin_mode: bool,
    pub(super) promisc_mode: bool,
    pub(super) port_isolation: bool,
    pub(super) disable_container_interface: bool,
    pub(super) mac: Option<[u8; 6]>,
}

impl Conf {
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let wire: Wire = parse_as(call.config())?;
        for (key, value) in [
            ("vlan", &wire.vlan),
            ("vlanTrunk", &wire.vlan_trunk),
            ("macspoofchk", &wire.mac_spoof_check),
        ] {
            if is_set(value) {
                let text = format!("bridge does not support {key}");
                return Err(Error::with_details(
                    UNSUPPORTED_FIELD,
                    text,
                    format!("{key} = {value}"),
                ));
            }
        }
        if wire.hairpin_mode && wire.promisc_mode {
            return Err(Error::configuration("hairpinMode and promiscMode exclude each other"));
        }
        if wire.disable_container_interface && call.network.ipam_type.is_some() {
            return Err(Error::configuration(
                "disableContainerInterface and ipam exclude each other",
            ));
        }
        let conf = Self::from_wire(call, &wire)?;
        if !name::is_interface(&conf.bridge) {
            return Err(Error::configuration(format!(
                "bridge {:?} can't be the name of an interface",
                conf.bridge
            )));
        }
        Ok(conf)
    }

    /// The configuration for DEL, which must not fail over what ADD would refuse.
    pub(super) fn parse_leniently(call: &Call<'_>) -> Result<Self, Error> {
        let wire: Wire = parse_as(call.config())?;
        Self::from_wire(
            call,
            &Wire {
                mac: String::new(),
                args: Args::default(),
                runtime: WithMac::default(),
                ..wire
            },
        )
    }

    fn from_wire(call: &Call<'_>, wire: &Wire) -> Result<Self, Error> {
        let places = [&wire.runtime.mac, &wire.args.cni.mac].map(String::as_str);
        let mut macs = places.into_iter().chain(call.argument("MAC")).chain([wire.mac.as_str()]);
        let mac = match macs.find(|mac| !mac.is_empty()) {
            None => None,
            Some(text) => Some(parse_mac(text).ok_or_else(|| {
                Error::configuration(format!("mac {text:?} is not a hardware address"))
            })?),
        };
        Ok(Self {
            bridge: if wire.bridge.is_empty() { "cni0".into() } else { wire.bridge.clone() },
            is_gateway: wire.is_gateway || wire.is_default_gateway,
            is_default_gateway: wire.is_default_gateway,
            force_address: wire.force_address,
            ip_masq: wire.ip_masq,
            mtu: Some(wire.mtu).filter(|mtu| *mtu != 0),
            hairpin_mode: wire.hairpin_mode,
            promisc_mode: wire.promisc_mode,
            port_isolation: wire.port_isolation,
            disable_container_interface: wire.disable_container_interface,
            mac,
        })
    }
}

/// Whether the key says something other than *off*.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::String(_) | Value::Object(_) => true,
    }
}
