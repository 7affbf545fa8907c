//! Networks: CNI as a client.
//!
//! [`conf`] knows which network is configured, [`attach`] adds and deletes one attachment from its record, [`invoke`] runs
//! one plugin: a foreign one as a process by the book, ours on the [`worker`] thread when the file that the configuration means is
//! the one we installed. [`generated`] makes a configuration where nobody else does. [`collect`] gives back what nobody owns. Nothing here knows CRI messages or decides about pods.

pub mod attach;
pub mod collect;
pub mod conf;
pub mod generated;
pub mod invoke;
pub mod request;
pub mod survey;
pub mod template;

mod bandwidth;
mod cache;
mod capability;
mod identity;
mod watch;
mod worker;

pub use attach::{AttachError, Attached};
pub use conf::{NetworkNotReady, PlanError};
pub use generated::{GenerateError, Generated};
pub use template::PodRange;

use cringle_domain::attachment::AttachmentRecord;
use cringle_domain::id::InstanceId;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};

/// Whether our own plugins may be called in-process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuiltinPlugins {
    /// A type of ours that no file in the plugin directories has, or that a copy of our own program has, is called in the
    /// daemon.
    #[default]
    InProcess,
    /// Every plugin is executed.
    Executed,
}

/// Settings of the networks.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Where the network configurations are.
    pub config_directory: PathBuf,
    /// The template of the network configuration that is made when the pods' address ranges become known, if any.
    pub conf_template: Option<PathBuf>,
    /// Where the plugins are, searched in order.
    pub plugin_directories: Vec<PathBuf>,
    /// Where results are kept, in the form of the CNI library.
    pub cache_directory: PathBuf,
    /// Our own multicall plugin program, to recognise its copies.
    pub plugin_program: PathBuf,
    /// The instance, in whose name everything global is made.
    pub instance: InstanceId,
    /// Whether our own plugins may be called in-process.
    pub builtin_plugins: BuiltinPlugins,
    /// The network for pods; absent: the first valid one by file name.
    pub default_network: Option<String>,
    /// How long an ADD may take.
    pub add_timeout: Duration,
    /// How long a DEL may take.
    pub delete_timeout: Duration,
}

/// The networks of one instance.
#[derive(Debug)]
pub struct Network {
    settings: NetworkSettings,
    loaded: Arc<watch::Configurations>,
    worker: worker::Worker,
    identity: identity::Identities,
    status: Mutex<Option<collect::StatusSample>>,
    /// Read by ADD and DEL, written by collections: they exclude each other.
    collecting: RwLock<()>,
}

/// Why the networks cannot be had at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The worker's or the watcher's thread could not be started.
    #[error("failed to start thread \"{name}\"")]
    Thread {
        /// Which.
        name: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A directory could not be made.
    #[error("failed to make \"{}\"", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Network {
    /// Loads the configurations and keeps watching them.
    ///
    /// # Errors
    /// If a thread or the cache directory can't be made. No configuration, or a bad one, is no error but a reason not to
    /// be ready.
    pub fn start(settings: NetworkSettings) -> Result<Arc<Self>, StartError> {
        let results = settings.cache_directory.join("results");
        cringle_store::atomic::private_directory(&results)
            .map_err(|source| StartError::Directory { path: results, source })?;
        let loaded = watch::Configurations::start(&settings)?;
        let worker = worker::Worker::start(settings.instance.as_str())?;
        let identity = identity::Identities::new(settings.plugin_program.clone());
        Ok(Arc::new(Self {
            settings,
            loaded,
            worker,
            identity,
            status: Mutex::new(None),
            collecting: RwLock::new(()),
        }))
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// The configuration that the next pod gets, as text.
    ///
    /// # Errors
    /// Why there is none.
    pub fn configuration(&self) -> Result<String, NetworkNotReady> {
        let loaded = self.loaded.now();
        let list = loaded.select(self.settings.default_network.as_deref())?;
        Ok(list.text.clone())
    }

    /// What attaching gave, as the plugins said it, if it is still kept. Reads one small file.
    #[must_use]
    pub fn result(&self, record: &AttachmentRecord) -> Option<String> {
        let result = cache::read(&self.settings.cache_directory, record)?;
        Some(result.get().to_owned())
    }

    /// Why no pod could be attached now; instant.
    ///
    /// # Errors
    /// The reason.
    pub fn status(&self) -> Result<(), NetworkNotReady> {
        self.loaded.now().select(self.settings.default_network.as_deref()).map(drop)
    }
}
