//! Changes of containers that are there, asked for by plugins in answers of theirs.

use super::limits;
use crate::HookError;
use crate::owners::{Claimant, Owners};
use cringle_proto_nri::v1alpha1::{
    ContainerEviction, ContainerUpdate, LinuxContainerUpdate, LinuxResources,
    UpdateContainerRequest, UpdateContainerResponse,
};
use std::collections::BTreeMap;

/// What plugins want when a container is updated.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The limits that it shall get.
    pub resources: LinuxResources,
    /// Changes of other containers.
    pub updates: Vec<ContainerUpdate>,
    /// Containers that shall go.
    pub evictions: Vec<ContainerEviction>,
}

/// Changes asked for so far, by container.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    wanted: BTreeMap<String, (LinuxResources, Owners, Failure)>,
}

/// Whether a plugin minds if a change can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Counts,
    Ignored,
}

impl Updates {
    /// Takes a change that a plugin asks for.
    ///
    /// # Errors
    /// It sets what another has set, and its plugin minds.
    pub(crate) fn take(&mut self, plugin: &str, update: ContainerUpdate) -> Result<(), HookError> {
        let asked = update.linux.and_then(|linux| linux.resources).unwrap_or_default();
        let failure = if update.ignore_failure { Failure::Ignored } else { Failure::Counts };
        let found = self.wanted.entry(update.container_id);
        let entry =
            found.or_insert_with(|| (LinuxResources::default(), Owners::default(), failure));
        let (mut resources, mut owners) = (entry.0.clone(), entry.1.clone());
        let claimant = &mut Claimant { owners: &mut owners, plugin };
        match limits::merge(claimant, &asked, &mut resources) {
            Ok(()) => {
                let both = if entry.2 == failure { failure } else { Failure::Counts };
                *entry = (resources, owners, both);
                Ok(())
            }
            Err(error) if failure == Failure::Counts => Err(error),
            Err(error) => {
                tracing::warn!(%error, "an update that an NRI plugin asked for is left out");
                Ok(())
            }
        }
    }

    /// All of them.
    pub(crate) fn finish(self) -> Vec<ContainerUpdate> {
        let wanted = self.wanted.into_iter();
        wanted
            .map(|(container_id, (resources, _, failure))| ContainerUpdate {
                container_id,
                linux: Some(LinuxContainerUpdate { resources: Some(resources) }),
                ignore_failure: failure == Failure::Ignored,
            })
            .collect()
    }
}

/// The answers to a request to update a container, being collected.
#[derive(Debug)]
pub(crate) struct Updating {
    /// The request as the next plugin gets it.
    pub(crate) request: UpdateContainerRequest,
    own: Owners,
    updates: Updates,
    evictions: Vec<ContainerEviction>,
}

impl Updating {
    /// No answer yet.
    pub(crate) fn new(request: UpdateContainerRequest) -> Self {
        Self { request, own: Owners::default(), updates: Updates::default(), evictions: Vec::new() }
    }

    /// Takes the answer of a plugin.
    ///
    /// # Errors
    /// It sets what another has set.
    pub(crate) fn take(
        &mut self,
        plugin: &str,
        answer: UpdateContainerResponse,
    ) -> Result<(), HookError> {
        let container = self.request.container.as_ref();
        let own = container.map_or_else(String::new, |container| container.id.clone());
        for update in answer.update {
            if update.container_id != own {
                self.updates.take(plugin, update)?;
                continue;
            }
            let asked = update.linux.and_then(|linux| linux.resources).unwrap_or_default();
            let claimant = &mut Claimant { owners: &mut self.own, plugin };
            let into = self.request.linux_resources.get_or_insert_default();
            limits::merge(claimant, &asked, into)?;
        }
        self.evictions.extend(answer.evict);
        Ok(())
    }

    /// What all want.
    pub(crate) fn finish(self) -> Update {
        Update {
            resources: self.request.linux_resources.unwrap_or_default(),
            updates: self.updates.finish(),
            evictions: self.evictions,
        }
    }
}
