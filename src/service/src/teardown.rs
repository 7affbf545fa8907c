//! The one way down for a pod: failure of bring-up, stop, remove and recovery all come here.
//!
//! Newest first, each release succeeding on what is already gone; the first thing that will not go stays on top of the
//! journal, and calling again resumes there.

use crate::pod::{Hold, Pod};
use crate::{Service, ServiceError};
use cringle_domain::pod::PodRecord;
use cringle_kernel::namespace;
use std::path::Path;

impl Service {
    /// Gives back everything that the pod holds.
    ///
    /// # Errors
    /// The first thing that would not go.
    pub(crate) async fn tear_down(&self, pod: &Pod) -> Result<(), ServiceError> {
        let record = pod.record();
        let mut journal = pod.holds.lock().await;
        let mut outcome = Ok(());
        while let Some(hold) = journal.newest().cloned() {
            outcome = self.release(&record, &hold).await;
            if outcome.is_err() {
                break;
            }
            journal.released();
        }
        journal.settle(&self.host.boot)?;
        outcome
    }

    async fn release(&self, record: &PodRecord, hold: &Hold) -> Result<(), ServiceError> {
        let directory = self.layout.pod_directory(&record.id);
        match hold {
            Hold::Reaper => crate::pod::end_reaper(&self.layout.reaper_bundle(&record.id)).await,
            Hold::Attachment(place) => match record.attachments.get(*place) {
                // The namespace dies with its pin right after, so the kernel takes the links down by itself.
                Some(attachment) => Ok(self.network.delete(attachment).await?),
                None => Ok(()),
            },
            Hold::Users => unpin(&directory.join("user")),
            Hold::Network => unpin(&self.layout.netns(&record.id)),
            Hold::Ipc => unpin(&directory.join("ipc")),
            Hold::Uts => unpin(&directory.join("uts")),
            Hold::Shm => unmount(&directory.join("shm")),
            Hold::Directory => tokio::task::block_in_place(|| remove_tree(&directory)),
        }
    }
}

fn unpin(path: &Path) -> Result<(), ServiceError> {
    namespace::unpin(path)
        .map_err(|source| ServiceError::kernel(format!("unpin \"{}\"", path.display()), source))
}

fn unmount(path: &Path) -> Result<(), ServiceError> {
    cringle_kernel::pin::unmount(path)
        .map_err(|source| ServiceError::kernel(format!("unmount \"{}\"", path.display()), source))
}

/// Removes a directory of our own and what is in it; nothing in it is a mount any more.
pub(crate) fn remove_tree(path: &Path) -> Result<(), ServiceError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ServiceError::file("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
