//! Which cgroup hierarchies this host has, where they are mounted, and which controller lives in which. Any mix of v1 and
//! v2 is taken as it is found, controller by controller.

use super::CgroupError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One of the old ones, with its own controllers.
    V1,
    /// The unified one.
    V2,
}

macro_rules! controllers {
    ($($variant:ident $name:literal,)+) => {
        /// A cgroup controller.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Controller {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )+
        }

        impl Controller {
            /// The kernel's name for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The controller of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

controllers! {
    Blkio "blkio",
    Cpu "cpu",
    Cpuacct "cpuacct",
    Cpuset "cpuset",
    Devices "devices",
    Freezer "freezer",
    Hugetlb "hugetlb",
    Io "io",
    Memory "memory",
    Misc "misc",
    NetCls "net_cls",
    NetPrio "net_prio",
    PerfEvent "perf_event",
    Pids "pids",
    Rdma "rdma",
}

impl fmt::Display for Controller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// What lives there; none in a named v1 hierarchy.
    pub controllers: Vec<Controller>,
}

/// All mounted hierarchies of the host, the v2 tree last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The hierarchies.
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Asks the kernel. Once per process is enough: hierarchies don't move while anyone uses them.
    ///
    /// # Errors
    /// If the mount table can't be read, or no hierarchy is mounted.
    pub fn probe() -> Result<Self, CgroupError> {
        let table = super::read(Path::new("/proc/self/mountinfo"))?;
        let layout = Self::from_mounts(&table, |mount| {
            fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        });
        if layout.hierarchies.is_empty() { Err(CgroupError::NoHierarchy) } else { Ok(layout) }
    }

    /// Whether the controller lives anywhere, and in which version.
    #[must_use]
    pub fn version_of(&self, controller: Controller) -> Option<Version> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.contains(&controller))
            .map(|hierarchy| hierarchy.version)
    }

    /// The layout that a mount table tells of; `unified` gives the v2 tree's `cgroup.controllers`.
    fn from_mounts(table: &str, unified: impl Fn(&Path) -> String) -> Self {
        let mut found: Vec<Mount<'_>> = Vec::new();
        for mount in table.lines().filter_map(Mount::parse) {
            // The same hierarchy again: a mount of its root shows more than one of a subtree.
            match found.iter_mut().find(|known| known.device == mount.device) {
                Some(known) if known.root != "/" && mount.root == "/" => *known = mount,
                Some(_) => {}
                None => found.push(mount),
            }
        }
        let mut hierarchies: Vec<Hierarchy> =
            found.iter().map(|mount| mount.hierarchy(&unified)).collect();
        hierarchies.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
        Self { hierarchies }
    }
}

/// What a line of the mount table says of a cgroup mount.
struct Mount<'a> {
    device: &'a str,
    root: &'a str,
    point: PathBuf,
    version: Version,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let version = match file_system.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = file_system.nth(1)?;
        let mut place = place.split(' ').skip(2);
        let (device, root, point) = (place.next()?, place.next()?, place.next()?);
        Some(Self { device, root, point: unescape(point), version, options })
    }

    fn hierarchy(&self, unified: &impl Fn(&Path) -> String) -> Hierarchy {
        let known = |names: &mut dyn Iterator<Item = &str>| {
            names.filter_map(Controller::from_name).collect()
        };
        let controllers = match self.version {
            Version::V1 => known(&mut self.options.split(',')),
            Version::V2 => known(&mut unified(&self.point).split_whitespace()),
        };
        Hierarchy { version: self.version, mount: self.point.clone(), controllers }
    }
}

/// Undoes the mount table's escapes: `\040` is a space.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 1 0:20 / /proc rw - proc proc rw
32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";

    #[test]
    fn a_hybrid_host_is_taken_controller_by_controller() {
        let layout = Layout::from_mounts(HYBRID, |_| "hugetlb pids\n".to_owned());
        let seen: Vec<_> = layout
            .hierarchies
            .iter()
            .map(|h| (h.version, h.mount.to_str().unwrap(), h.controllers.as_slice()))
            .collect();
        assert_eq!(
            seen,
            [
                (
                    Version::V1,
                    "/sys/fs/cgroup/cpu,cpuacct",
                    [Controller::Cpu, Controller::Cpuacct].as_slice()
                ),
                (Version::V1, "/sys/fs/cgroup/memory", [Controller::Memory].as_slice()),
                (Version::V1, "/sys/fs/cgroup/systemd", [].as_slice()),
                (
                    Version::V2,
                    "/sys/fs/cgroup/unified",
                    [Controller::Hugetlb, Controller::Pids].as_slice()
                ),
            ]
        );
        assert_eq!(layout.version_of(Controller::Cpu), Some(Version::V1));
        assert_eq!(layout.version_of(Controller::Pids), Some(Version::V2));
        assert_eq!(layout.version_of(Controller::Rdma), None);
    }

    #[test]
    fn of_two_mounts_of_a_hierarchy_the_one_of_its_root_counts() {
        let table = "\
1 0 0:9 /below /a rw - cgroup2 cgroup2 rw
2 0 0:9 / /with\\040space rw - cgroup2 cgroup2 rw
3 0 0:9 /other /c rw - cgroup2 cgroup2 rw
";
        let layout = Layout::from_mounts(table, |_| String::new());
        assert_eq!(layout.hierarchies.len(), 1);
        assert_eq!(layout.hierarchies[0].mount, Path::new("/with space"));
    }

    #[test]
    fn this_host_has_a_hierarchy() {
        let layout = Layout::probe().unwrap();
        assert!(layout.hierarchies.iter().all(|hierarchy| hierarchy.mount.is_dir()));
    }
}
