//! Namespaces of pods and containers.
//!
//! A request that gives no namespace options means the zero of each, as everywhere in the field: POD, the PID namespace
//! included. A container without options follows its pod.

use super::fields::known;
use cringle_domain::namespaces::{
    ContainerPid, IdMapping, IdRange, PodNamespaces, PodPid, PodUsers, Sharing,
};
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1::{self, NamespaceMode};

/// The namespaces of a pod.
pub(super) fn pod(options: Option<&v1::NamespaceOption>) -> Result<PodNamespaces, Refusal> {
    let Some(options) = options else {
        return Ok(PodNamespaces::default());
    };
    let field = |name: &str| format!("{OPTIONS}.{name}");
    PodNamespaces {
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
        users: users(options.userns_options.as_ref())?,
    }
    .checked()
}

/// The PID namespace of a container; `pod` are the options of its pod.
pub(super) fn container_pid(
    options: Option<&v1::NamespaceOption>,
    pod: Option<&v1::NamespaceOption>,
) -> Result<ContainerPid, Refusal> {
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

/// Whose users a container asks for, if it says.
pub(super) fn container_users(
    options: Option<&v1::NamespaceOption>,
) -> Result<Option<PodUsers>, Refusal> {
    let given = options.and_then(|options| options.userns_options.as_ref());
    given.map(|given| users(Some(given))).transpose()
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
        userns_options: namespaces.users.mapping().map(|mapping| v1::UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: vec![range_to_cri(mapping.users)],
            gids: vec![range_to_cri(mapping.groups)],
        }),
    }
}

/// The id mapping of a mount; none if there are no ranges at all.
pub(super) fn mapping(
    users: &[v1::IdMapping],
    groups: &[v1::IdMapping],
    field: &str,
) -> Result<Option<IdMapping>, Refusal> {
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    Ok(Some(IdMapping { users: range(users, field)?, groups: range(groups, field)? }))
}

/// A range as an answer has it: from 0 on inside.
pub(super) fn range_to_cri(range: IdRange) -> v1::IdMapping {
    v1::IdMapping { container_id: 0, host_id: range.first(), length: range.length() }
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

/// Whose users a pod has. Without mappings POD says the same as no options at all (F-023).
fn users(options: Option<&v1::UserNamespace>) -> Result<PodUsers, Refusal> {
    let Some(user) = options else { return Ok(PodUsers::Node) };
    let field = format!("{OPTIONS}.userns_options");
    let mapping = mapping(&user.uids, &user.gids, &field);
    match (sharing(user.mode, &format!("{field}.mode"))?, mapping?) {
        (_, None) => Ok(PodUsers::Node),
        (Sharing::Node, Some(_)) => {
            Err(Refusal::invalid(field, "mappings are given, but the mode is NODE"))
        }
        (Sharing::Pod, Some(mapping)) if mapping.users.length() != mapping.groups.length() => {
            Err(Refusal::invalid(field, "as many groups as users are to be mapped"))
        }
        (Sharing::Pod, Some(mapping)) => Ok(PodUsers::Pod(mapping)),
    }
}

fn range(mappings: &[v1::IdMapping], field: &str) -> Result<IdRange, Refusal> {
    let [only] = mappings else {
        let problem = format!("{} ranges are given, but exactly one is needed", mappings.len());
        return Err(Refusal::invalid(field, problem));
    };
    if only.container_id != 0 {
        return Err(Refusal::invalid(field, "the range does not map id 0 of the container"));
    }
    IdRange::new(only.host_id, only.length)
        .map_err(|error| Refusal::invalid(field, error.to_string()))
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

    fn with_users(mode: NamespaceMode, uids: &[u32], gids: &[u32]) -> v1::NamespaceOption {
        let mapping = |id: &u32| v1::IdMapping { host_id: 1000, container_id: *id, length: 65536 };
        let mapped = |ids: &[u32]| ids.iter().map(mapping).collect();
        let user = v1::UserNamespace { mode: mode.into(), uids: mapped(uids), gids: mapped(gids) };
        v1::NamespaceOption { userns_options: Some(user), ..v1::NamespaceOption::default() }
    }

    #[test]
    fn a_user_namespace_comes_back_and_a_malformed_one_is_refused() {
        let given = with_users(NamespaceMode::Pod, &[0], &[0]);
        assert_eq!(to_cri(pod(Some(&given)).unwrap()), given);
        for none in
            [with_users(NamespaceMode::Node, &[], &[]), with_users(NamespaceMode::Pod, &[], &[])]
        {
            assert_eq!(pod(Some(&none)).unwrap().users, PodUsers::Node, "{none:?}");
        }
        for (mode, uids, gids) in [
            (NamespaceMode::Pod, &[0, 0][..], &[0, 0][..]),
            (NamespaceMode::Pod, &[1], &[1]),
            (NamespaceMode::Pod, &[0], &[]),
            (NamespaceMode::Node, &[0], &[0]),
            (NamespaceMode::Container, &[0], &[0]),
            (NamespaceMode::Container, &[], &[]),
            (NamespaceMode::Target, &[], &[]),
        ] {
            let refused = pod(Some(&with_users(mode, uids, gids)));
            assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{mode:?} {uids:?}");
        }
        for host in [
            v1::NamespaceOption { network: NamespaceMode::Node.into(), ..given.clone() },
            v1::NamespaceOption { ipc: NamespaceMode::Node.into(), ..given.clone() },
            v1::NamespaceOption { pid: NamespaceMode::Node.into(), ..given.clone() },
        ] {
            assert!(matches!(pod(Some(&host)), Err(Refusal::Invalid { .. })), "{host:?}");
        }
        let mut uneven = given;
        uneven.userns_options.as_mut().unwrap().gids[0].length = 7;
        pod(Some(&uneven)).unwrap_err();
    }

    #[test]
    fn a_container_says_whose_users_it_expects_or_nothing() {
        let own = with_users(NamespaceMode::Pod, &[0], &[0]);
        let node = with_users(NamespaceMode::Node, &[], &[]);
        assert_eq!(container_users(Some(&own)), Ok(Some(pod(Some(&own)).unwrap().users)));
        assert_eq!(container_users(Some(&node)), Ok(Some(PodUsers::Node)));
        for none in [None, Some(&v1::NamespaceOption::default())] {
            assert_eq!(container_users(none), Ok(None));
        }
        container_users(Some(&with_users(NamespaceMode::Target, &[], &[]))).unwrap_err();
    }
}
