//! RunPodSandbox: a pod from its spec, ready to take containers.

use super::{Pod, display_name, files, plan_holds};
use crate::claims::{Claim, Ticket};
use crate::{Service, ServiceError};
use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::id::PodId;
use cringle_domain::namespaces::Sharing;
use cringle_domain::pod::{PodPhase, PodRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{PodMetadata, PodSpec};
use cringle_store::holds::Holds;
use cringle_store::tracked::Tracked;
use std::sync::Arc;

type RunTicket = Ticket<PodMetadata, PodSpec, PodId>;

impl Service {
    /// Makes a pod and answers its id. The same request again joins the one in flight, or gets the same id if nobody
    /// had it yet (R-00g).
    ///
    /// # Errors
    /// If the spec is refused, a pod of that name is there, or something could not be made; then nothing is left.
    pub async fn run_pod(self: &Arc<Self>, spec: PodSpec) -> Result<PodId, ServiceError> {
        self.require_known_handler(&spec.runtime_handler)?;
        if spec.namespaces.users.mapping().is_some() {
            self.user_namespaces()
                .map_err(|reason| ServiceError::NoUserNamespaces(reason.to_owned()))?;
        }
        loop {
            let id = match self.pod_claims.claim(&spec.metadata, spec.clone()) {
                Claim::Mine(ticket) => {
                    if let Some(id) = self.parked_pod(&spec)? {
                        return Ok(id);
                    }
                    self.run_claimed(spec, ticket).await?
                }
                Claim::Joined(joined) => match joined.result().await {
                    Some(result) => result?,
                    None => continue,
                },
                Claim::Conflict => return Err(ServiceError::Busy(display_name(&spec.metadata))),
            };
            if let Ok(pod) = self.pods.find(id.as_str()) {
                pod.hand_over();
            }
            return Ok(id);
        }
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

    /// The pod of that name, if it was made for this very request and nobody had the answer.
    fn parked_pod(&self, spec: &PodSpec) -> Result<Option<PodId>, ServiceError> {
        let Some(pod) = self.pods.named(&spec.metadata) else { return Ok(None) };
        let record = pod.record();
        if matches!(record.phase, PodPhase::Removing) {
            return Ok(None);
        }
        if pod.is_ready() && record.spec == *spec && pod.hand_over() {
            return Ok(Some(record.id.clone()));
        }
        let name = display_name(&spec.metadata);
        Err(ServiceError::PodExists { name, pod: record.id.clone() })
    }

    async fn run_claimed(
        self: &Arc<Self>,
        spec: PodSpec,
        ticket: RunTicket,
    ) -> Result<PodId, ServiceError> {
        let service = Arc::clone(self);
        // On the heap: it holds the futures of all its steps.
        crate::detached::detached(Box::pin(async move {
            let made = service.make_pod(spec).await;
            ticket.land(made)
        }))
        .await
    }

    async fn make_pod(self: &Arc<Self>, spec: PodSpec) -> Result<PodId, ServiceError> {
        let id = PodId::from_bytes(self.host.random_bytes()?);
        let plan = files::plan(&spec, &self.settings.plan)?;
        let attachments = self.plan_attachments(&spec, &id)?;
        let holds = plan_holds(&spec, attachments.len());
        let phase = PodPhase::Creating;
        let boot = self.host.boot.clone();
        let created = self.clock.now();
        let resources = spec.resources.clone();
        let record =
            PodRecord { id: id.clone(), spec, plan, created, boot, attachments, resources, phase };
        let tracked = Tracked::create(self.layout.pod_record(&id), record)?;
        let journal = Holds::new(self.layout.pod_holds(&id));
        let pod = Arc::new(Pod::new(tracked, journal, &self.journal));
        self.pods.insert(Arc::clone(&pod));
        match self.bring_up(&pod, holds).await {
            Ok(()) => Ok(id),
            Err(error) => {
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
