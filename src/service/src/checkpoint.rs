//! Checkpoints of containers, made by CRIU: what its process tree is and what it wrote, as one archive.
//!
//! ```text
//!  note --> freeze --> criu dump --> changes of the root --> thaw --> archive --> rename --> note gone
//! ```
//! The container stands still from before the dump until what it wrote is read, so that both are of one moment; then it goes
//! on. Whatever is taken for that has a [note](work) before it is there: memory images lie in a directory of our own, and the
//! archive under another name beside its place. A daemon that died in the middle is made good by the next one.
//!
//! Why CRIU is a program and not a library: it traces, injects and clones as only a process of its own may, and what it does
//! is version-bound to its images. It is looked up when it is asked for, on the host and never in a container.
//!
//! - [`criu`]: the program and its call; [`outside`]: what of a container is not its own, which the dump only names.
//! - [`changes`]: what a container wrote to its root; [`documents`]: what the archive says of it.
//! - [`capture`]: all of that, of one container; [`archive`]: the file, in the layout that other runtimes and their tools read.
//! - [`places`]: where clients may have it; [`pod_options`]: whose the archives of a pod are.
//! - [`wanted`]: a pod to be made of one; [`intake`]: what is taken of an archive for it.
//! - [`work`]: the directory, its note, and what a start does with the notes it finds.

pub(crate) mod archive;
mod capture;
pub(crate) mod changes;
pub(crate) mod criu;
pub(crate) mod documents;
pub(crate) mod intake;
pub(crate) mod outside;
pub(crate) mod places;
pub(crate) mod pod_options;
pub mod wanted;
pub(crate) mod work;

pub use criu::{Criu, Finding};

use cringle_image::FillError;
use cringle_kernel::cgroup::CgroupError;
use cringle_kernel::error::SystemError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What may be done with checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckpointLevel {
    /// Nothing.
    None,
    /// They can be made.
    CheckpointOnly,
    /// They can be made, and pods of containers made of them.
    CheckpointRestore,
}

/// Settings of checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointSettings {
    /// CRIU's program; none: looked up.
    pub criu: Option<PathBuf>,
    /// What may be done.
    pub level: CheckpointLevel,
    /// How long one may take whose request does not say.
    pub timeout: Duration,
}

/// A checkpoint that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// They are off. Code Unimplemented.
    #[error("checkpoints are off in the configuration (checkpoint.level)")]
    Off,
    /// They are made, but nothing is made of them. Code Unimplemented.
    #[error(
        "pods are made of checkpoints only if the configuration says so: checkpoint.level = \"checkpoint_restore\""
    )]
    NoRestore,
    /// An archive is none that a container can be made of. Code InvalidArgument.
    #[error("checkpoint \"{}\" cannot be used: {problem}", path.display())]
    Unfitting {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What the container wrote could not be put into its writable layer. Code by the reason.
    #[error("failed to unpack what the container of \"{}\" wrote", path.display())]
    Fill {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: FillError,
    },
    /// The checkpoint of a container was not taken in whole, as the daemon died meanwhile. Code Internal.
    #[error("the checkpoint that it is made of is not there")]
    Incomplete,
    /// There is no CRIU, or none that works here. Code Unimplemented.
    #[error("checkpoints need CRIU 4.1 or later: {0}")]
    Unfit(String),
    /// It took longer than it might. Code DeadlineExceeded.
    #[error("it took longer than {0:?}")]
    Late(Duration),
    /// CRIU could not take it. Code Internal.
    #[error("criu ended with {status}: {said}")]
    Criu {
        /// How it ended.
        status: String,
        /// The last errors in its log.
        said: String,
    },
    /// What the container wrote is in a form that cannot be told as files. Code Internal.
    #[error("failed to read what the container wrote at \"{}\": {problem}", path.display())]
    Changes {
        /// Where.
        path: PathBuf,
        /// What is odd.
        problem: &'static str,
    },
    /// The container could not be frozen or thawed. Code Internal.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The kernel did not tell of the container's processes. Code Internal.
    #[error(transparent)]
    Kernel(#[from] SystemError),
    /// A file could not be read or written. Code Internal, or ResourceExhausted if the file system is full.
    #[error("failed to {action} \"{}\"", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A bug: a thread of it panicked. Code Internal.
    #[error("internal error: it ended abnormally")]
    Panicked(#[source] tokio::task::JoinError),
}

impl CheckpointError {
    /// An archive that no container can be made of.
    pub(crate) fn unfit(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unfitting { path: path.to_owned(), problem: problem.into() }
    }

    /// A failure with a file.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
