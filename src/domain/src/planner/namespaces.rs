//! Whose namespaces the container uses: the pod's, the host's, or new ones.

use super::Places;
use crate::namespaces::{ContainerPid, PodPid, PodUsers, Sharing};
use crate::plan::{NamespaceChoice, PlannedNamespaces, PlannedUsers};
use crate::refusal::Refusal;
use crate::spec::{ContainerSpec, PodSpec};
use std::path::PathBuf;

pub(super) fn plan(
    pod: &PodSpec,
    spec: &ContainerSpec,
    places: &Places,
) -> Result<PlannedNamespaces, Refusal> {
    let network = pod.namespaces.network;
    Ok(PlannedNamespaces {
        network: of_pod(network, places.network.as_ref(), "network")?,
        ipc: of_pod(pod.namespaces.ipc, places.ipc.as_ref(), "ipc")?,
        // A name of its own for a pod that is the host on the network would only mislead.
        uts: of_pod(network, places.uts.as_ref(), "uts")?,
        pid: pid(pod, spec, places)?,
        users: users(pod, spec, places)?,
    })
}

fn users(
    pod: &PodSpec,
    spec: &ContainerSpec,
    places: &Places,
) -> Result<Option<PlannedUsers>, Refusal> {
    if spec.security.users.is_some_and(|expected| expected != pod.namespaces.users) {
        return Err(Refusal::invalid(
            "linux.security_context.namespace_options.userns_options",
            "is not what the pod has",
        ));
    }
    let Some(mapping) = pod.namespaces.users.mapping() else { return Ok(None) };
    match &places.users {
        Some(namespace) => Ok(Some(PlannedUsers { namespace: namespace.clone(), mapping })),
        // Never the host's in its stead.
        None => Err(Refusal::WrongState("the user namespace to join is gone".to_owned())),
    }
}

fn of_pod(
    sharing: Sharing,
    place: Option<&PathBuf>,
    name: &str,
) -> Result<NamespaceChoice, Refusal> {
    match sharing {
        Sharing::Node => Ok(NamespaceChoice::Host),
        Sharing::Pod => joined(place, name),
    }
}

fn joined(place: Option<&PathBuf>, name: &str) -> Result<NamespaceChoice, Refusal> {
    // Never a new namespace or the host's in its stead.
    place
        .map(|path| NamespaceChoice::Join(path.clone()))
        .ok_or_else(|| Refusal::WrongState(format!("the {name} namespace to join is gone")))
}

fn pid(pod: &PodSpec, spec: &ContainerSpec, places: &Places) -> Result<NamespaceChoice, Refusal> {
    if spec.security.pid == ContainerPid::Node && pod.namespaces.users != PodUsers::Node {
        return Err(Refusal::invalid(
            "linux.security_context.namespace_options.pid",
            "NODE is not possible with a user namespace of the pod's own",
        ));
    }
    match (&spec.security.pid, pod.namespaces.pid) {
        (ContainerPid::Container, _) => Ok(NamespaceChoice::New),
        (ContainerPid::Node, _) | (ContainerPid::Pod, PodPid::Node) => Ok(NamespaceChoice::Host),
        (ContainerPid::Pod, PodPid::Pod) | (ContainerPid::Of(_), _) => {
            joined(places.pid.as_ref(), "pid")
        }
        (ContainerPid::Pod, PodPid::Container) => Err(Refusal::invalid(
            "linux.security_context.namespace_options.pid",
            "the pod was made without a PID namespace to share",
        )),
        (ContainerPid::Target(id), _) => Err(Refusal::invalid(
            "linux.security_context.namespace_options.target_id",
            format!("container \"{id}\" was not found in the pod"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, places, pod};
    use super::*;
    use crate::id::ContainerId;
    use crate::namespaces::{IdMapping, IdRange, PodNamespaces};

    fn planned(namespaces: PodNamespaces, pid: ContainerPid) -> Result<PlannedNamespaces, Refusal> {
        let pod = PodSpec { namespaces, ..pod() };
        let mut spec = container();
        spec.security.pid = pid;
        plan(&pod, &spec, &places())
    }

    const OWN: PodNamespaces = PodNamespaces {
        network: Sharing::Pod,
        ipc: Sharing::Pod,
        pid: PodPid::Container,
        users: PodUsers::Node,
    };

    #[test]
    fn a_container_joins_the_pods_namespaces() {
        let planned = planned(OWN, ContainerPid::Container).unwrap();
        assert_eq!(planned.network, NamespaceChoice::Join("/pins/net".into()));
        assert_eq!(planned.ipc, NamespaceChoice::Join("/pins/ipc".into()));
        assert_eq!(planned.uts, NamespaceChoice::Join("/pins/uts".into()));
        assert_eq!(planned.pid, NamespaceChoice::New);
    }

    #[test]
    fn a_pod_on_the_nodes_network_has_the_nodes_name() {
        let host =
            PodNamespaces { network: Sharing::Node, ipc: Sharing::Node, pid: PodPid::Node, ..OWN };
        let planned = planned(host, ContainerPid::Pod).unwrap();
        assert_eq!(planned.network, NamespaceChoice::Host);
        assert_eq!(planned.ipc, NamespaceChoice::Host);
        assert_eq!(planned.uts, NamespaceChoice::Host);
        assert_eq!(planned.pid, NamespaceChoice::Host);
    }

    #[test]
    fn a_namespace_that_is_gone_is_never_replaced() {
        let gone = Places { network: None, ..places() };
        let pod = PodSpec { namespaces: OWN, ..pod() };
        assert!(matches!(plan(&pod, &container(), &gone), Err(Refusal::WrongState(_))));
    }

    #[test]
    fn users_of_the_pods_own_are_joined_and_never_see_the_hosts_processes() {
        let range = IdRange::new(100_000, 65536).unwrap();
        let mapping = IdMapping { users: range, groups: range };
        let namespaces = PodNamespaces { users: PodUsers::Pod(mapping), ..OWN };
        let joined = planned(namespaces, ContainerPid::Container).unwrap().users;
        assert_eq!(joined, Some(PlannedUsers { namespace: "/pins/user".into(), mapping }));
        planned(namespaces, ContainerPid::Node).unwrap_err();
        let gone = Places { users: None, ..places() };
        let pod = PodSpec { namespaces, ..pod() };
        assert!(matches!(plan(&pod, &container(), &gone), Err(Refusal::WrongState(_))));
        assert_eq!(planned(OWN, ContainerPid::Container).unwrap().users, None);
        for (expected, allowed) in [(namespaces.users, true), (PodUsers::Node, false)] {
            let mut spec = container();
            spec.security.users = Some(expected);
            assert_eq!(plan(&pod, &spec, &places()).is_ok(), allowed, "{expected:?}");
        }
    }

    #[test]
    fn the_pid_namespace_follows_container_and_pod() {
        let shared = PodNamespaces { pid: PodPid::Pod, ..OWN };
        let joined = NamespaceChoice::Join("/pins/pid".into());
        let of = ContainerPid::Of(ContainerId::from_bytes([1; 32]));
        for (namespaces, pid, expected) in [
            (OWN, ContainerPid::Container, Some(NamespaceChoice::New)),
            (OWN, ContainerPid::Pod, None),
            (OWN, ContainerPid::Node, Some(NamespaceChoice::Host)),
            (OWN, of.clone(), Some(joined.clone())),
            (OWN, ContainerPid::Target("abc".to_owned()), None),
            (shared, ContainerPid::Pod, Some(joined)),
            (shared, ContainerPid::Container, Some(NamespaceChoice::New)),
        ] {
            assert_eq!(
                planned(namespaces, pid.clone()).ok().map(|planned| planned.pid),
                expected,
                "{pid:?}"
            );
        }
    }
}
