//! What a container uses that is not its own: mounts of the host's files, files of the host that it was given open, the
//! namespaces of its pod. A dump names them and leaves their content out.

use super::CheckpointError;
use cringle_kernel::mountinfo::{self, Mount};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The document in which an archive has what CRIU calls the first three descriptors of the first process.
pub(crate) const STREAM_NAMES: &str = "inherited.json";
/// Where the terminal of a container is mounted.
const CONSOLE: &str = "/dev/console";

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Inode of the network namespace.
    pub(crate) network: u64,
    /// Inode of the PID namespace, if the container has none of its own.
    pub(crate) processes: Option<u64>,
    /// Where mounts are that come from the host.
    pub(crate) mounts: Vec<PathBuf>,
    /// Open files that are on no mount of the container.
    pub(crate) files: Vec<OutsideFile>,
    /// Where the first three descriptors of the first process lead, in the kernel's words.
    pub(crate) streams: Vec<String>,
    /// The same as CRIU names them, if they lead outside.
    pub(crate) stream_names: Vec<String>,
}

/// An open file of somebody else's mount; displayed as CRIU names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OutsideFile {
    /// The id of the mount.
    pub(crate) mount: u64,
    /// Its inode.
    pub(crate) inode: u64,
}

impl fmt::Display for OutsideFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "file[{:x}:{:x}]", self.mount, self.inode)
    }
}

/// Whose PID namespace a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    /// Its own.
    Own,
    /// Its pod's, another container's or the host's.
    Shared,
}

impl Outside {
    /// Looks at a container that stands still: its first process, all of its processes, and the mount points of the files
    /// that it was given from the host.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn of(
        first: i32,
        pids: &[u32],
        given: &[PathBuf],
        processes: Processes,
    ) -> Result<Self, CheckpointError> {
        let mounts = mountinfo::of(first)?;
        let namespace = |kind: &str| -> Result<u64, CheckpointError> {
            let path = format!("/proc/{first}/ns/{kind}");
            let found = std::fs::metadata(&path).map_err(CheckpointError::file("ask", path))?;
            Ok(found.ino())
        };
        let known: HashSet<u64> = mounts.iter().map(|mount| mount.id).collect();
        let mut files = Vec::new();
        for pid in pids {
            for file in files_outside(*pid, &known)? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(Self {
            network: namespace("net")?,
            processes: match processes {
                Processes::Own => None,
                Processes::Shared => Some(namespace("pid")?),
            },
            mounts: from_host(&mounts, given),
            files,
            streams: streams(first),
            stream_names: (0..3).map(|number| stream_name(first, number, &known)).collect(),
        })
    }
}

/// Mounts that are, or lie below, what the container was given, and single files put over others from elsewhere, like those
/// that hide what it may not see.
fn from_host(mounts: &[Mount], given: &[PathBuf]) -> Vec<PathBuf> {
    let is_given = |mount: &Mount| given.iter().any(|point| mount.point.starts_with(point));
    let own: HashSet<(u32, u32)> = mounts
        .iter()
        .filter(|mount| mount.root == Path::new("/") && !is_given(mount))
        .map(|mount| mount.device)
        .collect();
    let foreign = |mount: &&Mount| {
        // Each of them shows the container's own part of a tree of the host's, which is no file of anybody.
        let cgroup = mount.kind.starts_with("cgroup");
        // The terminal's other end is the shim's.
        let console = mount.point == Path::new(CONSOLE);
        mount.point != Path::new("/")
            && !cgroup
            && (console || is_given(mount) || !own.contains(&mount.device))
    };
    mounts.iter().filter(foreign).map(|mount| mount.point.clone()).collect()
}

/// The files of a process that are on none of these mounts. One that is gone has none.
fn files_outside(pid: u32, known: &HashSet<u64>) -> Result<Vec<OutsideFile>, CheckpointError> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let listed = match std::fs::read_dir(&directory) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        listed => listed.map_err(CheckpointError::file("list", &directory))?,
    };
    let mut files = Vec::new();
    for entry in listed.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(target) = std::fs::read_link(&path) else { continue };
        let target = target.as_os_str().as_bytes();
        // Pipes, sockets and the like have names of another form, and memory files are their own content.
        if !target.starts_with(b"/") || target.starts_with(b"/memfd:") {
            continue;
        }
        let information = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy());
        let Some(file) = file_of(&information) else { continue };
        if !known.contains(&file.mount) {
            files.push(file);
        }
    }
    Ok(files)
}

/// By what the kernel tells of a descriptor (proc(5), `ino` since Linux 5.14): asking the file itself would wait for a file
/// system that may not answer.
fn file_of(information: &str) -> Option<OutsideFile> {
    let text = std::fs::read_to_string(information).ok()?;
    let number = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value?.trim().parse().ok()
    };
    Some(OutsideFile { mount: number("mnt_id:")?, inode: number("ino:")? })
}

fn streams(pid: i32) -> Vec<String> {
    let target = |number: i32| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        target.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
    };
    (0..3).map(target).collect()
}

/// What CRIU calls a descriptor that leads outside; empty if it does not. A terminal's other end is nobody's.
fn stream_name(pid: i32, number: i32, known: &HashSet<u64>) -> String {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
    if target.as_os_str().as_bytes().starts_with(b"pipe:[") {
        return target.to_string_lossy().into_owned();
    }
    let file = file_of(&format!("/proc/{pid}/fdinfo/{number}"));
    let outside = file.filter(|file| target.is_absolute() && !known.contains(&file.mount));
    outside.map(|file| file.to_string()).unwrap_or_default()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
93 101 0:40 / /dev/shm rw - tmpfs tmpfs rw
94 99 254:0 /run/x/hostname /etc/hostname rw - ext4 /dev/vda rw
97 99 254:0 /srv /data rw - ext4 /dev/vda rw
98 97 0:77 / /data/below rw - tmpfs tmpfs rw
99 68 0:41 / / rw - overlay overlay rw
100 99 0:43 / /proc rw - proc proc rw
101 99 0:44 / /dev rw - tmpfs tmpfs rw
106 99 0:29 /c /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu
107 100 0:6 /null /proc/kcore rw - devtmpfs devtmpfs rw
108 100 0:43 /bus /proc/bus ro - proc proc rw
109 100 0:90 / /proc/acpi ro - tmpfs tmpfs ro
110 100 0:44 /null /proc/keys rw - tmpfs tmpfs rw
111 101 0:91 / /dev/pts rw - devpts devpts rw
112 101 0:91 /0 /dev/console rw - devpts devpts rw
";

    #[test]
    fn what_comes_from_the_host_is_outside_and_what_the_container_mounted_is_not() {
        let given: Vec<PathBuf> = ["/dev/shm", "/etc/hostname", "/data"].map(Into::into).into();
        let found = from_host(&mountinfo::parse(TABLE), &given);
        let expected =
            ["/dev/shm", "/etc/hostname", "/data", "/data/below", "/proc/kcore", "/dev/console"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn an_open_file_on_no_known_mount_is_outside() {
        let own = std::process::id();
        let file = tempfile::NamedTempFile::new().unwrap();
        let inode = file.as_file().metadata().unwrap().ino();
        let found = files_outside(own, &HashSet::new()).unwrap();
        assert!(found.iter().any(|one| one.inode == inode), "{found:?}");
        let all = mountinfo::own().unwrap().iter().map(|mount| mount.id).collect();
        let found = files_outside(own, &all).unwrap();
        assert!(!found.iter().any(|one| one.inode == inode), "{found:?}");
        assert_eq!(files_outside(u32::MAX, &HashSet::new()).unwrap(), []);
    }
}
