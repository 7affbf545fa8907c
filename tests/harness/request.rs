//! Configurations of pods and containers that tests ask for.

use crate::client::image;
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerMetadata, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping,
    SecurityProfile, security_profile::ProfileType,
};
use std::path::Path;

/// A pod with a network of its own and a PID namespace for each container, as most are.
#[must_use]
pub fn pod(name: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "test".to_owned(),
        attempt: 0,
    };
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.to_owned(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// Network and IPC of the pod, PID of the container.
#[must_use]
pub fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() }
}

/// The same pod with other namespaces.
#[must_use]
pub fn with_namespaces(mut config: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(options);
    config
}

/// The same pod with its containers' logs below a directory.
#[must_use]
pub fn with_logs(mut config: PodSandboxConfig, directory: &Path) -> PodSandboxConfig {
    config.log_directory = directory.to_string_lossy().into_owned();
    config
}

/// The same pod with a port of the host that leads to one of its own.
#[must_use]
pub fn with_port(mut config: PodSandboxConfig, host_port: i32, port: i32) -> PodSandboxConfig {
    let mapping = PortMapping { host_port, container_port: port, ..PortMapping::default() };
    config.port_mappings.push(mapping);
    config
}

/// A container that runs a command under the default seccomp profile, in the namespaces of [`pod`].
#[must_use]
pub fn container(name: &str, reference: &str, command: &[&str]) -> ContainerConfig {
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(namespaces()),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault.into(),
            localhost_ref: String::new(),
        }),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(image(reference)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources::default()),
            security_context: Some(security),
        }),
        ..ContainerConfig::default()
    }
}

/// The same container with other namespaces.
#[must_use]
pub fn in_namespaces(config: ContainerConfig, options: &NamespaceOption) -> ContainerConfig {
    with_security(config, |security| security.namespace_options = Some(options.clone()))
}

/// The same container with a limit of memory.
#[must_use]
pub fn with_memory(mut config: ContainerConfig, limit: i64) -> ContainerConfig {
    let linux = config.linux.get_or_insert_default();
    let resources = linux.resources.get_or_insert_default();
    resources.memory_limit_in_bytes = limit;
    resources.memory_swap_limit_in_bytes = limit;
    config
}

/// The same container with a change to its security settings.
#[must_use]
pub fn with_security(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    let linux = config.linux.get_or_insert_default();
    change(linux.security_context.get_or_insert_default());
    config
}
