//! What nobody owns: GC of every configured network, and the sweep of what bears this instance's name. And the state of
//! the network as its plugins see it (STATUS).

use crate::conf::{ConfigurationList, Loaded, NetworkNotReady, Verb as Wanted};
use crate::invoke::{Invocation, InvokeError, Verb};
use crate::{Network, request};
use cringle_domain::attachment::AttachmentRecord;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// How old a STATUS may be.
const STATUS_AGE: Duration = Duration::from_secs(1);

/// The last answer of the plugins.
#[derive(Debug, Clone)]
pub(crate) struct StatusSample {
    taken: Instant,
    answer: Result<(), NetworkNotReady>,
}

/// A collection that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Some plugins failed; the others did their part.
    #[error("garbage collection of {} network(s) failed", .0.len())]
    Plugins(Vec<String>, #[source] InvokeError),
    /// A request could not be written.
    #[error("failed to describe the valid attachments")]
    Encode(#[source] serde_json::Error),
}

impl Network {
    /// Gives back what belongs to no attachment of `valid`: GC of each configured network whose version has it.
    ///
    /// # Errors
    /// The first failure, after all networks were tried.
    pub async fn collect(&self, valid: &[AttachmentRecord]) -> Result<(), CollectError> {
        let loaded = self.loaded.now();
        let mut failed = Vec::new();
        let mut first = None;
        for list in &loaded.lists {
            let own: Vec<_> = valid.iter().filter(|one| one.network == list.name).collect();
            if let Err(error) = self.collect_one(list, &own).await? {
                failed.push(list.name.clone());
                first.get_or_insert(error);
            }
        }
        match first {
            Some(error) => Err(CollectError::Plugins(failed, error)),
            None => Ok(()),
        }
    }

    async fn collect_one(
        &self,
        list: &ConfigurationList,
        valid: &[&AttachmentRecord],
    ) -> Result<Result<(), InvokeError>, CollectError> {
        if list.collect == Wanted::Disabled || !speaks_collect(list) {
            return Ok(Ok(()));
        }
        let mut outcome = Ok(());
        for plugin in &list.plugins {
            let text = request::collection(list, plugin, valid).map_err(CollectError::Encode)?;
            let invocation = self.plain(Verb::Collect, &plugin.kind, text);
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
        let kept = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sample) = kept.filter(|sample| sample.taken.elapsed() < STATUS_AGE) {
            return sample.answer;
        }
        let loaded = self.loaded.now();
        let answer = self.ask(&loaded).await;
        let sample = StatusSample { taken: Instant::now(), answer: answer.clone() };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
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
            let asked = if speaks_collect(list) {
                self.invoke(self.plain(Verb::Status, &plugin.kind, text)).await.map(drop)
            } else {
                self.require(&plugin.kind)
            };
            asked.map_err(|error| not_ready(format!("network \"{}\": {error}", list.name)))?;
        }
        Ok(())
    }

    fn plain(&self, verb: Verb, kind: &str, configuration: String) -> Invocation {
        Invocation {
            verb,
            kind: kind.to_owned(),
            container_id: String::new(),
            netns: None,
            interface: String::new(),
            arguments: String::new(),
            configuration,
            timeout: self.settings.delete_timeout,
        }
    }
}

/// GC and STATUS came with version 1.1.0.
fn speaks_collect(list: &ConfigurationList) -> bool {
    list.version == "1.1.0"
}
