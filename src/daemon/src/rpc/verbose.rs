//! What tools are told beyond the status, as JSON. The key `info` is what scripts look for (`.info.pid`).

use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::image::Image;
use cringle_domain::pod::{PodPhase, PodRecord};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// A value as JSON; nothing if it cannot be written down, which costs a tool one line.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// More about a pod.
pub(super) fn pod(record: &PodRecord) -> HashMap<String, String> {
    let reaper = match &record.phase {
        PodPhase::Ready { reaper, .. } => reaper.map(|process| process.pid),
        PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => None,
    };
    let info = serde_json::json!({
        "pid": reaper.unwrap_or_default(),
        "phase": record.phase.name(),
        "boot": record.boot,
        "cgroupParent": record.plan.cgroup_parent,
        "networks": record.attachments.iter().map(|attachment| &attachment.network).collect::<Vec<_>>(),
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// More about a container.
pub(super) fn container(record: &ContainerRecord) -> HashMap<String, String> {
    let pid = match &record.phase {
        ContainerPhase::Running { process, .. } => process.pid,
        ContainerPhase::Creating
        | ContainerPhase::Created
        | ContainerPhase::Exited { .. }
        | ContainerPhase::Removing => 0,
    };
    let info = serde_json::json!({
        "pid": pid,
        "sandboxID": record.pod.as_str(),
        "phase": record.phase.name(),
        "boot": record.boot,
        "cgroup": record.cgroup,
        "layers": record.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// More about an image: its configuration, as its author wrote it.
pub(super) fn image(image: &Image, config: &[u8]) -> HashMap<String, String> {
    let layers = image.record.layers.iter().map(|layer| layer.diff_id.to_string());
    let info = serde_json::json!({
        "manifest": image.record.manifest.to_string(),
        "layers": layers.collect::<Vec<_>>(),
        "imageSpec": serde_json::from_slice::<Value>(config).unwrap_or_default(),
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
