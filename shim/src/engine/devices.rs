//! Device nodes, the links beside them, and what is hidden or made read-only.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cringle_kernel::mount::{self, Attributes, Change, Depth, Propagation};
use cringle_kernel::path::{self, Links, Root};
use cringle_kernel::terminal::Terminal;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::error::{Attempting as _, EngineError, Result};

/// The nodes and links a container needs in `/dev`, decided.
#[derive(Debug)]
pub(super) struct DevicePlan {
    nodes: Vec<Node>,
    /// Whether `/dev` is the container's own to furnish; one that is bound from elsewhere is left alone.
    furnish: Furnish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Furnish {
    All,
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    /// The host's ids of its owner; none: whoever makes it.
    owner: Option<(u32, u32)>,
}

/// The devices every container has: name, major, minor.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links every container has.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Plans the devices.
///
/// # Errors
/// A device that makes no sense.
pub(super) fn plan(spec: &Spec) -> Result<DevicePlan> {
    let bound = spec.mounts().iter().flatten().any(|mount| {
        let words = mount.options().iter().flatten();
        let bind = words.clone().any(|word| word == "bind" || word == "rbind");
        mount.destination() == Path::new("/dev") && (bind || mount.typ().as_deref() == Some("bind"))
    });
    let asked =
        spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut nodes = asked.iter().map(node).collect::<Result<Vec<_>>>()?;
    for (path, major, minor) in DEFAULTS {
        if !nodes.iter().any(|node| node.path == Path::new(path)) {
            let kind = FileType::CharacterDevice;
            nodes.push(Node { path: path.into(), kind, major, minor, mode: 0o666, owner: None });
        }
    }
    Ok(DevicePlan { nodes, furnish: if bound { Furnish::Nothing } else { Furnish::All } })
}

fn node(device: &LinuxDevice) -> Result<Node> {
    let field = || format!("device {:?}", device.path());
    if !device.path().is_absolute() || device.path().file_name().is_none() {
        return Err(EngineError::invalid(field(), "its path is not absolute"));
    }
    let number = |number: i64| {
        u32::try_from(number)
            .map_err(|_range| EngineError::invalid(field(), "its number is out of range"))
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(EngineError::invalid(field(), "its type is \"all\"")),
    };
    Ok(Node {
        path: device.path().clone(),
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        // Also in a user namespace: what a device of the host can do is for those that may open it on the host.
        owner: Some((device.uid().unwrap_or_default(), device.gid().unwrap_or_default())),
    })
}

/// Child-side: makes nodes and links. The umask is zero.
///
/// # Errors
/// The call that failed, and for which device.
pub(super) fn furnish(plan: &DevicePlan, root: &Root) -> Result<()> {
    if plan.furnish == Furnish::Nothing {
        return Ok(());
    }
    let attempt = || "furnish /dev".to_owned();
    let dev = root.directory(Path::new("/dev"), Links::Follow).attempting(attempt)?;
    for node in &plan.nodes {
        let attempt = || format!("make device {:?}", node.path);
        match node.path.strip_prefix("/dev").map(Path::as_os_str) {
            Ok(name) if !name.as_encoded_bytes().contains(&b'/') => make(node, &dev, name),
            Ok(_) | Err(_) => {
                let parent = node.path.parent().unwrap_or(Path::new("/"));
                let parent = root.directory(parent, Links::Follow).attempting(attempt)?;
                make(node, &parent, node.path.file_name().unwrap_or_default())
            }
        }?;
    }
    for (target, name) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).attempting(attempt),
        }
    }
    Ok(())
}

fn make(node: &Node, directory: &OwnedFd, name: &OsStr) -> Result<()> {
    let attempt = || format!("make device {:?}", node.path);
    let number = rustix::fs::makedev(node.major, node.minor);
    match rustix::fs::mknodat(directory, name, node.kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return is_same(node, directory, name),
        // The host's cgroup or user namespace withholds mknod: the host's own node serves as well.
        Err(Errno::PERM) => return borrow(node, directory, name),
        Err(errno) => return Err(errno).attempting(attempt),
    }
    if let Some((user, group)) = node.owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(directory, name, Some(user), Some(group), flags).attempting(attempt)?;
    }
    Ok(())
}

/// What lies there already may stay if it is the very device.
fn is_same(node: &Node, directory: &OwnedFd, name: &OsStr) -> Result<()> {
    let attempt = || format!("make device {:?}", node.path);
    let found =
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).attempting(attempt)?;
    let number = rustix::fs::makedev(node.major, node.minor);
    let same = FileType::from_raw_mode(found.st_mode) == node.kind
        && (node.kind == FileType::Fifo || found.st_rdev == number);
    if same { Ok(()) } else { Err(Errno::EXIST).attempting(attempt) }
}

fn borrow(node: &Node, directory: &OwnedFd, name: &OsStr) -> Result<()> {
    let attempt = || format!("bind device {:?}", node.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(&node.path, flags, Mode::empty()).attempting(attempt)?;
    verify(&source, node.kind, (node.major, node.minor)).attempting(attempt)?;
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0).attempting(attempt)?;
    let target = rustix::fs::openat(directory, name, flags, Mode::empty()).attempting(attempt)?;
    attach_private(&source, &target, Change::default()).attempting(attempt)
}

/// Opens the null device of the caller's root, and makes sure that it is one.
///
/// # Errors
/// There is none.
pub(super) fn open_null(flags: OFlags) -> Result<OwnedFd> {
    let attempt = || "open the null device".to_owned();
    let null = rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty())
        .attempting(attempt)?;
    verify(&null, FileType::CharacterDevice, (1, 3)).attempting(attempt)?;
    Ok(null)
}

fn verify(
    place: &OwnedFd,
    kind: FileType,
    (major, minor): (u32, u32),
) -> cringle_kernel::error::Result<()> {
    let status = rustix::fs::fstat(place)
        .map_err(|errno| cringle_kernel::error::SystemError::new("fstat", "", errno))?;
    if FileType::from_raw_mode(status.st_mode) == kind
        && status.st_rdev == rustix::fs::makedev(major, minor)
    {
        return Ok(());
    }
    Err(path::mismatch("fstat", "not the device it should be".to_owned()))
}

fn attach_private(
    source: &OwnedFd,
    target: &OwnedFd,
    change: Change,
) -> cringle_kernel::error::Result<()> {
    let tree = mount::clone_descriptor(source, Depth::Tree)?;
    let change = Change { propagation: Some(Propagation::Private), ..change };
    mount::change(&tree, &change, Depth::Tree)?;
    mount::attach(&tree, target)
}

/// Child-side: puts the terminal at `/dev/console`, by descriptor, whatever lies there.
///
/// # Errors
/// The call that failed.
pub(super) fn set_console(root: &Root, terminal: &Terminal) -> Result<()> {
    let attempt = || "set /dev/console".to_owned();
    let dev = root.directory(Path::new("/dev"), Links::Follow).attempting(attempt)?;
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(&dev, "console", FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).attempting(attempt),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&dev, "console", flags, Mode::empty()).attempting(attempt)?;
    attach_private(&terminal.slave, &target, Change::default()).attempting(attempt)
}

/// Child-side: hides paths. What is missing needs no hiding. Runs before the root is entered: the `/dev/null` it covers files
/// with is the host's, and checked to be one.
///
/// # Errors
/// A path that could not be hidden.
pub(super) fn hide(root: &Root, paths: &[PathBuf]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open_null(OFlags::PATH)?;
    let named = [super::options::parameter("source=tmpfs", "masked path")?];
    let mut empty = None;
    for path in paths {
        let attempt = || format!("mask {path:?}");
        let Some(target) = existing(root, path).attempting(attempt)? else { continue };
        if path::kind(&target).attempting(attempt)? != FileType::Directory {
            attach_private(&null, &target, Change::default()).attempting(attempt)?;
            continue;
        }
        // All hidden directories show the same empty one.
        let tree = match &empty {
            Some(first) => mount::clone_descriptor(first, Depth::One).attempting(attempt)?,
            None => {
                mount::filesystem(c"tmpfs", &named, Attributes::READ_ONLY).attempting(attempt)?
            }
        };
        mount::attach(&tree, &target).attempting(attempt)?;
        empty = empty.or(Some(tree));
    }
    Ok(())
}

/// Child-side: makes paths read-only, with all that is mounted below them. What is missing is left out.
///
/// # Errors
/// A path that could not be made read-only.
pub(super) fn protect(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let attempt = || format!("make {path:?} read-only");
        let Some(place) = existing(root, path).attempting(attempt)? else { continue };
        let change = Change { set: Attributes::READ_ONLY, ..Change::default() };
        attach_private(&place, &place, change).attempting(attempt)?;
    }
    Ok(())
}

fn existing(root: &Root, path: &Path) -> cringle_kernel::error::Result<Option<OwnedFd>> {
    match root.place(path, Links::Follow) {
        Ok(place) => Ok(Some(place)),
        Err(error) => match error.errno().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Some(_) | None => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<DevicePlan> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_default_devices_are_there_once() {
        let json = r#"{"ociVersion":"1.2.0","linux":{"devices":[
            {"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":438,"uid":7,"gid":8},
            {"path":"/dev/sub/disk","type":"b","major":8,"minor":1}]}}"#;
        let plan = planned(json).unwrap();
        assert_eq!(plan.nodes.len(), DEFAULTS.len() + 1);
        assert_eq!(plan.nodes[0].owner, Some((7, 8)));
        assert_eq!(plan.nodes[1].kind, FileType::BlockDevice);
        assert_eq!(plan.furnish, Furnish::All);
    }

    #[test]
    fn a_dev_of_the_host_is_not_furnished() {
        let json = r#"{"ociVersion":"1.2.0","mounts":[
            {"destination":"/dev","source":"/dev","options":["rbind"]}]}"#;
        assert_eq!(planned(json).unwrap().furnish, Furnish::Nothing);
    }

    #[test]
    fn a_device_without_a_place_or_number_is_refused() {
        for device in [
            r#"{"path":"dev/x","type":"c","major":1,"minor":3}"#,
            r#"{"path":"/","type":"c","major":1,"minor":3}"#,
            r#"{"path":"/dev/x","type":"a","major":1,"minor":3}"#,
            r#"{"path":"/dev/x","type":"c","major":-1,"minor":3}"#,
        ] {
            let json = format!(r#"{{"ociVersion":"1.2.0","linux":{{"devices":[{device}]}}}}"#);
            assert!(planned(&json).is_err(), "{device}");
        }
    }
}
