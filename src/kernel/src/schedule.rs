//! When a process runs, when its input and output does, and on which nodes its memory is: of the calling process, inherited
//! by its children and kept over `execve`. Child-side.

use crate::error::{Result, SystemError};
use std::mem::size_of;

/// A class of input and output (ioprio_set(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoClass {
    /// `IOPRIO_CLASS_RT`: before all others.
    RealTime,
    /// `IOPRIO_CLASS_BE`: as usual.
    BestEffort,
    /// `IOPRIO_CLASS_IDLE`: when nobody else has any.
    Idle,
}

/// The lowest priority within a class; 0 is the highest.
pub const LOWEST_IO_PRIORITY: u8 = 7;

/// Sets the priority of input and output.
///
/// # Errors
/// The kernel refused: the real-time class is privileged.
pub fn set_io_priority(class: IoClass, priority: u8) -> Result<()> {
    const PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let number: libc::c_int = match class {
        IoClass::RealTime => 1,
        IoClass::BestEffort => 2,
        IoClass::Idle => 3,
    };
    let value = (number << CLASS_SHIFT) | libc::c_int::from(priority);
    // SAFETY: takes numbers only; process 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, value) };
    if answer < 0 {
        return Err(SystemError::last("ioprio_set", format!("{class:?} {priority}")));
    }
    Ok(())
}

/// How a process is scheduled, in the numbers of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_OTHER` and so on (sched(7)).
    pub policy: u32,
    /// `SCHED_FLAG_RESET_ON_FORK` and so on.
    pub flags: u64,
    /// For the usual policies, -20 to 19.
    pub nice: i32,
    /// For the real-time policies, 1 to 99.
    pub priority: u32,
    /// For the deadline policy, in nanoseconds.
    pub runtime: u64,
    /// Likewise.
    pub deadline: u64,
    /// Likewise.
    pub period: u64,
}

/// Sets how the calling process is scheduled.
///
/// # Errors
/// The kernel refused: it does not know the policy, the values make no sense to it, or the process may not have them.
pub fn set_scheduling(scheduling: &Scheduling) -> Result<()> {
    let Scheduling { policy, flags, nice, priority, runtime, deadline, period } = *scheduling;
    let size = ATTRIBUTES_SIZE;
    let attributes = Attributes { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the structure lives through the call and has the size that it says; process 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if answer < 0 {
        return Err(SystemError::last("sched_setattr", format!("policy {}", scheduling.policy)));
    }
    Ok(())
}

/// `struct sched_attr` in its first version (Linux 3.14).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "it is 48")]
const ATTRIBUTES_SIZE: u32 = size_of::<Attributes>() as u32;

/// The highest number of a node.
pub const LAST_NODE: u32 = 1023;

/// Nodes of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes([u64; (LAST_NODE as usize + 1) / 64]);

impl Nodes {
    /// None at all.
    pub const NONE: Self = Self([0; (LAST_NODE as usize + 1) / 64]);

    /// A list as the kernel writes them: `0-1,4`. None if it is malformed or names a node beyond [`LAST_NODE`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut nodes = Self::NONE;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > LAST_NODE {
                return None;
            }
            for node in first..=last {
                *nodes.0.get_mut(node as usize / 64)? |= 1 << (node % 64);
            }
        }
        Some(nodes)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

/// Sets on which nodes memory is from now on: mode and flags as set_mempolicy(2) has them.
///
/// # Errors
/// The kernel refused: it has no NUMA, there is no such node, or mode, flags and nodes do not go together.
pub fn set_memory_policy(mode_and_flags: u32, nodes: &Nodes) -> Result<()> {
    // One more than there are, as the kernel takes it.
    let count = libc::c_ulong::from(LAST_NODE) + 2;
    // SAFETY: the mask lives through the call and has as many bits as are told, less the one the kernel does not look at.
    let answer =
        unsafe { libc::syscall(libc::SYS_set_mempolicy, mode_and_flags, nodes.0.as_ptr(), count) };
    if answer < 0 {
        return Err(SystemError::last("set_mempolicy", format!("mode {mode_and_flags:#x}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};
    use crate::process::{Exit, wait};

    /// What a child finds after it did something to itself; children are changed, not the test.
    fn in_child(body: impl FnOnce() -> i32) -> i32 {
        let born = child(&Birth::default(), body).unwrap();
        let Exit::Code(code) = wait(&born.pidfd).unwrap() else { panic!("it was killed") };
        code
    }

    #[test]
    fn input_and_output_has_the_class_and_priority_that_were_set() {
        let found = in_child(|| {
            if set_io_priority(IoClass::BestEffort, 6).is_err() {
                return 255;
            }
            // SAFETY: takes numbers only.
            let value = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) };
            i32::try_from(value).map_or(254, |value| (value >> 13) * 10 + (value & 7))
        });
        assert_eq!(found, 26);
    }

    #[test]
    fn a_process_is_scheduled_as_was_set_and_nonsense_is_refused() {
        let batch = Scheduling { policy: 3, nice: 5, ..Scheduling::default() };
        let found = in_child(|| {
            if set_scheduling(&batch).is_err() {
                return 255;
            }
            // SAFETY: takes numbers only.
            let policy = unsafe { libc::sched_getscheduler(0) };
            // SAFETY: likewise.
            let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            policy * 10 + nice
        });
        assert_eq!(found, 35);
        let unknown = Scheduling { policy: 99, ..Scheduling::default() };
        assert_eq!(in_child(|| i32::from(set_scheduling(&unknown).is_err())), 1);
    }

    #[test]
    fn nodes_are_parsed_as_the_kernel_writes_them() {
        let nodes = Nodes::parse("0-1, 64,1023").unwrap();
        assert_eq!((nodes.0[0], nodes.0[1], nodes.0[15]), (3, 1, 1 << 63));
        assert!(Nodes::parse("").unwrap().is_empty());
        for wrong in ["a", "1-", "3-1", "1024", "-1"] {
            assert!(Nodes::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_memory_policy_of_the_first_node_can_be_had_and_of_one_that_is_not_there_can_not() {
        // Kernels without NUMA do not know the call.
        const BIND: u32 = 2;
        let numa = std::path::Path::new("/sys/devices/system/node/node0").exists();
        let first = Nodes::parse("0").unwrap();
        assert_eq!(
            in_child(|| i32::from(set_memory_policy(BIND, &first).is_ok())),
            i32::from(numa)
        );
        let last = Nodes::parse("1023").unwrap();
        assert_eq!(in_child(|| i32::from(set_memory_policy(BIND, &last).is_ok())), 0);
    }
}
