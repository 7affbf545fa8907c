//! The result cache in the form of the CNI library: people and other programs (cnitool, Multus) read it.
//!
//! An entry bears the instance under a key that others pass over, so that a directory that is shared is no trap.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cringle_domain::attachment::AttachmentRecord;
use cringle_store::atomic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// One result and all that led to it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    kind: String,
    #[serde(rename = "containerId")]
    container_id: String,
    config: String,
    #[serde(rename = "ifName")]
    interface: String,
    #[serde(rename = "networkName")]
    network: String,
    netns: PathBuf,
    #[serde(default, rename = "cniArgs")]
    arguments: Vec<(String, String)>,
    #[serde(rename = "capabilityArgs")]
    capabilities: Box<RawValue>,
    result: Box<RawValue>,
    #[serde(default, rename = "cringleInstance")]
    instance: String,
}

#[derive(Deserialize)]
struct Kept {
    result: Box<RawValue>,
}

impl Entry {
    pub(crate) fn new(instance: &str, record: &AttachmentRecord, result: &RawValue) -> Self {
        let capabilities = RawValue::from_string(record.capabilities.clone());
        Self {
            kind: KIND.to_owned(),
            container_id: record.container_id.clone(),
            config: STANDARD.encode(&record.configuration),
            interface: record.interface.clone(),
            network: record.network.clone(),
            netns: record.netns.clone(),
            arguments: record.arguments.clone(),
            capabilities: capabilities.unwrap_or_default(),
            result: result.to_owned(),
            instance: instance.to_owned(),
        }
    }

    /// The record that the entry was made from.
    fn record(self) -> Option<AttachmentRecord> {
        let configuration = String::from_utf8(STANDARD.decode(self.config).ok()?).ok()?;
        Some(AttachmentRecord {
            network: self.network,
            configuration,
            interface: self.interface,
            netns: self.netns,
            container_id: self.container_id,
            arguments: self.arguments,
            capabilities: self.capabilities.get().to_owned(),
        })
    }
}

/// Keeps the result of an ADD.
pub(crate) fn write(directory: &Path, record: &AttachmentRecord, entry: &Entry) -> io::Result<()> {
    atomic::replace(&path(directory, record), &serde_json::to_vec(entry)?)
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

/// The attachments of that instance that are in the cache. What can't be read is passed over: it says of nobody that it is
/// ours.
pub(crate) fn all(directory: &Path, instance: &str) -> Vec<AttachmentRecord> {
    let Ok(entries) = std::fs::read_dir(directory.join("results")) else { return Vec::new() };
    let read = |path: PathBuf| serde_json::from_slice::<Entry>(&std::fs::read(path).ok()?).ok();
    let found = entries.flatten().filter_map(|entry| {
        let kept = read(entry.path()).filter(|kept| kept.kind == KIND && kept.instance == instance);
        let record = kept?.record()?;
        // An entry under another name than its own would stay for ever.
        (path(directory, &record) == entry.path()).then_some(record)
    });
    found.collect()
}

/// Names in a record were checked, so the path stays in the directory.
fn path(directory: &Path, record: &AttachmentRecord) -> PathBuf {
    let AttachmentRecord { network, container_id, interface, .. } = record;
    directory.join("results").join(format!("{network}-{container_id}-{interface}"))
}
