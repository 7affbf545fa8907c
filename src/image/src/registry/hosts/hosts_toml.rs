//! containerd's `hosts.toml`, so that a node's existing files keep working.
//!
//! `<directory>/<host>/hosts.toml`, with a port `<host>:<port>` or `<host>_<port>_`, for all others `_default`. Files are
//! read at each pull: what writes them needn't tell us.

use super::{Endpoint, HostsError, Role, Scope, host_of};
use crate::registry::transport::{TlsOptions, Verification};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The file as it is written. Keys that we have no use for are left alone, as containerd does.
#[derive(Debug, Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    /// In the order of the file.
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    server_options: HostOptions,
}

#[derive(Debug, Default, Deserialize)]
struct HostOptions {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(PathBuf),
    More(Vec<PathBuf>),
    Pairs(Vec<Vec<PathBuf>>),
}

/// The endpoints that the directory gives for a registry, if it has a file for it.
pub(super) fn read(directory: &Path, registry: &str) -> Result<Option<Vec<Endpoint>>, HostsError> {
    let mut names = vec![registry.to_owned()];
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.push("_default".to_owned());
    for name in names {
        let path = directory.join(name).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse(&path, &text, registry).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostsError::Read { path, source }),
        }
    }
    Ok(None)
}

fn parse(path: &Path, text: &str, registry: &str) -> Result<Vec<Endpoint>, HostsError> {
    let parse_failed = |source| HostsError::Parse { path: path.to_owned(), source };
    let file: HostsFile = toml::from_str(text).map_err(parse_failed)?;
    let mut found = Vec::new();
    for (url, options) in file.host {
        let options: HostOptions = options.try_into().map_err(parse_failed)?;
        let mut mirror = endpoint(path, registry, &url, &options)?;
        mirror.role = Role::Mirror;
        found.push(mirror);
    }
    let server = file.server.unwrap_or_else(|| format!("https://{}", host_of(registry)));
    // Docker's own name answers for its registry in these files.
    let server = match server.trim_end_matches('/') {
        "https://docker.io" => format!("https://{}", host_of(registry)),
        other => other.to_owned(),
    };
    let own = endpoint(path, registry, &server, &file.server_options)?;
    let is_listed = found.iter().any(|mirror| mirror.base == own.base);
    if !is_listed {
        found.push(own);
    }
    // A listed host that is the registry itself is no mirror.
    for endpoint in &mut found {
        if endpoint.origin.authority() == registry {
            endpoint.role = Role::Registry;
        }
    }
    Ok(found)
}

fn endpoint(
    path: &Path,
    registry: &str,
    url: &str,
    options: &HostOptions,
) -> Result<Endpoint, HostsError> {
    let problem = |problem: String| HostsError::Content { path: path.to_owned(), problem };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut endpoint = Endpoint::new(registry, url, !options.override_path)?;
    endpoint.tls = TlsOptions {
        roots: match &options.ca {
            None => Vec::new(),
            Some(OneOrMore::One(file)) => vec![directory.join(file)],
            Some(OneOrMore::More(files)) => files.iter().map(|file| directory.join(file)).collect(),
        },
        client: options
            .client
            .as_ref()
            .and_then(first_client)
            .map(|(certificate, key)| (directory.join(certificate), directory.join(key))),
        verification: verification(options.skip_verify),
    };
    endpoint.scope = scope(options.capabilities.as_deref())
        .ok_or_else(|| problem(format!("host \"{url}\" can neither pull nor resolve")))?;
    for (name, value) in &options.header {
        let name: HeaderName = name
            .parse()
            .map_err(|_malformed| problem(format!("header \"{name}\" is malformed")))?;
        for text in texts(value) {
            let value = HeaderValue::from_str(text).map_err(|_malformed| {
                problem(format!("the value of header \"{name}\" is malformed"))
            })?;
            endpoint.headers.append(name.clone(), value);
        }
    }
    Ok(endpoint)
}

pub(super) fn verification(skip: bool) -> Verification {
    if skip { Verification::Skipped } else { Verification::Required }
}

fn scope(capabilities: Option<&[String]>) -> Option<Scope> {
    let Some(capabilities) = capabilities else { return Some(Scope::All) };
    let can = |what: &str| capabilities.iter().any(|capability| capability == what);
    match (can("pull"), can("resolve")) {
        (true, true) => Some(Scope::All),
        (true, false) => Some(Scope::Content),
        (false, true) => Some(Scope::Tags),
        (false, false) => None,
    }
}

fn first_client(client: &Client) -> Option<(&PathBuf, &PathBuf)> {
    match client {
        Client::One(file) => Some((file, file)),
        Client::More(files) => files.first().map(|file| (file, file)),
        Client::Pairs(pairs) => {
            let pair = pairs.first()?;
            let certificate = pair.first()?;
            Some((certificate, pair.get(1).unwrap_or(certificate)))
        }
    }
}

fn texts(value: &toml::Value) -> Vec<&str> {
    match value.as_array() {
        Some(values) => values.iter().filter_map(toml::Value::as_str).collect(),
        None => value.as_str().into_iter().collect(),
    }
}
