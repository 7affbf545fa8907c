//! User namespaces and their id maps: a namespace is made with a child, mapped once by its maker, and kept by descriptors.
//!
//! Other namespaces that are made along with it belong to it: who is root inside may use them as root.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

use crate::clone::{self, Birth};
use crate::credential;
use crate::error::{Result, SystemError};
use crate::namespace::{self, Namespaces};
use crate::process;

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

impl Mapping {
    /// Reads `INSIDE:OUTSIDE:LENGTH`; nothing if the text is not that.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut numbers = text.split(':').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let mapping = Self { inside: next()?, outside: next()?, length: next()? };
        numbers.next().is_none().then_some(mapping)
    }

    /// The id outside that stands for one inside, if it is in the range.
    #[must_use]
    pub fn outside_of(&self, inside: u32) -> Option<u32> {
        let offset = inside.checked_sub(self.inside).filter(|offset| *offset < self.length)?;
        self.outside.checked_add(offset)
    }
}

/// Namespaces that were made together, each with its kind; the user namespace is the first.
pub type Made = Vec<(Namespaces, OwnedFd)>;

/// Makes a user namespace with these maps, and further namespaces that belong to it. `settle` runs inside them as root, in
/// a child that ends afterwards: the descriptors are what keeps them. The caller has one thread.
///
/// # Errors
/// The kernel refused, or the failure of `settle`, told as its call and error number.
pub fn make(
    kinds: Namespaces,
    users: &[Mapping],
    groups: &[Mapping],
    settle: impl FnOnce() -> Result<()>,
) -> Result<Made> {
    let (mapped, tell_mapped) = pipe()?;
    let (settled, tell_settled) = pipe()?;
    let kinds = kinds.with(Namespaces::USER);
    // The child's copies of our ends: with them open it would not hear us die, nor we it.
    let (mut ours, mut theirs) = (Some((tell_mapped, settled)), Some((mapped, tell_settled)));
    let birth = Birth { namespaces: Namespaces::USER, cgroup: None };
    let born = clone::child(&birth, || {
        drop(ours.take());
        let settle = || {
            namespace::unshare(kinds.without(Namespaces::USER))?;
            settle()
        };
        theirs.take().map_or(1, |(mapped, answer)| live(&mapped, &answer, settle))
    })?;
    drop(theirs.take());
    let made = match ours {
        Some((tell, settled)) => {
            let made = write(born.pid, users, groups).and_then(|()| go(&tell));
            let made = made.and_then(|()| hear(&settled)).and_then(|()| open_all(born.pid, kinds));
            // The end of the file is what it waits for.
            drop(tell);
            made
        }
        None => Err(broken("it is its own child")),
    };
    process::wait(&born.pidfd)?;
    made
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| SystemError::new("pipe2", "", error))
}

/// The child's life: mapped and root, so that what it makes is root's, it settles, says so, and stays until it is looked at.
fn live(mapped: &OwnedFd, answer: &OwnedFd, settle: impl FnOnce() -> Result<()>) -> i32 {
    if read(mapped).is_empty() {
        return 1;
    }
    let root = credential::become_user(0, 0, &[])
        .map_err(|error| SystemError::new("setresuid", "root of the namespace", error));
    let words = match root.and_then(|()| settle()) {
        Ok(()) => b"ok".to_vec(),
        Err(error) => {
            let number = error.errno().unwrap_or(libc::EIO).to_le_bytes();
            [&number, error.to_string().as_bytes()].concat()
        }
    };
    if rustix::io::write(answer, &words).is_err() {
        return 1;
    }
    // Until the maker has opened what is to be kept, or is gone.
    read(mapped);
    0
}

/// What comes next, in one piece; nothing at the end of the file.
fn read(from: &OwnedFd) -> Vec<u8> {
    let mut words = [0; 4096];
    loop {
        match rustix::io::read(from, &mut words) {
            Err(rustix::io::Errno::INTR) => {}
            answer => return words.get(..answer.unwrap_or(0)).unwrap_or_default().to_vec(),
        }
    }
}

fn go(tell: &OwnedFd) -> Result<()> {
    let told = rustix::io::write(tell, b"g");
    told.map(drop).map_err(|error| SystemError::new("write", "child in new namespaces", error))
}

fn hear(settled: &OwnedFd) -> Result<()> {
    let words = read(settled);
    match words.split_first_chunk() {
        _ if words == b"ok" => Ok(()),
        Some((number, text)) => {
            let object = String::from_utf8_lossy(text).into_owned();
            let source = io::Error::from_raw_os_error(i32::from_le_bytes(*number));
            Err(SystemError::new("inside:", object, source))
        }
        None => Err(broken("its child ended early")),
    }
}

fn open_all(pid: i32, kinds: Namespaces) -> Result<Made> {
    let all = [
        Namespaces::USER,
        Namespaces::NETWORK,
        Namespaces::IPC,
        Namespaces::UTS,
        Namespaces::CGROUP,
    ];
    let wanted = all.into_iter().filter(|kind| kinds.has(*kind));
    wanted.map(|kind| Ok((kind, namespace::of(pid, kind)?))).collect()
}

fn broken(problem: &str) -> SystemError {
    SystemError::new("clone3", "child in new namespaces", io::Error::other(problem.to_owned()))
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
    use crate::clone::child;
    use crate::testing::in_child;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_map_is_a_line_for_each_range() {
        let first = Mapping { inside: 0, outside: 65536, length: 1000 };
        let second = Mapping { inside: 1000, outside: 0, length: 1 };
        assert_eq!(render(&[first, second]), "0 65536 1000\n1000 0 1\n");
    }

    #[test]
    fn a_map_is_read_from_three_numbers_and_nothing_else() {
        let map = Mapping { inside: 0, outside: 65536, length: 1000 };
        assert_eq!(Mapping::from_text("0:65536:1000"), Some(map));
        for text in ["", "0:1", "0:1:2:3", "0:1:x", "0:-1:2", "4294967296:0:1"] {
            assert_eq!(Mapping::from_text(text), None, "{text:?}");
        }
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
        namespace::of(born.pid, Namespaces::USER).unwrap();
        process::signal(&born.pidfd, libc::SIGKILL).unwrap();
        process::wait(&born.pidfd).unwrap();
    }

    const MAP: [Mapping; 1] = [Mapping { inside: 0, outside: 100_000, length: 65536 }];

    #[test]
    fn an_id_has_one_outside_only_within_its_range() {
        let range = Mapping { inside: 10, outside: 1000, length: 5 };
        assert_eq!(
            [9, 10, 14, 15].map(|id| range.outside_of(id)),
            [None, Some(1000), Some(1004), None]
        );
    }

    #[test]
    fn namespaces_made_together_outlive_their_child_and_belong_to_their_user_namespace() {
        let kinds = Namespaces::UTS.with(Namespaces::NETWORK);
        let made = make(kinds, &MAP, &MAP, || crate::uts::set_hostname("inside")).unwrap();
        let found: Vec<_> = made.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(found, [Namespaces::USER, Namespaces::NETWORK, Namespaces::UTS]);
        assert!(in_child(|| {
            let [(user, inside), _, (uts, names)] = made.as_slice() else { return false };
            namespace::join(inside.as_fd(), *user).unwrap();
            namespace::join(names.as_fd(), *uts).unwrap();
            credential::become_user(0, 0, &[]).unwrap();
            // Only its owner's root may change it.
            crate::uts::hostname().unwrap() == "inside" && crate::uts::set_hostname("x").is_ok()
        }));
    }

    #[test]
    fn a_failure_inside_is_told_with_its_call_and_number() {
        let missing =
            || Err(SystemError::new("open", "\"/x\"", io::Error::from_raw_os_error(libc::ENOENT)));
        let error = make(Namespaces::NONE, &MAP, &MAP, missing).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().contains("open \"/x\""), "{error}");
    }
}
