//! All plugins: telling them, asking them.

use crate::hook::Hook;
use crate::merge::{Creating, Creation, Update, Updates, Updating};
use crate::plugin::Plugin;
use crate::{HookError, NriSettings, validate};
use cringle_proto_nri::v1alpha1::{
    Container, ContainerEviction, ContainerUpdate, CreateContainerRequest, LinuxResources,
    OwningPlugins, PodSandbox, StopContainerRequest, UpdateContainerRequest,
    ValidateContainerAdjustmentRequest,
};
use futures::future::BoxFuture;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;

/// How long an operation that wants to begin may be held up by a plugin that wants to join, until the plugin lets those
/// through that wait, and tries again.
const JOIN_STEP: Duration = Duration::from_millis(250);

/// What plugins may ask of the runtime, and are told at the beginning.
pub trait Runtime: Debug + Send + Sync {
    /// The pods and containers that there are.
    fn state(&self) -> (Vec<PodSandbox>, Vec<Container>);

    /// Gives a container other limits.
    ///
    /// # Errors
    /// Why not.
    fn update(&self, update: ContainerUpdate) -> BoxFuture<'_, Result<(), String>>;

    /// Ends a container.
    ///
    /// # Errors
    /// Why not.
    fn evict(&self, eviction: ContainerEviction) -> BoxFuture<'_, Result<(), String>>;
}

/// The plugins.
#[derive(Debug)]
pub struct Nri {
    pub(crate) settings: NriSettings,
    /// In the order in which they are asked.
    plugins: StdMutex<Vec<Arc<Plugin>>>,
    /// One request at a time.
    dispatch: Mutex<()>,
    /// Shared by operations, alone for a plugin that joins.
    gate: RwLock<()>,
    /// How many plugins are being told what there is: they are to be told what happens from then on.
    joining: AtomicUsize,
    /// The listener, and one for each connection.
    pub(crate) tasks: StdMutex<JoinSet<()>>,
}

/// While it is held, no plugin joins.
#[derive(Debug)]
pub struct Steady<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

/// While it is held, no operation and no request is under way. What happens nevertheless, like the end of a container, waits
/// to be told until it is given back.
#[derive(Debug)]
pub(crate) struct Quiet<'a> {
    joining: &'a AtomicUsize,
    _gate: RwLockWriteGuard<'a, ()>,
    _dispatch: MutexGuard<'a, ()>,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.joining.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Nri {
    /// No plugins yet ([`Nri::start`]).
    #[must_use]
    pub fn new(settings: NriSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            plugins: StdMutex::default(),
            dispatch: Mutex::new(()),
            gate: RwLock::new(()),
            joining: AtomicUsize::new(0),
            tasks: StdMutex::default(),
        })
    }

    /// Whether anybody would be told of anything; also somebody who is just being told what there is.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        self.joining.load(Ordering::SeqCst) > 0 || !self.plugins().is_empty()
    }

    /// Whether anybody has a say in how containers are made.
    #[must_use]
    pub fn shapes_containers(&self) -> bool {
        self.settings.validator.is_some() || self.has_plugins()
    }

    /// Keeps plugins from joining. What an operation brings about, and tells, must be in one such time.
    pub async fn steady(&self) -> Steady<'_> {
        Steady(self.gate.read().await)
    }

    /// Tells all plugins something.
    ///
    /// # Errors
    /// One of them refuses; those after it are not told.
    pub async fn tell<Q: Hook>(&self, request: &Q) -> Result<(), HookError> {
        let _turn = self.dispatch.lock().await;
        for plugin in self.all() {
            drop(plugin.ask(request).await?);
        }
        Ok(())
    }

    /// Asks all plugins how a container shall be made, and validators whether it may be made so.
    ///
    /// # Errors
    /// One of them refuses, or two set the same.
    pub async fn create(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Creation, HookError> {
        let _turn = self.dispatch.lock().await;
        let plugins = self.all();
        let asked = plugins.iter().filter(|plugin| !plugin.connection.is_closed());
        // Those who are to judge at the beginning are waited for at the end: one that leaves in between has not agreed.
        let judges: Vec<_> = plugins.iter().filter(|plugin| plugin.judges()).cloned().collect();
        let mut validation = ValidateContainerAdjustmentRequest {
            pod: Some(pod.clone()),
            container: Some(container.clone()),
            plugins: asked.map(|plugin| plugin.name.instance()).collect(),
            ..ValidateContainerAdjustmentRequest::default()
        };
        let id = container.id.clone();
        let request = CreateContainerRequest { pod: Some(pod), container: Some(container) };
        let mut creating = Creating::new(request);
        for plugin in &plugins {
            let answer = plugin.ask(&creating.request).await?;
            match answer {
                Some(answer) => creating.take(&plugin.name.to_string(), answer)?,
                // One that was passed over has had no say.
                None if plugin.connection.is_closed() || plugin.shapes() => {
                    let instance = plugin.name.instance();
                    validation.plugins.retain(|other| *other != instance);
                }
                None => {}
            }
        }
        let creation = creating.finish();
        validation.adjust = Some(creation.adjustment.clone());
        validation.update.clone_from(&creation.updates);
        let owners = OwningPlugins { owners: [(id, creation.owners.to_wire())].into() };
        validation.owners = Some(owners);
        if let Some(settings) = &self.settings.validator {
            validate::by_settings(settings, &validation, &creation.owners)?;
        }
        validate::by_plugins(&judges, &validation).await?;
        Ok(creation)
    }

    /// Asks all plugins what limits a container shall get.
    ///
    /// # Errors
    /// One of them refuses, or two set the same.
    pub async fn update(
        &self,
        pod: PodSandbox,
        container: Container,
        resources: LinuxResources,
    ) -> Result<Update, HookError> {
        let _turn = self.dispatch.lock().await;
        let mut updating = Updating::new(UpdateContainerRequest {
            pod: Some(pod),
            container: Some(container),
            linux_resources: Some(resources),
        });
        for plugin in self.all() {
            if let Some(answer) = plugin.ask(&updating.request).await? {
                updating.take(&plugin.name.to_string(), answer)?;
            }
        }
        Ok(updating.finish())
    }

    /// Tells all plugins that a container has ended; answers how others shall change for that.
    ///
    /// # Errors
    /// One of them refuses, or two set the same.
    pub async fn stopped(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Vec<ContainerUpdate>, HookError> {
        let _turn = self.dispatch.lock().await;
        let request = StopContainerRequest { pod: Some(pod), container: Some(container) };
        let mut updates = Updates::default();
        for plugin in self.all() {
            let answer = plugin.ask(&request).await?;
            for update in answer.into_iter().flat_map(|answer| answer.update) {
                updates.take(&plugin.name.to_string(), update)?;
            }
        }
        Ok(updates.finish())
    }

    /// Waits until no operation and no request is under way, and keeps it so.
    pub(crate) async fn quiet(&self) -> Quiet<'_> {
        loop {
            // One that waits keeps those out that come after it; it does not keep them out for long.
            if let Ok(gate) = tokio::time::timeout(JOIN_STEP, self.gate.write()).await {
                let dispatch = self.dispatch.lock().await;
                self.joining.fetch_add(1, Ordering::SeqCst);
                return Quiet { joining: &self.joining, _gate: gate, _dispatch: dispatch };
            }
        }
    }

    /// Adds a plugin at its place in the order. The caller holds the quiet.
    pub(crate) fn join(&self, plugin: Arc<Plugin>) {
        let mut plugins = self.plugins();
        plugins.push(plugin);
        plugins.sort_by(|one, other| one.name.index().cmp(other.name.index()));
    }

    /// Takes a plugin out of the list.
    pub(crate) fn leave(&self, plugin: &Arc<Plugin>) {
        self.plugins().retain(|other| !Arc::ptr_eq(other, plugin));
    }

    /// Ends the connections of all.
    pub(crate) fn leave_all(&self) {
        for plugin in self.plugins().drain(..) {
            plugin.connection.close();
        }
    }

    fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins().clone()
    }

    fn plugins(&self) -> StdGuard<'_, Vec<Arc<Plugin>>> {
        // Nothing under this lock can panic half-way through a change.
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
