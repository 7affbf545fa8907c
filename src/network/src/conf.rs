//! Network configuration: what the files in the configuration directory say, and which of them is the pods'.
//!
//! Files are taken in the order of their names; only `.conflist`, `.conf` and `.json` count, so that a file that an
//! installer renamed aside is ignored. An invalid file is passed over and its reason is kept; it never hides a valid one.
//! Values are kept as they are written: a number that we don't know goes to the plugin unchanged.

use cringle_cni::spec::name;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Keys to values as they are written.
pub(crate) type Object = BTreeMap<String, Box<RawValue>>;

/// The largest configuration file that is read.
const FILE_LIMIT: u64 = 1 << 20;

/// Versions that we speak, the oldest first.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// One configuration list, checked.
#[derive(Debug)]
pub struct ConfigurationList {
    /// Name of the network.
    pub name: String,
    /// The version that plugins are told.
    pub version: String,
    /// CHECK is a success that does nothing.
    pub(crate) check: Verb,
    /// GC does nothing.
    pub(crate) collect: Verb,
    /// The plugins in their order.
    pub(crate) plugins: Vec<Plugin>,
    /// The list as text: what is recorded, so that DEL sees what ADD saw.
    pub text: String,
}

/// Whether a verb is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Wanted,
    Disabled,
}

/// One plugin of a list.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// Its type: the name of its program.
    pub(crate) kind: String,
    /// Whose program it is.
    pub(crate) origin: Origin,
    /// Its configuration as it is written.
    pub(crate) object: Object,
    /// The capabilities that it declares.
    pub(crate) capabilities: Vec<String>,
}

/// Whose program a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// What the plugin directories say.
    Directories,
    /// Ours, added by the runtime itself.
    Own,
}

/// What was found in the directory.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Valid lists by file name.
    pub lists: Vec<ConfigurationList>,
    /// Files that were passed over, each with its reason.
    pub problems: Vec<String>,
    /// The directory.
    directory: PathBuf,
}

/// Why no pod can be attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NetworkNotReady {
    /// One word for machines.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Why an attachment cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No usable network.
    #[error("no network for the pod")]
    NotReady(#[source] NetworkNotReady),
    /// An annotation asks for a bandwidth that is none.
    #[error("annotation \"{key}\" is \"{value}\", not a bandwidth from 1k to 1P")]
    Bandwidth {
        /// The annotation.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The request cannot be expressed.
    #[error("failed to describe the pod to the network plugins")]
    Encode(#[source] serde_json::Error),
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// It can't be read.
    #[error("failed to read it")]
    Read(#[source] std::io::Error),
    /// It is too large.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// It is not the JSON that it should be.
    #[error("it is no network configuration")]
    Decode(#[source] serde_json::Error),
    /// Something in it is missing or not allowed.
    #[error("{0}")]
    Invalid(String),
}

#[derive(Deserialize)]
struct ListWire {
    #[serde(default, rename = "cniVersion")]
    version: Option<String>,
    #[serde(default, rename = "cniVersions")]
    versions: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "disableCheck")]
    disable_check: Flag,
    #[serde(default, rename = "disableGC")]
    disable_collect: Flag,
    #[serde(default)]
    plugins: Vec<Object>,
}

/// A truth value; its text form is accepted as the CNI library does.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
    #[default]
    Absent,
}

#[derive(Deserialize)]
struct PluginWire {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    capabilities: BTreeMap<String, bool>,
    #[serde(default, rename = "cringleBuiltin")]
    builtin: bool,
}

impl From<Flag> for Verb {
    fn from(flag: Flag) -> Self {
        let disabled = match flag {
            Flag::Bool(disabled) => disabled,
            Flag::Text(text) => text.eq_ignore_ascii_case("true"),
            Flag::Absent => false,
        };
        if disabled { Self::Disabled } else { Self::Wanted }
    }
}

impl Loaded {
    /// Reads a directory. One that is not there has no networks.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        let mut loaded = Self { directory: directory.to_owned(), ..Self::default() };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                loaded.problems.push(format!("\"{}\": {error}", directory.display()));
                return loaded;
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| form_of(path).is_some());
        paths.sort();
        for path in paths {
            match read_file(&path) {
                Ok(list) => loaded.lists.push(list),
                Err(error) => {
                    let mut text = format!("\"{}\": {error}", path.display());
                    if let Some(cause) = std::error::Error::source(&error) {
                        text.push_str(&format!(": {cause}"));
                    }
                    loaded.problems.push(text);
                }
            }
        }
        loaded
    }

    /// The network of that name, or the first one.
    ///
    /// # Errors
    /// If there is none; the reason names what was passed over.
    pub fn select(&self, name: Option<&str>) -> Result<&ConfigurationList, NetworkNotReady> {
        let found = match name {
            Some(name) => self.lists.iter().find(|list| list.name == name),
            None => self.lists.first(),
        };
        found.ok_or_else(|| {
            let mut message = match name {
                Some(name) => format!("no network \"{name}\" in \"{}\"", self.directory.display()),
                None => format!("no network configuration in \"{}\"", self.directory.display()),
            };
            if !self.problems.is_empty() {
                message.push_str(&format!(" (passed over: {})", self.problems.join("; ")));
            }
            NetworkNotReady { reason: "NetworkPluginNotReady", message }
        })
    }
}

/// The form of a file by its name.
fn form_of(path: &Path) -> Option<Form> {
    match path.extension()?.to_str()? {
        "conflist" => Some(Form::List),
        "conf" | "json" => Some(Form::Either),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    List,
    Either,
}

fn read_file(path: &Path) -> Result<ConfigurationList, ConfError> {
    let size = std::fs::metadata(path).map_err(ConfError::Read)?.len();
    if size > FILE_LIMIT {
        return Err(ConfError::TooLarge);
    }
    let text = std::fs::read_to_string(path).map_err(ConfError::Read)?;
    let object: Object = serde_json::from_str(&text).map_err(ConfError::Decode)?;
    if object.contains_key("plugins") || form_of(path) == Some(Form::List) {
        return ConfigurationList::parse(&text);
    }
    ConfigurationList::parse(&lift(&object, &text)?)
}

/// A single plugin's configuration as a list of one.
fn lift(object: &Object, text: &str) -> Result<String, ConfError> {
    let plugin: Box<RawValue> = serde_json::from_str(text.trim()).map_err(ConfError::Decode)?;
    let mut list = Object::new();
    for key in ["name", "cniVersion"] {
        if let Some(value) = object.get(key) {
            list.insert(key.to_owned(), value.clone());
        }
    }
    let plugins = serde_json::value::to_raw_value(&[plugin]).map_err(ConfError::Decode)?;
    list.insert("plugins".to_owned(), plugins);
    serde_json::to_string(&list).map_err(ConfError::Decode)
}

impl ConfigurationList {
    /// Reads and checks a list.
    ///
    /// # Errors
    /// If it is not JSON, or names or versions in it are not usable.
    pub fn parse(text: &str) -> Result<Self, ConfError> {
        let wire: ListWire = serde_json::from_str(text).map_err(ConfError::Decode)?;
        if !name::is_identifier(&wire.name) {
            return Err(ConfError::Invalid(format!(
                "network name \"{}\" is not allowed",
                wire.name
            )));
        }
        if wire.plugins.is_empty() {
            return Err(ConfError::Invalid("it has no plugins".to_owned()));
        }
        let version = choose_version(wire.version.as_deref(), &wire.versions)?;
        let plugins = wire.plugins.into_iter().map(Plugin::check).collect::<Result<_, _>>()?;
        Ok(Self {
            name: wire.name,
            version,
            check: wire.disable_check.into(),
            collect: wire.disable_collect.into(),
            plugins,
            text: text.to_owned(),
        })
    }

    /// CHECK, and the previous result for DEL, came with version 0.4.0.
    pub(crate) fn speaks_check(&self) -> bool {
        matches!(self.version.as_str(), "0.4.0" | "1.0.0" | "1.1.0")
    }

    /// GC and STATUS came with version 1.1.0.
    pub(crate) fn speaks_collect(&self) -> bool {
        self.version == "1.1.0"
    }

    /// Whether some plugin declares that capability.
    pub(crate) fn declares(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.iter().any(|one| one == capability))
    }

    /// The list as text with one more plugin at its end.
    pub(crate) fn with_plugin(&self, plugin: &str) -> Result<String, serde_json::Error> {
        let mut list: Object = serde_json::from_str(&self.text)?;
        let mut plugins: Vec<Box<RawValue>> = match list.get("plugins") {
            Some(raw) => serde_json::from_str(raw.get())?,
            None => Vec::new(),
        };
        plugins.push(RawValue::from_string(plugin.to_owned())?);
        list.insert("plugins".to_owned(), serde_json::value::to_raw_value(&plugins)?);
        serde_json::to_string(&list)
    }
}

/// The highest of the versions offered that we speak.
fn choose_version(one: Option<&str>, several: &[String]) -> Result<String, ConfError> {
    let rank = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let offered: Vec<&str> = match one {
        _ if !several.is_empty() => several.iter().map(String::as_str).collect(),
        Some(version) if !version.is_empty() => vec![version],
        Some(_) | None => vec!["0.1.0"],
    };
    let best = offered
        .iter()
        .copied()
        .filter(|version| rank(version).is_some())
        .max_by_key(|version| rank(version));
    best.map(str::to_owned)
        .ok_or_else(|| ConfError::Invalid(format!("cniVersion {offered:?} is not supported")))
}

impl Plugin {
    fn check(object: Object) -> Result<Self, ConfError> {
        let text = serde_json::to_string(&object).map_err(ConfError::Decode)?;
        let wire: PluginWire = serde_json::from_str(&text).map_err(ConfError::Decode)?;
        if !name::is_plugin_type(&wire.kind) {
            return Err(ConfError::Invalid(format!(
                "plugin type \"{}\" is not allowed",
                wire.kind
            )));
        }
        let declared = wire.capabilities.into_iter().filter(|(_, on)| *on);
        let known = cringle_cni::plugin::KNOWN.contains(&wire.kind.as_str());
        Ok(Self {
            origin: if wire.builtin && known { Origin::Own } else { Origin::Directories },
            kind: wire.kind,
            object,
            capabilities: declared.map(|(name, _)| name).collect(),
        })
    }

    /// One of ours, that no configuration names.
    pub(crate) fn own(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            origin: Origin::Own,
            object: Object::new(),
            capabilities: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
