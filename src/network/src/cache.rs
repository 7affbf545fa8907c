//! The result cache in the form of the CNI library: people and other programs (cnitool, Multus) read it.

use cringle_domain::attachment::AttachmentRecord;
use cringle_store::atomic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    #[serde(rename = "containerId")]
    container_id: &'a str,
    config: String,
    #[serde(rename = "ifName")]
    interface: &'a str,
    #[serde(rename = "networkName")]
    network: &'a str,
    netns: &'a Path,
    #[serde(rename = "cniArgs")]
    arguments: Vec<[&'a str; 2]>,
    #[serde(rename = "capabilityArgs")]
    capabilities: &'a RawValue,
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Kept {
    result: Box<RawValue>,
}

/// Keeps the result of an ADD.
pub(crate) fn write(
    directory: &Path,
    record: &AttachmentRecord,
    result: &RawValue,
) -> io::Result<()> {
    let entry = Entry {
        kind: KIND,
        container_id: &record.container_id,
        config: base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            &record.configuration,
        ),
        interface: &record.interface,
        network: &record.network,
        netns: &record.netns,
        arguments: record.arguments.iter().map(|(key, value)| [key.as_str(), value]).collect(),
        capabilities: serde_json::from_str(&record.capabilities)?,
        result,
    };
    atomic::replace(&path(directory, record), &serde_json::to_vec(&entry)?)
}

/// The result of the ADD; absent if there is none that can be read: DEL goes on without.
pub(crate) fn read(directory: &Path, record: &AttachmentRecord) -> Option<Box<RawValue>> {
    let content = std::fs::read(path(directory, record)).ok()?;
    serde_json::from_slice::<Kept>(&content).ok().map(|kept| kept.result)
}

/// Drops the entry after a DEL.
pub(crate) fn remove(directory: &Path, record: &AttachmentRecord) -> io::Result<()> {
    atomic::remove(&path(directory, record))
}

/// Names in a record were checked, so the path stays in the directory.
fn path(directory: &Path, record: &AttachmentRecord) -> PathBuf {
    let AttachmentRecord { network, container_id, interface, .. } = record;
    directory.join("results").join(format!("{network}-{container_id}-{interface}"))
}
