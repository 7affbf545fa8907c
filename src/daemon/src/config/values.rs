//! The types of the values, each with the only form that it may have.

use http::uri::Authority;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// An absolute path without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// The path.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if path.is_absolute() && path.components().all(plain) {
            Ok(Self(path))
        } else {
            Err(format!("\"{}\" is not an absolute path without \"..\"", path.display()))
        }
    }
}

/// An absolute path, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct OptionalPath(Option<AbsolutePath>);

impl OptionalPath {
    /// The path, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(AbsolutePath::as_path)
    }
}

impl TryFrom<PathBuf> for OptionalPath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path.as_os_str().is_empty() {
            return Ok(Self(None));
        }
        AbsolutePath::try_from(path).map(|path| Self(Some(path)))
    }
}

/// A setting that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "bool", into = "bool")]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch.is_on()
    }
}

/// A length of time: a whole number and `ms`, `s`, `m` or `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Period(Duration);

impl Period {
    /// The length.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not a length of time (a number and \"ms\", \"s\", \"m\" or \"h\")"
            )
        };
        let (number, unit) = split_unit(&text).ok_or_else(wrong)?;
        let milliseconds = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        milliseconds.map(|number| Self(Duration::from_millis(number))).ok_or_else(wrong)
    }
}

/// How often something is done: a length of time that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Interval(Duration);

impl Interval {
    /// The time from one to the next.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Period::try_from(text)?.duration() {
            Duration::ZERO => Err("must be more than zero".to_owned()),
            duration => Ok(Self(duration)),
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// What an operator must look at.
    Error,
    /// And what went wrong and was coped with.
    Warn,
    /// And what changed.
    Info,
    /// And every request.
    Debug,
    /// And everything.
    Trace,
}

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
}

/// Where measurements can be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum MetricsAddress {
    /// Nowhere.
    Nowhere,
    /// On this address and port.
    Tcp(SocketAddr),
    /// On this socket.
    Unix(PathBuf),
}

impl TryFrom<String> for MetricsAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Nowhere);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return AbsolutePath::try_from(PathBuf::from(path)).map(|path| Self::Unix(path.0));
        }
        let wrong = |_| {
            format!(
                "{text:?} is neither an address with a port nor \"unix://\" and an absolute path"
            )
        };
        text.parse().map(Self::Tcp).map_err(wrong)
    }
}

/// Where traces are sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TraceEndpoint(Option<String>);

impl TraceEndpoint {
    /// Its address, if there is one.
    #[cfg(feature = "otlp")]
    pub(crate) fn url(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl TryFrom<String> for TraceEndpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text.strip_prefix("http://").and_then(|rest| rest.parse::<Authority>().ok());
        if address.is_none_or(|address| address.port_u16().is_none()) {
            return Err(format!("{text:?} is not \"http://\", a host and a port"));
        }
        if cfg!(feature = "otlp") {
            return Ok(Self(Some(text)));
        }
        Err("this program is built without traces (feature \"otlp\")".to_owned())
    }
}

/// A share, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct PerMillion(u32);

impl PerMillion {
    /// From 0 to 1.
    #[cfg(feature = "otlp")]
    pub(crate) fn share(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }
}

impl TryFrom<u32> for PerMillion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number > 1_000_000 {
            return Err(format!("{number} is not in 0 to 1000000"));
        }
        Ok(Self(number))
    }
}

/// Where another program of ours is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) enum Program {
    /// A file of this name in the directory of the daemon's own program.
    Beside(PathBuf),
    /// Here.
    At(PathBuf),
}

impl Program {
    /// Its path, given the directory of the daemon's own program.
    pub(crate) fn path(&self, own: &Path) -> PathBuf {
        match self {
            Self::Beside(name) => own.join(name),
            Self::At(path) => path.clone(),
        }
    }
}

impl TryFrom<PathBuf> for Program {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path.is_absolute() {
            return AbsolutePath::try_from(path).map(|path| Self::At(path.0));
        }
        if path.file_name() == Some(path.as_os_str()) {
            return Ok(Self::Beside(path));
        }
        Err(format!(
            "\"{}\" is neither an absolute path nor the plain name of a file",
            path.display()
        ))
    }
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum CgroupDriver {
    /// We do, as directories.
    Cgroupfs,
}

impl TryFrom<String> for CgroupDriver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => {
                Err("the driver \"systemd\" is not supported, use \"cgroupfs\"".to_owned())
            }
            _ => Err(format!("\"{text}\" is not a cgroup driver (\"cgroupfs\")")),
        }
    }
}

/// A cgroup, as a path from the root of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CgroupPath(String);

impl CgroupPath {
    /// The path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = AbsolutePath::try_from(PathBuf::from(&text))?;
        if path.0 == Path::new("/") || text.contains(['\n', '\0']) {
            return Err(format!("{text:?} is not a cgroup below the root"));
        }
        Ok(Self(text))
    }
}

/// What becomes of a container whose request names no seccomp profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnsetSeccomp {
    /// It has none.
    Unconfined,
    /// It has the built-in one.
    RuntimeDefault,
}

/// What may be done with checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckpointLevel {
    /// Nothing.
    None,
    /// They can be made.
    CheckpointOnly,
    /// They can be made, and containers made of them.
    CheckpointRestore,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum OldestTls {
    /// 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// 1.3.
    #[serde(rename = "1.3")]
    V13,
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_with_a_unit() {
        let parsed = |text: &str| Period::try_from(text.to_owned()).map(Period::duration).ok();
        assert_eq!(parsed("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parsed("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parsed("2 m"), Some(Duration::from_secs(120)));
        assert_eq!(parsed("1h"), Some(Duration::from_secs(3600)));
        for text in ["", "10", "s", "-1s", "1.5s", "10 days", "99999999999999999999s"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_done_now_and_then_is_not_done_all_the_time() {
        let parsed = |text: &str| Interval::try_from(text.to_owned()).map(Interval::duration).ok();
        assert_eq!(parsed("1ms"), Some(Duration::from_millis(1)));
        for text in ["0s", "0ms", "0h", "", "10"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_is_absolute_and_plain() {
        let parsed = |text: &str| AbsolutePath::try_from(PathBuf::from(text));
        parsed("/run/cringle").unwrap();
        for text in ["", "run", "/run/../etc", "./run"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_are_read_nowhere_at_an_address_or_on_a_socket() {
        let parsed = |text: &str| MetricsAddress::try_from(text.to_owned()).ok();
        assert_eq!(parsed(""), Some(MetricsAddress::Nowhere));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 9090));
        assert_eq!(parsed("127.0.0.1:9090"), Some(MetricsAddress::Tcp(loopback)));
        assert_eq!(parsed("unix:///run/m.sock"), Some(MetricsAddress::Unix("/run/m.sock".into())));
        for text in ["9090", ":9090", "localhost:9090", "unix://m.sock", "/run/m.sock"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn traces_go_to_a_port_of_a_host_and_only_where_they_are_built_in() {
        let parsed = |text: &str| TraceEndpoint::try_from(text.to_owned());
        assert_eq!(parsed(""), Ok(TraceEndpoint(None)));
        assert_eq!(parsed("http://[::1]:4317").is_ok(), cfg!(feature = "otlp"));
        for text in ["127.0.0.1:4317", "https://127.0.0.1:4317", "http://127.0.0.1", "http://a:1/b"]
        {
            assert!(parsed(text).unwrap_err().contains("is not"), "{text}");
        }
        assert_eq!(PerMillion::try_from(1_000_000), Ok(PerMillion(1_000_000)));
        PerMillion::try_from(1_000_001).unwrap_err();
    }

    #[test]
    fn a_program_is_beside_the_daemon_or_at_a_path() {
        let parsed = |text: &str| Program::try_from(PathBuf::from(text)).ok();
        assert_eq!(parsed("shim"), Some(Program::Beside("shim".into())));
        assert_eq!(parsed("/opt/shim"), Some(Program::At("/opt/shim".into())));
        for text in ["", "a/shim", "../shim", "..", "."] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
