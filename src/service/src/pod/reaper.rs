//! PID 1 of a shared PID namespace: a tiny process under a shim of its own.

use crate::pod::Pod;
use crate::supervisor::{Launch, LogTarget, Supervisor, TerminalMode};
use crate::{Service, ServiceError};
use cringle_domain::plan::PlannedUsers;
use cringle_domain::pod::Downfall;
use cringle_domain::pod::PodRecord;
use cringle_domain::process::ProcessIdentity;
use cringle_domain::spec::Input;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Starts the reaper of a pod.
pub(super) async fn start(
    service: &Service,
    record: &PodRecord,
) -> Result<(Supervisor, ProcessIdentity), ServiceError> {
    let bundle = service.layout.reaper_bundle(&record.id);
    std::fs::DirBuilder::new()
        .create(&bundle)
        .map_err(|source| ServiceError::file("make", bundle.clone(), source))?;
    let cgroup = service.cgroup_of(record, &format!("{}-reaper", record.id));
    let users = record.spec.namespaces.users.mapping().map(|mapping| PlannedUsers {
        namespace: service.layout.pod_directory(&record.id).join("user"),
        mapping,
    });
    let spec = crate::bundle::reaper_spec(&record.id, &cgroup, users.as_ref())?;
    crate::bundle::write_new(&bundle.join("config.json"), &spec)?;
    let launch = Launch {
        bundle,
        id: record.id.to_string(),
        stdout: LogTarget::Discard,
        terminal: TerminalMode::Absent,
        input: Input::Closed,
        rootfs: Vec::new(),
        restore: None,
    };
    let failed =
        |source| ServiceError::Supervisor { container: format!("{} (reaper)", record.id), source };
    let supervisor = Supervisor::launch(&service.shim, &launch).await.map_err(failed)?;
    supervisor.create(&launch).await.map_err(failed)?;
    let process = supervisor.start().await.map_err(failed)?;
    Ok((supervisor, process))
}

/// How long a reaper's shim may take to answer at the start of the daemon.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);

impl Service {
    /// Connects to the reaper of a pod that an earlier run of the daemon made, if it has one.
    pub(crate) async fn follow_found_reaper(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
    ) -> Result<(), ServiceError> {
        if !pod.holds.lock().await.noted().contains(&super::Hold::Reaper) {
            return Ok(());
        }
        let bundle = self.layout.reaper_bundle(pod.pod_id());
        match Supervisor::connect(&bundle, SHIM_PATIENCE).await {
            Ok(supervisor) => {
                self.follow_reaper(pod, supervisor);
                Ok(())
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(pod = %pod.pod_id(), error, "the reaper's shim is lost");
                self.fell(pod, Downfall::Lost("the reaper's shim is gone".to_owned())).await
            }
        }
    }

    /// Waits for the end of a pod's reaper: without it the pod's processes are gone, so the pod is not ready. The task ends
    /// with the reaper.
    pub(super) fn follow_reaper(self: &Arc<Self>, pod: &Arc<Pod>, supervisor: Supervisor) {
        let (service, pod) = (Arc::clone(self), Arc::clone(pod));
        tokio::spawn(async move {
            supervisor.exited().await;
            if pod.is_ready()
                && let Err(error) =
                    service.fell(&pod, Downfall::Lost("the reaper ended".to_owned())).await
            {
                let error = crate::error::chain(&error);
                tracing::error!(pod = %pod.pod_id(), error, "the reaper's end is not recorded");
            }
        });
    }
}

/// Ends a reaper and its shim; success if they are gone.
pub(crate) async fn end(bundle: &Path) -> Result<(), ServiceError> {
    crate::supervisor::end(bundle).await.map_err(|source| ServiceError::Supervisor {
        container: bundle.display().to_string(),
        source,
    })
}
