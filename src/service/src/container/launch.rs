//! The launch of a container's shim and program, by what is on record of it.

use super::Container;
use crate::Service;
use crate::metrics::Stage;
use crate::pod::Pod;
use crate::supervisor::{
    Launch, LogTarget, RootfsMount, Supervisor, SupervisorError, TerminalMode,
};
use cringle_domain::container::ContainerRecord;
use cringle_domain::namespaces::IdMapping;
use cringle_domain::pod::PodPhase;
use cringle_domain::process::ProcessIdentity;
use cringle_domain::spec::Terminal;
use cringle_domain::time::Timestamp;

/// A container's first process, under its shim.
pub(super) struct Launched {
    pub(super) supervisor: Supervisor,
    pub(super) process: ProcessIdentity,
    /// When its start was ordered: before anything that it does, its end among that.
    pub(super) at: Timestamp,
}

impl Service {
    /// Gives up when the pod is stopped: what the shim waits for, like a volume whose server is gone, may never come, and
    /// the stop waits for us.
    pub(super) async fn launch_while_ready(
        &self,
        container: &Container,
        pod: &Pod,
    ) -> Result<Launched, SupervisorError> {
        let mut published = pod.tracked.watch();
        let fallen = published.wait_for(|pod| !matches!(pod.phase, PodPhase::Ready { .. }));
        tokio::select! {
            launched = self.launch(container) => launched,
            _fallen = fallen => Err(SupervisorError::Abandoned),
        }
    }

    async fn launch(&self, container: &Container) -> Result<Launched, SupervisorError> {
        let mut launch = self.launch_of(container);
        launch.restore = self.prepare_restore(container).await.map_err(SupervisorError::Restore)?;
        let watch = self.stages.watch(Stage::ContainerShim);
        let supervisor = Supervisor::launch(&self.shim, &launch).await?;
        drop(watch);
        let _watch = self.stages.watch(Stage::ContainerProcess);
        supervisor.create(&launch).await?;
        let at = self.clock.now();
        let process = supervisor.start().await?;
        Ok(Launched { supervisor, process, at })
    }

    fn launch_of(&self, container: &Container) -> Launch {
        let record = container.record();
        let pod = self.pods.find(record.pod.as_str()).ok().map(|pod| pod.record());
        let mapping = pod.as_ref().and_then(|pod| pod.spec.namespaces.users.mapping());
        let directory = pod.and_then(|pod| pod.spec.log_directory.clone());
        let stdout = match directory {
            Some(directory) if !record.spec.log_path.is_empty() => {
                LogTarget::CriLog(directory.join(&record.spec.log_path))
            }
            Some(_) | None => LogTarget::Attached,
        };
        Launch {
            bundle: self.layout.bundle(&record.id),
            id: record.id.to_string(),
            stdout,
            terminal: match record.spec.terminal {
                Terminal::Present => TerminalMode::Present,
                Terminal::Absent => TerminalMode::Absent,
            },
            input: record.spec.input,
            rootfs: self.rootfs_of(&record, mapping),
            restore: None,
        }
    }

    fn rootfs_of(&self, record: &ContainerRecord, mapping: Option<IdMapping>) -> Vec<RootfsMount> {
        let active = self.images.snapshots().active(&record.id, &record.layers);
        vec![RootfsMount::overlay(&active, self.settings.writes, mapping)]
    }
}
