//! The directory of a network's leases, in the form that all implementations of `host-local` share: one file for each
//! address that is given out, named after it, with the container's id and the interface in it; `last_reserved_ip.N`, the
//! address that range set N gave out last; and `lock`, which whoever changes something holds.
//!
//! A lease appears with its content or not at all: the file is written without a name and then linked. Of what is known of
//! the directory a copy is kept, valid while the directory's time of change is the same. The copy is a hint: a name that
//! exists after all is noticed when it is linked, and before a lease is removed its file is read.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::pause::{FIRST_PAUSE, LONGEST_PAUSE, pause};

const PATIENCE: Duration = Duration::from_secs(10);
/// An empty file that old is what a crash has left, not a lease about to be written by another implementation.
const EMPTY_FOR: Duration = Duration::from_secs(60);
const LINE_BREAK: &str = "\r\n";

/// Why leases could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Someone else held the lock for too long.
    #[error("failed to lock lease directory {0:?} in time")]
    Busy(PathBuf),
    /// Something about the directory failed.
    #[error("failed to {attempt} in lease directory {directory:?}")]
    Directory {
        /// What was attempted.
        attempt: &'static str,
        /// The directory.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A lease could not be written or removed.
    #[error("failed to {attempt} lease {path:?}")]
    Lease {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What is known of the directories that were used.
#[derive(Debug, Default)]
pub(crate) struct LeaseCache(HashMap<PathBuf, Known>);

#[derive(Debug, Clone)]
struct Known {
    changed: (i64, i64),
    leases: HashMap<IpAddr, String>,
}

/// The leases of one network, locked.
#[derive(Debug)]
pub(super) struct Leases<'a> {
    directory: PathBuf,
    leases: HashMap<IpAddr, String>,
    cache: &'a mut LeaseCache,
    _lock: File,
}

/// Whether an address could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    Done,
    TakenAlready,
}

impl<'a> Leases<'a> {
    /// Locks the directory, making it if it isn't there, and reads what is in it.
    pub(super) fn lock(directory: &Path, cache: &'a mut LeaseCache) -> Result<Self, StoreError> {
        let failed = |attempt| {
            move |source| StoreError::Directory { attempt, directory: directory.into(), source }
        };
        fs::create_dir_all(directory).map_err(failed("create files"))?;
        let path = directory.join("lock");
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path);
        let lock = options.map_err(failed("open the lock"))?;
        wait_for(&lock, directory)?;
        let changed = changed(directory).map_err(failed("look at files"))?;
        let leases = match cache.0.remove(directory) {
            Some(known) if known.changed == changed => known.leases,
            Some(_) | None => read(directory).map_err(failed("read files"))?,
        };
        Ok(Self { directory: directory.into(), leases, cache, _lock: lock })
    }

    /// The addresses of that container's interface. Leases from the time before interfaces had names count as well.
    pub(super) fn of(&self, container_id: &str, if_name: &str) -> Vec<IpAddr> {
        let full = content(container_id, if_name);
        let is_theirs = |owner: &str| owner == full || owner == container_id;
        self.leases
            .iter()
            .filter(|(_, owner)| is_theirs(owner))
            .map(|(address, _)| *address)
            .collect()
    }

    /// Every lease: the address, the container and the interface, which is empty in old ones.
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, &str, &str)> {
        self.leases.iter().map(|(address, owner)| {
            let (container_id, if_name) = owner.split_once(LINE_BREAK).unwrap_or((owner, ""));
            (*address, container_id, if_name)
        })
    }

    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.leases.contains_key(&address)
    }

    /// Gives the address to that container's interface.
    pub(super) fn take(
        &mut self,
        address: IpAddr,
        container_id: &str,
        if_name: &str,
    ) -> Result<Taking, StoreError> {
        let content = content(container_id, if_name);
        let path = self.directory.join(address.to_string());
        match write_whole(&self.directory, &path, &content) {
            Ok(()) => {
                self.leases.insert(address, content);
                Ok(Taking::Done)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                self.leases.insert(address, owner.trim().into());
                Ok(Taking::TakenAlready)
            }
            Err(source) => Err(StoreError::Lease { attempt: "write", path, source }),
        }
    }

    /// Takes the address back, unless it has changed hands.
    pub(super) fn release(&mut self, address: IpAddr) -> Result<(), StoreError> {
        let path = self.directory.join(address.to_string());
        let failed = |attempt| {
            let path = path.clone();
            move |source| StoreError::Lease { attempt, path, source }
        };
        let Some(owner) = self.leases.remove(&address) else { return Ok(()) };
        match fs::read_to_string(&path) {
            Ok(found) if found.trim() == owner => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read")(error)),
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove")(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The address that the range set gave out last.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.last_path(set)).ok()?.trim().parse().ok()
    }

    /// Notes which address the range set gave out last. Losing the note is harmless: it only spreads addresses.
    pub(super) fn note_last(&self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        let path = self.last_path(set);
        let text = address.to_string();
        let write = || {
            // Not emptied first: file systems flush a file that was, so that a crash leaves either content.
            let options =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&path);
            let mut file = options?;
            file.write_all(text.as_bytes())?;
            let length = u64::try_from(text.len()).unwrap_or_default();
            if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
        };
        write().map_err(|source| StoreError::Lease {
            attempt: "note last",
            path: path.clone(),
            source,
        })
    }

    fn last_path(&self, set: usize) -> PathBuf {
        self.directory.join(format!("last_reserved_ip.{set}"))
    }
}

impl Drop for Leases<'_> {
    fn drop(&mut self) {
        // Still under the lock, so what we know is what is there.
        if let Ok(changed) = changed(&self.directory) {
            let leases = std::mem::take(&mut self.leases);
            self.cache.0.insert(self.directory.clone(), Known { changed, leases });
        }
    }
}

/// The addresses given out, without a lock, for a look from outside; none if there is no directory.
pub(super) fn names(directory: &Path) -> io::Result<Vec<IpAddr>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<IpAddr>().ok()));
    }
    Ok(names)
}

fn content(container_id: &str, if_name: &str) -> String {
    format!("{container_id}{LINE_BREAK}{if_name}")
}

fn changed(directory: &Path) -> io::Result<(i64, i64)> {
    fs::metadata(directory).map(|found| (found.mtime(), found.mtime_nsec()))
}

fn read(directory: &Path) -> io::Result<HashMap<IpAddr, String>> {
    let mut leases = HashMap::new();
    for address in names(directory)? {
        let path = directory.join(address.to_string());
        let owner = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            content => String::from_utf8_lossy(&content?).trim().to_owned(),
        };
        if owner.is_empty() && is_old(&path)? {
            fs::remove_file(&path)?;
            continue;
        }
        leases.insert(address, owner);
    }
    Ok(leases)
}

fn is_old(path: &Path) -> io::Result<bool> {
    let modified = fs::metadata(path)?.modified()?;
    Ok(SystemTime::now().duration_since(modified).is_ok_and(|age| age > EMPTY_FOR))
}

/// Waits for the lock. Others hold it for less than a millisecond; nothing tells when it becomes free before a deadline,
/// so it is tried again after ever longer pauses.
fn wait_for(lock: &File, directory: &Path) -> Result<(), StoreError> {
    let failed = |source: Errno| StoreError::Directory {
        attempt: "take the lock",
        directory: directory.into(),
        source: source.into(),
    };
    let deadline = Instant::now() + PATIENCE;
    let mut next = FIRST_PAUSE;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                pause(next).map_err(failed)?;
                next = (next * 2).min(LONGEST_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Busy(directory.into())),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Makes the file with its content in one step; fails if it is there.
fn write_whole(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    let flags = i32::try_from((OFlags::TMPFILE | OFlags::CLOEXEC).bits()).unwrap_or_default();
    let unnamed = OpenOptions::new().write(true).custom_flags(flags).mode(0o644).open(directory);
    let mut file = match unnamed {
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            return write_and_link(directory, path, content);
        }
        file => file?,
    };
    file.write_all(content.as_bytes())?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(rustix::fs::CWD, source, rustix::fs::CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// The same on a file system that has no files without a name.
fn write_and_link(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    let temporary = directory.join(".new");
    let mut file = File::create(&temporary)?;
    file.write_all(content.as_bytes())?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

#[cfg(test)]
mod tests;
