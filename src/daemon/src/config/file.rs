//! From the text of a file to settings, with every mistake in it; and the text that has all defaults.

use super::declare::{Declaration, Mistake, Reader, Section, line};
use super::settings::{
    CdiKeys, CgroupKeys, CheckpointKeys, ContainerKeys, DaemonKeys, ImageKeys, LogKeys,
    MetricsKeys, NetworkKeys, NriKeys, PodKeys, Settings, ShimKeys, StreamingKeys, TracingKeys,
};
use super::values::AbsolutePath;
use std::io;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read configuration \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A path on the command line is none.
    #[error("failed to use an argument: {0}")]
    Argument(String),
    /// The file has mistakes.
    #[error("failed to understand configuration \"{}\":{}", path.display(), lines(mistakes))]
    Understand {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
}

/// The settings of a file.
///
/// # Errors
/// If it cannot be read, or with every mistake in it.
pub(crate) fn load(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|mistakes| ConfigError::Understand { path: path.to_owned(), mistakes })
}

/// The settings without a file.
///
/// # Errors
/// None, unless a declared default is wrong.
pub(crate) fn load_defaults() -> Result<Settings, ConfigError> {
    let path = PathBuf::from("(defaults)");
    parse("").map_err(|mistakes| ConfigError::Understand { path, mistakes })
}

/// A path given on the command line.
///
/// # Errors
/// If it is not absolute.
pub(crate) fn absolute(path: &Path) -> Result<AbsolutePath, ConfigError> {
    AbsolutePath::try_from(path.to_owned()).map_err(ConfigError::Argument)
}

/// The settings of a text; keys that it lacks have their defaults.
///
/// # Errors
/// Every mistake in it.
fn parse(text: &str) -> Result<Settings, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let (root, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let start = error.span().map_or(0, |span| span.start);
        let problem = error.message().to_owned();
        mistakes.push(Mistake { key: String::new(), line: line(text, start), problem });
    }
    if !mistakes.is_empty() {
        // What the parser made of a broken text would only lead to mistakes that nobody made.
        return Err(mistakes);
    }
    let mut file = File { text, root: root.into_inner(), mistakes };
    let settings = file.settings();
    file.mistakes.sort_by_key(|mistake| mistake.line);
    match settings {
        Some(settings) if file.mistakes.is_empty() => Ok(settings),
        _ => Err(file.mistakes),
    }
}

/// A file with every key, its meaning and its default.
pub(crate) fn defaults() -> String {
    let mut text = String::new();
    for declaration in &DECLARATIONS {
        for line in declaration.doc {
            push_line(&mut text, &format!("#{line}"));
        }
        text.push('\n');
        if !declaration.name.is_empty() {
            push_line(&mut text, &format!("[{}]", declaration.name));
        }
        for key in declaration.keys {
            for line in key.doc {
                push_line(&mut text, &format!("#{line}"));
            }
            push_line(&mut text, &format!("{} = {}\n", key.name, key.default));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

const DECLARATIONS: [Declaration; 14] = [
    DaemonKeys::DECLARATION,
    LogKeys::DECLARATION,
    ShimKeys::DECLARATION,
    CgroupKeys::DECLARATION,
    ImageKeys::DECLARATION,
    NetworkKeys::DECLARATION,
    PodKeys::DECLARATION,
    MetricsKeys::DECLARATION,
    ContainerKeys::DECLARATION,
    CdiKeys::DECLARATION,
    CheckpointKeys::DECLARATION,
    StreamingKeys::DECLARATION,
    TracingKeys::DECLARATION,
    NriKeys::DECLARATION,
];

/// A parsed text from which sections are taken.
struct File<'text> {
    text: &'text str,
    root: DeTable<'text>,
    mistakes: Vec<Mistake>,
}

impl File<'_> {
    fn settings(&mut self) -> Option<Settings> {
        let log = self.section::<LogKeys>();
        let shim = self.section::<ShimKeys>();
        let cgroup = self.section::<CgroupKeys>();
        let images = self.section::<ImageKeys>();
        let network = self.section::<NetworkKeys>();
        let pods = self.section::<PodKeys>();
        let metrics = self.agreeing(MetricsKeys::problems);
        let containers = self.section::<ContainerKeys>();
        let cdi = self.section::<CdiKeys>();
        let checkpoint = self.section::<CheckpointKeys>();
        let streaming = self.agreeing(StreamingKeys::problems);
        let tracing = self.section::<TracingKeys>();
        let nri = self.section::<NriKeys>();
        // Last: what no section took must be one of these.
        let root = std::mem::take(&mut self.root);
        let daemon = Reader::new("", self.text, root, &mut self.mistakes).section::<DaemonKeys>();
        Some(Settings {
            daemon: daemon?,
            log: log?,
            shim: shim?,
            cgroup: cgroup?,
            images: images?,
            network: network?,
            pods: pods?,
            metrics: metrics?,
            containers: containers?,
            cdi: cdi?,
            checkpoint: checkpoint?,
            streaming: streaming?,
            tracing: tracing?,
            nri: nri?,
        })
    }

    /// A section in which keys have to go together.
    fn agreeing<S: Section, P>(&mut self, problems: impl FnOnce(&S) -> P) -> Option<S>
    where
        P: Iterator<Item = (&'static str, &'static str)>,
    {
        let name = S::DECLARATION.name;
        let line = self.root.get(name).map_or(0, |value| line(self.text, value.span().start));
        let keys = self.section::<S>()?;
        for (key, problem) in problems(&keys) {
            let (key, problem) = (format!("{name}.{key}"), problem.to_owned());
            self.mistakes.push(Mistake { key, line, problem });
        }
        Some(keys)
    }

    fn section<S: Section>(&mut self) -> Option<S> {
        let name = S::DECLARATION.name;
        let table = match self.root.remove(name) {
            None => DeTable::new(),
            Some(value) => {
                let line = line(self.text, value.span().start);
                let found = value.get_ref().type_str();
                let DeValue::Table(table) = value.into_inner() else {
                    let problem = format!("is a section, not a {found}");
                    self.mistakes.push(Mistake { key: name.to_owned(), line, problem });
                    return None;
                };
                table
            }
        };
        Reader::new(name, self.text, table, &mut self.mistakes).section()
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(String, usize)> {
        parse(text).unwrap_err().into_iter().map(|mistake| (mistake.key, mistake.line)).collect()
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let printed = defaults();
        assert_eq!(parse(&printed).unwrap(), parse("").unwrap());
        for declaration in &DECLARATIONS {
            for key in declaration.keys {
                assert!(!key.doc.is_empty(), "{} has no meaning", key.name);
                let line = format!("\n{} = {}\n", key.name, key.default);
                assert!(printed.contains(&line), "{} is not printed", key.name);
            }
        }
    }

    #[test]
    fn a_key_that_is_given_replaces_its_default() {
        let settings = parse("instance = \"t1\"\n[log]\nlevel = \"debug\"\n").unwrap();
        assert_eq!(settings.daemon.instance.as_str(), "t1");
        assert_eq!(settings.log.level, crate::config::LogLevel::Debug);
        assert_eq!(settings.log.format, crate::config::LogFormat::Text);
    }

    #[test]
    fn a_registry_may_have_its_own_table() {
        let text =
            "[images.registries.\"a.example:5000\"]\nmirrors = [\"http://b\"]\nplain_http = true\n";
        let settings = parse(text).unwrap();
        let registry = &settings.images.registries["a.example:5000"];
        assert_eq!(registry.mirrors, ["http://b"]);
        assert!(registry.plain_http && !registry.skip_verify);
        let wrong = text.replace("plain_http", "plain");
        assert_eq!(keys(&wrong), [("images.registries".to_owned(), 3)]);
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_key_and_line() {
        let text = "instance = \"Not Legal\"\nroot = \"var\"\ntypo = 1\nlog = 3\n\
                    [cgroup]\ndriver = \"systemd\"\n[containers]\noverlay_volatile = 3\nnone = 1\n[nosuch]\na = 1\n";
        let expected = [
            ("instance", 1),
            ("root", 2),
            ("typo", 3),
            ("log", 4),
            ("cgroup.driver", 6),
            ("containers.overlay_volatile", 8),
            ("containers.none", 9),
            ("nosuch", 10),
        ];
        assert_eq!(keys(text), expected.map(|(key, line)| (key.to_owned(), line)));
    }

    #[test]
    fn what_is_no_toml_is_reported_with_its_line() {
        assert_eq!(keys("instance = \"a\"\nroot = = 3\n")[0], (String::new(), 2));
    }

    #[test]
    fn measurements_leave_the_machine_only_if_they_may() {
        for (text, wrong) in [
            ("address = \"0.0.0.0:9090\"", true),
            ("address = \"[2001:db8::1]:9090\"", true),
            ("address = \"10.0.0.1:9090\"\nallow_remote = true", false),
            ("address = \"127.0.0.1:9090\"", false),
            ("address = \"[::1]:9090\"", false),
            ("address = \"unix:///run/m.sock\"", false),
            ("allow_remote = true", false),
        ] {
            let parsed = parse(&format!("[metrics]\n{text}\n"));
            let found = parsed.err().map(|mistakes| mistakes[0].key.clone());
            assert_eq!(found.as_deref(), wrong.then_some("metrics.address"), "{text}");
        }
    }

    #[test]
    fn streams_leave_the_machine_only_with_a_certificate() {
        for (text, expected) in [
            ("address = \"0.0.0.0\"", Some("address")),
            ("address = \"::1\"", None),
            ("address = \"10.0.0.1\"\ntls_certificate = \"/c\"\ntls_key = \"/k\"", None),
            ("tls_certificate = \"/c\"", Some("tls_key")),
            ("tls_key = \"/k\"", Some("tls_certificate")),
            ("tls_client_ca = \"/a\"", Some("tls_client_ca")),
        ] {
            let text = format!("instance = \"a\"\n[streaming]\n{text}\n");
            let found = parse(&text).err().map(|mistakes| {
                mistakes.into_iter().map(|mistake| (mistake.key, mistake.line)).collect::<Vec<_>>()
            });
            let expected = expected.map(|key| vec![(format!("streaming.{key}"), 2)]);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_refused_value_says_what_is_allowed() {
        let mistakes = parse("[cgroup]\ndriver = \"systemd\"\n").unwrap_err();
        let expected =
            "line 2: cgroup.driver: the driver \"systemd\" is not supported, use \"cgroupfs\"";
        assert_eq!(mistakes[0].to_string(), expected);
    }
}
