//! Bringing a pod up: every hold noted, then taken in order; and taking a half-made one away again.

use super::{Hold, Pod, files, namespaces, reaper};
use crate::metrics::Stage;
use crate::{Service, ServiceError};
use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::namespaces::{PodPid, Sharing};
use cringle_domain::pod::PodEvent;
use cringle_domain::spec::PodSpec;
use std::net::IpAddr;
use std::sync::Arc;

impl Service {
    /// Takes everything that the pod needs and publishes it as ready.
    pub(super) async fn bring_up(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        planned: Vec<Hold>,
    ) -> Result<(), ServiceError> {
        let record = pod.record();
        // Only now, as the pod is known: a parent that nobody is known to want is given back at any time.
        self.parents.want(&record.plan.cgroup_parent)?;
        let mut journal = pod.holds.lock().await;
        journal.note(planned, &self.host.boot)?;
        let watch = self.stages.watch(Stage::PodFiles);
        journal
            .take(&Hold::Directory, async {
                tokio::task::block_in_place(|| files::write(self, &record))
            })
            .await?;
        drop(watch);
        let watch = self.stages.watch(Stage::PodNamespaces);
        namespaces::make(self, &record, &journal).await?;
        drop(watch);
        let mut addresses = Vec::new();
        for (place, attachment) in record.attachments.iter().enumerate() {
            let hold = Hold::Attachment(place);
            let _watch = self.stages.watch(Stage::PodNetwork);
            addresses.extend(journal.take(&hold, self.attach(attachment)).await?);
        }
        files::write_hosts(self, &record, &addresses)?;
        let reaper = if journal.noted().contains(&Hold::Reaper) {
            let _watch = self.stages.watch(Stage::PodProcess);
            Some(journal.take(&Hold::Reaper, reaper::start(self, &record)).await?)
        } else {
            None
        };
        let (supervisor, reaper) = reaper.unzip();
        let _steady = self.steady().await;
        self.tell_pod_runs(&record, &addresses).await?;
        let brought_up = pod.tracked.advance(PodEvent::BroughtUp { addresses, reaper }).await;
        if let Err(error) = brought_up {
            self.tell_pod_undone(&record).await;
            return Err(error.into());
        }
        if let Some(supervisor) = supervisor {
            self.follow_reaper(pod, supervisor);
        }
        Ok(())
    }

    async fn attach(&self, attachment: &AttachmentRecord) -> Result<Vec<IpAddr>, ServiceError> {
        Ok(self.network.add(attachment).await?.addresses)
    }

    /// Takes a half-made pod away again. If that fails too it stays visible as not ready, and the next stop goes on.
    pub(crate) async fn undo(&self, pod: &Pod) {
        let gone = match self.tear_down(pod).await {
            Ok(()) => self.forget_pod(pod),
            Err(error) => Err(error),
        };
        if let Err(error) = gone {
            tracing::error!(pod = %pod.pod_id(), error = crate::error::chain(&error), "bring-up not undone");
            let failed = PodEvent::BringUpFailed(self.clock.now());
            if let Err(error) = pod.tracked.advance(failed).await {
                tracing::error!(pod = %pod.pod_id(), error = %error, "record not kept");
            }
        }
    }
}

/// What a pod of this spec will hold, in the order in which it is taken.
pub(crate) fn plan_holds(spec: &PodSpec, attachments: usize) -> Vec<Hold> {
    let mut holds = vec![Hold::Directory];
    if spec.namespaces.users.mapping().is_some() {
        holds.push(Hold::Users);
    }
    if spec.namespaces.network == Sharing::Pod {
        holds.extend([Hold::Network, Hold::Uts]);
    }
    if spec.namespaces.ipc == Sharing::Pod {
        holds.extend([Hold::Ipc, Hold::Shm]);
    }
    holds.extend((0..attachments).map(Hold::Attachment));
    if spec.namespaces.pid == PodPid::Pod {
        holds.push(Hold::Reaper);
    }
    holds
}
