//! Id maps of user namespaces: written once, by a process outside, before anything inside runs.

use std::fmt::Write as _;

use crate::error::{Result, SystemError};

/// A range of ids inside a user namespace and the ids of the same length outside that stand for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// Writes the maps of users and of groups of the user namespace that the process with that id is in.
///
/// # Errors
/// A map was written before, overlaps, or is not permitted; or the process is gone.
pub fn write(pid: i32, users: &[Mapping], groups: &[Mapping]) -> Result<()> {
    put(&format!("/proc/{pid}/uid_map"), users)?;
    put(&format!("/proc/{pid}/gid_map"), groups)
}

fn put(path: &str, mappings: &[Mapping]) -> Result<()> {
    use std::io::Write as _;
    let failed = |error| SystemError::new("write", format!("{path:?}"), error);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    // The kernel takes a map in one write or not at all.
    file.write_all(render(mappings).as_bytes()).map_err(failed)
}

fn render(mappings: &[Mapping]) -> String {
    let mut text = String::new();
    for Mapping { inside, outside, length } in mappings {
        // Writing to a String can't fail.
        let _infallible = writeln!(text, "{inside} {outside} {length}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};
    use crate::namespace::{self, Namespaces};
    use crate::process;

    #[test]
    fn a_map_is_a_line_for_each_range() {
        let first = Mapping { inside: 0, outside: 65536, length: 1000 };
        let second = Mapping { inside: 1000, outside: 0, length: 1 };
        assert_eq!(render(&[first, second]), "0 65536 1000\n1000 0 1\n");
    }

    #[test]
    fn a_mapped_namespace_can_be_opened_and_is_mapped_once() {
        let birth = Birth { namespaces: Namespaces::USER, cgroup: None };
        let born = child(&birth, || {
            loop {
                // SAFETY: waits for a signal, nothing else.
                let _interrupted = unsafe { libc::pause() };
            }
        })
        .unwrap();
        let map = [Mapping { inside: 0, outside: 65536, length: 65536 }];
        write(born.pid, &map, &map).unwrap();
        assert!(write(born.pid, &map, &map).is_err());
        namespace::user_of(born.pid).unwrap();
        process::signal(&born.pidfd, libc::SIGKILL).unwrap();
        process::wait(&born.pidfd).unwrap();
    }
}
