//! The process protocol: one program that is every plugin, chosen by the name it is called by or by its first argument.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::context::{Context, FileIdentity};
use crate::netns::Netns;
use crate::plugin::{self, Command, KNOWN, Request};
use crate::spec::conf::{parse_as, version};
use crate::spec::error::{DECODING, INPUT_OUTPUT, INVALID_ENVIRONMENT, INVALID_NETNS};
use crate::spec::{Error, Version};

/// The most that a configuration may be.
const CONFIGURATION_LENGTH: u64 = 16 << 20;

/// How the program was called.
pub struct Invocation<'a> {
    /// The names it may be meant by, the first that is a plugin's counts: its own and the first argument.
    pub names: Vec<String>,
    /// Reads a variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Invocation<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Invocation").field("names", &self.names).finish_non_exhaustive()
    }
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Success,
    /// What failed has been written.
    Failure,
}

impl Invocation<'_> {
    /// Does what is asked: reads a configuration, writes a result or an error on the standard output.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn run(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        log: &mut dyn Write,
    ) -> io::Result<Ending> {
        let versions: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        let Some(name) = (self.variable)("CNI_COMMAND").filter(|name| !name.is_empty()) else {
            writeln!(log, "Network plugins: {}", KNOWN.join(", "))?;
            writeln!(log, "CNI protocol versions supported: {}", versions.join(", "))?;
            return Ok(Ending::Success);
        };
        let mut spoken = Version::LATEST;
        match self.answer(&name, input, &mut spoken) {
            Ok(None) => {}
            Ok(Some(answer)) => writeln!(output, "{answer}")?,
            Err(error) => {
                writeln!(output, "{}", error.to_json(spoken))?;
                return Ok(Ending::Failure);
            }
        }
        Ok(Ending::Success)
    }

    /// The text to write, if the command has one. `spoken` becomes the configuration's version as soon as it is known.
    fn answer(
        &self,
        name: &str,
        input: &mut dyn Read,
        spoken: &mut Version,
    ) -> Result<Option<String>, Error> {
        let wrong = |text: String| Error::new(INVALID_ENVIRONMENT, text);
        let command = Command::parse(name)
            .ok_or_else(|| wrong(format!("CNI_COMMAND {name:?} is unknown")))?;
        let kind = self.names.iter().find(|name| KNOWN.contains(&name.as_str()));
        let unknown =
            || wrong(format!("{:?} is none of the plugins {}", self.names, KNOWN.join(", ")));
        let kind = kind.ok_or_else(unknown)?;
        if command == Command::Version {
            let versions = Version::ALL.map(Version::as_str);
            let versions = serde_json::json!({"cniVersion": Version::LATEST.as_str(), "supportedVersions": versions});
            return Ok(Some(versions.to_string()));
        }
        let missing: Vec<&str> =
            required(command).iter().copied().filter(|name| self.text(name).is_empty()).collect();
        if !missing.is_empty() {
            return Err(wrong(format!("variables {} are missing", missing.join(", "))));
        }
        let mut text = String::new();
        input.take(CONFIGURATION_LENGTH).read_to_string(&mut text).map_err(|cause| {
            Error::with_details(INPUT_OUTPUT, "failed to read the configuration", cause.to_string())
        })?;
        *spoken = version_of(&text)?;
        let config = RawValue::from_string(text).map_err(|cause| {
            Error::with_details(
                DECODING,
                "failed to read the network configuration",
                cause.to_string(),
            )
        })?;
        let request = self.request(config);
        self.check_netns(&request)?;
        let mut context = Context::new().with_programs(self.programs(&request.path));
        let result = plugin::run(command, kind, &request, &mut context)?;
        Ok(result.map(|result| result.to_json(*spoken)))
    }

    fn text(&self, name: &str) -> String {
        (self.variable)(name).unwrap_or_default()
    }

    fn request(&self, config: Box<RawValue>) -> Request {
        Request {
            container_id: self.text("CNI_CONTAINERID"),
            netns: Some(self.text("CNI_NETNS")).filter(|path| !path.is_empty()).map(PathBuf::from),
            if_name: self.text("CNI_IFNAME"),
            args: self.text("CNI_ARGS"),
            path: std::env::split_paths(OsStr::new(&self.text("CNI_PATH"))).collect(),
            config,
        }
    }

    /// Refuses to treat the host as a container, unless asked to.
    fn check_netns(&self, request: &Request) -> Result<(), Error> {
        let is_overridden =
            matches!(self.text("CNI_NETNS_OVERRIDE").to_ascii_lowercase().as_str(), "1" | "true");
        let netns = request.netns.as_deref().and_then(|path| Netns::open(path).ok());
        match netns {
            Some(netns) if !is_overridden && netns.is_own() => {
                let text =
                    format!("CNI_NETNS {:?} is the plugin's own network namespace", netns.path());
                Err(Error::new(INVALID_NETNS, text))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The files in the plugin directories that are this very program: installed plugins are copies, not links, so they
    /// are known by their length and content rather than by their number.
    fn programs(&self, directories: &[PathBuf]) -> Vec<FileIdentity> {
        let own = Path::new("/proc/self/exe");
        let files = directories
            .iter()
            .flat_map(|directory| KNOWN.iter().map(move |kind| directory.join(kind)));
        files
            .filter(|file| is_copy(own, file))
            .filter_map(|file| FileIdentity::of(&file).ok())
            .collect()
    }
}

/// Whether both files are the same, or copies with the same length and time: installing keeps the time.
fn is_copy(one: &Path, other: &Path) -> bool {
    match (FileIdentity::of(one), FileIdentity::of(other)) {
        (Ok(one), Ok(other)) => one.is_copy_of(&other),
        (_, _) => false,
    }
}

fn required(command: Command) -> &'static [&'static str] {
    match command {
        Command::Add | Command::Check => {
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]
        }
        Command::Delete => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
        Command::Collect | Command::Status => &["CNI_PATH"],
        Command::Version => &[],
    }
}

fn version_of(text: &str) -> Result<Version, Error> {
    #[derive(Deserialize)]
    struct Stamp {
        #[serde(rename = "cniVersion", default)]
        cni_version: Option<String>,
    }
    let stamp: Stamp = parse_as(text)?;
    version(stamp.cni_version.as_deref())
}

#[cfg(test)]
mod tests;
