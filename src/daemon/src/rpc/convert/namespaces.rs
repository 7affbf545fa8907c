//! Namespaces of pods and containers.
//!
//! A request that gives no namespace options means the zero of each, as everywhere in the field: POD, the PID namespace
//! included. A container without options follows its pod.

use super::fields::known;
use cringle_domain::namespaces::{ContainerPid, PodNamespaces, PodPid, Sharing};
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1::{self, NamespaceMode};

/// The namespaces of a pod.
pub(super) fn pod(options: Option<&v1::NamespaceOption>) -> Result<PodNamespaces, Refusal> {
    let Some(options) = options else {
        return Ok(PodNamespaces::default());
    };
    refuse_user_namespace(options)?;
    let field = |name: &str| format!("{OPTIONS}.{name}");
    Ok(PodNamespaces {
        network: sharing(options.network, &field("network"))?,
        ipc: sharing(options.ipc, &field("ipc"))?,
        pid: match mode(options.pid, &field("pid"))? {
            NamespaceMode::Pod => PodPid::Pod,
            NamespaceMode::Container => PodPid::Container,
            NamespaceMode::Node => PodPid::Node,
            NamespaceMode::Target => {
                return Err(Refusal::invalid(field("pid"), "a pod cannot have TARGET"));
            }
        },
    })
}

/// The PID namespace of a container; `pod` are the options of its pod.
pub(super) fn container_pid(
    options: Option<&v1::NamespaceOption>,
    pod: Option<&v1::NamespaceOption>,
) -> Result<ContainerPid, Refusal> {
    if let Some(options) = options {
        refuse_user_namespace(options)?;
    }
    let Some(options) = options.or(pod) else { return Ok(ContainerPid::Pod) };
    match mode(options.pid, &format!("{OPTIONS}.pid"))? {
        NamespaceMode::Pod => Ok(ContainerPid::Pod),
        NamespaceMode::Container => Ok(ContainerPid::Container),
        NamespaceMode::Node => Ok(ContainerPid::Node),
        NamespaceMode::Target if options.target_id.is_empty() => {
            Err(Refusal::invalid(format!("{OPTIONS}.target_id"), "is empty, but pid is TARGET"))
        }
        NamespaceMode::Target => Ok(ContainerPid::Target(options.target_id.clone())),
    }
}

/// The namespaces of a pod in an answer.
pub(super) fn to_cri(namespaces: PodNamespaces) -> v1::NamespaceOption {
    let shared = |sharing| match sharing {
        Sharing::Pod => NamespaceMode::Pod,
        Sharing::Node => NamespaceMode::Node,
    };
    let pid = match namespaces.pid {
        PodPid::Pod => NamespaceMode::Pod,
        PodPid::Container => NamespaceMode::Container,
        PodPid::Node => NamespaceMode::Node,
    };
    v1::NamespaceOption {
        network: shared(namespaces.network).into(),
        pid: pid.into(),
        ipc: shared(namespaces.ipc).into(),
        target_id: String::new(),
        userns_options: None,
    }
}

const OPTIONS: &str = "linux.security_context.namespace_options";

fn mode(number: i32, field: &str) -> Result<NamespaceMode, Refusal> {
    known(number, field)
}

fn sharing(number: i32, field: &str) -> Result<Sharing, Refusal> {
    match mode(number, field)? {
        NamespaceMode::Pod => Ok(Sharing::Pod),
        NamespaceMode::Node => Ok(Sharing::Node),
        other @ (NamespaceMode::Container | NamespaceMode::Target) => {
            let problem = format!("{} is not allowed, only POD and NODE", other.as_str_name());
            Err(Refusal::invalid(field, problem))
        }
    }
}

/// User namespaces are not built. What would be wrong anyway is said to be wrong.
fn refuse_user_namespace(options: &v1::NamespaceOption) -> Result<(), Refusal> {
    let Some(user) = &options.userns_options else { return Ok(()) };
    let field = format!("{OPTIONS}.userns_options");
    let mappings = user.uids.len() + user.gids.len();
    match sharing(user.mode, &format!("{field}.mode"))? {
        Sharing::Node if mappings == 0 => Ok(()),
        Sharing::Node => Err(Refusal::invalid(field, "mappings are given, but the mode is NODE")),
        // Nothing to map says the same as no options at all (F-023).
        Sharing::Pod if mappings == 0 => Ok(()),
        Sharing::Pod => {
            let maps_root = |mappings: &[v1::IdMapping]| matches!(mappings, [only] if only.container_id == 0 && only.length > 0);
            if user.uids != user.gids || !maps_root(&user.uids) {
                let problem = "one equal mapping of user and group ids from id 0 on is needed";
                return Err(Refusal::invalid(field, problem));
            }
            Err(Refusal::Unsupported("a user namespace for a pod".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(
        network: NamespaceMode,
        pid: NamespaceMode,
        ipc: NamespaceMode,
    ) -> v1::NamespaceOption {
        v1::NamespaceOption {
            network: network.into(),
            pid: pid.into(),
            ipc: ipc.into(),
            ..v1::NamespaceOption::default()
        }
    }

    #[test]
    fn the_modes_of_a_pod_are_those_given_and_come_back() {
        use NamespaceMode::{Container, Node, Pod};
        for given in [
            options(Pod, Pod, Pod),
            options(Node, Container, Node),
            options(Node, Node, Pod),
            options(Pod, Container, Node),
        ] {
            assert_eq!(to_cri(pod(Some(&given)).unwrap()), given);
        }
    }

    #[test]
    fn without_options_everything_is_the_pods() {
        assert_eq!(pod(None).unwrap(), pod(Some(&v1::NamespaceOption::default())).unwrap());
        assert_eq!(pod(None).unwrap().pid, PodPid::Pod);
        assert_eq!(container_pid(None, None), Ok(ContainerPid::Pod));
        let own = options(NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Pod);
        assert_eq!(container_pid(None, Some(&own)), Ok(ContainerPid::Container));
    }

    #[test]
    fn modes_that_make_no_sense_are_refused() {
        use NamespaceMode::{Container, Pod, Target};
        for wrong in [
            options(Container, Pod, Pod),
            options(Target, Pod, Pod),
            options(Pod, Target, Pod),
            options(Pod, Pod, Container),
            v1::NamespaceOption { pid: 9, ..v1::NamespaceOption::default() },
        ] {
            assert!(matches!(pod(Some(&wrong)), Err(Refusal::Invalid { .. })), "{wrong:?}");
        }
        let without_target = options(Pod, Target, Pod);
        container_pid(Some(&without_target), None).unwrap_err();
        let target = v1::NamespaceOption { target_id: "abc".to_owned(), ..without_target };
        assert_eq!(container_pid(Some(&target), None), Ok(ContainerPid::Target("abc".to_owned())));
    }

    #[test]
    fn a_user_namespace_is_refused_and_a_malformed_one_is_said_to_be_so() {
        let mapping = |container_id| v1::IdMapping { host_id: 1000, container_id, length: 65536 };
        let user = |mode: NamespaceMode, uids: &[u32], gids: &[u32]| {
            let mapped = |ids: &[u32]| ids.iter().map(|id| mapping(*id)).collect();
            let user =
                v1::UserNamespace { mode: mode.into(), uids: mapped(uids), gids: mapped(gids) };
            let options = v1::NamespaceOption {
                userns_options: Some(user),
                ..v1::NamespaceOption::default()
            };
            pod(Some(&options)).map(|_| ())
        };
        assert_eq!(user(NamespaceMode::Node, &[], &[]), Ok(()));
        assert!(matches!(user(NamespaceMode::Pod, &[0], &[0]), Err(Refusal::Unsupported(_))));
        for (mode, uids, gids) in [
            (NamespaceMode::Pod, &[0, 0][..], &[0, 0][..]),
            (NamespaceMode::Pod, &[1], &[1]),
            (NamespaceMode::Pod, &[0], &[]),
            (NamespaceMode::Node, &[0], &[0]),
            (NamespaceMode::Container, &[0], &[0]),
            (NamespaceMode::Target, &[], &[]),
        ] {
            let refused = user(mode, uids, gids);
            assert!(
                matches!(refused, Err(Refusal::Invalid { .. })),
                "{mode:?} {uids:?} {refused:?}"
            );
        }
    }
}
