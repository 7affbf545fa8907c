//! What a start does with the records it finds: the kernel is asked first, then the shim, then the exit record; our own
//! record is what we last knew. Every rule is idempotent: a crash during recovery is just another start.
//!
//! Containers come before pods, because a pod that fell takes its containers with it at the next stop. A shim that does
//! not answer holds up nobody but its own container.

use crate::container::Container;
use crate::pod::{Hold, Pod};
use crate::supervisor::{ShimState, Supervisor, SupervisorError};
use crate::{Service, ServiceError};
use cringle_domain::container::{ContainerEvent, ContainerPhase, ContainerRecord};
use cringle_domain::pod::{Downfall, PodEvent, PodPhase, PodRecord};
use cringle_domain::process::{Exit, Outcome};
use cringle_domain::snapshot::SnapshotKey;
use cringle_domain::time::Timestamp;
use cringle_kernel::{pin, proc};
use cringle_store::format::{self, FormatError};
use cringle_store::holds::Holds;
use cringle_store::quarantine;
use cringle_store::tracked::{Life, Tracked};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a shim may take to answer at the start.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);

impl Service {
    /// Reads all records, reconciles them with the host, and sweeps what no record names.
    ///
    /// # Errors
    /// If the records cannot be listed. What goes wrong with one object is logged and left to the next stop or remove.
    pub async fn recover(self: &Arc<Self>) -> Result<(), ServiceError> {
        let layout = &self.layout;
        let containers = self.load::<ContainerRecord>(&layout.container_records())?;
        let pods = self.load::<PodRecord>(&layout.pod_records())?;
        for (path, record) in pods {
            let journal = self.journal_of(&record);
            let pod = Pod::new(Tracked::adopt(path, record), journal, &self.journal);
            self.pods.insert(Arc::new(pod));
        }
        let mut reconciled = Vec::new();
        for (path, record) in containers {
            let container = Container::new(Tracked::adopt(path, record), &self.journal);
            let container = Arc::new(container);
            self.containers.insert(Arc::clone(&container));
            reconciled.push(self.reconcile_container(container));
        }
        futures::future::join_all(reconciled).await;
        self.settle_checkpoints()?;
        let pods = self.pods.all();
        futures::future::join_all(pods.iter().map(|pod| self.reconcile_pod(pod))).await;
        self.sweep().await
    }

    fn load<L: Life>(&self, directory: &Path) -> Result<Vec<(PathBuf, L)>, ServiceError> {
        let listed = std::fs::read_dir(directory)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| ServiceError::file("list", directory, source))?;
        let mut records = Vec::with_capacity(listed.len());
        for entry in listed {
            let path = entry.path();
            match format::load(&path) {
                Ok(record) => records.push((path, record)),
                Err(error) => self.set_aside(&path, &error),
            }
        }
        Ok(records)
    }

    fn set_aside(&self, path: &Path, error: &FormatError) {
        let error = crate::error::chain(error);
        // What a crash left of a replacement is no record and never was.
        let leftover =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let gone = if leftover {
            cringle_store::atomic::remove(path)
        } else {
            tracing::warn!(record = %path.display(), error, "unreadable record set aside");
            quarantine::set_aside(path, &self.layout.quarantine()).map(drop)
        };
        if let Err(error) = gone {
            tracing::error!(record = %path.display(), %error, "unreadable record stays");
        }
    }

    /// The journal of a pod. If it is of another boot, or lost with /run, only the networks are still owed.
    fn journal_of(&self, record: &PodRecord) -> Holds<Hold> {
        let path = self.layout.pod_holds(&record.id);
        match Holds::load(path.clone(), &self.host.boot) {
            Ok(Some(journal)) => journal,
            Ok(None) if record.boot == self.host.boot => Holds::new(path),
            // Also of a pod that was stopped before: whether it gave them back went with the journal.
            Ok(None) => {
                self.noted(path, (0..record.attachments.len()).map(Hold::Attachment).collect())
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(pod = %record.id, error, "journal lost; everything is given back");
                self.noted(path, crate::pod::plan_holds(&record.spec, record.attachments.len()))
            }
        }
    }

    fn noted(&self, path: PathBuf, holds: Vec<Hold>) -> Holds<Hold> {
        let mut journal = Holds::new(path);
        if let Err(error) = journal.note(holds, &self.host.boot) {
            tracing::error!(error = crate::error::chain(&error), "journal not kept");
        }
        journal
    }

    async fn reconcile_container(self: &Arc<Self>, container: Arc<Container>) {
        let record = container.record();
        let rebooted = record.boot != self.host.boot;
        let done = match record.phase {
            ContainerPhase::Creating | ContainerPhase::Removing => self.dissolve(&container).await,
            ContainerPhase::Exited { .. } => self.retire_shim(&container).await,
            ContainerPhase::Created | ContainerPhase::Running { .. } if rebooted => {
                self.note_unseen(&container, "the host was restarted").await
            }
            ContainerPhase::Created => self.reconcile_created(&container).await,
            ContainerPhase::Running { .. } => self.reconcile_running(&container).await,
        };
        if let Err(error) = done {
            let error = crate::error::chain(&error);
            tracing::error!(container = %record.id, error, "container not reconciled");
        }
    }

    /// The daemon may have died between the order to start and the report.
    async fn reconcile_created(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), ServiceError> {
        let record = container.record();
        let bundle = self.layout.bundle(&record.id);
        if let Ok(supervisor) = Supervisor::connect(&bundle, SHIM_PATIENCE).await
            && let Ok(ShimState::Running(process)) = supervisor.state().await
        {
            let at = Timestamp::from(proc::wall_clock(process.start_time)).max(record.created);
            let started = ContainerEvent::Started(process, at);
            container.tracked.advance(started).await?;
            container.supervise(Some(supervisor.clone()));
            self.follow(container, supervisor);
            return Ok(());
        }
        if let Some(exit) = self.exit_on_record(container.container_id()) {
            container.tracked.advance(ContainerEvent::Exited(exit)).await?;
        }
        self.end_shim(container.container_id()).await?;
        // The daemon may have died in an update that nobody had the answer to.
        crate::bundle::rewrite_resources(&bundle, &record.resources)?;
        self.images.snapshots().make_mountable(&SnapshotKey::from(&record.id)).map_err(|source| {
            let action = format!("make the writable layer of container {} mountable", record.id);
            ServiceError::Images { action, source }
        })
    }

    async fn reconcile_running(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), ServiceError> {
        let bundle = self.layout.bundle(container.container_id());
        let found = match Supervisor::connect(&bundle, SHIM_PATIENCE).await {
            // Slow, or stopped for a while: no reason to end what it runs. A stop will not wait for it.
            Err(error @ SupervisorError::Silent { .. }) => {
                let error = crate::error::chain(&error);
                tracing::warn!(container = %container.container_id(), error, "shim is silent");
                Supervisor::adopt(&bundle)
            }
            found => found,
        };
        match found {
            Ok(supervisor) => {
                container.supervise(Some(supervisor.clone()));
                self.follow(container, supervisor);
                Ok(())
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(container = %container.container_id(), error, "shim is lost");
                let exit = self.lost_shim(container).await;
                container.tracked.advance(ContainerEvent::Exited(exit)).await?;
                Ok(())
            }
        }
    }

    /// The end is on record and nobody follows the shim any more. It is asked to go, so that the log is whole.
    async fn retire_shim(&self, container: &Container) -> Result<(), ServiceError> {
        let id = container.container_id();
        if let Ok(supervisor) = Supervisor::connect(&self.layout.bundle(id), SHIM_PATIENCE).await
            && let Err(error) = supervisor.delete().await
        {
            let error = crate::error::chain(&error);
            tracing::warn!(container = %id, error, "shim did not delete; ended by force");
        }
        self.end_shim(id).await
    }

    async fn note_unseen(&self, container: &Container, why: &str) -> Result<(), ServiceError> {
        let exit = Exit { outcome: Outcome::Unseen(why.to_owned()), at: self.clock.now() };
        container.tracked.advance(ContainerEvent::Exited(exit)).await?;
        Ok(())
    }

    async fn reconcile_pod(self: &Arc<Self>, pod: &Arc<Pod>) {
        if let Err(error) = self.bring_in_line(pod).await {
            let error = crate::error::chain(&error);
            tracing::error!(pod = %pod.pod_id(), error, "pod not reconciled");
        }
    }

    async fn bring_in_line(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), ServiceError> {
        let record = pod.record();
        match &record.phase {
            PodPhase::Creating => {
                self.undo(pod).await;
                Ok(())
            }
            PodPhase::Removing => {
                for container in self.containers_of(&record.id) {
                    self.remove_found_container(&container).await?;
                }
                self.tear_down(pod).await?;
                self.forget_pod(pod)
            }
            PodPhase::Ready { .. } | PodPhase::NotReady { .. } if record.is_being_restored => {
                self.remove_found_pod(pod).await
            }
            PodPhase::NotReady { .. } => Ok(()),
            PodPhase::Ready { .. } if record.boot != self.host.boot => {
                self.fell(pod, Downfall::Rebooted).await
            }
            PodPhase::Ready { .. } => match self.missing_of(pod).await {
                None => self.follow_found_reaper(pod).await,
                Some(missing) => self.fell(pod, Downfall::Lost(missing)).await,
            },
        }
    }

    /// A pod that lost what it stands on: not ready, and its containers ended. What it holds stays for its stop.
    pub(crate) async fn fell(
        self: &Arc<Self>,
        pod: &Pod,
        why: Downfall,
    ) -> Result<(), ServiceError> {
        // First, as for a stop: a container that will not end must not keep the pod ready.
        pod.tracked.advance(PodEvent::Fell(why, self.clock.now())).await?;
        let _alone = pod.gate.write().await;
        self.stop_containers(pod).await
    }

    /// The first pin of the pod that is not what it was.
    async fn missing_of(&self, pod: &Pod) -> Option<String> {
        let directory = self.layout.pod_directory(pod.pod_id());
        let journal = pod.holds.lock().await;
        let gone = |path: &Path| !pin::is_pinned(path);
        journal.noted().iter().find_map(|hold| {
            let path = match hold {
                Hold::Network => self.layout.netns(pod.pod_id()),
                Hold::Ipc => directory.join("ipc"),
                Hold::Uts => directory.join("uts"),
                Hold::Users => directory.join("user"),
                Hold::Directory | Hold::Shm | Hold::Attachment(_) | Hold::Reaper => return None,
            };
            gone(&path).then(|| format!("the namespace pinned at \"{}\" is gone", path.display()))
        })
    }
}
