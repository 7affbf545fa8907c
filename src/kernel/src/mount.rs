//! Mounts by the new mount API: a tree is made detached, gets its attributes while nobody sees it, and is then attached to a
//! target that is a descriptor. No path is looked up twice, and no mount is ever writable before it is read-only.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::error::{Result, SystemError};

/// The attributes of one mount: `MOUNT_ATTR_*` of `linux/mount.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Nothing can be written through it.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-id bits and file capabilities don't count.
    pub const NO_SET_ID: Self = Self(0x2);
    /// Device nodes can't be opened.
    pub const NO_DEVICES: Self = Self(0x4);
    /// Programs can't be executed.
    pub const NO_EXECUTE: Self = Self(0x8);
    /// The field that holds one of the three kinds of access time; to be cleared when one is set.
    pub const ACCESS_TIME: Self = Self(0x70);
    /// Access times are never updated.
    pub const NO_ACCESS_TIME: Self = Self(0x10);
    /// Access times are always updated.
    pub const STRICT_ACCESS_TIME: Self = Self(0x20);
    /// Access times of directories are not updated.
    pub const NO_DIRECTORY_ACCESS_TIME: Self = Self(0x80);
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: Self = Self(0x0020_0000);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How mounts and unmounts below a mount are shared with its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// They come in, but don't go out.
    Slave,
    /// They go both ways.
    Shared,
    /// Not at all, and the mount can't be bound elsewhere.
    Unbindable,
}

impl Propagation {
    const fn flags(self) -> MountPropagationFlags {
        match self {
            Self::Private => MountPropagationFlags::PRIVATE,
            Self::Slave => MountPropagationFlags::DOWNSTREAM,
            Self::Shared => MountPropagationFlags::SHARED,
            Self::Unbindable => MountPropagationFlags::UNBINDABLE,
        }
    }
}

/// Whether a call is about one mount or about all below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The mount itself.
    One,
    /// It and everything mounted below.
    Tree,
}

/// A change of attributes; what is neither set nor cleared stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// What to set.
    pub set: Attributes,
    /// What to clear first.
    pub clear: Attributes,
    /// The new propagation, if it changes.
    pub propagation: Option<Propagation>,
}

impl Change {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A parameter of a filesystem: a flag, or a key with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub key: CString,
    /// Its value; a flag has none.
    pub value: Option<CString>,
}

/// Mounts a filesystem, attached nowhere yet.
///
/// # Errors
/// The kernel's answer, with its own words about which parameter it did not like, if it has any.
pub fn filesystem(
    kind: &CStr,
    parameters: &[Parameter],
    attributes: Attributes,
) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| SystemError::new("fsopen", format!("{kind:?}"), error))?;
    for parameter in parameters {
        let answer = match &parameter.value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, &parameter.key, value),
            None => rustix::mount::fsconfig_set_flag(&context, &parameter.key),
        };
        answer.map_err(|error| refused(&context, kind, Some(parameter), error))?;
    }
    rustix::mount::fsconfig_create(&context)
        .map_err(|error| refused(&context, kind, None, error))?;
    let attributes =
        MountAttrFlags::from_bits_retain(u32::try_from(attributes.0).unwrap_or(u32::MAX));
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|error| refused(&context, kind, None, error))
}

/// Clones the mounts at a path of this mount namespace, attached nowhere yet. Symbolic links are followed.
///
/// # Errors
/// There is no such path, or the kernel refused.
pub fn clone_path(path: &CStr, depth: Depth) -> Result<OwnedFd> {
    clone_at(CWD, path, depth)
}

/// Clones the mounts at an open path, attached nowhere yet.
///
/// # Errors
/// The kernel refused: the descriptor is of another mount namespace.
pub fn clone_descriptor(path: impl AsFd, depth: Depth) -> Result<OwnedFd> {
    clone_at(path.as_fd(), c"", depth)
}

fn clone_at(directory: BorrowedFd<'_>, path: &CStr, depth: Depth) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(directory, path, flags)
        .map_err(|error| SystemError::new("open_tree", format!("{path:?}"), error))
}

/// Changes the attributes of an open mount, or of its whole tree.
///
/// # Errors
/// The kernel refused; nothing was changed then.
pub fn change(mount: impl AsFd, change: &Change, depth: Depth) -> Result<()> {
    let attributes = RawAttributes {
        set: change.set.0,
        clear: change.clear.0,
        propagation: change
            .propagation
            .map_or(0, |propagation| u64::from(propagation.flags().bits())),
        user_namespace: 0,
    };
    set_attributes(mount.as_fd(), &attributes, depth)
}

/// Lets an open mount that is attached nowhere, or its whole tree, show ids by the map of a user namespace: what is the
/// inside id on disk is seen as the outside one, and what the outside one writes is the inside one's.
///
/// # Errors
/// The kernel refused: the filesystem can't, it is mapped already, or was attached before.
pub fn map_ids(mount: impl AsFd, user_namespace: BorrowedFd<'_>, depth: Depth) -> Result<()> {
    /// `MOUNT_ATTR_IDMAP`.
    const MAPPED: u64 = 0x0010_0000;
    let attributes = RawAttributes {
        set: MAPPED,
        clear: 0,
        propagation: 0,
        user_namespace: u64::from(user_namespace.as_raw_fd().unsigned_abs()),
    };
    set_attributes(mount.as_fd(), &attributes, depth)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: &RawAttributes, depth: Depth) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the empty path is NUL-terminated; the structure has the size given and lives through the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<RawAttributes>(),
        )
    };
    if answer < 0 {
        return Err(SystemError::last("mount_setattr", ""));
    }
    Ok(())
}

/// Attaches a detached tree at an open target.
///
/// # Errors
/// The kernel refused: the target is a file and the tree is not, or it is gone.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), c"", target.as_fd(), c"", flags)
        .map_err(|error| SystemError::new("move_mount", "", error))
}

/// Takes the topmost mount away from a path of this mount namespace. What is open or cloned of it stays.
///
/// # Errors
/// The kernel refused: nothing is mounted there.
pub fn detach(path: &CStr) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH)
        .map_err(|error| SystemError::new("umount2", format!("{path:?}"), error))
}

/// Changes the propagation of the mount at a path, and of all below it if asked.
///
/// # Errors
/// The kernel refused.
pub fn propagate(path: &CStr, propagation: Propagation, depth: Depth) -> Result<()> {
    let mut flags = propagation.flags();
    if depth == Depth::Tree {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(path, flags)
        .map_err(|error| SystemError::new("mount", format!("propagation of {path:?}"), error))
}

/// Makes an attached mount the root of this mount namespace and drops the old root with everything mounted on it. The working
/// directory is the new root afterwards. Child-side.
///
/// # Errors
/// The kernel refused.
pub fn pivot(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(root).map_err(|error| SystemError::new("fchdir", "root", error))?;
    rustix::process::pivot_root(c".", c".")
        .map_err(|error| SystemError::new("pivot_root", "", error))?;
    // The old root is now mounted on top of the new one, and "." is the old one.
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
        .map_err(|error| SystemError::new("umount2", "old root", error))?;
    rustix::process::chdir(c"/").map_err(|error| SystemError::new("chdir", "/", error))?;
    // Whoever joins the mount namespace starts at what is mounted on top of its root: never may that be the old one.
    if mount_id(c"/")? != mount_id(c"/..")? {
        return Err(crate::path::mismatch(
            "pivot_root",
            "to a root with a mount over it".to_owned(),
        ));
    }
    Ok(())
}

/// Which mount a path leads to. A path that goes up from the root leads to the topmost mount on it, "/" itself does not.
fn mount_id(path: &CStr) -> Result<u64> {
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map(|found| found.stx_mnt_id)
        .map_err(|error| SystemError::new("statx", format!("{path:?}"), error))
}

/// What the kernel says about a filesystem that would not be mounted.
fn refused(
    context: &OwnedFd,
    kind: &CStr,
    parameter: Option<&Parameter>,
    error: rustix::io::Errno,
) -> SystemError {
    let mut words = String::new();
    let mut message = [0_u8; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut message) {
        words.push_str(": ");
        words.push_str(String::from_utf8_lossy(&message[..length]).trim_end());
    }
    let object = match parameter {
        Some(Parameter { key, value: Some(value) }) => format!("{kind:?} {key:?}={value:?}{words}"),
        Some(Parameter { key, value: None }) => format!("{kind:?} {key:?}{words}"),
        None => format!("{kind:?}{words}"),
    };
    SystemError::new("fsconfig", object, io::Error::from(error))
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct RawAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const _: () = assert!(size_of::<RawAttributes>() == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{Birth, child};
    use crate::namespace::Namespaces;
    use crate::path::Root;
    use crate::process::{self, Exit};

    /// Runs `body` in a mount namespace of its own and tells whether it succeeded.
    fn privately(body: impl FnOnce() -> Result<bool>) -> bool {
        let birth = Birth { namespaces: Namespaces::MOUNT, cgroup: None };
        let born = child(&birth, || {
            let slave = propagate(c"/", Propagation::Slave, Depth::Tree);
            match slave.and_then(|()| body()) {
                Ok(true) => 0,
                Ok(false) => 1,
                Err(error) => {
                    eprintln!("{error}: {}", error.source);
                    2
                }
            }
        })
        .unwrap();
        process::wait(&born.pidfd).unwrap() == Exit::Code(0)
    }

    #[test]
    fn a_tree_can_be_read_only_before_anyone_sees_it() {
        assert!(privately(|| {
            let tree = filesystem(c"tmpfs", &[], Attributes::NONE)?;
            let change_to = Change { set: Attributes::READ_ONLY, ..Change::default() };
            change(&tree, &change_to, Depth::Tree)?;
            attach(&tree, Root::open(std::path::Path::new("/tmp"))?.as_fd())?;
            Ok(std::fs::File::create("/tmp/cringle-mount-test").is_err())
        }));
    }

    #[test]
    fn a_mapped_mount_shows_the_ids_outside_and_stores_those_inside() {
        use std::os::unix::fs::MetadataExt as _;
        let map = [crate::idmap::Mapping { inside: 0, outside: 100_000, length: 65536 }];
        let made = crate::idmap::make(Namespaces::NONE, &map, &map, || Ok(())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::File::create(path.join("of-root")).unwrap();
        assert!(privately(|| {
            let place = Root::open(path)?;
            let tree = clone_descriptor(&place, Depth::One)?;
            map_ids(&tree, made[0].1.as_fd(), Depth::One)?;
            attach(&tree, Root::open(std::path::Path::new("/tmp"))?.as_fd())?;
            Ok(std::fs::metadata("/tmp/of-root").is_ok_and(|found| found.uid() == 100_000))
        }));
    }

    #[test]
    fn a_parameter_that_is_not_known_is_named_in_the_error() {
        let parameter = Parameter { key: c"no-such-parameter".into(), value: None };
        let error = filesystem(c"tmpfs", &[parameter], Attributes::NONE).unwrap_err();
        assert!(error.to_string().contains("no-such-parameter"), "{error}");
    }

    #[test]
    fn a_pivoted_process_sees_only_its_new_root() {
        assert!(privately(|| {
            let tree = filesystem(c"tmpfs", &[], Attributes::NONE)?;
            attach(&tree, Root::open(std::path::Path::new("/tmp"))?.as_fd())?;
            pivot(&tree)?;
            Ok(std::fs::read_dir("/").is_ok_and(|mut entries| entries.next().is_none()))
        }));
    }
}
