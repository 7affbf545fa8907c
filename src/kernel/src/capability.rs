//! Capabilities (capabilities(7)): their names and numbers, sets of them, and the steps by which a process gives up all
//! but the ones it is to keep.
//!
//! The order matters: the bounding set shrinks while CAP_SETPCAP is still held, then the identity changes with the
//! permitted set kept, and only then come the final sets. [`CapabilitySets`] has one function for each side of the
//! change of identity. Functions marked *child-side* neither allocate nor lock.

use crate::error::{Result, SystemError};
use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet as Bits};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! capabilities {
    ($($variant:ident = $number:literal $name:literal,)+) => {
        /// A capability that this program knows by name; its value is the kernel's number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Capability {
            $(
                #[doc = concat!("`CAP_", $name, "`")]
                $variant = $number,
            )+
        }

        impl Capability {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kernel's number.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The name with its `CAP_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("CAP_", $name),)+ }
            }
        }
    };
}

capabilities! {
    Chown = 0 "CHOWN",
    DacOverride = 1 "DAC_OVERRIDE",
    DacReadSearch = 2 "DAC_READ_SEARCH",
    Fowner = 3 "FOWNER",
    Fsetid = 4 "FSETID",
    Kill = 5 "KILL",
    Setgid = 6 "SETGID",
    Setuid = 7 "SETUID",
    Setpcap = 8 "SETPCAP",
    LinuxImmutable = 9 "LINUX_IMMUTABLE",
    NetBindService = 10 "NET_BIND_SERVICE",
    NetBroadcast = 11 "NET_BROADCAST",
    NetAdmin = 12 "NET_ADMIN",
    NetRaw = 13 "NET_RAW",
    IpcLock = 14 "IPC_LOCK",
    IpcOwner = 15 "IPC_OWNER",
    SysModule = 16 "SYS_MODULE",
    SysRawio = 17 "SYS_RAWIO",
    SysChroot = 18 "SYS_CHROOT",
    SysPtrace = 19 "SYS_PTRACE",
    SysPacct = 20 "SYS_PACCT",
    SysAdmin = 21 "SYS_ADMIN",
    SysBoot = 22 "SYS_BOOT",
    SysNice = 23 "SYS_NICE",
    SysResource = 24 "SYS_RESOURCE",
    SysTime = 25 "SYS_TIME",
    SysTtyConfig = 26 "SYS_TTY_CONFIG",
    Mknod = 27 "MKNOD",
    Lease = 28 "LEASE",
    AuditWrite = 29 "AUDIT_WRITE",
    AuditControl = 30 "AUDIT_CONTROL",
    Setfcap = 31 "SETFCAP",
    MacOverride = 32 "MAC_OVERRIDE",
    MacAdmin = 33 "MAC_ADMIN",
    Syslog = 34 "SYSLOG",
    WakeAlarm = 35 "WAKE_ALARM",
    BlockSuspend = 36 "BLOCK_SUSPEND",
    AuditRead = 37 "AUDIT_READ",
    Perfmon = 38 "PERFMON",
    Bpf = 39 "BPF",
    CheckpointRestore = 40 "CHECKPOINT_RESTORE",
}

impl Capability {
    /// The capability of that name, in either case, with or without `CAP_`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let bare = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => name.get(4..)?,
            Some(_) | None => name,
        };
        Self::ALL.iter().copied().find(|known| known.name()[4..].eq_ignore_ascii_case(bare))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of capabilities; bit n is capability n, as in `/proc/PID/status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// All that this program knows.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.iter().copied().collect()
    }

    /// The set with those bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.number()) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | (1 << capability.number()))
    }

    /// This set less one.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability.number()))
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The named ones in it, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What it or its programs can ever gain.
    pub bounding: CapabilitySet,
    /// What the kernel checks.
    pub effective: CapabilitySet,
    /// What it may make effective.
    pub permitted: CapabilitySet,
    /// What survives execve into a file that inherits it.
    pub inheritable: CapabilitySet,
    /// What survives execve into any file.
    pub ambient: CapabilitySet,
}

impl CapabilitySets {
    /// These sets, less what a process with that bounding set can't have, and made consistent: effective within
    /// permitted, ambient within permitted and inheritable.
    #[must_use]
    pub const fn clamped(self, bounding: CapabilitySet) -> Self {
        let permitted = self.permitted.and(bounding);
        let inheritable = self.inheritable.and(bounding);
        Self {
            bounding: self.bounding.and(bounding),
            effective: self.effective.and(permitted),
            permitted,
            inheritable,
            ambient: self.ambient.and(permitted).and(inheritable),
        }
    }

    /// Shrinks the bounding set and keeps the permitted set over the coming change of identity. Child-side.
    ///
    /// # Errors
    /// What prctl(2) answers: EPERM without CAP_SETPCAP.
    pub fn before_identity_change(&self) -> std::result::Result<(), Errno> {
        drop_bounding(self.bounding)?;
        thread::set_keep_capabilities(true)
    }

    /// Takes on the final sets, the ambient one included. Child-side.
    ///
    /// # Errors
    /// What capset(2) or prctl(2) answers: EPERM if a set is not within what the process has.
    pub fn after_identity_change(&self) -> std::result::Result<(), Errno> {
        thread::set_keep_capabilities(false)?;
        let sets = thread::CapabilitySets {
            effective: Bits::from_bits_retain(self.effective.0),
            permitted: Bits::from_bits_retain(self.permitted.0),
            inheritable: Bits::from_bits_retain(self.inheritable.0),
        };
        thread::set_capabilities(None, sets)?;
        clear_ambient()?;
        for number in numbers(self.ambient) {
            thread::configure_capability_in_ambient_set(single(number), true)?;
        }
        Ok(())
    }
}

/// The calling thread's five sets.
///
/// # Errors
/// What capget(2) or prctl(2) answers.
pub fn current() -> Result<CapabilitySets> {
    let sets = thread::capabilities(None).map_err(|errno| SystemError::new("capget", "", errno))?;
    Ok(CapabilitySets {
        bounding: bounding()?,
        effective: CapabilitySet(sets.effective.bits()),
        permitted: CapabilitySet(sets.permitted.bits()),
        inheritable: CapabilitySet(sets.inheritable.bits()),
        ambient: ambient()?,
    })
}

/// The calling thread's bounding set.
///
/// # Errors
/// What prctl(2) answers.
pub fn bounding() -> Result<CapabilitySet> {
    collect("prctl(PR_CAPBSET_READ)", thread::capability_is_in_bounding_set)
}

/// The calling thread's ambient set.
///
/// # Errors
/// What prctl(2) answers.
pub fn ambient() -> Result<CapabilitySet> {
    collect("prctl(PR_CAP_AMBIENT_IS_SET)", thread::capability_is_in_ambient_set)
}

/// Drops everything else from the bounding set, capabilities of newer kernels included. Child-side.
///
/// # Errors
/// What prctl(2) answers: EPERM without CAP_SETPCAP.
pub fn drop_bounding(keep: CapabilitySet) -> std::result::Result<(), Errno> {
    for number in 0..64 {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        match thread::remove_capability_from_bounding_set(single(number)) {
            Ok(()) => {}
            // The first number the kernel doesn't know: there are no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Empties the ambient set; a kernel without one (before 4.3) has it empty anyway. Child-side.
fn clear_ambient() -> std::result::Result<(), Errno> {
    match thread::clear_ambient_capability_set() {
        Err(Errno::INVAL) => Ok(()),
        answer => answer,
    }
}

/// The set of the capabilities of which `is_set` says so, up to the last one the kernel knows.
fn collect(
    call: &'static str,
    is_set: impl Fn(Bits) -> std::result::Result<bool, Errno>,
) -> Result<CapabilitySet> {
    let mut set = 0;
    for number in 0..64 {
        match is_set(single(number)) {
            Ok(true) => set |= 1 << number,
            Ok(false) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(SystemError::new(call, format!("{number}"), errno)),
        }
    }
    Ok(CapabilitySet(set))
}

const fn single(number: u32) -> Bits {
    Bits::from_bits_retain(1 << number)
}

fn numbers(set: CapabilitySet) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| set.0 & (1 << number) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;

    #[test]
    fn names_are_found_with_and_without_prefix_in_either_case() {
        for name in ["CAP_NET_ADMIN", "NET_ADMIN", "net_admin", "cap_net_admin"] {
            assert_eq!(Capability::from_name(name), Some(Capability::NetAdmin), "{name}");
        }
        for name in ["", "CAP_", "NET", "ALL", "CAP_CAP_KILL", "é"] {
            assert_eq!(Capability::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_are_the_position_in_the_list() {
        for (position, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(usize::from(capability.number()), position, "{capability}");
        }
        assert_eq!(Capability::ALL.len(), 41);
        assert_eq!(CapabilitySet::all().bits(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn clamping_keeps_the_sets_consistent() {
        let both = CapabilitySet::EMPTY.with(Capability::Kill).with(Capability::SysResource);
        let sets = CapabilitySets {
            bounding: both,
            effective: both,
            permitted: both,
            inheritable: CapabilitySet::EMPTY.with(Capability::Kill),
            ambient: both,
        };
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        let clamped = sets.clamped(kill);
        assert_eq!(
            clamped,
            CapabilitySets {
                bounding: kill,
                effective: kill,
                permitted: kill,
                inheritable: kill,
                ambient: kill,
            }
        );
    }

    #[test]
    fn a_child_ends_with_exactly_the_sets_it_was_given() {
        let keep = CapabilitySet::EMPTY.with(Capability::Kill).with(Capability::Chown);
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        for (inheritable, ambient) in
            [(CapabilitySet::EMPTY, CapabilitySet::EMPTY), (kill, kill), (keep, kill)]
        {
            let wanted = CapabilitySets {
                bounding: keep,
                effective: kill,
                permitted: keep,
                inheritable,
                ambient,
            };
            let seen = in_child(|| {
                wanted.before_identity_change().unwrap();
                crate::credential::become_user(1000, 1000, &[1000]).unwrap();
                wanted.after_identity_change().unwrap();
                current().unwrap() == wanted
            });
            assert!(seen, "{wanted:?}");
        }
    }
}
