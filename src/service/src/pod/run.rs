//! RunPodSandbox: a pod from its spec, ready to take containers.

use super::{Maker, Pod, display_name, files, plan_holds};
use crate::{Service, ServiceError};
use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::id::PodId;
use cringle_domain::namespaces::Sharing;
use cringle_domain::pod::{Downfall, PodPhase, PodRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::PodSpec;
use cringle_store::holds::Holds;
use cringle_store::tracked::Tracked;
use std::sync::Arc;

impl Service {
    /// Makes a pod and answers its id. The same request again joins the one in flight, or gets the same id as long as the
    /// pod is ready (R-00g).
    ///
    /// Why whoever asks, and not only who had no answer: we can't know who had. An answer that left us may be lost, and
    /// after a restart nobody remembers. A pod that no client claims is not taken away either: it is listed like any
    /// other, so that who owns the node's pods sees it and stops it, and a timer of ours could only hit one that was
    /// just found there.
    ///
    /// # Errors
    /// If the spec is refused, another pod of that name is there or being made, or something could not be made; then
    /// nothing is left.
    pub async fn run_pod(self: &Arc<Self>, spec: PodSpec) -> Result<PodId, ServiceError> {
        self.run_pod_for(Maker::RunPod, spec).await
    }

    /// The same for one of the two verbs.
    pub(super) async fn run_pod_for(
        self: &Arc<Self>,
        maker: Maker,
        spec: PodSpec,
    ) -> Result<PodId, ServiceError> {
        self.require_known_handler(&spec.runtime_handler)?;
        if spec.namespaces.users.mapping().is_some() {
            self.user_namespaces()
                .map_err(|reason| ServiceError::NoUserNamespaces(reason.to_owned()))?;
        }
        let name = spec.metadata.clone();
        let (service, wanted) = (Arc::clone(self), spec.clone());
        // On the heap: it holds the futures of all its steps.
        let made = || async move { Box::pin(service.pod_as_wanted(maker, wanted)).await };
        let made = self.pod_claims.carry_out(&name, (maker, spec), made).await;
        made.unwrap_or_else(|so_far| Err(ServiceError::Busy { name: display_name(&name), so_far }))
    }

    /// Refuses a runtime handler that there is not; the empty name is the default one.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn require_known_handler(&self, handler: &str) -> Result<(), ServiceError> {
        match handler {
            "" | "cringle" => Ok(()),
            other => {
                let problem = format!("\"{other}\" is not configured; there is \"cringle\"");
                Err(Refusal::invalid("runtime_handler", problem).into())
            }
        }
    }

    async fn pod_as_wanted(
        self: &Arc<Self>,
        maker: Maker,
        spec: PodSpec,
    ) -> Result<PodId, ServiceError> {
        match self.standing_pod(&spec).await? {
            Some(id) => Ok(id),
            None => Box::pin(self.make_pod(maker, spec)).await,
        }
    }

    /// The pod of that name, if it is what is wanted; none if there is none or nothing is left of it. The caller has the
    /// claim on the name, so that nobody makes it now.
    async fn standing_pod(self: &Arc<Self>, spec: &PodSpec) -> Result<Option<PodId>, ServiceError> {
        let Some(pod) = self.pods.named(&spec.metadata) else { return Ok(None) };
        let record = pod.record();
        match &record.phase {
            PodPhase::Ready { .. } if record.spec == *spec && !record.is_being_restored => {
                Ok(Some(record.id.clone()))
            }
            PodPhase::Removing => Ok(None),
            // No client ever got it: its making failed and could not be undone, or was cut off by a bug.
            PodPhase::Creating | PodPhase::NotReady { why: Downfall::BringUpFailed, .. } => {
                self.remove_found_pod(&pod).await?;
                Ok(None)
            }
            PodPhase::Ready { .. } | PodPhase::NotReady { .. } => {
                let name = display_name(&spec.metadata);
                Err(ServiceError::PodExists { name, pod: record.id.clone() })
            }
        }
    }

    async fn make_pod(
        self: &Arc<Self>,
        maker: Maker,
        spec: PodSpec,
    ) -> Result<PodId, ServiceError> {
        let id = PodId::from_bytes(self.host.random_bytes()?);
        let plan = files::plan(&spec, &self.settings.plan)?;
        let attachments = self.plan_attachments(&spec, &id)?;
        let holds = plan_holds(&spec, attachments.len());
        let phase = PodPhase::Creating;
        let boot = self.host.boot.clone();
        let created = self.clock.now();
        let resources = spec.resources.clone();
        let record = PodRecord {
            id: id.clone(),
            spec,
            plan,
            created,
            boot,
            attachments,
            resources,
            is_being_restored: maker == Maker::RestorePod,
            phase,
        };
        let path = self.layout.pod_record(&id);
        let tracked = tokio::task::block_in_place(|| Tracked::create(path, record))?;
        let journal = Holds::new(self.layout.pod_holds(&id));
        let pod = Arc::new(Pod::new(tracked, journal, &self.journal));
        self.pods.insert(Arc::clone(&pod));
        match self.bring_up(&pod, holds).await {
            Ok(()) => Ok(id),
            Err(error) => {
                crate::progress::enter_undoing();
                self.undo(&pod).await;
                Err(error)
            }
        }
    }

    fn plan_attachments(
        &self,
        spec: &PodSpec,
        id: &PodId,
    ) -> Result<Vec<AttachmentRecord>, ServiceError> {
        match spec.namespaces.network {
            Sharing::Node => Ok(Vec::new()),
            Sharing::Pod => Ok(vec![self.network.plan(spec, id, &self.layout.netns(id))?]),
        }
    }
}
