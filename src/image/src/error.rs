//! Why a pull, or the opening of the store, failed.

use crate::config::ConfigError;
use crate::manifest::ManifestError;
use crate::registry::{Cause, HostsError, RegistryError};
use crate::unpack::WorkerError;
use cringle_domain::reference::{Digest, MalformedReference};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a pull failed. Joined pulls share it.
#[derive(Debug, Clone)]
pub struct PullError(Arc<PullFailure>);

/// The classes of failures that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullErrorKind {
    /// The text is not an image name.
    InvalidReference,
    /// The registry has no such image.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry cannot be reached, or fails.
    RegistryUnavailable,
    /// The registry sends nothing, or too slowly.
    TimedOut,
    /// What came has another digest or size than it should.
    DigestMismatch,
    /// The image is not for this machine.
    NoPlatform,
    /// The image is of a kind that this runtime does not run.
    Unsupported,
    /// Manifest, configuration or a layer is malformed.
    Corrupt,
    /// A layer, or an answer, is larger than allowed.
    TooLarge,
    /// No space is left.
    DiskFull,
    /// The settings for this registry can't be used.
    Misconfigured,
    /// This machine failed.
    Internal,
}

/// What went wrong in a pull.
#[derive(Debug, thiserror::Error)]
pub enum PullFailure {
    /// The text is not an image name.
    #[error(transparent)]
    Reference(#[from] MalformedReference),
    /// The registry's endpoints can't be told.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// A request failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest can't be used.
    #[error("failed to use the manifest {digest} of \"{reference}\"")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The configuration can't be used.
    #[error("failed to use the configuration of \"{reference}\"")]
    Config {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// A layer can't be unpacked.
    #[error("failed to unpack layer {layer} of \"{reference}\": {detail}")]
    Layer {
        /// What the registry sent.
        layer: Digest,
        /// The image.
        reference: String,
        /// In which way.
        kind: PullErrorKind,
        /// What the worker says.
        detail: String,
    },
    /// The worker failed.
    #[error("failed to unpack layer {layer}")]
    Worker {
        /// What the registry sent.
        layer: Digest,
        /// Why.
        #[source]
        source: WorkerError,
    },
    /// The store failed.
    #[error("failed to {action} \"{}\"", path.display())]
    Store {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A task of this pull ended without a result.
    #[error("a task of the pull was lost")]
    Lost(#[source] tokio::task::JoinError),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory could not be made or read.
    #[error("failed to {action} \"{}\"", path.display())]
    Directory {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that removes what nobody needs could not be started.
    #[error("failed to start the sweeper")]
    Sweeper(#[source] io::Error),
}

impl PullError {
    /// What went wrong.
    #[must_use]
    pub fn failure(&self) -> &PullFailure {
        &self.0
    }

    /// Which class it is.
    #[must_use]
    pub fn kind(&self) -> PullErrorKind {
        match &*self.0 {
            PullFailure::Reference(_) => PullErrorKind::InvalidReference,
            PullFailure::Hosts(_) => PullErrorKind::Misconfigured,
            PullFailure::Registry(error) => registry_kind(&error.cause),
            PullFailure::Manifest { source, .. } => match source {
                ManifestError::Malformed(_) => PullErrorKind::Corrupt,
                ManifestError::Unsupported(_) => PullErrorKind::Unsupported,
                ManifestError::NoPlatform { .. } => PullErrorKind::NoPlatform,
            },
            PullFailure::Config { source, .. } => match source {
                ConfigError::Malformed(_) | ConfigError::LayerCount { .. } => {
                    PullErrorKind::Corrupt
                }
                ConfigError::Platform { .. } => PullErrorKind::NoPlatform,
            },
            PullFailure::Layer { kind, .. } => *kind,
            PullFailure::Store { source, .. } => store_kind(source),
            PullFailure::Worker { .. } | PullFailure::Lost(_) => PullErrorKind::Internal,
        }
    }
}

impl PullFailure {
    pub(crate) fn store(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Store { action, path, source }
    }
}

/// Whether it says that no space is left, or no inode.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn store_kind(error: &io::Error) -> PullErrorKind {
    if is_full(error) { PullErrorKind::DiskFull } else { PullErrorKind::Internal }
}

fn registry_kind(cause: &Cause) -> PullErrorKind {
    match cause {
        Cause::NotFound => PullErrorKind::NotFound,
        Cause::Denied { .. } | Cause::Realm { .. } => PullErrorKind::Unauthorized,
        Cause::TimedOut(_) => PullErrorKind::TimedOut,
        Cause::Connect { .. }
        | Cause::Broken { .. }
        | Cause::Status { .. }
        | Cause::Redirect { .. }
        | Cause::Protocol(_) => PullErrorKind::RegistryUnavailable,
        Cause::Digest { .. } => PullErrorKind::DigestMismatch,
        Cause::TooLarge(_) => PullErrorKind::TooLarge,
        Cause::Tls(_) | Cause::Request(_) => PullErrorKind::Misconfigured,
    }
}

impl From<PullFailure> for PullError {
    fn from(failure: PullFailure) -> Self {
        Self(Arc::new(failure))
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl std::error::Error for PullError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
