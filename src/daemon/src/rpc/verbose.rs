//! What tools are told beyond the status, as JSON under the keys that their scripts look for: `.info.pid`,
//! `.info.runtimeSpec`, `.info.sandboxID`, `.info.config`, `.info.imageSpec`, `.cniconfig`.
//!
//! Only what is so: a key whose value there is not here (the process of a pod that has none) is left out, or says 0 where
//! scripts expect a number.
//!
//! The configuration and the runtime spec of a container have its environment, as other runtimes show it and scripts expect
//! it, secrets included: whoever may ask for it may execute `env` in the container as well. Nothing of it is ever logged.

mod config;
mod network;

use super::latency::Latencies;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::image::Image;
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_service::Service;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// The name by which containerd knows runtimes of our kind.
const RUNTIME_TYPE: &str = "io.containerd.cringle.v2";

type Info = HashMap<String, String>;

/// A value as JSON; nothing if it cannot be written down, which costs a tool one line.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn info(value: &Value) -> Info {
    HashMap::from([("info".to_owned(), value.to_string())])
}

/// More about the runtime; `config` is what is shown of the daemon's own configuration.
pub(super) fn status(service: &Service, latencies: &Latencies, config: &str) -> Info {
    let loaded = service.network().status();
    HashMap::from([
        ("config".to_owned(), config.to_owned()),
        ("latency".to_owned(), json(&latencies.quantiles())),
        ("events".to_owned(), json!({ "subscribers": service.subscribers() }).to_string()),
        ("cdi".to_owned(), cdi(service).to_string()),
        ("cniconfig".to_owned(), network::configuration(service.network()).to_string()),
        // A word or a sentence, not JSON, as tools have it.
        (
            "lastCNILoadStatus".to_owned(),
            loaded.map_or_else(|not_ready| not_ready.message, |()| "OK".to_owned()),
        ),
    ])
}

/// Devices that vendors describe in files, and which of these can't be used.
fn cdi(service: &Service) -> Value {
    let Some((directories, report)) = tokio::task::block_in_place(|| service.cdi_report()) else {
        return json!({ "enabled": false });
    };
    let errors: Vec<_> = (report.faults.iter())
        .map(|fault| json!({ "path": fault.path, "error": fault.problem }))
        .collect();
    json!({ "enabled": true, "specDirs": directories, "devices": report.devices, "errors": errors })
}

/// More about a pod.
pub(super) fn pod(service: &Service, record: &PodRecord) -> Info {
    let (reaper, ready) = match &record.phase {
        PodPhase::Ready { reaper, .. } => (reaper.map(|process| process.pid), true),
        PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => (None, false),
    };
    let mut shown = json!({
        "pid": reaper.unwrap_or_default(),
        "processStatus": if reaper.is_some() { "running" } else { "" },
        "netNamespaceClosed": !ready,
        "phase": record.phase.name(),
        "boot": record.boot,
        "cgroupParent": record.plan.cgroup_parent,
        "runtimeType": RUNTIME_TYPE,
        "runtimeHandler": record.spec.runtime_handler,
        "overhead": config::resources(&record.resources.overhead),
        "resources": config::resources(&record.resources.containers),
        "networks": record.attachments.iter().map(|attachment| &attachment.network).collect::<Vec<_>>(),
        "config": config::pod(&record.spec),
        "runtimeSpec": { "linux": { "namespaces": namespaces(service, record) } },
    });
    let first = record.attachments.first().filter(|_| ready);
    let result = |one| tokio::task::block_in_place(|| service.network().result(one));
    if let Some(result) = first.and_then(result) {
        shown["cniResult"] = network::result(&result);
    }
    info(&shown)
}

/// Where the namespaces of a pod are pinned: what a runtime spec of a process in them would say.
fn namespaces(service: &Service, record: &PodRecord) -> Vec<Value> {
    let pins = service.pins(record).into_iter();
    pins.map(|(kind, path)| json!({ "type": kind, "path": path })).collect()
}

/// More about a container.
pub(super) fn container(service: &Service, record: &ContainerRecord) -> Info {
    let pid = match &record.phase {
        ContainerPhase::Running { process, .. } => process.pid,
        ContainerPhase::Creating
        | ContainerPhase::Created
        | ContainerPhase::Exited { .. }
        | ContainerPhase::Removing => 0,
    };
    let mut shown = json!({
        "pid": pid,
        "sandboxID": record.pod.as_str(),
        "removing": false,
        "snapshotter": "overlayfs",
        "snapshotKey": record.id.as_str(),
        "runtimeType": RUNTIME_TYPE,
        "phase": record.phase.name(),
        "boot": record.boot,
        "cgroup": record.cgroup,
        "layers": record.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "config": config::container(&record.spec),
    });
    match tokio::task::block_in_place(|| service.runtime_spec(&record.id)) {
        Ok(document) => shown["runtimeSpec"] = document,
        // It may be removed while we look; everything else is still so.
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            tracing::debug!(container = %record.id, error, "no runtime spec to show");
        }
    }
    info(&shown)
}

/// More about an image: its configuration, as its author wrote it.
pub(super) fn image(service: &Service, image: &Image, config: &[u8]) -> Info {
    let layers: Vec<_> =
        image.record.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    info(&json!({
        "chainID": service.images().chain_id(&image.record).map(|chain| chain.to_string()),
        "manifest": image.record.manifest.to_string(),
        "layers": layers,
        "imageSpec": serde_json::from_slice::<Value>(config).unwrap_or_default(),
    }))
}
