//! The one entry to all plugins: checks a request, finds the plugin, calls it.

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::bridge::Bridge;
use crate::context::Context;
use crate::host::Host;
use crate::ipam::{Fixed, HostLocal};
use crate::loopback::Loopback;
use crate::macvlan::Macvlan;
use crate::netns::Netns;
use crate::owner::Owner;
use crate::portmap::Portmap;
use crate::spec::error::{
    INCOMPATIBLE_VERSION, INVALID_CONFIGURATION, INVALID_ENVIRONMENT, INVALID_NETNS, KERNEL_REFUSED,
};
use crate::spec::result::Result as CniResult;
use crate::spec::{Error, Network, Version, name};

/// The types of the plugins in this library.
pub const KNOWN: &[&str] =
    &["bridge", "host", "host-local", "loopback", "macvlan", "portmap", "static"];

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a container to the network.
    Add,
    /// Give back what ADD took.
    Delete,
    /// See whether what ADD made is still so.
    Check,
    /// Give back whatever belongs to attachments that are not in the list of valid ones.
    Collect,
    /// Say whether ADD would be accepted.
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// The command of that name in the protocol.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Add, Self::Delete, Self::Check, Self::Collect, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.as_str() == name)
    }

    /// Its name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Delete => "DEL",
            Self::Check => "CHECK",
            Self::Collect => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn is_about_a_container(self) -> bool {
        matches!(self, Self::Add | Self::Delete | Self::Check)
    }

    fn first_version(self) -> Version {
        match self {
            Self::Add | Self::Delete | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Collect | Self::Status => Version::V1_1_0,
        }
    }
}

/// What the protocol passes to a plugin.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container; empty for GC and STATUS.
    pub container_id: String,
    /// The container's network namespace; may be absent for DEL.
    pub netns: Option<PathBuf>,
    /// The interface in the container; empty for GC and STATUS.
    pub if_name: String,
    /// Further arguments, as `KEY=value;KEY=value`.
    pub args: String,
    /// Where plugins are looked for.
    pub path: Vec<PathBuf>,
    /// The plugin's configuration, with the previous result and the runtime's part in it.
    pub config: Box<RawValue>,
}

/// Runs a plugin. The result is in the newest shape; `None` for commands that have none.
///
/// # Errors
/// What the plugin reports.
pub fn run(
    command: Command,
    type_name: &str,
    request: &Request,
    context: &mut Context,
) -> Result<Option<CniResult>, Error> {
    let Some(plugin) = find(type_name) else {
        return Err(Error::configuration(format!(
            "plugin type {type_name:?} is none of {}",
            KNOWN.join(", ")
        )));
    };
    if command == Command::Version {
        return Ok(None);
    }
    if command.is_about_a_container() {
        check_environment(command, request)?;
    }
    let network = Network::parse(request.config.get())?;
    if network.version < command.first_version() {
        return Err(Error::new(
            INCOMPATIBLE_VERSION,
            format!(
                "{} needs cniVersion {}, not {}",
                command.as_str(),
                command.first_version(),
                network.version
            ),
        ));
    }
    context.adopt_instance(network.instance.as_deref());
    let call = Call { request, network };
    match command {
        Command::Add => plugin.add(&call, context).map(Some),
        Command::Delete => plugin.delete(&call, context).map(|()| None),
        Command::Check => plugin.check(&call, context).map(|()| None),
        Command::Collect => plugin.collect(&call, context).map(|()| None),
        Command::Status => plugin.status(&call, context).map(|()| None),
        Command::Version => Ok(None),
    }
}

pub(crate) fn find(type_name: &str) -> Option<&'static dyn Plugin> {
    Some(match type_name {
        "bridge" => &Bridge,
        "host" => &Host,
        "host-local" => &HostLocal,
        "loopback" => &Loopback,
        "macvlan" => &Macvlan,
        "portmap" => &Portmap,
        "static" => &Fixed,
        _ => return None,
    })
}

fn check_environment(command: Command, request: &Request) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::new(INVALID_ENVIRONMENT, text));
    if !name::is_identifier(&request.container_id) {
        return wrong(format!("container id {:?} is missing or not allowed", request.container_id));
    }
    if !name::is_interface(&request.if_name) {
        return wrong(format!("interface name {:?} is missing or not allowed", request.if_name));
    }
    if request.netns.is_none() && command != Command::Delete {
        return wrong(format!("{} needs a network namespace", command.as_str()));
    }
    Ok(())
}

/// One plugin: what it does for each command.
pub(crate) trait Plugin: Sync {
    /// Attaches a container. On failure all that was taken has been given back.
    fn add(&self, call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error>;

    /// Gives back what `add` took; success if nothing is there.
    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error>;

    /// Compares with what `add` made, and changes nothing.
    fn check(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error>;

    /// Gives back what no valid attachment has.
    fn collect(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error>;

    /// Whether `add` would be accepted.
    fn status(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error>;
}

/// A checked request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    pub(crate) network: Network,
}

impl Call<'_> {
    /// The plugin's own configuration.
    pub(crate) fn config(&self) -> &str {
        self.request.config.get()
    }

    /// Whom what is made belongs to.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            container_id: self.request.container_id.clone(),
            if_name: self.request.if_name.clone(),
            network: self.network.name.clone(),
        }
    }

    /// Whether something of that owner is of this network and belongs to no valid attachment.
    pub(crate) fn is_stray(&self, owner: &Owner) -> bool {
        owner.network == self.network.name
            && !self.network.keeps(&owner.container_id, &owner.if_name)
    }

    /// The container's network namespace.
    pub(crate) fn netns(&self) -> Result<Netns, Error> {
        let path = self.request.netns.as_deref().unwrap_or(Path::new(""));
        Netns::open(path).map_err(|error| Error::of(INVALID_NETNS, &error))
    }

    /// The result that a command can't do without.
    pub(crate) fn prev_result(&self) -> Result<&CniResult, Error> {
        let missing = || Error::new(INVALID_CONFIGURATION, "prevResult is missing");
        self.network.prev_result.as_ref().ok_or_else(missing)
    }

    /// The further argument of that name.
    pub(crate) fn argument(&self, key: &str) -> Option<&str> {
        let pairs = self.request.args.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(found, value)| *found == key && !value.is_empty())
            .map(|(_, value)| value)
            .next()
    }
}

/// An error of ours as the protocol reports it, where the kernel was asked for a change.
pub(crate) fn refused(error: impl std::error::Error + 'static) -> Error {
    Error::of(KERNEL_REFUSED, &error)
}
