//! A plugin that has registered: what it wants to be told, and what becomes of it when it fails.

use crate::HookError;
use crate::connection::{AskError, Connection, UNIMPLEMENTED};
use crate::hook::{Events, Hook};
use cringle_proto_nri::v1alpha1::{Event, FailurePolicy, PluginInstance};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The name of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PluginName {
    /// Two digits: plugins are asked in this order.
    index: String,
    base: String,
}

impl PluginName {
    /// A name from its parts; none if it is malformed: an index is two digits, a name is made of letters, digits and `-_.+`.
    pub(crate) fn new(index: &str, base: &str) -> Option<Self> {
        let digits = index.len() == 2 && index.bytes().all(|byte| byte.is_ascii_digit());
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        (digits && !base.is_empty() && base.bytes().all(letter))
            .then(|| Self { index: index.to_owned(), base: base.to_owned() })
    }

    /// A name as a file has it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (index, base) = name.split_once('-')?;
        Self::new(index, base)
    }

    /// The index.
    pub(crate) fn index(&self) -> &str {
        &self.index
    }

    /// The name without the index.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// As validators are told.
    pub(crate) fn instance(&self) -> PluginInstance {
        PluginInstance { name: self.base.clone(), index: self.index.clone() }
    }
}

impl std::fmt::Display for PluginName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.index, self.base)
    }
}

/// A registered plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// Its name.
    pub(crate) name: PluginName,
    /// The way to it.
    pub(crate) connection: Connection,
    /// What it subscribed to.
    pub(crate) events: Events,
    /// What it wants to happen when it fails.
    pub(crate) policy: FailurePolicy,
    /// How long it may take to answer.
    pub(crate) patience: Duration,
    /// Events for which it is too old to have a request, as it turned out.
    older: Mutex<Events>,
}

impl Plugin {
    /// A plugin that answered what it wants.
    pub(crate) fn new(
        name: PluginName,
        connection: Connection,
        events: Events,
        policy: FailurePolicy,
        patience: Duration,
    ) -> Self {
        Self { name, connection, events, policy, patience, older: Mutex::new(Events::NONE) }
    }

    /// Whether it is there and has a say in whether a container may be made.
    pub(crate) fn judges(&self) -> bool {
        self.events.has(Event::ValidateContainerAdjustment) && !self.connection.is_closed()
    }

    /// Whether it subscribed to have a say in how containers are made.
    pub(crate) fn shapes(&self) -> bool {
        self.events.has(Event::CreateContainer)
    }

    /// Asks it, if it subscribed to this. Nothing if it did not, or failed and does not mind to be passed over then.
    ///
    /// # Errors
    /// It refuses, or fails and wants the operation to fail with it.
    pub(crate) async fn ask<Q: Hook>(&self, request: &Q) -> Result<Option<Q::Answer>, HookError> {
        if !self.events.has(Q::EVENT) || self.connection.is_closed() {
            return Ok(None);
        }
        let error = match self.put(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (plugin, hook) = (self.name.to_string(), Q::METHOD);
        if let AskError::Refused(_) | AskError::TooLarge(_) = error {
            return Err(HookError::Refused { plugin, hook, source: error });
        }
        let late = matches!(error, AskError::Elapsed(_));
        if !(late && self.policy.keep_connected) {
            tracing::warn!(plugin, hook, %error, "NRI plugin is dropped");
            self.connection.close();
        }
        if self.policy.fail_request {
            return Err(HookError::Unanswered { plugin, hook, source: error });
        }
        tracing::warn!(plugin, hook, %error, "going on without the NRI plugin");
        Ok(None)
    }

    /// Puts the request, or the state change that a plugin knows that is too old for it.
    async fn put<Q: Hook>(&self, request: &Q) -> Result<Option<Q::Answer>, AskError> {
        if !self.is_older(Q::EVENT) {
            match self.connection.ask(request, self.patience).await {
                Err(AskError::Refused(status)) if status.code == UNIMPLEMENTED => {
                    let Some(change) = request.state_change() else {
                        return Err(AskError::Refused(status));
                    };
                    self.note_older(Q::EVENT);
                    self.connection.ask(&change, self.patience).await?;
                    return Ok(None);
                }
                answer => return answer.map(Some),
            }
        }
        if let Some(change) = request.state_change() {
            self.connection.ask(&change, self.patience).await?;
        }
        Ok(None)
    }

    fn is_older(&self, event: Event) -> bool {
        self.older.lock().unwrap_or_else(PoisonError::into_inner).has(event)
    }

    fn note_older(&self, event: Event) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        *older = older.with(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_two_digits_and_a_word() {
        for (text, good) in [
            ("00-a", true),
            ("99-a.b_c+d-e", true),
            ("0-a", false),
            ("000-a", false),
            ("aa-b", false),
            ("00-", false),
            ("00", false),
            ("00-a b", false),
            ("00-ä", false),
        ] {
            let name = PluginName::parse(text);
            assert_eq!(name.is_some(), good, "{text}");
            assert!(name.is_none_or(|name| name.to_string() == text));
        }
    }
}
