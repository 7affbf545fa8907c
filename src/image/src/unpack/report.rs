//! What a worker tells the daemon when it has ended.

use super::archive::ArchiveError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cringle_domain::reference::Digest;
use serde::{Deserialize, Serialize};
use std::io;

/// The worker's last and only word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The layer is unpacked.
    Unpacked(Unpacked),
    /// It could not be.
    Failed {
        /// In which way.
        kind: FailureKind,
        /// In which entry and why, for people.
        detail: String,
    },
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpacked {
    /// The digest of the archive.
    pub(crate) diff_id: Digest,
    /// Disk space that the files take, about.
    pub(crate) bytes: u64,
    /// Files, directories and the rest.
    pub(crate) inodes: u64,
    /// Extended attributes that were left off because layers may not have them.
    pub(crate) dropped_xattrs: u64,
    /// What the worker may not do itself.
    pub(crate) marks: Marks,
}

/// Where something is to be done yet, as paths in the layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// They hide what lower layers have there. The attribute that says so takes more privilege than the worker has.
    pub(crate) opaque: Vec<EncodedPath>,
    /// The layer does not describe them, only what is in them: their attributes are those of a lower layer.
    pub(crate) implied: Vec<EncodedPath>,
    /// Hard links to what the layer doesn't have itself.
    pub(crate) links: Vec<LowerLink>,
}

impl Marks {
    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.opaque.is_empty() && self.implied.is_empty() && self.links.is_empty()
    }
}

/// A file of a lower layer that is to have more names in this one. A socket, which no layer can have, keeps the place of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LowerLink {
    /// Its path in the layers below.
    pub(crate) target: EncodedPath,
    /// Its new names; at least one.
    pub(crate) names: Vec<EncodedPath>,
}

/// A path of any bytes, in base 64 because JSON has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EncodedPath(String);

impl EncodedPath {
    pub(crate) fn new(path: &[u8]) -> Self {
        Self(STANDARD.encode(path))
    }

    /// The path, if the text is one.
    pub(crate) fn decode(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.0).ok()
    }
}

/// In which way unpacking failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The layer is not well formed.
    Corrupt,
    /// The layer is larger than allowed.
    TooLarge,
    /// The disk is full.
    DiskFull,
    /// The machine failed.
    System,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry asks for what no entry may.
    #[error("entry \"{path}\": {problem}")]
    Entry { path: String, problem: &'static str },
    /// A limit is reached.
    #[error("the layer has more {0} than allowed")]
    Limit(&'static str),
    /// A system call failed on an entry.
    #[error("failed to {action} \"{path}\"")]
    System {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// The jail could not be built.
    #[error("failed to {0}")]
    Jail(&'static str, #[source] io::Error),
}

impl UnpackError {
    pub(crate) fn entry(path: &[u8], problem: &'static str) -> Self {
        Self::Entry { path: readable(path), problem }
    }

    pub(crate) fn system(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::System { action, path: readable(path), source: source.into() }
    }

    /// The report on this failure.
    pub(crate) fn report(&self) -> Report {
        let kind = match self {
            Self::Archive(ArchiveError::Read(error)) => io_kind(error, FailureKind::Corrupt),
            Self::Archive(ArchiveError::Malformed(_) | ArchiveError::UnsupportedType(_))
            | Self::Entry { .. } => FailureKind::Corrupt,
            Self::Limit(_) => FailureKind::TooLarge,
            Self::System { source, .. } => io_kind(source, FailureKind::System),
            Self::Jail(..) => FailureKind::System,
        };
        Report::Failed { kind, detail: chain(self) }
    }
}

fn io_kind(error: &io::Error, otherwise: FailureKind) -> FailureKind {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    // Names and targets are chosen by the layer, and the kernel is who judges them.
    let is_layers_fault = matches!(
        kind,
        Kind::InvalidFilename
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::InvalidInput
            | Kind::TooManyLinks
    ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if matches!(kind, Kind::StorageFull | Kind::QuotaExceeded) {
        FailureKind::DiskFull
    } else if kind == Kind::FileTooLarge {
        FailureKind::TooLarge
    } else if kind == Kind::OutOfMemory {
        FailureKind::System
    } else if is_layers_fault {
        FailureKind::Corrupt
    } else {
        otherwise
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn readable(path: &[u8]) -> String {
    path.escape_ascii().to_string().chars().take(300).collect()
}
