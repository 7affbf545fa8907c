//! Sysctls of a pod: only those that belong to a namespace of the pod's own.
//!
//! The allowed names are a list: whatever is not known to be namespaced would change the host.

use crate::namespaces::{PodNamespaces, Sharing};
use crate::refusal::Refusal;

/// Sysctls of the IPC namespace (`ipc_sysctls` and `mq_sysctls` of the kernel).
const IPC: [&str; 7] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Checks one sysctl, by its dotted name.
///
/// # Errors
/// Invalid, when the name or value is malformed, the sysctl is not namespaced, or its namespace is the host's.
pub fn check(name: &str, value: &str, namespaces: &PodNamespaces) -> Result<(), Refusal> {
    let refuse = |problem: &str| {
        let shown: String = name.chars().take(256).collect();
        Err(Refusal::invalid("linux.sysctls", format!("{shown:?} {problem}")))
    };
    if !is_dotted_name(name) {
        return refuse("is not the dotted name of a sysctl");
    }
    if value.is_empty() || value.len() > 4096 || !value.bytes().all(is_of_a_value) {
        return refuse(
            "has a value that is empty, too long, or not made of letters, digits and ' -,_.:'",
        );
    }
    let (sharing, owner) = if name.starts_with("net.") {
        (namespaces.network, "network")
    } else if is_ipc(name) {
        (namespaces.ipc, "ipc")
    } else {
        return refuse("is not a namespaced sysctl");
    };
    match sharing {
        Sharing::Pod => Ok(()),
        Sharing::Node => refuse(&format!("would change the host: the pod's {owner} is the node's")),
    }
}

fn is_ipc(name: &str) -> bool {
    IPC.contains(&name) || name == "kernel.shm_rmid_forced" || name.starts_with("fs.mqueue.")
}

/// No namespaced sysctl needs more, and a `+` or newline once began a second sysctl (CVE-2022-0811).
fn is_of_a_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" \t-,_.:".contains(&byte)
}

/// Components of letters, digits, `_`, `-`, and `/` for an interface name with a dot in it (sysctl(8): `net.ipv4.conf.eth0/1.rp_filter`).
fn is_dotted_name(name: &str) -> bool {
    name.len() <= 256
        && name.split('.').count() >= 2
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('/')
                && !part.ends_with('/')
                && !part.contains("//")
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PodNamespaces = PodNamespaces {
        network: Sharing::Pod,
        ipc: Sharing::Pod,
        pid: crate::namespaces::PodPid::Container,
        users: crate::namespaces::PodUsers::Node,
    };

    #[test]
    fn sysctls_of_the_pods_own_namespaces_are_taken() {
        for name in [
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.conf.eth0/100.rp_filter",
            "net.core.somaxconn",
            "kernel.shm_rmid_forced",
            "kernel.sem",
            "fs.mqueue.msg_max",
        ] {
            assert_eq!(check(name, "1", &OWN), Ok(()), "{name}");
        }
        assert_eq!(check("net.ipv4.ip_local_port_range", "1024\t65535", &OWN), Ok(()));
    }

    #[test]
    fn what_is_not_namespaced_or_malformed_is_refused() {
        for (name, value) in [
            ("kernel.core_pattern", "|/bin/sh"),
            ("kernel.hostname", "x"),
            ("kernel.shm", "1"),
            ("vm.swappiness", "1"),
            ("fs.file-max", "1"),
            ("net", "1"),
            ("", "1"),
            ("net..ipv4", "1"),
            ("net.ipv4.", "1"),
            ("net.../../kernel.core_pattern", "1"),
            ("net./../kernel/core_pattern", "1"),
            ("net/ipv4/ip_forward", "1"),
            ("net.ipv4.ip_forward=1+kernel.core_pattern", "1"),
            ("net.ipv4.ip_forward\n", "1"),
            ("net.ipv4.ip_forward\0", "1"),
            ("net.ipv4.ip_forward", "1\nkernel.core_pattern=x"),
            ("net.ipv4.ip_forward", "1\0"),
            ("net.ipv4.ip_forward", "1+kernel.core_pattern=x"),
            ("net.ipv4.ip_forward", "/x"),
            ("net.ipv4.ip_forward", ""),
        ] {
            assert!(check(name, value, &OWN).is_err(), "{name:?} {value:?}");
        }
    }

    #[test]
    fn a_sysctl_of_a_namespace_of_the_node_is_refused() {
        let host_network = PodNamespaces { network: Sharing::Node, ..OWN };
        let host_ipc = PodNamespaces { ipc: Sharing::Node, ..OWN };
        check("net.core.somaxconn", "1", &host_network).unwrap_err();
        check("kernel.sem", "1", &host_network).unwrap();
        check("kernel.shm_rmid_forced", "1", &host_ipc).unwrap_err();
        check("fs.mqueue.msg_max", "1", &host_ipc).unwrap_err();
        check("net.core.somaxconn", "1", &host_ipc).unwrap();
    }
}
