//! Making and removing the directories of a cgroup.

use super::layout::{Controller, Version};
use super::processes::{Wait, children};
use super::write::write;
use super::{CgroupError, Directory, is_gone, read};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What v2 cgroups get from the start; others are switched on when a limit asks for them.
pub(super) const USUAL: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuset, Controller::Io, Controller::Memory, Controller::Pids];

/// Makes the directory and those above it that are missing. One that exists is fine as long as no process is in it.
pub(super) fn make(directory: &Directory) -> Result<(), CgroupError> {
    let is_new = make_below(&directory.mount, &directory.path)?;
    if !is_new && !read(&directory.path.join("cgroup.procs"))?.trim().is_empty() {
        return Err(CgroupError::Occupied { path: directory.path.clone() });
    }
    match directory.version {
        Version::V1 if directory.controllers.contains(&Controller::Cpuset) => {
            fill_cpuset(&directory.mount, &directory.path)
        }
        Version::V1 => Ok(()),
        Version::V2 => {
            let usual: Vec<Controller> = USUAL
                .into_iter()
                .filter(|controller| directory.controllers.contains(controller))
                .collect();
            enable(directory, &usual)
        }
    }
}

/// Switches v2 controllers on for the directory, all the way down from the mount. One that can't be switched on is not
/// an error here: the write of a limit that needs it will say which file is missing.
pub(super) fn enable(directory: &Directory, wanted: &[Controller]) -> Result<(), CgroupError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut above: Vec<&Path> = directory
        .path
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(&directory.mount))
        .collect();
    above.reverse();
    for path in above {
        let file = path.join("cgroup.subtree_control");
        let enabled = read(&file)?;
        for controller in wanted {
            if !enabled.split_whitespace().any(|name| name == controller.name()) {
                // The limit's own write tells of it, if there is one.
                drop(write(&file, &format!("+{controller}")));
            }
        }
    }
    Ok(())
}

/// Removes the directory and those below it; what is gone is fine.
pub(super) fn remove(directory: &Directory, wait: &Wait) -> Result<(), CgroupError> {
    let events = directory.path.join("cgroup.events");
    let events = (directory.version == Version::V2).then_some(events.as_path());
    loop {
        let Err(refused) = remove_tree(&directory.path) else { return Ok(()) };
        if wait.is_over() || !is_busy(&refused) {
            return Err(CgroupError::Remove { path: directory.path.clone(), source: refused });
        }
        wait.for_change(events)?;
    }
}

/// rmdir(2) first: usually nothing is below.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => return Ok(()),
        Err(refused) if is_gone(&refused) => return Ok(()),
        Err(refused) if !is_busy(&refused) => return Err(refused),
        Err(_) => {}
    }
    for child in children(path).map_err(io::Error::other)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(path) {
        Err(refused) if is_gone(&refused) => Ok(()),
        answer => answer,
    }
}

fn is_busy(refused: &io::Error) -> bool {
    let errno = refused.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::BUSY | Errno::NOTEMPTY))
}

/// mkdir(2) of the last directory first: its parents are usually there. Whether it is new.
fn make_below(mount: &Path, path: &Path) -> Result<bool, CgroupError> {
    /// Someone may remove a parent between two steps; that can't go on for ever.
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::NOENT) => match path.parent().filter(|parent| parent.starts_with(mount)) {
                Some(parent) => drop(make_below(mount, parent)?),
                None => break,
            },
            Err(errno) => return Err(make_error(path, errno)),
        }
    }
    Err(make_error(path, Errno::NOENT))
}

fn make_error(path: &Path, errno: Errno) -> CgroupError {
    CgroupError::Make { path: path.to_path_buf(), source: errno.into() }
}

/// A new v1 cpuset admits no process until it has CPUs and memory nodes: it gets its parent's, the parent first.
fn fill_cpuset(mount: &Path, path: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        fill_cpuset_file(mount, path, name)?;
    }
    Ok(())
}

fn fill_cpuset_file(mount: &Path, path: &Path, name: &str) -> Result<String, CgroupError> {
    let file = path.join(name);
    let own = read(&file)?;
    if !own.trim().is_empty() {
        return Ok(own);
    }
    let Some(parent) = path.parent().filter(|parent| parent.starts_with(mount)) else {
        return Ok(own);
    };
    let inherited = fill_cpuset_file(mount, parent, name)?;
    let value = inherited.trim();
    write(&file, value).map_err(|source| CgroupError::Write {
        file,
        value: value.to_owned(),
        source,
    })?;
    Ok(inherited)
}

/// Long enough for a dying process to leave its cgroup.
pub(super) const MOMENT: Duration = Duration::from_millis(20);
