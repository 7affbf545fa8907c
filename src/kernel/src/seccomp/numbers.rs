//! The numbers of the system calls, by architecture.

mod aarch64;
mod i386;
mod x86_64;

use super::Architecture;

/// The number of the call of that name.
pub(super) fn number(architecture: Architecture, name: &str) -> Option<u32> {
    let table = table(architecture);
    let position = table.binary_search_by(|(known, _)| known.cmp(&name)).ok()?;
    table.get(position).map(|(_, number)| u32::from(*number))
}

/// All calls of an architecture, sorted by name.
pub(super) const fn table(architecture: Architecture) -> &'static [(&'static str, u16)] {
    match architecture {
        Architecture::X86_64 => x86_64::NUMBERS,
        Architecture::I386 => i386::NUMBERS,
        Architecture::Aarch64 => aarch64::NUMBERS,
    }
}

/// On 32-bit x86 some calls can also be made through another, whose first argument then says which is meant.
pub(super) fn multiplexed(architecture: Architecture, name: &str) -> Option<(&'static str, u64)> {
    if architecture != Architecture::I386 {
        return None;
    }
    let within = |list: &[(&str, u64)]| {
        list.iter().find(|(known, _)| *known == name).map(|(_, selector)| *selector)
    };
    let socket = within(SOCKETCALL).map(|selector| ("socketcall", selector));
    socket.or_else(|| within(IPC).map(|selector| ("ipc", selector)))
}

/// `SYS_*` of linux/net.h.
const SOCKETCALL: &[(&str, u64)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// The selectors of linux/ipc.h.
const IPC: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_and_without_a_double() {
        for architecture in [Architecture::X86_64, Architecture::I386, Architecture::Aarch64] {
            let table = table(architecture);
            assert!(table.is_sorted_by(|a, b| a.0 < b.0), "{architecture:?}");
            let mut numbers: Vec<u16> = table.iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{architecture:?} has a number twice");
        }
    }

    #[test]
    fn numbers_agree_with_the_c_library() {
        for (name, expected) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("socket", libc::SYS_socket),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("mseal", libc::SYS_mseal),
            ("fchmodat2", libc::SYS_fchmodat2),
        ] {
            let own = number(Architecture::NATIVE, name).map(i64::from);
            assert_eq!(own, Some(expected), "{name}");
        }
        assert_eq!(number(Architecture::I386, "socketcall"), Some(102));
        assert_eq!(number(Architecture::Aarch64, "openat"), Some(56));
        assert_eq!(number(Architecture::Aarch64, "open"), None);
    }
}
