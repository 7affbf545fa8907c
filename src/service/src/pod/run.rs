//! RunPodSandbox: a pod from its spec, ready to take containers.

use super::{Hold, Pod, display_name, files, namespaces, reaper};
use crate::claims::{Claim, Ticket};
use crate::{Error, Service};
use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::id::PodId;
use cringle_domain::namespaces::{PodPid, Sharing};
use cringle_domain::pod::{PodEvent, PodPhase, PodRecord};
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::{PodMetadata, PodSpec};
use cringle_store::holds::Holds;
use cringle_store::tracked::Tracked;
use std::net::IpAddr;
use std::sync::Arc;

type RunTicket = Ticket<PodMetadata, PodSpec, PodId>;

impl Service {
    /// Makes a pod and answers its id. The same request again joins the one in flight, or gets the same id if nobody
    /// had it yet (R-00g).
    ///
    /// # Errors
    /// If the spec is refused, a pod of that name is there, or something could not be made; then nothing is left.
    pub async fn run_pod(self: &Arc<Self>, spec: PodSpec) -> Result<PodId, Error> {
        self.require_known_handler(&spec.runtime_handler)?;
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
                Claim::Conflict => return Err(Error::Busy(display_name(&spec.metadata))),
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
    pub fn require_known_handler(&self, handler: &str) -> Result<(), Error> {
        match handler {
            "" | "cringle" => Ok(()),
            other => {
                let problem = format!("\"{other}\" is not configured; there is \"cringle\"");
                Err(Refusal::invalid("runtime_handler", problem).into())
            }
        }
    }

    /// The pod of that name, if it was made for this very request and nobody had the answer.
    fn parked_pod(&self, spec: &PodSpec) -> Result<Option<PodId>, Error> {
        let Some(pod) = self.pods.named(&spec.metadata) else { return Ok(None) };
        let record = pod.record();
        if matches!(record.phase, PodPhase::Removing) {
            return Ok(None);
        }
        if pod.is_ready() && record.spec == *spec && pod.hand_over() {
            return Ok(Some(record.id.clone()));
        }
        let name = display_name(&spec.metadata);
        Err(Error::PodExists { name, pod: record.id.clone() })
    }

    async fn run_claimed(
        self: &Arc<Self>,
        spec: PodSpec,
        ticket: RunTicket,
    ) -> Result<PodId, Error> {
        let service = Arc::clone(self);
        crate::detached::detached(async move {
            let made = service.make_pod(spec).await;
            ticket.land(made)
        })
        .await
    }

    async fn make_pod(self: &Arc<Self>, spec: PodSpec) -> Result<PodId, Error> {
        let id = PodId::from_bytes(self.host.random_bytes()?);
        let plan = files::plan(&spec, &self.settings.plan)?;
        let attachments = self.plan_attachments(&spec, &id)?;
        self.parents.want(&plan.cgroup_parent)?;
        let holds = plan_holds(&spec, attachments.len());
        let phase = PodPhase::Creating;
        let boot = self.host.boot.clone();
        let created = self.clock.now();
        let record = PodRecord { id: id.clone(), spec, plan, created, boot, attachments, phase };
        let tracked = Tracked::create(self.layout.pod_record(&id), record)?;
        let journal = Holds::new(self.layout.pod_holds(&id));
        let pod = Arc::new(Pod::new(tracked, journal));
        self.pods.insert(Arc::clone(&pod));
        match self.bring_up(&pod, holds).await {
            Ok(()) => Ok(id),
            Err(error) => {
                self.undo(&pod).await;
                Err(error)
            }
        }
    }

    fn plan_attachments(&self, spec: &PodSpec, id: &PodId) -> Result<Vec<AttachmentRecord>, Error> {
        match spec.namespaces.network {
            Sharing::Node => Ok(Vec::new()),
            Sharing::Pod => Ok(vec![self.network.plan(spec, id, &self.layout.netns(id))?]),
        }
    }

    async fn bring_up(self: &Arc<Self>, pod: &Arc<Pod>, planned: Vec<Hold>) -> Result<(), Error> {
        let record = pod.record();
        let mut journal = pod.holds.lock().await;
        journal.note(planned, &self.host.boot)?;
        journal.take(&Hold::Directory, async { files::write(self, &record) }).await?;
        namespaces::make(self, &record, &journal).await?;
        let mut addresses = Vec::new();
        for (place, attachment) in record.attachments.iter().enumerate() {
            let hold = Hold::Attachment(place);
            addresses.extend(journal.take(&hold, self.attach(attachment)).await?);
        }
        files::write_hosts(self, &record, &addresses)?;
        let reaper = if journal.noted().contains(&Hold::Reaper) {
            Some(journal.take(&Hold::Reaper, reaper::start(self, &record)).await?)
        } else {
            None
        };
        let (supervisor, reaper) = reaper.unzip();
        pod.tracked.advance(PodEvent::BroughtUp { addresses, reaper }).await?;
        if let Some(supervisor) = supervisor {
            self.follow_reaper(pod, supervisor);
        }
        Ok(())
    }

    async fn attach(&self, attachment: &AttachmentRecord) -> Result<Vec<IpAddr>, Error> {
        Ok(self.network.add(attachment).await?.addresses)
    }

    /// Takes a half-made pod away again. If that fails too it stays visible as not ready, and the next stop goes on.
    async fn undo(&self, pod: &Pod) {
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
