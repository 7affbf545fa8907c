//! Control groups: place, limit, freeze, kill, measure.
//!
//! A [`Cgroup`] is one name and one directory in each mounted hierarchy: every v1 hierarchy and the v2 tree, even where
//! the latter has no controllers, as it gives clone-into, `cgroup.kill` and freezing. Where a controller lives is looked
//! up one by one, so pure v1, pure v2 and every hybrid are the same to callers.
//!
//! v2 is the model. `v1.rs` and `v2.rs` each turn our own [`Limits`] into a list of writes without touching anything;
//! `write.rs` performs any list and says which file refused. A [`Cgroup`] holds no descriptors: it is its
//! [`CgroupPaths`], which a record can hold, so that a cgroup is noted before it is made and found again after a crash.
//!
//! Processes enter by [`enter`] (v1) and by being cloned into [`Cgroup::v2_directory`]; nothing here writes another
//! process' id to `cgroup.procs`, which costs a grace period of milliseconds.

mod device_program;
mod directories;
mod error;
mod layout;
mod limits;
mod measure;
mod processes;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod write;

pub use error::CgroupError;
pub use layout::{Controller, Hierarchy, Layout, Version};
pub use limits::{
    Ceiling, CpuLimits, DeviceAccess, DeviceKind, DeviceRule, Devices, Limits, MemoryLimits,
    Permission,
};
pub use measure::{
    CpuUsage, DeviceIo, HugePages, MemoryEvents, MemoryPast, MemoryUsage, Pressure, Resource,
    Waiting,
};
pub use processes::enter;
pub use write::Clamp;

use limits::Current;
use processes::Wait;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use write::{Placed, Write};

/// A cgroup's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The hierarchy's version.
    pub version: Version,
    /// The controllers that live in that hierarchy.
    pub controllers: Vec<Controller>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The directory.
    pub path: PathBuf,
}

/// Where a cgroup is, or will be: what to note before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// Its name: the path below each mount, with a leading slash.
    pub name: String,
    /// Its directories, the one in the v2 tree last.
    pub directories: Vec<Directory>,
}

impl CgroupPaths {
    /// The places of a cgroup of that name in all hierarchies. Nothing is made yet.
    ///
    /// # Errors
    /// [`CgroupError::Name`] unless the name is absolute, below the root, and free of `.`, `..`, empty components and
    /// control characters.
    pub fn new(layout: &Layout, name: &str) -> Result<Self, CgroupError> {
        let relative = check_name(name)?;
        let directories = layout
            .hierarchies
            .iter()
            .map(|hierarchy| Directory {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
                mount: hierarchy.mount.clone(),
                path: hierarchy.mount.join(relative),
            })
            .collect();
        Ok(Self { name: name.to_owned(), directories })
    }
}

/// The name without its leading slash.
fn check_name(name: &str) -> Result<&str, CgroupError> {
    let refuse = |problem| Err(CgroupError::Name { name: name.to_owned(), problem });
    let Some(relative) = name.strip_prefix('/') else {
        return refuse("is not absolute");
    };
    if name.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    for component in relative.split('/') {
        match component {
            "" => return refuse("is the root or has an empty component"),
            "." | ".." => return refuse("has a component \".\" or \"..\""),
            long if long.len() > 255 => return refuse("has a component of more than 255 bytes"),
            _ => {}
        }
    }
    Ok(relative)
}

/// A cgroup in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cgroup {
    paths: CgroupPaths,
}

impl Cgroup {
    /// Makes it, with the parents that are missing, or takes what is there already if no process is in it. When it
    /// fails half-way, what it made stays: [`Cgroup::remove`] of the same paths gives it back.
    ///
    /// # Errors
    /// If a directory can't be made, or has processes in it.
    pub fn create(paths: CgroupPaths) -> Result<Self, CgroupError> {
        for directory in &paths.directories {
            directories::make(directory)?;
        }
        Ok(Self { paths })
    }

    /// The cgroup at these noted paths, which need not exist (any more).
    #[must_use]
    pub const fn at(paths: CgroupPaths) -> Self {
        Self { paths }
    }

    /// Where it is.
    #[must_use]
    pub const fn paths(&self) -> &CgroupPaths {
        &self.paths
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.paths.name
    }

    /// Its directory in the hierarchy where that controller lives.
    #[must_use]
    pub fn directory_of(&self, controller: Controller) -> Option<&Path> {
        self.home(controller).map(|directory| directory.path.as_path())
    }

    /// Sets the limits of a cgroup just made. What the host withholds and nobody can set is told, not an error.
    ///
    /// # Errors
    /// The file that refused. Some limits may be set then.
    pub fn apply(&self, limits: &Limits) -> Result<Vec<Clamp>, CgroupError> {
        let (list, mut clamps) = self.place(limits, &Current::FRESH)?;
        clamps.extend(write::perform(&list)?);
        clamps.extend(self.limit_devices(&limits.devices)?);
        Ok(clamps)
    }

    /// Changes the limits of a cgroup in use: all of them, or none if one is refused.
    ///
    /// # Errors
    /// The file that refused.
    pub fn update(&self, limits: &Limits) -> Result<Vec<Clamp>, CgroupError> {
        let (list, mut clamps) = self.place(limits, &self.current()?)?;
        clamps.extend(write::perform_or_restore(&list)?);
        if limits.devices != Devices::Untouched {
            // Rules are replaced one by one on v1: nobody may meet them half done.
            self.freeze(FREEZING)?;
            let outcome = self.limit_devices(&limits.devices);
            self.thaw()?;
            clamps.extend(outcome?);
        }
        Ok(clamps)
    }

    /// Removes it and what is below it, waiting for dying processes to leave. What is gone is fine.
    ///
    /// # Errors
    /// If a directory can't be removed within `patience`, mostly because processes are in it. The others are removed.
    pub fn remove(&self, patience: Duration) -> Result<(), CgroupError> {
        let wait = Wait::new(patience.max(directories::MOMENT));
        let mut outcome = Ok(());
        for directory in &self.paths.directories {
            outcome = outcome.and(directories::remove(directory, &wait));
        }
        outcome
    }

    fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.paths.directories.iter()
    }

    fn home(&self, controller: Controller) -> Option<&Directory> {
        self.directories().find(|directory| directory.controllers.contains(&controller))
    }

    fn v2_home(&self) -> Option<&Directory> {
        self.directories().find(|directory| directory.version == Version::V2)
    }

    fn v2_path(&self) -> Option<&Path> {
        self.v2_home().map(|directory| directory.path.as_path())
    }

    /// The writes for these limits, each with the directory where its controller lives, and the tolerated ones for
    /// which there is none.
    fn place(
        &self,
        limits: &Limits,
        current: &Current,
    ) -> Result<(Vec<Placed>, Vec<Clamp>), CgroupError> {
        let (mut placed, mut clamps, mut rare) = (Vec::new(), Vec::new(), Vec::new());
        let mut take = |write: Write, home: &Directory| {
            placed.push(Placed { path: home.path.join(write.file.as_ref()), write });
        };
        for write in v1::writes(limits, current) {
            if let Some(home) = self.home(write.controller).filter(|h| h.version == Version::V1) {
                take(write, home);
            }
        }
        let unified = v2::unified(&limits.unified)?;
        if let Some(write) = unified.iter().find(|write| {
            self.home(write.controller).is_some_and(|home| home.version == Version::V1)
        }) {
            return Err(CgroupError::UnifiedOnV1 { file: write.file.to_string() });
        }
        for write in v2::writes(limits, current)?.into_iter().chain(unified) {
            match self.home(write.controller) {
                Some(home) if home.version == Version::V2 => {
                    rare.push(write.controller);
                    take(write, home);
                }
                Some(_) => {}
                None if write.tolerance == write::Tolerance::Missing => {
                    clamps.push(Clamp { file: write.file.to_string(), value: write.value });
                }
                None => {
                    let (controller, file) = (write.controller, write.file.to_string());
                    return Err(CgroupError::NoController { controller, file });
                }
            }
        }
        self.enable(rare)?;
        Ok((placed, clamps))
    }

    /// Switches on the v2 controllers about to be written to that aren't on from the start.
    fn enable(&self, mut needed: Vec<Controller>) -> Result<(), CgroupError> {
        let Some(directory) = self.v2_home() else { return Ok(()) };
        needed.retain(|controller| !directories::USUAL.contains(controller));
        needed.dedup();
        directories::enable(directory, &needed)
    }

    fn limit_devices(&self, devices: &Devices) -> Result<Vec<Clamp>, CgroupError> {
        let Devices::Only(rules) = devices else { return Ok(Vec::new()) };
        if let Some(home) = self.home(Controller::Devices) {
            let place = |write: Write| Placed { path: home.path.join(write.file.as_ref()), write };
            let list: Vec<Placed> = v1::devices(devices).into_iter().map(place).collect();
            let clamps = write::perform(&list)?;
            if clamps.iter().any(|clamp| clamp.value.starts_with('a')) {
                self.allow_as_parent(home)?;
            }
            return Ok(clamps);
        }
        match self.v2_home() {
            Some(home) => device_program::replace(&home.path, rules).map(|()| Vec::new()),
            None => Err(CgroupError::NoController {
                controller: Controller::Devices,
                file: "devices.deny".to_owned(),
            }),
        }
    }

    /// All devices were asked for, but our own cgroup has not got all: grants what the parent has.
    fn allow_as_parent(&self, home: &Directory) -> Result<(), CgroupError> {
        let Some(parent) = home.path.parent() else { return Ok(()) };
        let list = read(&parent.join("devices.list"))?;
        let grant = |line: &str| Placed {
            path: home.path.join("devices.allow"),
            write: Write::new(Controller::Devices, "devices.allow", line),
        };
        let grants: Vec<Placed> = list.lines().map(grant).collect();
        write::perform(&grants).map(drop)
    }

    /// The limits in force, as far as the order of changes depends on them.
    fn current(&self) -> Result<Current, CgroupError> {
        let ceiling = |path: PathBuf| -> Result<Ceiling, CgroupError> {
            let number = measure::number(&path)?.filter(|value| *value < measure::V1_UNLIMITED);
            Ok(number.map_or(Ceiling::Unlimited, Ceiling::At))
        };
        let mut current = Current::FRESH;
        if let Some(home) = self.home(Controller::Memory) {
            let (limit, both) = match home.version {
                Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
                Version::V2 => ("memory.max", ""),
            };
            current.memory = ceiling(home.path.join(limit))?;
            if !both.is_empty() {
                current.memory_with_swap = ceiling(home.path.join(both))?;
            }
        }
        if let Some(home) = self.home(Controller::Cpu) {
            let file = |name: &str| measure::number(&home.path.join(name));
            match home.version {
                Version::V1 => {
                    current.cpu_quota = ceiling(home.path.join("cpu.cfs_quota_us"))?;
                    current.cpu_period = file("cpu.cfs_period_us")?.unwrap_or(100_000);
                    current.cpu_burst = file("cpu.cfs_burst_us")?.unwrap_or(0);
                }
                Version::V2 => {
                    let maximum = processes::read_if_there(&home.path.join("cpu.max"))?;
                    let quota = maximum.unwrap_or_default();
                    let quota = quota.split_whitespace().next().and_then(|text| text.parse().ok());
                    current.cpu_quota = quota.map_or(Ceiling::Unlimited, Ceiling::At);
                    current.cpu_burst = file("cpu.max.burst")?.unwrap_or(0);
                }
            }
        }
        Ok(current)
    }
}

/// How long a change of device rules waits for the processes to stand.
const FREEZING: Duration = Duration::from_secs(2);

fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| CgroupError::Open { path: path.to_path_buf(), source: errno.into() })
}

fn read(file: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(file)
        .map_err(|source| CgroupError::Read { file: file.to_path_buf(), source })
}

/// Whether an answer means that the cgroup is not there (any more).
fn is_gone(answer: &io::Error) -> bool {
    matches!(answer.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
