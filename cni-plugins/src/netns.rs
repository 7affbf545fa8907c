//! Network namespaces: opening one by its path, and doing work inside.
//!
//! No thread that does anything else ever changes its namespace: work happens on a thread made for it that ends afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cringle_kernel::error::SystemError;
use cringle_kernel::namespace::{self, Namespaces};

const STACK: usize = 256 << 10;

/// Why work in a network namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path is no network namespace, or can't be opened.
    #[error("failed to open network namespace {path:?}")]
    Open {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// The thread could not be made.
    #[error("failed to start a thread for network namespace {path:?}")]
    Spawn {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The thread could not enter.
    #[error("failed to enter network namespace {path:?}")]
    Enter {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// The thread died before it was done.
    #[error("work in network namespace {path:?} ended early")]
    Died {
        /// The path.
        path: PathBuf,
    },
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Netns {
    /// Opens the namespace at that path.
    ///
    /// # Errors
    /// If nothing is there, or something else than a network namespace.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let descriptor = namespace::open(path, Namespaces::NETWORK)
            .map_err(|source| NetnsError::Open { path: path.into(), source })?;
        Ok(Self { path: path.into(), descriptor })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the calling thread is in this namespace.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let identity = |descriptor: BorrowedFd<'_>| {
            rustix::fs::fstat(descriptor).map(|found| (found.st_dev, found.st_ino))
        };
        let own = namespace::own(Namespaces::NETWORK);
        own.is_ok_and(|own| {
            identity(own.as_fd()).is_ok_and(|own| identity(self.as_fd()) == Ok(own))
        })
    }

    /// Does the work on a thread inside the namespace. Sockets that the work opens stay bound to the namespace.
    ///
    /// # Errors
    /// If the thread can't be made or can't enter, or dies.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        std::thread::scope(|scope| {
            let body = || match namespace::join(self.descriptor.as_fd(), Namespaces::NETWORK) {
                Ok(()) => Ok(work()),
                Err(source) => Err(NetnsError::Enter { path: self.path.clone(), source }),
            };
            let thread = std::thread::Builder::new().name("netns".into()).stack_size(STACK);
            let thread = thread
                .spawn_scoped(scope, body)
                .map_err(|source| NetnsError::Spawn { path: self.path.clone(), source })?;
            thread.join().unwrap_or_else(|_| Err(NetnsError::Died { path: self.path.clone() }))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
