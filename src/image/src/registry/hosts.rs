//! Where a registry is reached: mirrors first, then the registry itself.
//!
//! The settings' table has the first word. A host that is not in it may have a `hosts.toml` in containerd's format. Without
//! either it's HTTPS on the host itself; loopback speaks plain HTTP unless it turns out not to.

mod hosts_toml;

use super::transport::{Origin, TlsOptions, is_loopback};
use crate::settings::{ImageSettings, RegistrySettings};
use cringle_domain::reference::DEFAULT_REGISTRY;
use http::{HeaderMap, Uri};
use std::path::PathBuf;

/// Where Docker's registry really is.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// Why the endpoints of a registry cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A base URL in the settings or in a hosts file is none.
    #[error("\"{0}\" is not the URL of a registry")]
    Url(String),
    /// A hosts file could not be read.
    #[error("failed to read \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A hosts file is malformed.
    #[error("failed to parse \"{}\"", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// A hosts file says something that it may not.
    #[error("\"{}\": {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What.
        problem: String,
    },
}

/// One place to ask for an image.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The registry that the image's name has.
    pub(crate) registry: String,
    pub(crate) role: Role,
    /// What paths are appended to, without a slash at the end: `https://host/v2`.
    pub(crate) base: String,
    pub(crate) origin: Origin,
    pub(crate) tls: TlsOptions,
    pub(crate) headers: HeaderMap,
    pub(crate) scope: Scope,
    pub(crate) token_hosts: Vec<String>,
}

/// Whether an endpoint is the registry or stands in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Mirror,
    Registry,
}

/// What an endpoint is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Tags and content.
    All,
    /// Content by digest only: it may be behind on tags.
    Content,
    /// Tags only.
    Tags,
    /// Only if the one before could not be talked to: the same host with another scheme.
    Fallback,
}

/// The endpoints for a registry as of now, in the order in which to ask them.
pub(crate) fn endpoints(
    settings: &ImageSettings,
    registry: &str,
) -> Result<Vec<Endpoint>, HostsError> {
    if let Some(set) = settings.registries.get(registry) {
        return from_settings(set, registry);
    }
    if let Some(directory) = &settings.registry_config_directory
        && let Some(found) = hosts_toml::read(directory, registry)?
    {
        return Ok(found);
    }
    from_settings(&RegistrySettings::default(), registry)
}

fn from_settings(set: &RegistrySettings, registry: &str) -> Result<Vec<Endpoint>, HostsError> {
    let mut found = Vec::new();
    for url in &set.mirrors {
        let mut mirror = Endpoint::new(registry, url, !set.override_path)?;
        mirror.role = Role::Mirror;
        found.push(mirror);
    }
    let tls = TlsOptions {
        roots: set.ca_file.iter().cloned().collect(),
        client: set.client_certificate.clone().map(|client| (client.certificate, client.key)),
        verification: hosts_toml::verification(set.skip_verify),
    };
    let host = host_of(registry);
    let schemes: &[(&str, Scope)] = if set.plain_http {
        &[("http", Scope::All)]
    } else if tls == TlsOptions::default() && is_loopback(name_of(host)) {
        &[("http", Scope::All), ("https", Scope::Fallback)]
    } else {
        &[("https", Scope::All)]
    };
    for &(scheme, scope) in schemes {
        let mut own = Endpoint::new(registry, &format!("{scheme}://{host}"), true)?;
        own.tls = tls.clone();
        own.scope = scope;
        own.token_hosts.clone_from(&set.token_hosts);
        found.push(own);
    }
    Ok(found)
}

impl Endpoint {
    fn new(registry: &str, url: &str, add_version: bool) -> Result<Self, HostsError> {
        let malformed = || HostsError::Url(url.to_owned());
        let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let uri: Uri = full.parse().map_err(|_malformed| malformed())?;
        let origin = Origin::of(&uri).ok_or_else(malformed)?;
        if uri.query().is_some() {
            return Err(malformed());
        }
        let mut base = full.trim_end_matches('/').to_owned();
        if add_version && !base.ends_with("/v2") {
            base.push_str("/v2");
        }
        Ok(Self {
            registry: registry.to_owned(),
            role: Role::Registry,
            base,
            origin,
            tls: TlsOptions::default(),
            headers: HeaderMap::new(),
            scope: Scope::All,
            token_hosts: Vec::new(),
        })
    }
}

fn host_of(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DOCKER_HOST } else { registry }
}

/// The host without port and brackets.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests;
