//! How a plugin comes to be in the list: it registers, is configured, is told all that there is, and then is told what
//! happens, until its connection ends.

use crate::connection::{AskError, Connection, Incoming};
use crate::hook::Events;
use crate::launch::{self, Installed, LaunchError};
use crate::nri::{Nri, Runtime};
use crate::plugin::{Plugin, PluginName};
use crate::synchronize::{SynchronizeError, synchronize};
use cringle_proto_nri::ttrpc::Status;
use cringle_proto_nri::v1alpha1::{
    ConfigureRequest, ConfigureResponse, ContainerUpdate, Empty, RegisterPluginRequest,
    UpdateContainersRequest, UpdateContainersResponse,
};
use cringle_proto_nri::{Call, Named};
use prost::Message;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

/// The version of the interface that plugins are told.
const NRI_VERSION: &str = "0.12.5";
/// How long accepting rests when it fails, for want of descriptors.
const REST: Duration = Duration::from_millis(100);
/// How long it may take until no operation is under way; the slowest are starts of containers whose volumes or hooks are
/// slow.
const QUIET_PATIENCE: Duration = Duration::from_secs(120);
/// Connections at a time, of plugins and of those that want to be.
pub(crate) const CONNECTIONS: usize = 64;
/// gRPC's codes.
const INVALID_ARGUMENT: i32 = 3;
const UNIMPLEMENTED: i32 = crate::connection::UNIMPLEMENTED;

/// Why a plugin did not join.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("it did not register within {0:?}")]
    Late(Duration),
    #[error("the connection ended before it registered")]
    Gone,
    #[error("the first thing it said was {0}")]
    Unregistered(String),
    #[error(
        "its index {index:?} is not two digits, or its name {name:?} not made of letters, digits and -_.+"
    )]
    Name { index: String, name: String },
    #[error("its registration makes no sense")]
    Decode(#[source] prost::DecodeError),
    #[error("failed to configure it")]
    Configure(#[source] AskError),
    #[error("it subscribed to events that there are not: {0:#x}")]
    Events(i32),
    #[error(transparent)]
    Synchronize(#[from] SynchronizeError),
    #[error("there was no quiet moment within {0:?}")]
    Unquiet(Duration),
}

/// A plugin that was launched: its name and configuration are not its to say.
#[derive(Debug)]
struct Launched {
    name: PluginName,
    config: String,
    process: Child,
}

impl Nri {
    /// Launches the installed plugins and waits until they have joined or failed to; then takes connections of others, if
    /// there is a socket for that.
    pub async fn start(
        self: &Arc<Self>,
        runtime: Arc<dyn Runtime>,
        listener: Option<UnixListener>,
    ) {
        match launch::installed(&self.settings.plugin_directory) {
            Ok(found) => {
                let joined = found.iter().map(|one| self.launch(one, &runtime));
                drop(futures::future::join_all(joined).await);
            }
            Err(error) => warn(&error),
        }
        if let Some(listener) = listener {
            self.spawn(Arc::clone(self).accept(runtime, listener));
        }
    }

    /// Ends all connections and the plugins that were launched.
    pub async fn shut_down(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
        self.leave_all();
    }

    async fn launch(self: &Arc<Self>, installed: &Installed, runtime: &Arc<dyn Runtime>) {
        if let Err(error) = self.try_launch(installed, runtime).await {
            let plugin = installed.name.to_string();
            tracing::warn!(plugin, error = chain(&error), "NRI plugin was not launched");
        }
    }

    async fn try_launch(
        self: &Arc<Self>,
        installed: &Installed,
        runtime: &Arc<dyn Runtime>,
    ) -> Result<(), RegisterError> {
        let config = installed.config(&self.settings)?;
        let (stream, process) = installed.launch()?;
        let (connection, mut incoming) = Connection::start(stream);
        let launched = Launched { name: installed.name.clone(), config, process };
        let joined = self.admit(connection, &mut incoming, Some(&launched), runtime).await?;
        let task = Arc::clone(self).serve(joined, incoming, Arc::clone(runtime));
        self.spawn(async move {
            // Its process is killed when it is dropped.
            let _process = launched.process;
            task.await;
        });
        Ok(())
    }

    async fn accept(self: Arc<Self>, runtime: Arc<dyn Runtime>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let attended = Arc::clone(&self).attend(stream, Arc::clone(&runtime));
                        self.spawn(async move {
                            let _place = place;
                            attended.await;
                        });
                    }
                    Err(_none) => {
                        tracing::warn!("NRI plugin turned away: there are {CONNECTIONS} already");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "failed to accept an NRI plugin");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    pub(crate) async fn attend(self: Arc<Self>, stream: UnixStream, runtime: Arc<dyn Runtime>) {
        let (connection, mut incoming) = Connection::start(stream);
        match self.admit(connection, &mut incoming, None, &runtime).await {
            Ok(joined) => self.serve(joined, incoming, runtime).await,
            Err(error) => tracing::warn!(error = chain(&error), "NRI plugin did not join"),
        }
    }

    /// From the connection to a place in the list.
    async fn admit(
        &self,
        connection: Connection,
        incoming: &mut Receiver<Incoming>,
        launched: Option<&Launched>,
        runtime: &Arc<dyn Runtime>,
    ) -> Result<Arc<Plugin>, RegisterError> {
        let name = self.registered(&connection, incoming, launched).await?;
        let config = launched.map_or_else(String::new, |launched| launched.config.clone());
        let answer = self.configured(&connection, config).await?;
        let events =
            Events::from_wire(answer.events).ok_or(RegisterError::Events(answer.events))?;
        let policy = answer.failure_policy.unwrap_or_default();
        let patience = self.settings.request_timeout;
        let plugin = Arc::new(Plugin::new(name, connection, events, policy, patience));
        let updates = self.brought_in(&plugin, runtime).await?;
        tracing::info!(plugin = %plugin.name, "NRI plugin joined");
        drop(change(runtime, updates, "NRI plugin's update").await);
        Ok(plugin)
    }

    /// The name that it registers with.
    async fn registered(
        &self,
        connection: &Connection,
        incoming: &mut Receiver<Incoming>,
        launched: Option<&Launched>,
    ) -> Result<PluginName, RegisterError> {
        let patience = self.settings.registration_timeout;
        let first = tokio::time::timeout(patience, incoming.recv()).await;
        let Incoming { stream, request, .. } =
            first.map_err(|_late| RegisterError::Late(patience))?.ok_or(RegisterError::Gone)?;
        if !is_call_of::<RegisterPluginRequest>(&request.service, &request.method) {
            connection.answer(stream, Err(status(UNIMPLEMENTED, "register first"))).await;
            return Err(RegisterError::Unregistered(request.method));
        }
        let asked = RegisterPluginRequest::decode(request.payload.as_slice())
            .map_err(RegisterError::Decode)?;
        let name = match launched {
            Some(launched) => Some(launched.name.clone()),
            None => PluginName::new(&asked.plugin_idx, &asked.plugin_name),
        };
        let Some(name) = name else {
            let error = RegisterError::Name { index: asked.plugin_idx, name: asked.plugin_name };
            let refusal = status(INVALID_ARGUMENT, &error.to_string());
            connection.answer(stream, Err(refusal)).await;
            return Err(error);
        };
        connection.answer(stream, Ok(Empty {}.encode_to_vec())).await;
        Ok(name)
    }

    async fn configured(
        &self,
        connection: &Connection,
        config: String,
    ) -> Result<ConfigureResponse, RegisterError> {
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let request = ConfigureRequest {
            config,
            runtime_name: "cringle".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            registration_timeout: milliseconds(self.settings.registration_timeout),
            request_timeout: milliseconds(self.settings.request_timeout),
            nri_version: NRI_VERSION.to_owned(),
        };
        let asked = connection.ask(&request, self.settings.request_timeout).await;
        asked.map_err(RegisterError::Configure)
    }

    /// Tells it what there is, in a moment in which nothing changes, and puts it into the list in the same.
    ///
    /// What there is may be much, and is told once: a plugin has the time of a registration for it, not that of a request.
    async fn brought_in(
        &self,
        plugin: &Arc<Plugin>,
        runtime: &Arc<dyn Runtime>,
    ) -> Result<Vec<ContainerUpdate>, RegisterError> {
        let patience = self.settings.registration_timeout;
        let quiet = tokio::time::timeout(QUIET_PATIENCE, self.quiet()).await;
        let _quiet = quiet.map_err(|_elapsed| RegisterError::Unquiet(QUIET_PATIENCE))?;
        let (pods, containers) = runtime.state();
        let updates = synchronize(&plugin.connection, pods, containers, patience).await?;
        self.join(Arc::clone(plugin));
        Ok(updates)
    }

    /// Serves the plugin's calls until its connection ends, and takes it out of the list.
    async fn serve(
        self: Arc<Self>,
        plugin: Arc<Plugin>,
        mut incoming: Receiver<Incoming>,
        runtime: Arc<dyn Runtime>,
    ) {
        while let Some(Incoming { stream, request, .. }) = incoming.recv().await {
            let outcome =
                if is_call_of::<UpdateContainersRequest>(&request.service, &request.method) {
                    unsolicited(&runtime, &request.payload).await
                } else {
                    Err(status(UNIMPLEMENTED, &format!("there is no {}", request.method)))
                };
            plugin.connection.answer(stream, outcome).await;
        }
        self.leave(&plugin);
        tracing::info!(plugin = %plugin.name, "NRI plugin left");
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // Those that have ended give their places back.
        while tasks.try_join_next().is_some() {}
        drop(tasks.spawn(task));
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, tokio::task::JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes that a plugin wants without having been asked: those that can be made are.
async fn unsolicited(runtime: &Arc<dyn Runtime>, payload: &[u8]) -> Result<Vec<u8>, Status> {
    let request = UpdateContainersRequest::decode(payload)
        .map_err(|error| status(INVALID_ARGUMENT, &error.to_string()))?;
    let failed = change(runtime, request.update, "unsolicited update of an NRI plugin").await;
    for eviction in request.evict {
        let (container, reason) = (eviction.container_id.clone(), eviction.reason.clone());
        match runtime.evict(eviction).await {
            Ok(()) => tracing::info!(container, reason, "evicted by an NRI plugin"),
            Err(error) => tracing::warn!(container, error, "eviction by an NRI plugin failed"),
        }
    }
    Ok(UpdateContainersResponse { failed }.encode_to_vec())
}

/// Makes changes; answers those that failed and whose plugin minds.
async fn change(
    runtime: &Arc<dyn Runtime>,
    updates: Vec<ContainerUpdate>,
    what: &str,
) -> Vec<ContainerUpdate> {
    let mut failed = Vec::new();
    for update in updates {
        if let Err(error) = runtime.update(update.clone()).await {
            tracing::warn!(container = update.container_id, error, what, "failed");
            if !update.ignore_failure {
                failed.push(update);
            }
        }
    }
    failed
}

fn is_call_of<Q: Call<cringle_proto_nri::Runtime>>(service: &str, method: &str) -> bool {
    service == cringle_proto_nri::Runtime::NAME && method == Q::METHOD
}

fn status(code: i32, message: &str) -> Status {
    Status { code, message: message.to_owned() }
}

fn warn(error: &dyn std::error::Error) {
    tracing::warn!(error = chain(error), "NRI plugins are not launched");
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
