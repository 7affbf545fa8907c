//! A writable layer filled with what a container once wrote: from an archive of foreign origin, unpacked like a layer of an
//! image, by a jailed worker.

use super::Snapshots;
use crate::layers::patiently;
use crate::unpack::{FailureKind, Report, Taken, Worker, WorkerError};
use cringle_domain::snapshot::SnapshotKey;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// As much as is handed to the worker at once.
const PIECE: usize = 256 << 10;

/// Why a writable layer was not filled. What was written of it stays, for whoever removes the layer.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The layer or the archive could not be read.
    #[error("failed to read \"{}\"", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// The worker could not do its work.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The archive is none that can be unpacked.
    #[error("{0}")]
    Unfit(String),
    /// It is larger than allowed, or than the disk.
    #[error("{0}")]
    TooLarge(String),
    /// The machine failed.
    #[error("{0}")]
    Failed(String),
}

impl Snapshots {
    /// Unpacks an archive onto a new writable layer; names in it with the prefix `.wh.` hide what the image has. `name` is
    /// what errors call the archive.
    ///
    /// # Errors
    /// The archive makes no sense or is too large, or the machine fails.
    pub async fn fill(
        &self,
        key: &SnapshotKey,
        mut archive: impl Read + Send,
        name: &std::path::Path,
    ) -> Result<(), FillError> {
        let upper = self.active_at(key, &[]).upper;
        let opened =
            File::open(&upper).map_err(|source| FillError::Read { path: upper, source })?;
        let settings = &self.store.settings;
        let mut worker = Worker::start(&settings.unpack_program, opened, settings.layer_limits)?;
        let mut piece = vec![0; PIECE];
        let mut taken = Taken::Yes;
        while taken == Taken::Yes {
            let read = tokio::task::block_in_place(|| archive.read(&mut piece));
            let length =
                read.map_err(|source| FillError::Read { path: name.to_owned(), source })?;
            if length == 0 {
                break;
            }
            taken = patiently(worker.write(piece.get(..length).unwrap_or_default())).await?;
        }
        match patiently(worker.finish()).await? {
            Report::Unpacked(unpacked) if unpacked.marks.is_empty() => Ok(()),
            Report::Unpacked(_) => {
                // Only images are completed by what is in layers below.
                Err(FillError::Unfit("it has entries in directories that it does not have".into()))
            }
            Report::Failed { kind, detail } => Err(match kind {
                FailureKind::Corrupt => FillError::Unfit(detail),
                FailureKind::TooLarge | FailureKind::DiskFull => FillError::TooLarge(detail),
                FailureKind::System => FillError::Failed(detail),
            }),
        }
    }
}
