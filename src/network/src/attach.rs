//! One attachment, from its record: ADD down the list, DEL up the list.
//!
//! The record has the exact bytes of the configuration, so DEL sees what ADD saw even if the directory changed meanwhile. A failed
//! ADD is followed by DEL at once; what DEL could not give back is still owed by the record.

use crate::conf::{ConfError, ConfigurationList, Object, PlanError, Plugin, Verb as Wanted};
use crate::invoke::{Invocation, InvokeError, Verb};
use crate::{Network, cache, capability, request};
use cringle_cni::spec::error::TRY_AGAIN_LATER;
use cringle_cni::spec::result::Result as CniResult;
use cringle_cni::spec::{Error as SpecError, Version};
use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::id::PodId;
use cringle_domain::spec::PodSpec;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// The interface that every pod has in its network.
const INTERFACE: &str = "eth0";

/// What is added to a list that publishes no ports by itself: ours, whatever is in the plugin directories.
const OWN_PORTMAP: &str =
    r#"{"type":"portmap","capabilities":{"portMappings":true},"cringleBuiltin":true}"#;

/// The pause after a plugin said that the same request may succeed later.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// An attachment that was made.
#[derive(Debug)]
pub struct Attached {
    /// The pod's addresses, in the order of the result.
    pub addresses: Vec<IpAddr>,
}

/// Why an attachment could not be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The configuration in the record can't be read.
    #[error("network \"{network}\" of pod {pod} has an unusable configuration")]
    Configuration {
        /// The network.
        network: String,
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: ConfError,
    },
    /// A request to a plugin could not be written.
    #[error("failed to describe pod {pod} to network \"{network}\"")]
    Encode {
        /// The network.
        network: String,
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A plugin refused or failed.
    #[error("{verb} of pod {pod} in network \"{network}\" failed")]
    Plugin {
        /// ADD, DEL, GC.
        verb: &'static str,
        /// The network.
        network: String,
        /// The pod.
        pod: String,
        /// What the plugin said.
        #[source]
        source: InvokeError,
    },
    /// The last plugin's answer is no result.
    #[error("network \"{network}\" gave pod {pod} no usable result")]
    Result {
        /// The network.
        network: String,
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: SpecError,
    },
    /// The network gave no address.
    #[error("network \"{network}\" gave pod {pod} no address")]
    NoAddress {
        /// The network.
        network: String,
        /// The pod.
        pod: String,
    },
    /// The result could not be kept.
    #[error("failed to keep the result of network \"{network}\" for pod {pod}")]
    Cache {
        /// The network.
        network: String,
        /// The pod.
        pod: String,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl AttachError {
    /// Whether a plugin said that the same request may succeed later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Plugin { source, .. } if source.code() == Some(TRY_AGAIN_LATER))
    }
}

impl Network {
    /// Decides how a pod will be attached: which network, with which configuration and arguments.
    ///
    /// # Errors
    /// If no network can be used.
    pub fn plan(
        &self,
        spec: &PodSpec,
        pod: &PodId,
        netns: &Path,
    ) -> Result<AttachmentRecord, PlanError> {
        let loaded = self.loaded.now();
        let list =
            loaded.select(self.settings.default_network.as_deref()).map_err(PlanError::NotReady)?;
        let unpublished =
            !spec.port_mappings.is_empty() && !list.declares(capability::PORT_MAPPINGS);
        let configuration = if unpublished {
            list.with_plugin(OWN_PORTMAP).map_err(PlanError::Encode)?
        } else {
            list.text.clone()
        };
        Ok(AttachmentRecord {
            network: list.name.clone(),
            configuration,
            interface: INTERFACE.to_owned(),
            netns: netns.to_owned(),
            container_id: pod.to_string(),
            arguments: arguments(spec, pod),
            capabilities: capability::arguments(spec)?,
        })
    }

    /// Attaches a pod. A plugin that is busy is asked again for as long as an ADD may take.
    ///
    /// # Errors
    /// What a plugin said; what was taken has been given back, or is still owed by the record.
    pub async fn add(&self, record: &AttachmentRecord) -> Result<Attached, AttachError> {
        let list = parsed(record)?;
        let _at_work = self.collecting.read().await;
        let deadline = Instant::now() + self.settings.add_timeout;
        loop {
            let error = match self.add_chain(&list, record, deadline).await {
                Ok(attached) => return Ok(attached),
                Err(error) => error,
            };
            // No second ADD without a DEL between them.
            if let Err(undo) = self.delete_chain(record).await {
                tracing::warn!(pod = record.container_id, error = %undo, "failed ADD not undone");
                return Err(error);
            }
            if !error.may_pass() || Instant::now() + AGAIN_PAUSE >= deadline {
                return Err(error);
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }

    async fn add_chain(
        &self,
        list: &ConfigurationList,
        record: &AttachmentRecord,
        deadline: Instant,
    ) -> Result<Attached, AttachError> {
        self.loopback(record).await?;
        let capabilities = capability_object(record)?;
        let mut result: Option<Box<RawValue>> = None;
        for plugin in &list.plugins {
            let text = request::configuration(list, plugin, &capabilities, result.as_deref())
                .map_err(|source| encode_error(record, source))?;
            let mut invocation = self.invocation(Verb::Add, plugin, record, text);
            invocation.timeout = deadline.saturating_duration_since(Instant::now());
            let answer = self
                .invoke(invocation)
                .await
                .map_err(|source| plugin_error(Verb::Add, record, source))?;
            result = match answer {
                Some(answer) => Some(
                    request::versioned(list, answer)
                        .map_err(|source| encode_error(record, source))?,
                ),
                None => None,
            };
        }
        let Some(result) = result else { return Err(no_address(record)) };
        let addresses = addresses_of(list, record, &result)?;
        let entry = cache::Entry::new(self.settings.instance.as_str(), record, &result);
        cache::write(&self.settings.cache_directory, record, &entry)
            .map_err(|source| cache_error(record, source))?;
        Ok(Attached { addresses })
    }

    /// Takes the loopback interface up: ours always, whatever is configured.
    async fn loopback(&self, record: &AttachmentRecord) -> Result<(), AttachError> {
        let configuration =
            r#"{"cniVersion":"1.1.0","name":"loopback","type":"loopback"}"#.to_owned();
        let plugin = Plugin::own("loopback");
        let invocation = self.invocation(Verb::Add, &plugin, record, configuration);
        let invocation = Invocation { interface: "lo".to_owned(), ..invocation };
        let answer = self.call(invocation).await;
        answer.map(drop).map_err(|source| plugin_error(Verb::Add, record, source))
    }

    /// Detaches a pod. Success on what is detached or was never attached; a network namespace that is gone is no
    /// obstacle.
    ///
    /// # Errors
    /// What the first plugin said that would not; calling again goes through the whole list again.
    pub async fn delete(&self, record: &AttachmentRecord) -> Result<(), AttachError> {
        let _at_work = self.collecting.read().await;
        self.delete_chain(record).await
    }

    /// DEL up the list; the caller sees to it that no collection goes on meanwhile.
    pub(crate) async fn delete_chain(&self, record: &AttachmentRecord) -> Result<(), AttachError> {
        let list = parsed(record)?;
        let capabilities = capability_object(record)?;
        let mut previous = cache::read(&self.settings.cache_directory, record);
        if !list.speaks_check() {
            // Plugins of that age don't expect it.
            previous = None;
        }
        for plugin in list.plugins.iter().rev() {
            let text = request::configuration(&list, plugin, &capabilities, previous.as_deref())
                .map_err(|source| encode_error(record, source))?;
            let mut invocation = self.invocation(Verb::Delete, plugin, record, text);
            if cringle_cni::netns::Netns::open(&record.netns).is_err() {
                invocation.netns = None;
            }
            self.invoke(invocation)
                .await
                .map(drop)
                .map_err(|source| plugin_error(Verb::Delete, record, source))?;
        }
        cache::remove(&self.settings.cache_directory, record)
            .map_err(|source| cache_error(record, source))
    }

    /// Asks the plugins whether what ADD made is still so. A list that disables CHECK, or is older than it, is fine.
    ///
    /// # Errors
    /// What the first plugin found wrong.
    pub async fn check(&self, record: &AttachmentRecord) -> Result<(), AttachError> {
        let list = parsed(record)?;
        let previous = cache::read(&self.settings.cache_directory, record);
        if list.check == Wanted::Disabled || !list.speaks_check() || previous.is_none() {
            return Ok(());
        }
        let capabilities = capability_object(record)?;
        for plugin in &list.plugins {
            let text = request::configuration(&list, plugin, &capabilities, previous.as_deref())
                .map_err(|source| encode_error(record, source))?;
            self.invoke(self.invocation(Verb::Check, plugin, record, text))
                .await
                .map(drop)
                .map_err(|source| plugin_error(Verb::Check, record, source))?;
        }
        Ok(())
    }

    pub(crate) fn invocation(
        &self,
        verb: Verb,
        plugin: &Plugin,
        record: &AttachmentRecord,
        configuration: String,
    ) -> Invocation {
        let pairs = record.arguments.iter().map(|(key, value)| format!("{key}={value}"));
        Invocation {
            verb,
            kind: plugin.kind.clone(),
            origin: plugin.origin,
            container_id: record.container_id.clone(),
            netns: Some(record.netns.clone()),
            interface: record.interface.clone(),
            arguments: pairs.collect::<Vec<_>>().join(";"),
            configuration,
            timeout: match verb {
                Verb::Add => self.settings.add_timeout,
                Verb::Delete | Verb::Check | Verb::Collect | Verb::Status => {
                    self.settings.delete_timeout
                }
            },
        }
    }
}

/// `CNI_ARGS` as every plugin in the field expects them; a separator in a value would smuggle in another pair.
fn arguments(spec: &PodSpec, pod: &PodId) -> Vec<(String, String)> {
    let metadata = &spec.metadata;
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", metadata.namespace.as_str()),
        ("K8S_POD_NAME", metadata.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.as_str()),
        ("K8S_POD_UID", metadata.uid.as_str()),
    ];
    let clean =
        |value: &str| value.chars().filter(|one| !matches!(one, ';' | '=' | '\0')).collect();
    pairs.into_iter().map(|(key, value)| (key.to_owned(), clean(value))).collect()
}

fn parsed(record: &AttachmentRecord) -> Result<ConfigurationList, AttachError> {
    ConfigurationList::parse(&record.configuration).map_err(|source| AttachError::Configuration {
        network: record.network.clone(),
        pod: record.container_id.clone(),
        source,
    })
}

fn capability_object(record: &AttachmentRecord) -> Result<Object, AttachError> {
    serde_json::from_str(&record.capabilities).map_err(|source| encode_error(record, source))
}

/// The addresses that belong to the pod's side, the others' and the host's left out.
fn addresses_of(
    list: &ConfigurationList,
    record: &AttachmentRecord,
    result: &RawValue,
) -> Result<Vec<IpAddr>, AttachError> {
    let version = Version::parse(&list.version).unwrap_or(Version::V1_1_0);
    let result = CniResult::parse(result.get(), version).map_err(|source| AttachError::Result {
        network: record.network.clone(),
        pod: record.container_id.clone(),
        source,
    })?;
    let in_pod = |place: usize| {
        let interface = result.interfaces.get(place);
        interface.is_none_or(|one| one.sandbox.as_deref().is_some_and(|path| !path.is_empty()))
    };
    let own = result.ips.iter().filter(|ip| ip.interface.is_none_or(in_pod));
    let addresses: Vec<IpAddr> = own.map(|ip| ip.address.addr()).collect();
    if addresses.is_empty() { Err(no_address(record)) } else { Ok(addresses) }
}

fn no_address(record: &AttachmentRecord) -> AttachError {
    AttachError::NoAddress { network: record.network.clone(), pod: record.container_id.clone() }
}

fn encode_error(record: &AttachmentRecord, source: serde_json::Error) -> AttachError {
    let (network, pod) = (record.network.clone(), record.container_id.clone());
    AttachError::Encode { network, pod, source }
}

fn cache_error(record: &AttachmentRecord, source: std::io::Error) -> AttachError {
    let (network, pod) = (record.network.clone(), record.container_id.clone());
    AttachError::Cache { network, pod, source }
}

fn plugin_error(verb: Verb, record: &AttachmentRecord, source: InvokeError) -> AttachError {
    let (network, pod) = (record.network.clone(), record.container_id.clone());
    AttachError::Plugin { verb: verb.name(), network, pod, source }
}

#[cfg(test)]
mod tests;
