//! The identity of a process: user, groups, umask. All functions are *child-side*: they neither allocate nor lock, and
//! change the calling thread alone (the C library's versions signal every thread, which a child after clone can't).

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread;

/// The most supplementary groups a process can have (`NGROUPS_MAX`).
pub const MOST_GROUPS: usize = 65_536;

/// Takes on that user and group with exactly these supplementary groups: groups first, then the group, then the user,
/// as each step needs the privilege that the later ones give up. Child-side.
///
/// # Errors
/// What setgroups(2), setresgid(2) or setresuid(2) answers.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> Result<(), Errno> {
    set_groups(groups)?;
    let (user, group) = (uid(user)?, gid(group)?);
    thread::set_thread_res_gid(group, group, group)?;
    thread::set_thread_res_uid(user, user, user)
}

/// Replaces the supplementary groups. Child-side.
///
/// # Errors
/// What setgroups(2) answers; EINVAL for a number that is no group.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    /// Groups passed without a copy on the heap.
    const FEW: usize = 256;
    if groups.len() > FEW {
        return set_many_groups(groups);
    }
    let mut few = [Gid::ROOT; FEW];
    for (slot, group) in few.iter_mut().zip(groups) {
        *slot = gid(*group)?;
    }
    thread::set_thread_groups(&few[..groups.len()])
}

/// As [`set_groups`], with an allocation: only for lists that nobody has.
fn set_many_groups(groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|group| gid(*group)).collect::<Result<_, _>>()?;
    thread::set_thread_groups(&groups)
}

/// Lets what the calling thread makes from now on belong to that user and group, and changes nothing else: its other ids and
/// all its capabilities stay. Child-side.
///
/// # Errors
/// EPERM without the privilege to, or what capset(2) answers.
pub fn own_what_is_made(user: u32, group: u32) -> Result<(), Errno> {
    let _checked = (uid(user)?, gid(group)?);
    for (call, id) in [(libc::SYS_setfsgid, group), (libc::SYS_setfsuid, user)] {
        // SAFETY: takes a number and changes this thread's credentials.
        unsafe { libc::syscall(call, id) };
        // It answers what was there before, and says nothing of a failure; an invalid id only asks.
        // SAFETY: as above.
        let now = unsafe { libc::syscall(call, u32::MAX) };
        if now != libc::c_long::from(id) {
            return Err(Errno::PERM);
        }
    }
    // The kernel takes what overrides permissions of files from who is no longer root among them.
    let mut sets = thread::capabilities(None)?;
    sets.effective = sets.permitted;
    thread::set_capabilities(None, sets)
}

/// Sets the file mode creation mask. Child-side.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask & 0o777));
}

/// -1 is no user: set*id(2) would take it for "leave as it is".
fn uid(number: u32) -> Result<Uid, Errno> {
    if number == u32::MAX { Err(Errno::INVAL) } else { Ok(Uid::from_raw(number)) }
}

fn gid(number: u32) -> Result<Gid, Errno> {
    if number == u32::MAX { Err(Errno::INVAL) } else { Ok(Gid::from_raw(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;
    use rustix::process;

    #[test]
    fn a_child_becomes_that_user_with_exactly_these_groups() {
        assert!(in_child(|| {
            become_user(1000, 1234, &[1234, 50000]).unwrap();
            let mut groups: Vec<u32> =
                process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
            groups.sort_unstable();
            process::getuid().as_raw() == 1000
                && process::geteuid().as_raw() == 1000
                && process::getgid().as_raw() == 1234
                && groups == [1234, 50000]
        }));
    }

    #[test]
    fn groups_beyond_the_short_list_are_set_too() {
        assert!(in_child(|| {
            let many: Vec<u32> = (1..=300).collect();
            set_groups(&many).unwrap();
            process::getgroups().unwrap().len() == 300
        }));
    }

    #[test]
    fn what_is_made_belongs_to_another_and_nothing_else_changes() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        assert!(in_child(|| {
            let before = thread::capabilities(None).unwrap();
            own_what_is_made(100_000, 100_007).unwrap();
            std::fs::File::create(&file).unwrap();
            let found = std::fs::metadata(&file).unwrap();
            process::geteuid().is_root()
                && thread::capabilities(None).unwrap() == before
                && (found.uid(), found.gid()) == (100_000, 100_007)
        }));
    }

    #[test]
    fn minus_one_is_refused_and_changes_nothing() {
        assert!(in_child(|| {
            become_user(u32::MAX, 0, &[]) == Err(Errno::INVAL) && process::getuid().is_root()
        }));
    }
}
