//! Watching the configuration directory: changes are seen within moments by inotify(7), and within half a minute even if
//! the directory was deleted, swapped by a symbolic link, or lies where events are not told.

use crate::conf::Loaded;
use crate::{NetworkSettings, StartError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The safety net beneath inotify.
const REREAD: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Installers write a file in several steps: wait until the directory was quiet so long.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How often quiet is waited for: beside the directory there may be no end of it.
const PATIENCE: u32 = 20;

/// The configurations, always as they were read last.
#[derive(Debug)]
pub(crate) struct Configurations {
    directory: PathBuf,
    loaded: Mutex<Arc<Loaded>>,
}

impl Configurations {
    /// Reads the directory and starts to watch it; the thread ends with the last user.
    pub(crate) fn start(settings: &NetworkSettings) -> Result<Arc<Self>, StartError> {
        let directory = settings.config_directory.clone();
        let loaded = Mutex::new(Arc::new(Loaded::read(&directory)));
        let configurations = Arc::new(Self { directory, loaded });
        let weak = Arc::downgrade(&configurations);
        let failed = |source| StartError::Thread { name: "cni-conf", source };
        let watcher = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let directory = configurations.directory.clone();
        std::thread::Builder::new()
            .name("cni-conf".to_owned())
            .spawn(move || follow(&watcher, &directory, &weak))
            .map_err(failed)?;
        Ok(configurations)
    }

    /// What was read last.
    pub(crate) fn now(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn reread(&self) {
        let fresh = Arc::new(Loaded::read(&self.directory));
        if fresh.problems != self.now().problems {
            for problem in &fresh.problems {
                tracing::warn!(problem, "network configuration passed over");
            }
        }
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

fn follow(watcher: &OwnedFd, directory: &Path, configurations: &Weak<Configurations>) {
    loop {
        arm(watcher, directory);
        // Between the reading and the arming something may have changed: read again after arming.
        let Some(configurations) = configurations.upgrade() else { return };
        configurations.reread();
        drop(configurations);
        wait(watcher, REREAD);
        for _ in 0..PATIENCE {
            if !drain(watcher) {
                break;
            }
            wait(watcher, QUIET);
        }
    }
}

/// Watches the directory, and what it lies in: it may be deleted and made anew, or be a link that is swapped.
fn arm(watcher: &OwnedFd, directory: &Path) {
    let flags = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    // What is not there cannot be watched; what it will lie in can.
    let own = inotify::add_watch(watcher, directory, flags);
    let around = directory
        .ancestors()
        .skip(1)
        .find(|place| inotify::add_watch(watcher, *place, flags).is_ok());
    if own.is_err() && around.is_none() {
        tracing::debug!("network configurations are only looked at now and then");
    }
}

fn wait(watcher: &OwnedFd, patience: Timespec) {
    let mut ready = [PollFd::new(watcher, PollFlags::IN)];
    // An interrupted wait is a short one.
    if poll(&mut ready, Some(&patience)).is_err() {}
}

/// Takes all events that are there; answers whether there were any.
fn drain(watcher: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watcher, &mut buffer);
    let mut any = false;
    while events.next().is_ok() {
        any = true;
    }
    any
}
