//! What nobody owns: GC of every configured network, and the sweep of what bears this instance's name. And the state of
//! the network as its plugins see it (STATUS).

use crate::attach::AttachError;
use crate::conf::{ConfigurationList, Loaded, NetworkNotReady, Plugin, Verb as Wanted};
use crate::invoke::{Invocation, InvokeError, Verb};
use crate::worker::WorkerLost;
use crate::{Network, cache, request};
use cringle_cni::owner::Owner;
use cringle_cni::sweep::{self, SweepError};
use cringle_domain::attachment::AttachmentRecord;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How old a STATUS may be.
const STATUS_AGE: Duration = Duration::from_secs(1);

/// How long a plugin may think about its STATUS: whoever asks is waiting.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// The last answer of the plugins.
#[derive(Debug, Clone)]
pub(crate) struct StatusSample {
    taken: Instant,
    loaded: Arc<Loaded>,
    answer: Result<(), NetworkNotReady>,
}

/// A collection that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Some plugins failed; the others did their part.
    #[error("garbage collection of {} network(s) failed", .0.len())]
    Plugins(Vec<String>, #[source] InvokeError),
    /// An attachment that nobody has a record of could not be undone.
    #[error("failed to detach a stray")]
    Stray(#[source] Box<AttachError>),
    /// The host could not be swept.
    #[error("failed to sweep the host's links and firewall")]
    Sweep(#[source] SweepError),
    /// The sweep has a bug.
    #[error("failed to sweep the host")]
    Lost(#[source] WorkerLost),
    /// A request could not be written.
    #[error("failed to describe the valid attachments")]
    Encode(#[source] serde_json::Error),
}

impl Network {
    /// Gives back what belongs to no attachment of `valid`: DEL of what the cache still knows, GC of each configured network
    /// whose version has it, and at last whatever on the host bears this instance's name. No ADD or DEL goes on
    /// meanwhile.
    ///
    /// # Errors
    /// The first failure, after all was tried.
    pub async fn collect(&self, valid: &[AttachmentRecord]) -> Result<(), CollectError> {
        let _alone = self.collecting.write().await;
        let loaded = self.loaded.now();
        let mut outcome = self.delete_strays(valid).await;
        let mut failed = Vec::new();
        let mut first = None;
        for list in &loaded.lists {
            let own: Vec<_> = valid.iter().filter(|one| one.network == list.name).collect();
            if let Err(error) = self.collect_one(list, &own).await? {
                failed.push(list.name.clone());
                first.get_or_insert(error);
            }
        }
        if let Some(error) = first {
            outcome = outcome.and(Err(CollectError::Plugins(failed, error)));
        }
        outcome.and(self.sweep(valid).await)
    }

    /// Removes everything that this instance has on the host, for its end.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn remove_all(&self) -> Result<(), CollectError> {
        let _alone = self.collecting.write().await;
        let removed = self.worker.run(sweep::remove_all).await;
        removed.map_err(CollectError::Lost)?.map_err(CollectError::Sweep)
    }

    /// DEL of attachments that have a result in the cache and no record.
    async fn delete_strays(&self, valid: &[AttachmentRecord]) -> Result<(), CollectError> {
        let mut outcome = Ok(());
        let known: HashSet<_> = valid.iter().map(key).collect();
        let kept = cache::all(&self.settings.cache_directory, self.settings.instance.as_str());
        for stray in kept.iter().filter(|one| !known.contains(&key(one))) {
            tracing::info!(pod = stray.container_id, network = stray.network, "detaching a stray");
            if let Err(error) = self.delete_chain(stray).await {
                outcome = outcome.and(Err(CollectError::Stray(Box::new(error))));
            }
        }
        outcome
    }

    /// Removes links and firewall elements that bear this instance's name and belong to nobody, also those of networks
    /// whose configuration is gone.
    async fn sweep(&self, valid: &[AttachmentRecord]) -> Result<(), CollectError> {
        let owner = |record: &AttachmentRecord| Owner {
            container_id: record.container_id.clone(),
            if_name: record.interface.clone(),
            network: record.network.clone(),
        };
        let kept: HashSet<Owner> = valid.iter().map(owner).collect();
        let swept =
            self.worker.run(move |context| sweep::sweep(context, |owner| kept.contains(owner)));
        let swept = swept.await.map_err(CollectError::Lost)?.map_err(CollectError::Sweep)?;
        if !swept.links.is_empty() || !swept.elements.is_empty() {
            tracing::info!(links = ?swept.links, elements = ?swept.elements, "swept");
        }
        Ok(())
    }

    async fn collect_one(
        &self,
        list: &ConfigurationList,
        valid: &[&AttachmentRecord],
    ) -> Result<Result<(), InvokeError>, CollectError> {
        if list.collect == Wanted::Disabled || !list.speaks_collect() {
            return Ok(Ok(()));
        }
        let mut outcome = Ok(());
        for plugin in &list.plugins {
            let text = request::collection(list, plugin, valid).map_err(CollectError::Encode)?;
            let invocation = self.plain(Verb::Collect, plugin, text);
            if let Err(error) = self.invoke(invocation).await {
                // Go on: one plugin's trouble is no reason to keep another's garbage.
                outcome = outcome.and(Err(error));
            }
        }
        Ok(outcome)
    }

    /// Whether pods can be attached: a configuration is there, and its plugins say so. Asks them at most once a second.
    ///
    /// # Errors
    /// The reason.
    pub async fn probe(&self) -> Result<(), NetworkNotReady> {
        // Held while the plugins are asked: whoever comes meanwhile gets the same answer.
        let mut kept = self.status.lock().await;
        let loaded = self.loaded.now();
        let fresh = kept.as_ref().filter(|sample| {
            Arc::ptr_eq(&sample.loaded, &loaded) && sample.taken.elapsed() < STATUS_AGE
        });
        if let Some(sample) = fresh {
            return sample.answer.clone();
        }
        let answer = self.ask(&loaded).await;
        *kept = Some(StatusSample { taken: Instant::now(), loaded, answer: answer.clone() });
        answer
    }

    async fn ask(&self, loaded: &Loaded) -> Result<(), NetworkNotReady> {
        let list = loaded.select(self.settings.default_network.as_deref())?;
        for plugin in &list.plugins {
            let not_ready = |message| NetworkNotReady { reason: "NetworkPluginNotReady", message };
            let text = request::base(list, plugin)
                .and_then(|object| serde_json::to_string(&object))
                .map_err(|error| not_ready(error.to_string()))?;
            // An older list has no STATUS: it is ready if its plugins are there.
            let asked = if list.speaks_collect() {
                self.invoke(self.plain(Verb::Status, plugin, text)).await.map(drop)
            } else {
                self.require(plugin)
            };
            asked.map_err(|error| not_ready(format!("network \"{}\": {error}", list.name)))?;
        }
        Ok(())
    }

    fn plain(&self, verb: Verb, plugin: &Plugin, configuration: String) -> Invocation {
        let timeout = self.settings.delete_timeout;
        Invocation {
            verb,
            kind: plugin.kind.clone(),
            origin: plugin.origin,
            container_id: String::new(),
            netns: None,
            interface: String::new(),
            arguments: String::new(),
            configuration,
            timeout: if verb == Verb::Status { timeout.min(STATUS_TIMEOUT) } else { timeout },
        }
    }
}

/// What makes an attachment that one and no other.
fn key(record: &AttachmentRecord) -> (&str, &str, &str) {
    (&record.network, &record.container_id, &record.interface)
}
