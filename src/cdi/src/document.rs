//! A file of devices as it is written: JSON or YAML, the versions 0.3.0 to 1.1.0. What is not known is an error.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document {
    /// The version of the specification.
    pub(crate) cdi_version: String,
    /// `vendor/class` of all its devices.
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) devices: Vec<Device>,
    /// What every container gets that asks for one of the devices.
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// What a container gets.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<Node>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) intel_rdt: Option<Rdt>,
    pub(crate) additional_gids: Vec<u32>,
}

/// A device node. Zero and the empty text stand for what is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) host_path: PathBuf,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) major: i64,
    #[serde(default)]
    pub(crate) minor: i64,
    pub(crate) file_mode: Option<u32>,
    #[serde(default)]
    pub(crate) permissions: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// A network interface of the host that moves into the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NetDevice {
    pub(crate) host_interface_name: String,
    pub(crate) name: String,
}

/// A program to run in the container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) timeout: Option<i64>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) host_path: PathBuf,
    pub(crate) container_path: PathBuf,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
}

/// A class of cache and memory bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Rdt {
    #[serde(rename = "closID")]
    pub(crate) clos_id: String,
    pub(crate) l3_cache_schema: String,
    pub(crate) mem_bw_schema: String,
    pub(crate) schemata: Option<Vec<String>>,
    pub(crate) enable_monitoring: bool,
    /// Up to version 1.0.0, as the next one; neither was ever looked at.
    #[serde(rename = "enableCMT")]
    enable_cmt: IgnoredAny,
    #[serde(rename = "enableMBM")]
    enable_mbm: IgnoredAny,
}

impl Document {
    /// The edits for all its devices, and those of each.
    pub(crate) fn all_edits(&self) -> impl Iterator<Item = &Edits> {
        let devices = self.devices.iter().map(|device| &device.container_edits);
        std::iter::once(&self.container_edits).chain(devices)
    }
}
