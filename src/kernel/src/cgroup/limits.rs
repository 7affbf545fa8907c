//! Limits in our own terms. The two versions of the interface are derived from these by `v1.rs` and `v2.rs`.

use std::collections::BTreeMap;
use std::fmt;

/// An upper bound, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// No bound.
    Unlimited,
    /// At most this much.
    At(u64),
}

impl Ceiling {
    /// The bound that a signed number stands for: a negative one is none.
    #[must_use]
    pub fn from_signed(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Unlimited, Self::At)
    }

    /// Whether this bound admits more than the other.
    pub(super) const fn exceeds(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Unlimited) => false,
            (Self::Unlimited, Self::At(_)) => true,
            (Self::At(own), Self::At(other)) => own > other,
        }
    }
}

/// CPU time and placement. Absent: as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuLimits {
    /// Relative weight in v1 units, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds of CPU time in a period.
    pub quota: Option<Ceiling>,
    /// The period in microseconds.
    pub period: Option<u64>,
    /// Microseconds of unused quota that may be saved up.
    pub burst: Option<u64>,
    /// CPUs in list form (cpuset(7)).
    pub cpus: Option<String>,
    /// Memory nodes in list form.
    pub memory_nodes: Option<String>,
}

/// Memory. Absent: as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Memory in bytes.
    pub limit: Option<Ceiling>,
    /// Memory and swap together in bytes.
    pub with_swap: Option<Ceiling>,
    /// What is left alone as long as others can give, in bytes.
    pub reservation: Option<Ceiling>,
}

/// Whether a device rule grants or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Grants.
    Allow,
    /// Takes.
    Deny,
}

/// Which kind of device node a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both kinds.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// What may be done to a device: a set of read, write and mknod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    /// mknod(2); the numbers are those of the kernel's device program interface.
    const MKNOD: u8 = 1;
    const READ: u8 = 2;
    const WRITE: u8 = 4;
    /// All three.
    pub const ALL: Self = Self(Self::MKNOD | Self::READ | Self::WRITE);

    /// The set that a text like `rwm` names; none for other letters, or no letter.
    #[must_use]
    pub fn from_letters(letters: &str) -> Option<Self> {
        let mut bits = 0;
        for letter in letters.chars() {
            bits |= match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => return None,
            };
        }
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// The kernel's bits.
    pub(super) const fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.0 & bit != 0 {
                formatter.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DeviceAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeviceAccess({self})")
    }
}

/// A rule about device nodes; a later rule overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Grants or takes.
    pub permission: Permission,
    /// The kind of node.
    pub kind: DeviceKind,
    /// Its major number; absent: any.
    pub major: Option<u32>,
    /// Its minor number; absent: any.
    pub minor: Option<u32>,
    /// What is granted or taken.
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// Whether it is about every device and every access.
    pub(super) fn is_total(&self) -> bool {
        self.kind == DeviceKind::All && self.access == DeviceAccess::ALL
    }
}

/// Which devices may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Devices {
    /// As it is.
    #[default]
    Untouched,
    /// None but what these rules, in this order, grant. An empty list grants nothing.
    Only(Vec<DeviceRule>),
}

/// All limits. Absent: as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU.
    pub cpu: CpuLimits,
    /// Memory.
    pub memory: MemoryLimits,
    /// Number of processes and threads.
    pub pids: Option<Ceiling>,
    /// Bytes by page size as the kernel names it: `2MB`.
    pub huge_pages: BTreeMap<String, u64>,
    /// cgroup v2 files to their contents.
    pub unified: BTreeMap<String, String>,
    /// Devices.
    pub devices: Devices,
}

/// The limits in force before a change, as far as the order of writes depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) memory: Ceiling,
    pub(super) memory_with_swap: Ceiling,
    pub(super) cpu_quota: Ceiling,
    pub(super) cpu_period: u64,
    pub(super) cpu_burst: u64,
}

impl Current {
    /// Those of a cgroup just made.
    pub(super) const FRESH: Self = Self {
        memory: Ceiling::Unlimited,
        memory_with_swap: Ceiling::Unlimited,
        cpu_quota: Ceiling::Unlimited,
        cpu_period: 100_000,
        cpu_burst: 0,
    };
}
