//! Capabilities (capabilities(7)) as a set, and the lists that clients send.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names in the order of their numbers (linux/capability.h), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A text that names no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a capability")]
pub struct MalformedCapability(pub String);

/// A set of capabilities, one bit each, in the kernel's numbering.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All that this program knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// CAP_SYS_RESOURCE alone.
    pub const SYS_RESOURCE: Self = Self(1 << 24);

    /// The set of those bits; bits that mean nothing here are left out.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// One bit for each capability.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set of those names, each with or without `CAP_`, in any case.
    ///
    /// # Errors
    /// The first name that is none.
    pub fn from_names(
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, MalformedCapability> {
        names.into_iter().try_fold(Self::EMPTY, |set, name| Ok(set.union(one(name.as_ref())?)))
    }

    /// The names of its members in the kernel's order, without `CAP_`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| *name)
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is here and not there.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other set is in this one.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it has no member.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

impl TryFrom<Vec<String>> for CapabilitySet {
    type Error = MalformedCapability;

    fn try_from(names: Vec<String>) -> Result<Self, MalformedCapability> {
        Self::from_names(names)
    }
}

impl From<CapabilitySet> for Vec<String> {
    fn from(set: CapabilitySet) -> Self {
        set.names().map(str::to_owned).collect()
    }
}

/// A client's list: single names, and perhaps `ALL`, which is not the same as naming each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityList {
    /// Whether `ALL` is in the list.
    pub all: bool,
    /// The others.
    pub named: CapabilitySet,
}

impl CapabilityList {
    /// The list as the client wrote it.
    ///
    /// # Errors
    /// The first name that is neither a capability nor `ALL`.
    pub fn from_names(
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, MalformedCapability> {
        names.into_iter().try_fold(Self::default(), |list, name| {
            let name = name.as_ref();
            if name.eq_ignore_ascii_case("ALL") {
                return Ok(Self { all: true, ..list });
            }
            Ok(Self { named: list.named.union(one(name)?), ..list })
        })
    }
}

fn one(name: &str) -> Result<CapabilitySet, MalformedCapability> {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == plain)
        .map(|bit| CapabilitySet(1 << bit))
        .ok_or_else(|| MalformedCapability(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_known_with_and_without_its_prefix() {
        let expected = CapabilitySet::from_bits(1 << 12);
        for name in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin"] {
            assert_eq!(CapabilitySet::from_names([name]), Ok(expected), "{name}");
        }
        for name in ["", "CAP_", "ALL", "CAP_CAP_KILL", "NET_ADMIN ", "NETADMIN", "12"] {
            assert!(CapabilitySet::from_names([name]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn all_is_kept_apart_from_the_names() {
        let list = CapabilityList::from_names(["all", "KILL"]).unwrap();
        assert!(list.all);
        assert_eq!(list.named.names().collect::<Vec<_>>(), ["KILL"]);
        CapabilityList::from_names(["CAP_ALL"]).unwrap_err();
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        assert_eq!(CapabilitySet::ALL.names().count(), 41);
        assert_eq!(CapabilitySet::SYS_RESOURCE.names().collect::<Vec<_>>(), ["SYS_RESOURCE"]);
        assert_eq!(CapabilitySet::from_names(["CHECKPOINT_RESTORE"]).unwrap().bits(), 1 << 40);
        assert_eq!(CapabilitySet::from_bits(u64::MAX), CapabilitySet::ALL);
    }

    #[test]
    fn a_set_is_written_as_names() {
        let set = CapabilitySet::from_names(["KILL", "CHOWN"]).unwrap();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"["CHOWN","KILL"]"#);
        assert_eq!(serde_json::from_str::<CapabilitySet>(&text).unwrap(), set);
    }
}
