//! Whose namespaces pods and containers use.

use crate::id::ContainerId;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// A namespace of the pod's own, or the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// The pod has its own.
    #[default]
    Pod,
    /// The host's.
    Node,
}

/// The default PID namespace of a pod's containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPid {
    /// One for all containers, with a reaper of ours as PID 1.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The host's.
    Node,
}

/// The ids of the host that stand for those from 0 on inside: at least one, and none of them past the last id there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct IdRange {
    first: u32,
    length: u32,
}

/// A range of ids that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} ids from {first} on are none, or more than there are")]
pub struct MalformedRange {
    first: u32,
    length: u32,
}

impl IdRange {
    /// The range of that many ids.
    ///
    /// # Errors
    /// If it is empty, or holds 4294967295, which is nobody's id.
    pub fn new(first: u32, length: u32) -> Result<Self, MalformedRange> {
        let fits = first.checked_add(length).is_some();
        if fits && length > 0 {
            Ok(Self { first, length })
        } else {
            Err(MalformedRange { first, length })
        }
    }

    /// The host's id for 0.
    #[must_use]
    pub const fn first(self) -> u32 {
        self.first
    }

    /// How many.
    #[must_use]
    pub const fn length(self) -> u32 {
        self.length
    }

    /// The host's id for one inside, if it has one.
    #[must_use]
    pub fn of_host(self, inside: u32) -> Option<u32> {
        (inside < self.length).then(|| self.first + inside)
    }
}

impl TryFrom<(u32, u32)> for IdRange {
    type Error = MalformedRange;

    fn try_from((first, length): (u32, u32)) -> Result<Self, MalformedRange> {
        Self::new(first, length)
    }
}

impl From<IdRange> for (u32, u32) {
    fn from(range: IdRange) -> Self {
        (range.first, range.length)
    }
}

/// Which ids of the host stand for those inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// Of users.
    pub users: IdRange,
    /// Of groups.
    pub groups: IdRange,
}

/// Whose users and groups a pod has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodUsers {
    /// The host's.
    #[default]
    Node,
    /// Its own, which are these on the host.
    Pod(IdMapping),
}

impl PodUsers {
    /// The mapping, if the pod has users of its own.
    #[must_use]
    pub const fn mapping(self) -> Option<IdMapping> {
        match self {
            Self::Node => None,
            Self::Pod(mapping) => Some(mapping),
        }
    }
}

/// The namespaces of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNamespaces {
    /// Network.
    pub network: Sharing,
    /// System V IPC, message queues and /dev/shm.
    pub ipc: Sharing,
    /// Processes.
    pub pid: PodPid,
    /// Users and groups.
    #[serde(default)]
    pub users: PodUsers,
}

impl PodNamespaces {
    /// The namespaces, if they go together: root of a user namespace has no power over a namespace of the host's.
    ///
    /// # Errors
    /// Invalid, naming the namespace that is the host's beside users of the pod's own.
    pub fn checked(self) -> Result<Self, Refusal> {
        let of_host = [
            ("network", self.network == Sharing::Node),
            ("ipc", self.ipc == Sharing::Node),
            ("pid", self.pid == PodPid::Node),
        ];
        match (self.users, of_host.into_iter().find(|(_, of_host)| *of_host)) {
            (PodUsers::Pod(_), Some((name, _))) => Err(Refusal::invalid(
                format!("linux.security_context.namespace_options.{name}"),
                "NODE is not possible with a user namespace of the pod's own",
            )),
            (PodUsers::Pod(_), None) | (PodUsers::Node, _) => Ok(self),
        }
    }
}

/// The PID namespace of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPid {
    /// The pod's shared one.
    Pod,
    /// Its own.
    #[default]
    Container,
    /// The host's.
    Node,
    /// That of another container of the same pod (id or unique prefix as the client gave it).
    Target(String),
    /// That of another container of the same pod, found.
    Of(ContainerId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_host_stands_for_each_inside_the_range() {
        let range = IdRange::new(100_000, 65536).unwrap();
        for (inside, outside) in [(0, Some(100_000)), (65535, Some(165_535)), (65536, None)] {
            assert_eq!(range.of_host(inside), outside, "{inside}");
        }
        assert_eq!(IdRange::new(u32::MAX - 5, 5).unwrap().of_host(4), Some(u32::MAX - 1));
    }

    #[test]
    fn a_range_of_none_or_of_nobody_is_refused() {
        for (first, length) in [(0, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(IdRange::new(first, length).is_err(), "{first} {length}");
        }
        serde_json::from_str::<IdRange>("[1,0]").unwrap_err();
    }

    #[test]
    fn users_of_the_pods_own_go_with_no_namespace_of_the_host() {
        let range = IdRange::new(1000, 10).unwrap();
        let users = PodUsers::Pod(IdMapping { users: range, groups: range });
        let own = PodNamespaces { users, ..PodNamespaces::default() };
        own.checked().unwrap();
        for wrong in [
            PodNamespaces { network: Sharing::Node, ..own },
            PodNamespaces { ipc: Sharing::Node, ..own },
            PodNamespaces { pid: PodPid::Node, ..own },
        ] {
            assert!(wrong.checked().is_err(), "{wrong:?}");
            PodNamespaces { users: PodUsers::Node, ..wrong }.checked().unwrap();
        }
    }

    #[test]
    fn a_record_from_before_user_namespaces_has_the_hosts_users() {
        let old = r#"{"network":"Pod","ipc":"Pod","pid":"Container"}"#;
        let read: PodNamespaces = serde_json::from_str(old).unwrap();
        assert_eq!(read.users, PodUsers::Node);
    }
}
