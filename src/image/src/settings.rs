//! What an operator can set about images.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of this crate; the daemon fills them from its configuration file.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// How to reach registries, by host (with its port, if it has one) as in image names.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// A directory with `<host>/hosts.toml` files in containerd's format, read at each pull.
    pub registry_config_directory: Option<PathBuf>,
    /// How many layers of one image are fetched at the same time.
    pub concurrent_downloads: usize,
    /// How long a registry may send nothing before a pull fails.
    pub progress_timeout: Duration,
    /// How often one request is made in all, if it fails in a way that may pass.
    pub attempts: u32,
    /// How long to wait before the second attempt; each further wait is twice as long.
    pub first_retry_delay: Duration,
    /// Images that a client's garbage collection must spare: full names, or beginnings that end in `*`.
    pub pinned: Vec<String>,
    /// The program that unpacks layers: this one, called with `unpack`.
    pub unpack_program: PathBuf,
    /// What a layer may be at most.
    pub layer_limits: LayerLimits,
}

/// How to reach one registry.
#[expect(
    clippy::struct_excessive_bools,
    reason = "an operator's table: each is a switch of its own"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Base URLs that are asked before the registry itself, in this order.
    pub mirrors: Vec<String>,
    /// Whether the registry speaks plain HTTP.
    pub plain_http: bool,
    /// A file with certificates (PEM) that are trusted for this host, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate chain and key (PEM) that we show to this host.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether any certificate of this host is accepted.
    pub skip_verify: bool,
    /// Whether the mirrors' URLs have the API's path already, so that `/v2` is not added.
    pub override_path: bool,
    /// Hosts besides the registry's own that may see its credentials in exchange for a token.
    pub token_hosts: Vec<String>,
}

/// A certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The file with the certificate chain.
    pub certificate: PathBuf,
    /// The file with the private key; it may be the same one.
    pub key: PathBuf,
}

/// What a layer may be at most. A layer that is more is refused while it is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerLimits {
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// How deep directories may be nested.
    pub depth: usize,
    /// How many times larger the archive may be than what the registry sent, once it is larger than a gibibyte.
    pub ratio: u64,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            registries: BTreeMap::new(),
            registry_config_directory: None,
            concurrent_downloads: 3,
            progress_timeout: Duration::from_secs(60),
            attempts: 4,
            first_retry_delay: Duration::from_millis(500),
            pinned: Vec::new(),
            // Resolved by the child itself, so it names our own binary even after an upgrade replaced the file.
            unpack_program: PathBuf::from("/proc/self/exe"),
            layer_limits: LayerLimits::default(),
        }
    }
}

impl Default for LayerLimits {
    fn default() -> Self {
        Self { bytes: 256 << 30, inodes: 5_000_000, depth: 1024, ratio: 250 }
    }
}

impl ImageSettings {
    /// Whether an image with this full name is pinned.
    #[must_use]
    pub fn pins(&self, name: &str) -> bool {
        self.pinned.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_pins_by_full_name_or_by_beginning() {
        let settings = ImageSettings {
            pinned: vec!["registry.k8s.io/pause:3.10".to_owned(), "example.io/infra/*".to_owned()],
            ..ImageSettings::default()
        };
        assert!(settings.pins("registry.k8s.io/pause:3.10"));
        assert!(settings.pins("example.io/infra/agent:1"));
        assert!(!settings.pins("registry.k8s.io/pause:3.9"));
        assert!(!settings.pins("example.io/other:1"));
    }
}
