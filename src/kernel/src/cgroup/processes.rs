//! The processes of a cgroup: entering it, listing, freezing, killing, and waiting for the last one to go.

use super::layout::{Controller, Version};
use super::write::write;
use super::{Cgroup, CgroupError, is_gone, read};
use crate::error::SystemError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Moves the calling thread into the v1 cgroups whose `tasks` files these are, as
/// [`Cgroup::tasks_files`] gives them. Child-side.
///
/// A thread that moves itself needs none of the grace periods that moving a process by `cgroup.procs` costs.
///
/// # Errors
/// What write(2) answers.
pub fn enter(tasks_files: &[OwnedFd]) -> Result<(), Errno> {
    for file in tasks_files {
        rustix::io::write(file, b"0")?;
    }
    Ok(())
}

/// Whether processes run or stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    Frozen,
    Running,
}

impl Cgroup {
    /// The opened `tasks` files of the v1 directories, for the child to [`enter`]. None on a pure v2 host.
    ///
    /// # Errors
    /// If one can't be opened.
    pub fn tasks_files(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let v1 = self.directories().filter(|directory| directory.version == Version::V1);
        v1.map(|directory| {
            let path = directory.path.join("tasks");
            let file = fs::OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|source| CgroupError::Open { path, source })
        })
        .collect()
    }

    /// The opened v2 directory, to clone a child into (`CLONE_INTO_CGROUP`). None on a pure v1 host.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn v2_directory(&self) -> Result<Option<OwnedFd>, CgroupError> {
        self.v2_path().map(super::open_directory).transpose()
    }

    /// The processes in it and below, each once.
    ///
    /// # Errors
    /// If a file can't be read. A cgroup that is gone has none.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for path in [self.v2_path(), self.v1_witness()].into_iter().flatten() {
            collect_pids(path, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Whether there is a process in it or below.
    ///
    /// # Errors
    /// As [`Cgroup::pids`].
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        if let Some(events) = self.v2_path().map(|path| path.join("cgroup.events"))
            && flag(&events, "populated")? == Some(true)
        {
            return Ok(true);
        }
        let mut pids = BTreeSet::new();
        if let Some(path) = self.v1_witness() {
            collect_pids(path, &mut pids)?;
        }
        Ok(!pids.is_empty())
    }

    /// Sends SIGKILL to every process in it and below; none can escape by forking. It does not wait for their end.
    ///
    /// # Errors
    /// If the kernel refuses. A cgroup that is gone is fine.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let killed_by_kernel = self.kill_by_kernel()?;
        // What entered only the v1 half, or everything where the kernel can't do it at once.
        let mut pids = BTreeSet::new();
        for path in [self.v2_path(), self.v1_witness()].into_iter().flatten() {
            collect_pids(path, &mut pids)?;
        }
        if pids.is_empty() {
            return Ok(());
        }
        if killed_by_kernel {
            return self.signal_all(Signal::KILL);
        }
        // Standing processes can't fork away from us. One pass may be all we get where freezing fails.
        let frozen = self.set_motion(Motion::Frozen, Duration::from_millis(500));
        let outcome = self.signal_all(Signal::KILL);
        // On v1 the signal works once they move again.
        self.set_motion(Motion::Running, Duration::ZERO)?;
        if frozen.is_err() { self.signal_all(Signal::KILL) } else { outcome }
    }

    /// Sends a signal to every process in it and below that is there now or appears meanwhile.
    ///
    /// # Errors
    /// If the kernel refuses. A process or cgroup that is gone is fine.
    pub fn signal_all(&self, signal: Signal) -> Result<(), CgroupError> {
        /// A fork bomb is stopped by freezing; this only bounds the loop.
        const PASSES: usize = 64;
        let mut done: BTreeSet<u32> = BTreeSet::new();
        for _ in 0..PASSES {
            let new: Vec<u32> =
                self.pids()?.into_iter().filter(|pid| !done.contains(pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            self.signal_members(&new, signal)?;
            done.extend(new);
        }
        Ok(())
    }

    /// Stops every process in it and below, and returns when they stand.
    ///
    /// # Errors
    /// If the kernel refuses, or they don't stand within `patience`.
    pub fn freeze(&self, patience: Duration) -> Result<(), CgroupError> {
        self.set_motion(Motion::Frozen, patience)
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_motion(Motion::Running, Duration::ZERO)
    }

    /// The directory by whose file [`Cgroup::freeze`] stops them; none on a host that can't.
    #[must_use]
    pub fn freezer(&self) -> Option<&Path> {
        let unified = self.v2_path().filter(|path| path.join("cgroup.freeze").exists());
        unified.or_else(|| self.directory_of(Controller::Freezer))
    }

    /// Waits until no process is left in it and below.
    ///
    /// # Errors
    /// [`CgroupError::Populated`] when `patience` is over.
    pub fn wait_empty(&self, patience: Duration) -> Result<(), CgroupError> {
        let events = self.v2_path().map(|path| path.join("cgroup.events"));
        let wait = Wait::new(patience);
        while self.is_populated()? {
            if wait.is_over() {
                return Err(CgroupError::Populated { path: self.name().to_owned() });
            }
            wait.for_change(events.as_deref())?;
        }
        Ok(())
    }

    /// Kills everything in the v2 tree at once; whether the kernel can.
    fn kill_by_kernel(&self) -> Result<bool, CgroupError> {
        let Some(path) = self.v2_path() else { return Ok(false) };
        let file = path.join("cgroup.kill");
        match write(&file, "1") {
            Ok(()) => Ok(true),
            // Before Linux 5.14, or the cgroup is gone.
            Err(source) if is_gone(&source) => Ok(false),
            Err(source) => Err(CgroupError::Write { file, value: "1".to_owned(), source }),
        }
    }

    /// Signals those that are still members once we hold them: a pid that was reused before that is someone else's.
    fn signal_members(&self, pids: &[u32], signal: Signal) -> Result<(), CgroupError> {
        let mut held = Vec::new();
        for pid in pids {
            // A process of an outer PID namespace shows as 0; it isn't ours to signal.
            let Some(target) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else { continue };
            match pidfd_open(target, PidfdFlags::empty()) {
                Ok(pidfd) => held.push((*pid, pidfd)),
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(signal_error("pidfd_open", *pid, errno)),
            }
        }
        let members: BTreeSet<u32> = self.pids()?.into_iter().collect();
        for (pid, pidfd) in held.iter().filter(|(pid, _)| members.contains(pid)) {
            match pidfd_send_signal(pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(signal_error("pidfd_send_signal", *pid, errno)),
            }
        }
        Ok(())
    }

    /// Freezes by the v2 tree where there is one (SIGKILL gets through to processes frozen that way), else by the v1
    /// controller.
    fn set_motion(&self, motion: Motion, patience: Duration) -> Result<(), CgroupError> {
        if let Some(path) = self.v2_path().filter(|path| path.join("cgroup.freeze").exists()) {
            let value = if motion == Motion::Frozen { "1" } else { "0" };
            set(&path.join("cgroup.freeze"), value)?;
            let events = path.join("cgroup.events");
            return self.wait_frozen(motion, patience, Some(&events), || {
                Ok(flag(&events, "frozen")? != Some(false))
            });
        }
        let Some(directory) = self.home(Controller::Freezer) else { return Ok(()) };
        let state = directory.path.join("freezer.state");
        set(&state, if motion == Motion::Frozen { "FROZEN" } else { "THAWED" })?;
        self.wait_frozen(motion, patience, None, || {
            Ok(read_if_there(&state)?.is_none_or(|text| text.trim() == "FROZEN"))
        })
    }

    fn wait_frozen(
        &self,
        motion: Motion,
        patience: Duration,
        events: Option<&Path>,
        stands: impl Fn() -> Result<bool, CgroupError>,
    ) -> Result<(), CgroupError> {
        let wait = Wait::new(patience);
        while motion == Motion::Frozen && !stands()? {
            if wait.is_over() {
                return Err(CgroupError::Moving { path: self.name().to_owned() });
            }
            wait.for_change(events)?;
        }
        Ok(())
    }

    /// The v1 directory that stands for all of them: who is in one is in each, and the freezer's is where freezing and
    /// listing agree.
    fn v1_witness(&self) -> Option<&Path> {
        let freezer = self.home(Controller::Freezer).filter(|home| home.version == Version::V1);
        let first = || self.directories().find(|directory| directory.version == Version::V1);
        freezer.or_else(first).map(|directory| directory.path.as_path())
    }
}

/// Waiting with a deadline: for the kernel's notice where it gives one, else in short steps.
pub(super) struct Wait {
    deadline: Instant,
}

impl Wait {
    pub(super) fn new(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Returns when the events file may have changed. The notice is edge-like: a change between our last look and this
    /// wait would be missed, so no single wait is long.
    pub(super) fn for_change(&self, events: Option<&Path>) -> Result<(), CgroupError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let opened = events.and_then(|path| {
            let mut file = fs::File::open(path).ok()?;
            // The kernel tells of changes since the last read, so a descriptor that never read is always "changed".
            file.read_exact(&mut [0; 1]).ok()?;
            Some(file)
        });
        let longest = Duration::from_millis(if opened.is_some() { 20 } else { 1 });
        let step = Timespec::try_from(left.min(longest)).unwrap_or_default();
        let mut descriptors: Vec<PollFd<'_>> =
            opened.iter().map(|file| PollFd::new(file, PollFlags::PRI)).collect();
        match poll(&mut descriptors, Some(&step)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => {
                Err(CgroupError::System(SystemError::new("poll", "cgroup.events", errno)))
            }
        }
    }
}

/// The directories directly below.
pub(super) fn children(path: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let fail = |source| CgroupError::Read { file: path.to_path_buf(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) if is_gone(&source) => return Ok(Vec::new()),
        Err(source) => return Err(fail(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(source) if is_gone(&source) => break,
            Err(source) => return Err(fail(source)),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn collect_pids(path: &Path, pids: &mut BTreeSet<u32>) -> Result<(), CgroupError> {
    let mut below = vec![path.to_path_buf()];
    while let Some(directory) = below.pop() {
        if let Some(list) = read_if_there(&directory.join("cgroup.procs"))? {
            pids.extend(list.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
        }
        below.extend(children(&directory)?);
    }
    Ok(())
}

/// The value of a line `name 0|1`; none if the file or the line isn't there.
fn flag(file: &Path, name: &str) -> Result<Option<bool>, CgroupError> {
    let text = read_if_there(file)?.unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map(|value| value.trim() == "1"))
}

fn set(file: &Path, value: &str) -> Result<(), CgroupError> {
    match write(file, value) {
        Err(source) if !is_gone(&source) => {
            Err(CgroupError::Write { file: file.to_path_buf(), value: value.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file's text; none if it is gone.
pub(super) fn read_if_there(file: &Path) -> Result<Option<String>, CgroupError> {
    match read(file) {
        Ok(text) => Ok(Some(text)),
        Err(CgroupError::Read { source, .. }) if is_gone(&source) => Ok(None),
        // A threaded subtree doesn't list its processes.
        Err(CgroupError::Read { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

fn signal_error(call: &'static str, pid: u32, errno: Errno) -> CgroupError {
    CgroupError::System(SystemError::new(call, format!("pid {pid}"), errno))
}
