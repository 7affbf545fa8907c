//! One object, many readers, one door.
//!
//! A phase changes only in [`Tracked::advance`]: decide (pure), write the record, publish, return. Readers take the last
//! published snapshot and never wait. The write and the publication are not separated by an await, so a cancelled caller
//! cannot part them. A [`Witness`] sees each publication in its moment.

use crate::{atomic, failpoint, format};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// A record with phases.
pub trait Life: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What can happen to it.
    type Event: Debug + Send;
    /// Why something may not happen to it now.
    type Refusal: std::error::Error + Send + Sync + 'static;

    /// The record after the event; `None` if it is so already.
    ///
    /// # Errors
    /// If the event may not happen in this phase.
    fn apply(&self, event: Self::Event) -> Result<Option<Self>, Self::Refusal>;

    /// What it is, for the log: `pod` or `container`.
    fn kind() -> &'static str;

    /// Its identity, for the log.
    fn identity(&self) -> &str;

    /// The name of its phase, for the log.
    fn phase_name(&self) -> &'static str;
}

/// Why a phase did not change.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError<R: std::error::Error + 'static> {
    /// The event is not allowed now.
    #[error(transparent)]
    Refused(R),
    /// The record has no written form.
    #[error(transparent)]
    Encode(format::FormatError),
    /// The record could not be written; the phase is what it was.
    #[error("failed to write record \"{}\"", path.display())]
    Write {
        /// The record.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// Who sees every change of objects of one kind, in the order in which readers can see them.
pub trait Witness<L>: Debug + Send + Sync {
    /// Has the change shown to readers by calling `show`, once, and takes note of it. The record is written already. What
    /// orders the notes of many objects is the witness's: it may keep others from showing theirs meanwhile.
    fn witness(&self, before: &Arc<L>, after: &Arc<L>, show: &dyn Fn());
}

/// A record behind its door.
#[derive(Debug)]
pub struct Tracked<L: Life> {
    path: PathBuf,
    door: Mutex<()>,
    published: watch::Sender<Arc<L>>,
    witness: Option<Arc<dyn Witness<L>>>,
}

impl<L: Life> Tracked<L> {
    /// A new object; its record is written before it is there.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn create(path: PathBuf, life: L) -> Result<Self, AdvanceError<L::Refusal>> {
        write(&path, &life)?;
        log(&life);
        Ok(Self::adopt(path, life))
    }

    /// An object whose record was just read.
    #[must_use]
    pub fn adopt(path: PathBuf, life: L) -> Self {
        let published = watch::Sender::new(Arc::new(life));
        Self { path, door: Mutex::new(()), published, witness: None }
    }

    /// The same object, each further change of which this witness sees.
    #[must_use]
    pub fn witnessed(self, witness: Arc<dyn Witness<L>>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// The last published state; never waits.
    #[must_use]
    pub fn now(&self) -> Arc<L> {
        self.published.borrow().clone()
    }

    /// Follows the published states.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<L>> {
        self.published.subscribe()
    }

    /// Applies an event: decides, writes, publishes. The only place where a phase changes.
    ///
    /// # Errors
    /// If the event is refused or the record cannot be written; then nothing has changed.
    pub async fn advance(&self, event: L::Event) -> Result<Arc<L>, AdvanceError<L::Refusal>> {
        let _door = self.door.lock().await;
        let now = self.now();
        let Some(next) = now.apply(event).map_err(AdvanceError::Refused)? else {
            return Ok(now);
        };
        tokio::task::block_in_place(|| write(&self.path, &next))?;
        log(&next);
        let next = Arc::new(next);
        let show = || drop(self.published.send_replace(Arc::clone(&next)));
        match &self.witness {
            Some(witness) => witness.witness(&now, &next, &show),
            None => show(),
        }
        Ok(next)
    }

    /// Deletes the record; the object is then only in memory. Deleting twice is as good as once.
    ///
    /// # Errors
    /// Those of unlink(2) but ENOENT.
    pub fn forget(&self) -> std::io::Result<()> {
        failpoint::step();
        atomic::remove(&self.path)
    }

    /// Where the record is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn write<L: Life>(path: &Path, life: &L) -> Result<(), AdvanceError<L::Refusal>> {
    failpoint::step();
    let content = format::encode(life).map_err(AdvanceError::Encode)?;
    atomic::replace(path, &content)
        .map_err(|source| AdvanceError::Write { path: path.to_owned(), source })?;
    failpoint::step();
    Ok(())
}

fn log<L: Life>(life: &L) {
    tracing::info!(kind = L::kind(), id = life.identity(), phase = life.phase_name(), "phase");
}

#[cfg(test)]
mod tests;
