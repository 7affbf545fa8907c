//! The composition root: who gets what, and in which order the daemon starts.
//!
//! Lock the instance, open the stores, read records and reconcile them with the host, and only then open the socket and
//! say so. A crash anywhere in between is just another start.

use crate::config::{CheckpointLevel, OldestTls, Settings, Switch, UnsetSeccomp};
use crate::listen::{self, ListenError};
use crate::nri;
use crate::prometheus::{self, Source};
use crate::rpc::{self, ImageRpc, Latencies, RuntimeRpc, Services, StreamingRpc};
use crate::shutdown::Shutdown;
use crate::watchdog;
use cringle_domain::planner::PlanSettings;
use cringle_domain::security::Seccomp;
use cringle_image::{ImageSettings, Images};
use cringle_network::{BuiltinPlugins, Network, NetworkSettings};
use cringle_service::checkpoint::{self, CheckpointSettings};
use cringle_service::clock::Clock;
use cringle_service::{CdiFiles, Service, ServiceSettings, Writes};
use cringle_store::instance::{self, InstanceLock, LockError};
use cringle_store::layout::Layout;
use cringle_streaming::{Streaming, StreamingSettings, TlsFiles, TlsVersion};
use sd_notify::NotifyState;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long the end of the daemon waits for deletions.
const DELETION_PATIENCE: Duration = Duration::from_secs(5);

/// How long the instance may stay locked before it is said to be another's, and how often that is asked.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The signals that end it cannot be caught.
    #[error("failed to catch signals")]
    Signals(#[source] io::Error),
    /// Its own program cannot be found.
    #[error("failed to find the daemon's own program")]
    OwnProgram(#[source] io::Error),
    /// The instance is taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The images cannot be had.
    #[error(transparent)]
    Images(#[from] cringle_image::OpenError),
    /// The networks cannot be had.
    #[error(transparent)]
    Network(#[from] cringle_network::StartError),
    /// The service cannot be made, or cannot read what is there.
    #[error(transparent)]
    Service(Box<cringle_service::ServiceError>),
    /// Streaming cannot be served.
    #[error(transparent)]
    Streaming(#[from] cringle_streaming::StartError),
    /// The socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The page for Prometheus cannot be had.
    #[error(transparent)]
    Metrics(#[from] prometheus::MetricsError),
    /// The server broke down.
    #[error("failed to serve")]
    Server(#[source] tonic::transport::Error),
}

/// Starts, serves until a signal, and ends.
///
/// # Errors
/// If something that is needed cannot be had.
pub(crate) async fn serve(settings: &Settings) -> Result<(), ServeError> {
    let mut shutdown = Shutdown::catch().map_err(ServeError::Signals)?;
    let layout = layout(settings);
    let _instance = lock(&layout).await?;
    let service = service(settings, layout)?;
    service.recover().await.map_err(in_service)?;
    let images = Arc::clone(service.images());
    nri::start(&settings.nri, &service).await;
    let streaming = Streaming::start(streaming_settings(settings), Arc::clone(&service)).await?;
    let socket = settings.daemon.socket.as_path();
    let listener = listen::listen(socket)?;
    let latencies = Arc::new(Latencies::default());
    let source = Source { service: Arc::clone(&service), latencies: Arc::clone(&latencies) };
    let metrics = prometheus::start(&settings.metrics.address, source).await?;
    let every = settings.metrics.layer_interval.duration();
    let layers = tokio::spawn(Arc::clone(&service).watch_layers(every));
    let memory = tokio::spawn(cringle_service::memory::keep_small());
    let services = Services {
        runtime: RuntimeRpc::new(
            Arc::clone(&service),
            Arc::clone(&latencies),
            shown(settings),
            StreamingRpc::new(Arc::clone(&service), streaming.urls().clone()),
        ),
        images: ImageRpc::new(Arc::clone(&service), clock()),
        latencies,
    };
    let watchdog = watchdog::start(socket);
    tell(NotifyState::Ready);
    tracing::info!(socket = %socket.display(), instance = %settings.daemon.instance, "serving");
    let plugins = Arc::clone(&service);
    let ending = service;
    let ordered = async {
        let signal = shutdown.ordered().await;
        tracing::info!(signal, "ending");
        tell(NotifyState::Stopping);
        ending.end_events();
    };
    let served = rpc::serve(listener, services, ordered, settings.daemon.drain.duration()).await;
    drop(watchdog);
    streaming.shut_down().await;
    nri::stop(&settings.nri, &plugins).await;
    drop(metrics);
    layers.abort();
    memory.abort();
    finish_deletions(&images).await;
    // Gone while the instance is still ours; a next daemon would replace it anyway.
    if let Err(error) = std::fs::remove_file(socket) {
        tracing::debug!(%error, "the socket was not removed");
    }
    served.map_err(ServeError::Server)
}

/// Gives deletions that were answered already a moment to be done; the next start goes on with what is left.
async fn finish_deletions(images: &Arc<Images>) {
    let images = Arc::clone(images);
    let finished = tokio::task::spawn_blocking(move || images.finish_sweep());
    if tokio::time::timeout(DELETION_PATIENCE, finished).await.is_err() {
        tracing::info!("deletions go on at the next start");
    }
}

/// Locks the instance. A daemon that was killed while it spawned a program leaves its lock to that for a moment.
async fn lock(layout: &Layout) -> Result<InstanceLock, LockError> {
    let attempt = || instance::lock(&[layout.root(), layout.state()]);
    let patient = async {
        loop {
            match attempt() {
                Err(LockError::Held { .. }) => tokio::time::sleep(LOCK_PAUSE).await,
                other => return other,
            }
        }
    };
    tokio::time::timeout(LOCK_PATIENCE, patient).await.unwrap_or_else(|_elapsed| attempt())
}

fn service(settings: &Settings, layout: Layout) -> Result<Arc<Service>, ServeError> {
    let beside = &own_directory()?;
    let images = Images::open(&layout.images(), image_settings(settings))?;
    let network = Network::start(network_settings(settings, beside))?;
    let service = service_settings(settings, layout, beside);
    Service::new(service, images, network, clock()).map_err(in_service)
}

/// Where the daemon's own program lies, and the others beside it.
///
/// # Errors
/// If the kernel does not tell.
pub(crate) fn own_directory() -> Result<PathBuf, ServeError> {
    let own = std::env::current_exe().map_err(ServeError::OwnProgram)?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

fn in_service(error: cringle_service::ServiceError) -> ServeError {
    ServeError::Service(Box::new(error))
}

fn layout(settings: &Settings) -> Layout {
    let daemon = &settings.daemon;
    Layout::new(
        daemon.root.as_path().to_owned(),
        daemon.state.as_path().to_owned(),
        settings.network.netns_directory.as_path().to_owned(),
        daemon.instance.clone(),
    )
}

fn image_settings(settings: &Settings) -> ImageSettings {
    let images = &settings.images;
    ImageSettings {
        registries: images.registries.clone(),
        registry_config_directory: Some(images.registry_config_directory.as_path().to_owned()),
        concurrent_downloads: images.max_concurrent_downloads.get().into(),
        progress_timeout: images.progress_timeout.duration(),
        pinned: images.pinned.clone(),
        ..ImageSettings::default()
    }
}

/// What the network is to be like.
pub(crate) fn network_settings(settings: &Settings, beside: &Path) -> NetworkSettings {
    let network = &settings.network;
    let directories = network.plugin_directories.iter();
    NetworkSettings {
        config_directory: network.config_directory.as_path().to_owned(),
        conf_template: network.conf_template.path().map(Path::to_owned),
        plugin_directories: directories.map(|path| path.as_path().to_owned()).collect(),
        cache_directory: network.cache_directory.as_path().to_owned(),
        plugin_program: network.plugin_program.path(beside),
        instance: settings.daemon.instance.clone(),
        builtin_plugins: match network.builtin_plugins {
            Switch::On => BuiltinPlugins::InProcess,
            Switch::Off => BuiltinPlugins::Executed,
        },
        default_network: None,
        add_timeout: network.add_timeout.duration(),
        delete_timeout: network.delete_timeout.duration(),
    }
}

fn service_settings(settings: &Settings, layout: Layout, beside: &Path) -> ServiceSettings {
    let parent = settings.cgroup.parent.as_str().trim_end_matches('/');
    let parent = format!("{parent}/{}", settings.daemon.instance);
    ServiceSettings {
        layout,
        shim: settings.shim.path.path(beside),
        writes: match settings.containers.overlay_volatile {
            Switch::On => Writes::Volatile,
            Switch::Off => Writes::Synced,
        },
        cdi: match settings.cdi.enable {
            Switch::On => CdiFiles::In(
                settings.cdi.spec_dirs.iter().map(|path| path.as_path().to_owned()).collect(),
            ),
            Switch::Off => CdiFiles::Off,
        },
        nri: nri::settings(&settings.nri),
        checkpoint: CheckpointSettings {
            criu: settings.checkpoint.criu.path().map(Path::to_owned),
            level: match settings.checkpoint.level {
                CheckpointLevel::None => checkpoint::CheckpointLevel::None,
                CheckpointLevel::CheckpointOnly => checkpoint::CheckpointLevel::CheckpointOnly,
                CheckpointLevel::CheckpointRestore => {
                    checkpoint::CheckpointLevel::CheckpointRestore
                }
            },
            timeout: settings.checkpoint.timeout.duration(),
        },
        plan: plan_settings(settings, parent),
    }
}

fn streaming_settings(settings: &Settings) -> StreamingSettings {
    let streaming = &settings.streaming;
    let idle = streaming.idle_timeout.duration();
    StreamingSettings {
        address: SocketAddr::new(streaming.address, streaming.port),
        tls: streaming.certificate().map(|(certificate, key)| TlsFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            client_authority: streaming.tls_client_ca.path().map(Path::to_owned),
            oldest: match streaming.tls_min_version {
                OldestTls::V12 => TlsVersion::V12,
                OldestTls::V13 => TlsVersion::V13,
            },
        }),
        idle: (!idle.is_zero()).then_some(idle),
        creation: streaming.creation_timeout.duration(),
        waiting: streaming.max_waiting.get().into(),
    }
}

fn plan_settings(settings: &Settings, cgroup_parent: String) -> PlanSettings {
    PlanSettings {
        default_capabilities: settings.containers.capabilities,
        unset_seccomp: match settings.containers.unset_seccomp {
            UnsetSeccomp::Unconfined => Seccomp::Unconfined,
            UnsetSeccomp::RuntimeDefault => Seccomp::RuntimeDefault,
        },
        unprivileged_ports: settings.pods.enable_unprivileged_ports.is_on(),
        unprivileged_ping: settings.pods.enable_unprivileged_icmp.is_on(),
        cgroup_parent,
        ..PlanSettings::default()
    }
}

/// What tools are shown of the configuration; `stateDir` is what the conformance suite looks for.
fn shown(settings: &Settings) -> String {
    let path = |path: &Path| PathBuf::from(path);
    serde_json::json!({
        "instance": settings.daemon.instance.as_str(),
        "rootDir": path(settings.daemon.root.as_path()),
        "stateDir": path(settings.daemon.state.as_path()),
        "socket": path(settings.daemon.socket.as_path()),
        "cniConfDir": path(settings.network.config_directory.as_path()),
        "cgroupDriver": "cgroupfs",
    })
    .to_string()
}

/// The only reader of the wall clock.
fn clock() -> Clock {
    Clock::new(|| SystemTime::now().into())
}

/// Tells the service manager, if there is one.
pub(crate) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
