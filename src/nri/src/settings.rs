//! What is configured.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the plugins.
#[derive(Debug, Clone)]
pub struct NriSettings {
    /// Where plugins are that are launched at the start: executable files named `NN-name`.
    pub plugin_directory: PathBuf,
    /// Where their configuration is: `NN-name.conf` or `name.conf`.
    pub plugin_config_directory: PathBuf,
    /// How long a plugin may take to register, and to take in what there is.
    pub registration_timeout: Duration,
    /// How long it may take to answer a request.
    pub request_timeout: Duration,
    /// What the built-in validator rejects; absent: there is none.
    pub validator: Option<ValidatorSettings>,
}

/// What the built-in validator rejects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorSettings {
    /// Changes that nobody may make.
    pub rejected: Vec<Rejected>,
    /// Plugins, by name or by index and name, without which no container is made.
    pub required: Vec<String>,
    /// The annotation by which a pod says that it can do without them; empty: there is none.
    pub tolerating_annotation: String,
}

/// A change that nobody may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// OCI hooks.
    Hooks,
    /// The seccomp policy of a container with the runtime's default.
    DefaultSeccomp,
    /// The seccomp policy of a container that asked for none.
    UnconfinedSeccomp,
    /// The seccomp policy of a container that brought its own.
    CustomSeccomp,
    /// Namespaces.
    Namespaces,
    /// Sysctls.
    Sysctls,
}
