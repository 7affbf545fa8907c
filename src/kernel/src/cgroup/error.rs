//! What can go wrong with a cgroup.

use super::Controller;
use crate::error::SystemError;
use std::io;
use std::path::PathBuf;

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The name can't be one.
    #[error("cgroup name {name:?} is refused: it {problem}")]
    Name {
        /// The name given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A control file could not be read.
    #[error("failed to read {file:?}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A control file refused a value.
    #[error("failed to write {value:?} to {file:?}")]
    Write {
        /// The file.
        file: PathBuf,
        /// The value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory or file could not be opened.
    #[error("failed to open {path:?}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("failed to make cgroup {path:?}")]
    Make {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There are processes in a cgroup that was to be made.
    #[error("cgroup {path:?} has processes already")]
    Occupied {
        /// Its path.
        path: PathBuf,
    },
    /// A limit needs a controller that lives nowhere on this host.
    #[error("failed to set {file:?}: this host has no cgroup controller {controller}")]
    NoController {
        /// The controller.
        controller: Controller,
        /// The file that would have been written.
        file: String,
    },
    /// A v2 file was asked for that is no controller's.
    #[error("cgroup file {file:?} is refused: it is no limit of a known controller")]
    UnifiedFile {
        /// The file given.
        file: String,
    },
    /// A v2 file was asked for but its controller lives on v1.
    #[error("cgroup file {file:?} is refused: on this host its controller is on cgroup v1")]
    UnifiedOnV1 {
        /// The file given.
        file: String,
    },
    /// Two limits can't hold together.
    #[error("limits contradict each other: {problem}")]
    Contradiction {
        /// How.
        problem: &'static str,
    },
    /// The device program could not be put in place.
    #[error("failed to set the device program of cgroup {path:?}")]
    DeviceProgram {
        /// The cgroup's directory.
        path: PathBuf,
        /// The kernel's answer.
        source: SystemError,
    },
    /// A directory could not be removed.
    #[error("failed to remove cgroup {path:?}")]
    Remove {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Processes remain at the deadline.
    #[error("processes remain in cgroup {path:?}")]
    Populated {
        /// The cgroup's name.
        path: String,
    },
    /// Processes still move at the deadline for freezing them.
    #[error("failed to freeze cgroup {path:?} in time")]
    Moving {
        /// The cgroup's name.
        path: String,
    },
    /// Another call failed.
    #[error(transparent)]
    System(#[from] SystemError),
}
