//! What the next pod's network would be, looked at without starting anything: for whoever judges a host.

use crate::conf::{ConfigurationList, Loaded, Origin, Plugin};
use crate::identity::Identities;
use crate::invoke::{InvokeError, program_of};
use crate::{NetworkNotReady, NetworkSettings};
use serde::Deserialize;
use std::path::PathBuf;

/// What the configuration directory and the plugin directories have.
#[derive(Debug)]
pub struct Survey {
    /// The name of the pods' network.
    pub network: Result<String, NetworkNotReady>,
    /// Files that were passed over, each with its reason.
    pub passed_over: Vec<String>,
    /// The plugins of that network, those for addresses included.
    pub plugins: Vec<Surveyed>,
}

/// One plugin.
#[derive(Debug)]
pub struct Surveyed {
    /// Its type.
    pub kind: String,
    /// The version of the protocol that it will be told.
    pub version: String,
    /// Its program; none if it is built in.
    pub program: Result<Option<PathBuf>, InvokeError>,
}

/// Reads the configurations and looks for the plugins.
#[must_use]
pub fn survey(settings: &NetworkSettings) -> Survey {
    let loaded = Loaded::read(&settings.config_directory);
    let selected = loaded.select(settings.default_network.as_deref());
    let identities = Identities::new(settings.plugin_program.clone());
    let plugins = selected.as_ref().map_or_else(
        |_none| Vec::new(),
        |list| {
            let found = |kind: String, origin| {
                let program = program_of(settings, &identities, &kind, origin);
                Surveyed { kind, version: list.version.clone(), program }
            };
            kinds(list).into_iter().map(|(kind, origin)| found(kind, origin)).collect()
        },
    );
    let network = selected.map(|list| list.name.clone());
    Survey { network, passed_over: loaded.problems, plugins }
}

/// The types that a list names, each once, in the order of their first use.
fn kinds(list: &ConfigurationList) -> Vec<(String, Origin)> {
    let mut kinds: Vec<(String, Origin)> = Vec::new();
    for plugin in &list.plugins {
        let addresses = addresses_of(plugin).map(|kind| (kind, plugin.origin));
        for one in [Some((plugin.kind.clone(), plugin.origin)), addresses].into_iter().flatten() {
            if !kinds.contains(&one) {
                kinds.push(one);
            }
        }
    }
    kinds
}

/// The type of the plugin that a plugin gets its addresses from.
fn addresses_of(plugin: &Plugin) -> Option<String> {
    #[derive(Deserialize)]
    struct Ipam {
        #[serde(default, rename = "type")]
        kind: String,
    }
    let ipam: Ipam = serde_json::from_str(plugin.object.get("ipam")?.get()).ok()?;
    Some(ipam.kind).filter(|kind| !kind.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_named_once_with_those_for_addresses() {
        let list = ConfigurationList::parse(
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[
                {"type":"bridge","ipam":{"type":"host-local"}},
                {"type":"bridge","ipam":{}},{"type":"tuning"}]}"#,
        );
        let kinds = kinds(&list.unwrap());
        let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(names, ["bridge", "host-local", "tuning"]);
    }
}
