//! The pod's own plan: its name, resolver, sysctls, and where its cgroups go.

use super::{PlanSettings, files};
use crate::namespaces::Sharing;
use crate::plan::PodPlan;
use crate::refusal::Refusal;
use crate::resources::check_cgroup_parent;
use crate::spec::PodSpec;
use crate::sysctl;
use std::collections::BTreeMap;

/// What a pod takes over from the host where it has nothing of its own.
#[derive(Debug, Clone, Copy)]
pub struct HostFiles<'a> {
    /// The host's name.
    pub hostname: &'a str,
    /// The host's /etc/resolv.conf.
    pub resolv_conf: &'a str,
}

/// Plans a pod.
///
/// # Errors
/// Invalid, naming the field that cannot be honoured.
pub fn plan_pod(
    pod: &PodSpec,
    host: &HostFiles<'_>,
    settings: &PlanSettings,
) -> Result<PodPlan, Refusal> {
    pod.namespaces.checked()?;
    for (name, value) in &pod.sysctls {
        sysctl::check(name, value, &pod.namespaces)?;
    }
    let cgroup_parent = match &pod.cgroup_parent {
        Some(path) if !path.is_empty() => path.clone(),
        Some(_) | None => settings.cgroup_parent.clone(),
    };
    check_cgroup_parent(&cgroup_parent)?;
    Ok(PodPlan {
        hostname: hostname(pod, host.hostname)?,
        resolv_conf: match &pod.dns {
            Some(dns) => files::resolv_conf(dns)?,
            None => host.resolv_conf.to_owned(),
        },
        sysctls: sysctls(pod, settings),
        cgroup_parent,
    })
}

/// Its own name, or its metadata's made legal. On the host's network it shares the host's UTS namespace, so the host's name
/// is its name whatever it asks for.
fn hostname(pod: &PodSpec, of_host: &str) -> Result<String, Refusal> {
    if pod.namespaces.network == Sharing::Node {
        return Ok(of_host.to_owned());
    }
    if pod.hostname.is_empty() {
        return Ok(files::hostname_from(&pod.metadata.name));
    }
    files::check_hostname(&pod.hostname)?;
    Ok(pod.hostname.clone())
}

/// The pod's sysctls over the operator's.
fn sysctls(pod: &PodSpec, settings: &PlanSettings) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if pod.namespaces.network == Sharing::Pod {
        if settings.unprivileged_ports {
            sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        }
        if settings.unprivileged_ping {
            // All groups there are; the kernel takes none that a user namespace does not map.
            let mapping = pod.namespaces.users.mapping();
            let last = mapping.map_or(2_147_483_647, |mapping| mapping.groups.length() - 1);
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        }
    }
    sysctls.extend(pod.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())));
    sysctls
}

#[cfg(test)]
mod tests {
    use super::super::tests::pod;
    use super::*;
    use crate::namespaces::{IdMapping, IdRange, PodNamespaces, PodUsers};
    use crate::spec::DnsConfig;

    const HOST: HostFiles<'static> =
        HostFiles { hostname: "node1", resolv_conf: "nameserver 192.0.2.1\n" };

    fn planned(pod: &PodSpec) -> Result<PodPlan, Refusal> {
        plan_pod(pod, &HOST, &PlanSettings::default())
    }

    #[test]
    fn a_pod_without_wishes_has_the_defaults() {
        let plan = planned(&pod()).unwrap();
        assert_eq!(plan.hostname, "web-0");
        assert_eq!(plan.resolv_conf, HOST.resolv_conf);
        assert_eq!(plan.cgroup_parent, PlanSettings::default().cgroup_parent);
        assert_eq!(plan.sysctls.len(), 2);
    }

    #[test]
    fn every_group_that_a_pod_has_may_ping_and_no_other_is_named() {
        let range = |length| IdRange::new(100_000, length).unwrap();
        let mapping = IdMapping { users: range(65536), groups: range(65536) };
        let namespaces =
            PodNamespaces { users: PodUsers::Pod(mapping), ..PodNamespaces::default() };
        for (namespaces, groups) in
            [(PodNamespaces::default(), "0 2147483647"), (namespaces, "0 65535")]
        {
            let plan = planned(&PodSpec { namespaces, ..pod() }).unwrap();
            assert_eq!(plan.sysctls["net.ipv4.ping_group_range"], groups);
        }
    }

    #[test]
    fn a_pod_on_the_nodes_network_changes_nothing_of_the_node() {
        let namespaces = PodNamespaces { network: Sharing::Node, ..PodNamespaces::default() };
        let hostname = "mine".to_owned();
        let plan = planned(&PodSpec { namespaces, hostname, ..pod() }).unwrap();
        assert_eq!(plan.hostname, "node1");
        assert!(plan.sysctls.is_empty());
    }

    #[test]
    fn what_the_pod_asks_for_wins() {
        let plan = planned(&PodSpec {
            hostname: "my-host".to_owned(),
            dns: Some(DnsConfig::default()),
            cgroup_parent: Some("/test.slice".to_owned()),
            sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "1024".to_owned())].into(),
            ..pod()
        })
        .unwrap();
        assert_eq!(plan.hostname, "my-host");
        assert_eq!(plan.resolv_conf, "");
        assert_eq!(plan.cgroup_parent, "/test.slice");
        assert_eq!(plan.sysctls["net.ipv4.ip_unprivileged_port_start"], "1024");
    }

    #[test]
    fn a_pod_that_reaches_outside_is_refused() {
        let dns = DnsConfig { servers: vec!["x\ny".to_owned()], ..DnsConfig::default() };
        for wrong in [
            PodSpec { cgroup_parent: Some("/a/../../b".to_owned()), ..pod() },
            PodSpec { sysctls: [("vm.swappiness".to_owned(), "1".to_owned())].into(), ..pod() },
            PodSpec { hostname: "a\nb".to_owned(), ..pod() },
            PodSpec { dns: Some(dns), ..pod() },
        ] {
            assert!(planned(&wrong).is_err(), "{wrong:?}");
        }
    }
}
