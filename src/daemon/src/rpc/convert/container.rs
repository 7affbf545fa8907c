//! Containers.

use super::fields::{filled, known, present, sorted, unsorted};
use super::pod::{namespace_options, selects};
use super::resources::{ZeroScore, limits};
use super::{devices, resources, security, signal};
use cringle_domain::cdi;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{ContainerMetadata, ContainerSpec, ImageRequest, Input, Terminal};
use cringle_proto_cri::v1;
use std::path::{Component, Path};

/// A container as CreateContainer asks for it, and the id of its pod.
pub(in crate::rpc) fn container_spec(
    request: v1::CreateContainerRequest,
) -> Result<(String, ContainerSpec), Refusal> {
    let config = present(request.config, "config")?;
    let spec = container_spec_in(config, request.sandbox_config.as_ref())?;
    Ok((filled(request.pod_sandbox_id, "pod_sandbox_id")?, spec))
}

/// A container that is asked for, in a pod of that configuration.
pub(in crate::rpc) fn container_spec_in(
    config: v1::ContainerConfig,
    pod: Option<&v1::PodSandboxConfig>,
) -> Result<ContainerSpec, Refusal> {
    let linux = config.linux.unwrap_or_default();
    let pod = namespace_options(pod);
    let annotations = sorted(config.annotations);
    let cdi_devices = config.cdi_devices.into_iter().map(|device| device.name);
    Ok(ContainerSpec {
        metadata: metadata(present(config.metadata, "config.metadata")?)?,
        image: image(present(config.image, "config.image")?)?,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        environment: config.envs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
        mounts: config.mounts.into_iter().map(devices::mount).collect::<Result<_, _>>()?,
        devices: config.devices.into_iter().map(devices::device).collect::<Result<_, _>>()?,
        cdi_devices: cdi::requested(cdi_devices, &annotations)?,
        labels: sorted(config.labels),
        annotations,
        log_path: log_path(config.log_path)?,
        input: match (config.stdin, config.stdin_once) {
            (false, _) => Input::Closed,
            (true, false) => Input::Open,
            (true, true) => Input::Once,
        },
        terminal: if config.tty { Terminal::Present } else { Terminal::Absent },
        stop_signal: signal::signal(config.stop_signal, "config.stop_signal")?,
        resources: linux
            .resources
            .map(|resources| limits(resources, ZeroScore::Given))
            .transpose()?
            .unwrap_or_default(),
        security: security::container(linux.security_context.unwrap_or_default(), pod)?,
    })
}

/// The ids of a container and of its pod, or the beginning of them; empty: any.
type Ids = (String, String);

/// Which containers a list is about: by their ids, and what else they must be.
pub(in crate::rpc) fn container_filter(
    filter: Option<v1::ContainerFilter>,
) -> Result<(Ids, impl Fn(&ContainerRecord) -> bool), Refusal> {
    let filter = filter.unwrap_or_default();
    let state = filter.state.map(|state| known::<v1::ContainerState>(state.state, "filter.state"));
    let wanted = state.transpose()?;
    let selector = sorted(filter.label_selector);
    let passes = move |record: &ContainerRecord| {
        wanted.is_none_or(|wanted| wanted == state_of(record))
            && selects(&selector, &record.spec.labels)
    };
    Ok(((filter.id, filter.pod_sandbox_id), passes))
}

/// A container in a list.
pub(in crate::rpc) fn container_item(record: &ContainerRecord) -> v1::Container {
    v1::Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.pod.to_string(),
        metadata: Some(metadata_to_cri(&record.spec.metadata)),
        image: Some(image_to_cri(&record.spec.image)),
        image_ref: record.image_reference.clone(),
        state: state_of(record).into(),
        created_at: record.created.to_wire(),
        labels: unsorted(&record.spec.labels),
        annotations: unsorted(&record.spec.annotations),
        image_id: record.image.to_string(),
    }
}

/// The state of a container; `log_directory` is its pod's.
pub(in crate::rpc) fn container_status(
    record: &ContainerRecord,
    log_directory: Option<&Path>,
) -> v1::ContainerStatus {
    let spec = &record.spec;
    let status = v1::ContainerStatus {
        id: record.id.to_string(),
        metadata: Some(metadata_to_cri(&spec.metadata)),
        state: state_of(record).into(),
        created_at: record.created.to_wire(),
        image: Some(image_to_cri(&spec.image)),
        image_ref: record.image_reference.clone(),
        image_id: record.image.to_string(),
        labels: unsorted(&spec.labels),
        annotations: unsorted(&spec.annotations),
        mounts: devices::mounts_to_cri(&spec.mounts, &record.image_volumes),
        log_path: shown_log_path(log_directory, &spec.log_path),
        resources: Some(v1::ContainerResources {
            linux: Some(resources::to_cri(&record.resources)),
            windows: None,
        }),
        user: Some(v1::ContainerUser { linux: Some(user(record)) }),
        stop_signal: signal::to_cri(record.stop_signal).into(),
        ..v1::ContainerStatus::default()
    };
    with_course(status, &record.phase)
}

/// Adds when it started and how it ended.
fn with_course(mut status: v1::ContainerStatus, phase: &ContainerPhase) -> v1::ContainerStatus {
    match phase {
        ContainerPhase::Running { started, .. } => status.started_at = started.to_wire(),
        ContainerPhase::Exited { started, exit } => {
            status.started_at = started.map_or(0, |started| started.to_wire());
            status.finished_at = exit.at.to_wire();
            status.exit_code = exit.outcome.exit_code();
            exit.outcome.reason().clone_into(&mut status.reason);
            exit.outcome.message().clone_into(&mut status.message);
        }
        ContainerPhase::Creating | ContainerPhase::Created | ContainerPhase::Removing => {}
    }
    status
}

fn state_of(record: &ContainerRecord) -> v1::ContainerState {
    match record.phase {
        ContainerPhase::Creating | ContainerPhase::Created => v1::ContainerState::ContainerCreated,
        ContainerPhase::Running { .. } => v1::ContainerState::ContainerRunning,
        ContainerPhase::Exited { .. } | ContainerPhase::Removing => {
            v1::ContainerState::ContainerExited
        }
    }
}

fn metadata(metadata: v1::ContainerMetadata) -> Result<ContainerMetadata, Refusal> {
    let name = filled(metadata.name, "config.metadata.name")?;
    Ok(ContainerMetadata { name, attempt: metadata.attempt })
}

pub(super) fn metadata_to_cri(metadata: &ContainerMetadata) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: metadata.name.clone(), attempt: metadata.attempt }
}

/// An image as it is asked for.
pub(super) fn image(image: v1::ImageSpec) -> Result<ImageRequest, Refusal> {
    Ok(ImageRequest {
        reference: filled(image.image, "config.image.image")?,
        user_specified: image.user_specified_image,
        annotations: sorted(image.annotations),
        runtime_handler: image.runtime_handler,
    })
}

/// The image as the client named it, which for the kubelet is what the user wrote.
pub(super) fn image_to_cri(image: &ImageRequest) -> v1::ImageSpec {
    let shown =
        if image.user_specified.is_empty() { &image.reference } else { &image.user_specified };
    v1::ImageSpec {
        image: shown.clone(),
        annotations: unsorted(&image.annotations),
        user_specified_image: image.user_specified.clone(),
        runtime_handler: image.runtime_handler.clone(),
        image_ref: String::new(),
    }
}

/// A path that stays in the pod's log directory.
fn log_path(path: String) -> Result<String, Refusal> {
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(&path).components().all(plain) && !path.contains(char::is_control) {
        return Ok(path);
    }
    let problem = format!("{path:?} is not a path below the pod's log directory");
    Err(Refusal::invalid("config.log_path", problem))
}

fn shown_log_path(directory: Option<&Path>, path: &str) -> String {
    match directory {
        Some(directory) if !path.is_empty() => directory.join(path).to_string_lossy().into_owned(),
        Some(_) | None => String::new(),
    }
}

fn user(record: &ContainerRecord) -> v1::LinuxContainerUser {
    v1::LinuxContainerUser {
        uid: i64::from(record.identity.user),
        gid: i64::from(record.identity.group),
        supplemental_groups: record.identity.groups.iter().copied().map(i64::from).collect(),
    }
}

#[cfg(test)]
mod tests;
