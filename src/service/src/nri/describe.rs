//! Pods and containers as plugins are told of them: from their records, and from the document that a container's shim reads.

use super::limits;
use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::security::Seccomp;
use cringle_domain::time::Timestamp;
use cringle_proto_nri::v1alpha1::security_profile::ProfileType;
use cringle_proto_nri::v1alpha1::{
    Container, ContainerState, Hook, Hooks, Image, LinuxContainer, LinuxDevice, LinuxNamespace,
    LinuxPodSandbox, Mount, OptionalFileMode, OptionalInt, OptionalUInt32, PodSandbox, PosixRlimit,
    SecurityProfile, User,
};
use oci_spec::runtime::{self as oci, LinuxNamespaceType, Spec};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A pod. Namespaces are those of its pins that are there.
pub(super) fn pod(
    record: &PodRecord,
    pins: &[(&str, PathBuf)],
    addresses: &[IpAddr],
) -> PodSandbox {
    let metadata = &record.spec.metadata;
    let (addresses, reaper) = match &record.phase {
        PodPhase::Ready { addresses, reaper } => (addresses.as_slice(), *reaper),
        PodPhase::Creating | PodPhase::NotReady { .. } | PodPhase::Removing => (addresses, None),
    };
    let there = pins.iter().filter(|(_, path)| path.exists());
    let namespaces =
        there.map(|(kind, path)| LinuxNamespace { r#type: (*kind).to_owned(), path: text(path) });
    PodSandbox {
        id: record.id.to_string(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        labels: record.spec.labels.clone(),
        annotations: record.spec.annotations.clone(),
        runtime_handler: record.spec.runtime_handler.clone(),
        linux: Some(LinuxPodSandbox {
            cgroup_parent: record.plan.cgroup_parent.clone(),
            namespaces: namespaces.collect(),
            pod_overhead: Some(limits::to_nri(&record.resources.overhead)),
            pod_resources: Some(limits::to_nri(&record.resources.containers)),
            ..LinuxPodSandbox::default()
        }),
        pid: reaper.and_then(|process| u32::try_from(process.pid).ok()).unwrap_or(0),
        ips: addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A container; without its document, which may be lost, as far as its record knows it.
pub(super) fn container(record: &ContainerRecord, document: Option<&Spec>) -> Container {
    let (state, pid) = state(&record.phase);
    let mut container = Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.pod.to_string(),
        name: record.spec.metadata.name.clone(),
        state: state.into(),
        labels: record.spec.labels.clone(),
        pid,
        created_at: nanoseconds(record.created),
        user: Some(User {
            uid: record.identity.user,
            gid: record.identity.group,
            additional_gids: record.identity.groups.clone(),
        }),
        image: Some(image(record)),
        linux: Some(linux(record, document)),
        ..Container::default()
    };
    match &record.phase {
        ContainerPhase::Creating | ContainerPhase::Created | ContainerPhase::Removing => {}
        ContainerPhase::Running { started, .. } => container.started_at = nanoseconds(*started),
        ContainerPhase::Exited { started, exit } => {
            container.started_at = started.map_or(0, nanoseconds);
            container.finished_at = nanoseconds(exit.at);
            container.exit_code = exit.outcome.exit_code();
            exit.outcome.reason().clone_into(&mut container.status_reason);
            exit.outcome.message().clone_into(&mut container.status_message);
        }
    }
    if let Some(document) = document {
        add_document(&mut container, document);
    }
    container.annotations.extend(record.spec.annotations.clone());
    container
}

fn state(phase: &ContainerPhase) -> (ContainerState, u32) {
    match phase {
        ContainerPhase::Creating | ContainerPhase::Removing => {
            (ContainerState::ContainerUnknown, 0)
        }
        ContainerPhase::Created => (ContainerState::ContainerCreated, 0),
        ContainerPhase::Running { process, .. } => {
            (ContainerState::ContainerRunning, u32::try_from(process.pid).unwrap_or(0))
        }
        ContainerPhase::Exited { .. } => (ContainerState::ContainerStopped, 0),
    }
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.nanoseconds()).unwrap_or(i64::MAX)
}

fn image(record: &ContainerRecord) -> Image {
    let asked = &record.spec.image;
    let name =
        if asked.user_specified.is_empty() { &asked.reference } else { &asked.user_specified };
    let digest = record.image_reference.split_once('@').map_or("", |(_, digest)| digest);
    Image { name: name.clone(), digest: digest.to_owned(), config_digest: record.image.to_string() }
}

fn linux(record: &ContainerRecord, document: Option<&Spec>) -> LinuxContainer {
    let mut linux = LinuxContainer {
        resources: Some(limits::to_nri(&record.resources)),
        cgroups_path: record.cgroup.clone(),
        seccomp_profile: profile(&record.spec.security.seccomp),
        ..LinuxContainer::default()
    };
    let Some(document) = document else { return linux };
    if let Some(process) = document.process() {
        linux.oom_score_adj =
            process.oom_score_adj().map(|value| OptionalInt { value: value.into() });
    }
    if let Some(told) = document.linux() {
        linux.namespaces = told.namespaces().iter().flatten().map(namespace).collect();
        linux.devices = told.devices().iter().flatten().map(device).collect();
        linux.sysctl = told.sysctl().clone().unwrap_or_default().into_iter().collect();
    }
    linux
}

/// What the client asked for; nothing if it said nothing.
fn profile(seccomp: &Seccomp) -> Option<SecurityProfile> {
    let (kind, path) = match seccomp {
        Seccomp::Unset => return None,
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Localhost(path) => (ProfileType::Localhost, text(path)),
    };
    Some(SecurityProfile { profile_type: kind.into(), localhost_ref: path })
}

fn add_document(container: &mut Container, document: &Spec) {
    container.annotations =
        document.annotations().clone().unwrap_or_default().into_iter().collect();
    container.mounts = document.mounts().iter().flatten().map(mount).collect();
    container.hooks = document.hooks().as_ref().map(hooks);
    if let Some(process) = document.process() {
        container.args = process.args().clone().unwrap_or_default();
        container.env = process.env().clone().unwrap_or_default();
        let rlimits = process.rlimits().iter().flatten();
        container.rlimits = rlimits
            .map(|limit| PosixRlimit {
                r#type: limit.typ().to_string(),
                hard: limit.hard(),
                soft: limit.soft(),
            })
            .collect();
    }
}

fn mount(mount: &oci::Mount) -> Mount {
    Mount {
        destination: text(mount.destination()),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: mount.source().as_deref().map(text).unwrap_or_default(),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn namespace(namespace: &oci::LinuxNamespace) -> LinuxNamespace {
    LinuxNamespace {
        r#type: kind_of(namespace.typ()).to_owned(),
        path: namespace.path().as_deref().map(text).unwrap_or_default(),
    }
}

/// The name of a kind of namespaces in a document.
pub(super) fn kind_of(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn device(device: &oci::LinuxDevice) -> LinuxDevice {
    let id = |id: Option<u32>| id.map(|value| OptionalUInt32 { value });
    LinuxDevice {
        path: text(device.path()),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| OptionalFileMode { value }),
        uid: id(device.uid()),
        gid: id(device.gid()),
    }
}

fn hooks(hooks: &oci::Hooks) -> Hooks {
    let list = |list: &Option<Vec<oci::Hook>>| list.iter().flatten().map(hook).collect();
    Hooks {
        prestart: list(hooks.prestart()),
        create_runtime: list(hooks.create_runtime()),
        create_container: list(hooks.create_container()),
        start_container: list(hooks.start_container()),
        poststart: list(hooks.poststart()),
        poststop: list(hooks.poststop()),
    }
}

fn hook(hook: &oci::Hook) -> Hook {
    Hook {
        path: text(hook.path()),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout: hook.timeout().map(|value| OptionalInt { value }),
    }
}

/// Plugins are told in UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
