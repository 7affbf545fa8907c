//! The requests that made pods and containers, under the CRI's names of their fields. Fields that say nothing are left
//! out, as protobuf has it.

use cringle_domain::mounts::{Access, MountRequest, Propagation};
use cringle_domain::resources::Resources;
use cringle_domain::spec::{ContainerSpec, Input, PodSpec, PortMapping, Protocol, Terminal};
use serde_json::{Map, Value, json};

/// What RunPodSandbox was asked for.
pub(super) fn pod(spec: &PodSpec) -> Value {
    let metadata = &spec.metadata;
    let dns = spec.dns.as_ref().map(
        |dns| json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}),
    );
    said(json!({
        "metadata": said(json!({
            "name": metadata.name, "uid": metadata.uid, "namespace": metadata.namespace,
            "attempt": metadata.attempt,
        })),
        "hostname": spec.hostname,
        "log_directory": spec.log_directory,
        "dns_config": dns.map(said),
        "port_mappings": spec.port_mappings.iter().map(port).collect::<Vec<_>>(),
        "labels": spec.labels,
        "annotations": spec.annotations,
        "linux": said(json!({
            "cgroup_parent": spec.cgroup_parent, "sysctls": spec.sysctls,
            "overhead": resources(&spec.resources.overhead),
            "resources": resources(&spec.resources.containers),
        })),
    }))
}

/// What CreateContainer was asked for.
pub(super) fn container(spec: &ContainerSpec) -> Value {
    let environment = spec.environment.iter();
    let environment: Vec<_> = environment
        .map(|(key, value)| json!({"key": key, "value": String::from_utf8_lossy(value)}))
        .collect();
    said(json!({
        "metadata": said(json!({"name": spec.metadata.name, "attempt": spec.metadata.attempt})),
        "image": said(json!({
            "image": spec.image.reference, "user_specified_image": spec.image.user_specified,
            "annotations": spec.image.annotations,
        })),
        "command": spec.command,
        "args": spec.args,
        "working_dir": spec.working_dir,
        "envs": environment,
        "mounts": spec.mounts.iter().map(mount).collect::<Vec<_>>(),
        "devices": spec.devices.iter().map(|device| json!({
            "container_path": device.container_path, "host_path": device.host_path,
            "permissions": device.permissions,
        })).collect::<Vec<_>>(),
        "CDI_devices": spec.cdi_devices.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "labels": spec.labels,
        "annotations": spec.annotations,
        "log_path": spec.log_path,
        "stdin": matches!(spec.input, Input::Open | Input::Once),
        "stdin_once": matches!(spec.input, Input::Once),
        "tty": matches!(spec.terminal, Terminal::Present),
    }))
}

/// Limits.
pub(super) fn resources(resources: &Resources) -> Value {
    let pages = resources.huge_pages.iter();
    said(json!({
        "cpu_period": resources.cpu_period,
        "cpu_quota": resources.cpu_quota,
        "cpu_shares": resources.cpu_shares,
        "memory_limit_in_bytes": resources.memory_limit,
        "memory_swap_limit_in_bytes": resources.memory_and_swap_limit,
        "oom_score_adj": resources.oom_score_adjustment,
        "cpuset_cpus": resources.cpuset_cpus,
        "cpuset_mems": resources.cpuset_memory_nodes,
        "hugepage_limits": pages
            .map(|(size, limit)| json!({"page_size": size, "limit": limit})).collect::<Vec<_>>(),
        "unified": resources.unified,
    }))
}

fn port(mapping: &PortMapping) -> Value {
    let protocol = match mapping.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    said(json!({
        "protocol": protocol, "container_port": mapping.container_port,
        "host_port": mapping.host_port, "host_ip": mapping.host_address,
    }))
}

fn mount(mount: &MountRequest) -> Value {
    let propagation = match mount.propagation {
        Propagation::Private => 0,
        Propagation::HostToContainer => 1,
        Propagation::Bidirectional => 2,
    };
    said(json!({
        "container_path": mount.container_path, "host_path": mount.host_path,
        "readonly": mount.access != Access::ReadWrite,
        "recursive_read_only": mount.access == Access::RecursiveReadOnly,
        "propagation": propagation, "selinux_relabel": mount.relabel,
        "mount_options": mount.restrictions.words().collect::<Vec<_>>(),
    }))
}

/// The object without what says nothing: null, false, zero and the empty.
fn said(object: Value) -> Value {
    let Value::Object(fields) = object else { return object };
    Value::Object(
        fields.into_iter().filter(|(_, value)| says_something(value)).collect::<Map<_, _>>(),
    )
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        let object =
            json!({"a": 0, "b": "", "c": [], "d": {}, "e": false, "f": null, "g": 1, "h": "x"});
        assert_eq!(said(object), json!({"g": 1, "h": "x"}));
    }
}
