//! Plugins (NRI): their settings, their socket, and when they come and go.

use crate::config::{NriKeys, Switch};
use crate::listen;
use cringle_nri::{NriSettings, Rejected, ValidatorSettings};
use cringle_service::Service;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Where plugins are, and how long they may take.
pub(crate) fn settings(keys: &NriKeys) -> NriSettings {
    NriSettings {
        plugin_directory: keys.plugin_path.as_path().to_owned(),
        plugin_config_directory: keys.plugin_config_path.as_path().to_owned(),
        registration_timeout: keys.plugin_registration_timeout.duration(),
        request_timeout: keys.plugin_request_timeout.duration(),
        validator: (keys.enable.is_on() && keys.default_validator.is_on()).then(|| validator(keys)),
    }
}

fn validator(keys: &NriKeys) -> ValidatorSettings {
    let rejected: [(Switch, Rejected); 6] = [
        (keys.reject_oci_hook_adjustment, Rejected::Hooks),
        (keys.reject_runtime_default_seccomp_adjustment, Rejected::DefaultSeccomp),
        (keys.reject_unconfined_seccomp_adjustment, Rejected::UnconfinedSeccomp),
        (keys.reject_custom_seccomp_adjustment, Rejected::CustomSeccomp),
        (keys.reject_namespace_adjustment, Rejected::Namespaces),
        (keys.reject_sysctl_adjustment, Rejected::Sysctls),
    ];
    let rejected = rejected.into_iter().filter(|(switch, _)| switch.is_on());
    ValidatorSettings {
        rejected: rejected.map(|(_, rejected)| rejected).collect(),
        required: keys.required_plugins.clone(),
        tolerating_annotation: keys.tolerate_missing_plugins_annotation.clone(),
    }
}

/// Launches what is installed and opens the socket, before clients are served: nothing happens that plugins are not told of.
/// The runtime does without plugins rather than not at all.
pub(crate) async fn start(keys: &NriKeys, service: &Arc<Service>) {
    if !keys.enable.is_on() {
        return;
    }
    let listener = if keys.external_connections.is_on() { socket(keys) } else { None };
    service.start_plugins(listener).await;
}

/// Ends all plugins, and removes the socket if it is ours.
pub(crate) async fn stop(keys: &NriKeys, service: &Service) {
    if !keys.enable.is_on() {
        return;
    }
    service.stop_plugins().await;
    let socket = keys.socket.as_path();
    if keys.external_connections.is_on()
        && !is_served(socket)
        && let Err(error) = std::fs::remove_file(socket)
    {
        tracing::debug!(%error, "the socket of NRI plugins was not removed");
    }
}

/// Every runtime has its socket at this path, and there may be another one on this machine.
fn socket(keys: &NriKeys) -> Option<UnixListener> {
    let path = keys.socket.as_path();
    if is_served(path) {
        tracing::warn!(path = %path.display(), "another runtime takes connections of NRI plugins");
        return None;
    }
    match listen::listen_alone(path) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            tracing::warn!(error, "no connections of NRI plugins are taken");
            None
        }
    }
}

fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}
