//! What all plugins read of their configuration. A plugin reads its own keys from the same text; keys that no one knows
//! are never an error.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{DECODING, INCOMPATIBLE_VERSION};
use super::result::{Dns, Result as CniResult};
use super::{Error, Version, name};

/// One container's interface in a network: what GC is told to keep.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface inside it.
    #[serde(rename = "ifname")]
    pub if_name: String,
}

/// The part of a plugin's configuration that has the same meaning for every plugin.
#[derive(Debug)]
pub struct Network {
    /// The version that the configuration is written in and the answer must be given in.
    pub version: Version,
    /// The name of the network.
    pub name: String,
    /// The plugin that takes care of addresses, if one is named.
    pub ipam_type: Option<String>,
    /// What the resolver of the container should be told, if the configuration says so.
    pub dns: Dns,
    /// The result of the plugin before this one, or for CHECK and DEL the final one.
    pub prev_result: Option<CniResult>,
    /// The attachments that GC must keep.
    pub valid_attachments: Vec<Attachment>,
    /// Which instance of the runtime's own names to use.
    pub instance: Option<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "cniVersion", default)]
    cni_version: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    ipam: Option<IpamWire>,
    #[serde(default)]
    dns: Option<Dns>,
    #[serde(rename = "prevResult", default, borrow)]
    prev_result: Option<&'a RawValue>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid: Option<Vec<Attachment>>,
    #[serde(rename = "cni.dev/attachments", default)]
    older_valid: Option<Vec<Attachment>>,
    #[serde(default)]
    instance: Option<String>,
}

#[derive(Deserialize)]
struct IpamWire {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

impl Network {
    /// Reads the common part of a configuration.
    ///
    /// # Errors
    /// If the text is no configuration, or of a version that is not ours, or a name in it could not be used in a path.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let wire: Wire<'_> = parse_as(json)?;
        let version = version(wire.cni_version.as_deref())?;
        let name = wire.name.unwrap_or_default();
        if !name::is_identifier(&name) {
            return Err(Error::configuration(format!(
                "the network's name {name:?} is missing or not allowed"
            )));
        }
        let ipam_type = wire.ipam.and_then(|ipam| ipam.kind).filter(|kind| !kind.is_empty());
        if let Some(kind) = ipam_type.as_deref().filter(|kind| !name::is_plugin_type(kind)) {
            return Err(Error::configuration(format!(
                "ipam type {kind:?} is not the name of a plugin"
            )));
        }
        let instance = wire.instance.filter(|instance| !instance.is_empty());
        if let Some(instance) =
            instance.as_deref().filter(|instance| !name::is_identifier(instance))
        {
            return Err(Error::configuration(format!("instance {instance:?} is not a name")));
        }
        let prev_result = match wire.prev_result {
            Some(raw) if raw.get() != "null" => Some(CniResult::parse(raw.get(), version)?),
            Some(_) | None => None,
        };
        Ok(Self {
            version,
            name,
            ipam_type,
            dns: wire.dns.unwrap_or_default(),
            prev_result,
            valid_attachments: wire.valid.or(wire.older_valid).unwrap_or_default(),
            instance,
        })
    }

    /// Whether GC must keep what belongs to that attachment.
    #[must_use]
    pub fn keeps(&self, container_id: &str, if_name: &str) -> bool {
        self.valid_attachments
            .iter()
            .any(|kept| kept.container_id == container_id && kept.if_name == if_name)
    }
}

/// Reads a plugin's own keys.
///
/// # Errors
/// If the text is not JSON, or a key holds a value of the wrong kind.
pub fn parse_as<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Error> {
    const ATTEMPT: &str = "failed to read the network configuration";
    // A list would be taken for the fields of a structure in their order.
    if !json.trim_start().starts_with('{') {
        return Err(Error::with_details(DECODING, ATTEMPT, "it is not an object"));
    }
    serde_json::from_str(json)
        .map_err(|cause| Error::with_details(DECODING, ATTEMPT, cause.to_string()))
}

/// Reads a value where `null` stands for its default.
///
/// # Errors
/// If the value is of another kind.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The version that a configuration or a result names.
///
/// # Errors
/// If we don't speak it.
pub fn version(text: Option<&str>) -> Result<Version, Error> {
    let text = text.unwrap_or_default();
    Version::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        Error::with_details(
            INCOMPATIBLE_VERSION,
            format!("cniVersion {text:?} is not supported"),
            format!("supported are {}", known.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_nulls_are_accepted() {
        let network = Network::parse(
            r#"{"cniVersion":"1.1.0","name":"n","type":"bridge","x":{"y":1e300},"dns":null,"prevResult":null,"ipam":{}}"#,
        )
        .unwrap();
        assert_eq!(network.name, "n");
        assert_eq!(network.version, Version::V1_1_0);
        assert!(network.prev_result.is_none() && network.ipam_type.is_none());
    }

    #[test]
    fn a_configuration_without_a_version_is_of_the_first() {
        assert_eq!(Network::parse(r#"{"name":"n"}"#).unwrap().version, Version::V0_1_0);
    }

    #[test]
    fn a_missing_or_dangerous_name_is_refused_with_code_seven() {
        for json in [
            r"{}",
            r#"{"name":"../x"}"#,
            r#"{"name":""}"#,
            r#"{"name":"n","ipam":{"type":"../x"}}"#,
        ] {
            assert_eq!(Network::parse(json).unwrap_err().code, 7, "{json}");
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_code_one() {
        assert_eq!(Network::parse(r#"{"cniVersion":"9.0.0","name":"n"}"#).unwrap_err().code, 1);
    }

    #[test]
    fn valid_attachments_are_read_under_both_keys() {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let json = format!(r#"{{"name":"n","{key}":[{{"containerID":"a","ifname":"eth0"}}]}}"#);
            let network = Network::parse(&json).unwrap();
            assert!(network.keeps("a", "eth0") && !network.keeps("a", "eth1"), "{key}");
        }
    }
}
