//! The words of the OCI command line. Global options of other runtimes that mean nothing here are taken and passed over.

use std::ffi::OsString;
use std::path::PathBuf;

/// A command line, understood.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// The command.
    pub command: String,
    /// Where the links to bundles are.
    pub root: PathBuf,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Where to send the master end of a terminal.
    pub console: Option<PathBuf>,
    /// The working directory of an exec.
    pub directory: Option<PathBuf>,
    /// The user, and perhaps group, of an exec.
    pub user: Option<String>,
    /// A file with the process of an exec.
    pub process: Option<PathBuf>,
    /// Additional environment of an exec.
    pub environment: Vec<String>,
    /// Options without a value.
    pub switches: Vec<String>,
    /// What follows: id, signal or command.
    pub words: Vec<String>,
}

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// There is no such command.
    #[error("unknown command {0:?}")]
    Command(String),
    /// There is no such option.
    #[error("unknown option {0:?}")]
    Option(String),
    /// An option without its value.
    #[error("option {0:?} needs a value")]
    Value(String),
    /// A word is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word is not what it should be.
    #[error("{what} {word:?} is invalid")]
    Word {
        /// What it should be.
        what: &'static str,
        /// The word.
        word: String,
    },
}

const DEFAULT_ROOT: &str = "/run/cringle-oci";

impl Arguments {
    /// Reads the words that follow the program's name.
    ///
    /// # Errors
    /// An option that is not known or lacks its value, or no command.
    pub(super) fn parse(words: &[OsString]) -> Result<Self, UsageError> {
        let mut arguments =
            Self { root: DEFAULT_ROOT.into(), bundle: ".".into(), ..Self::default() };
        let mut words = words.iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            // What follows an exec's container is the command's own.
            let done = arguments.command == "exec" && !arguments.words.is_empty();
            if done || !word.starts_with('-') || word == "-" {
                arguments.take_word(word);
                continue;
            }
            let name = word.trim_start_matches('-');
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.to_owned(), None),
            };
            if matches!(
                name.as_str(),
                "all"
                    | "a"
                    | "force"
                    | "f"
                    | "debug"
                    | "systemd-cgroup"
                    | "tty"
                    | "t"
                    | "detach"
                    | "d"
            ) {
                arguments.switches.push(name);
                continue;
            }
            let value = value.or_else(|| words.next()).ok_or(UsageError::Value(word))?;
            arguments.take_option(&name, value)?;
        }
        if arguments.command.is_empty() {
            return Err(UsageError::Missing("a command"));
        }
        Ok(arguments)
    }

    fn take_word(&mut self, word: String) {
        if self.command.is_empty() {
            self.command = word;
        } else {
            self.words.push(word);
        }
    }

    fn take_option(&mut self, name: &str, value: String) -> Result<(), UsageError> {
        match name {
            "root" => self.root = value.into(),
            "bundle" | "b" => self.bundle = value.into(),
            "pid-file" => self.pid_file = Some(value.into()),
            "console-socket" => self.console = Some(value.into()),
            "cwd" => self.directory = Some(value.into()),
            "user" | "u" => self.user = Some(value),
            "process" | "p" => self.process = Some(value.into()),
            "env" | "e" => self.environment.push(value),
            "log" | "log-format" | "log-level" => {}
            other => return Err(UsageError::Option(other.to_owned())),
        }
        Ok(())
    }

    /// Whether an option without a value was given, by its long or short name.
    pub(super) fn has(&self, long: &str) -> bool {
        self.switches.iter().any(|name| name == long || long.get(..1) == Some(name.as_str()))
    }

    /// The container's id, checked to be a name and no path.
    ///
    /// # Errors
    /// It is missing or no name.
    pub(super) fn id(&self) -> Result<&str, UsageError> {
        let id = self.words.first().ok_or(UsageError::Missing("the container's id"))?;
        let fits =
            |character: char| character.is_ascii_alphanumeric() || "_+-.".contains(character);
        if id.starts_with('.') || !id.chars().all(fits) || id.is_empty() || id.len() > 255 {
            return Err(UsageError::Word { what: "id", word: id.clone() });
        }
        Ok(id)
    }
}

/// The number of a signal given by number or name.
///
/// # Errors
/// There is no such signal.
pub(super) fn signal(word: &str) -> Result<i32, UsageError> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number @ 1..=64) = word.parse() {
        return Ok(number);
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let place = NAMES.iter().position(|known| *known == name);
    let number = place.and_then(|place| i32::try_from(place + 1).ok());
    number.ok_or_else(|| UsageError::Word { what: "signal", word: word.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, UsageError> {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let parsed =
            parse(&["--root=/r", "--log", "/l", "create", "-b", "/b", "--pid-file", "/p", "id"])
                .unwrap();
        assert_eq!((parsed.command.as_str(), parsed.id().unwrap()), ("create", "id"));
        assert_eq!(
            (parsed.root, parsed.bundle, parsed.pid_file),
            ("/r".into(), "/b".into(), Some("/p".into()))
        );
    }

    #[test]
    fn what_follows_an_execs_container_is_the_commands() {
        let parsed = parse(&["exec", "--env", "A=1", "id", "ls", "-l", "--root"]).unwrap();
        assert_eq!(parsed.words, ["id", "ls", "-l", "--root"]);
        assert_eq!(parsed.environment, ["A=1"]);
    }

    #[test]
    fn an_id_is_a_name() {
        for id in ["", ".", "..", "a/b", "a b", "../x"] {
            assert!(parse(&["state", id]).unwrap().id().is_err(), "{id:?}");
        }
        parse(&["state"]).unwrap().id().unwrap_err();
        parse(&["--unknown", "x", "state"]).unwrap_err();
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (word, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sys", 31)] {
            assert_eq!(signal(word).unwrap(), number);
        }
        assert!(signal("0").is_err() && signal("NOPE").is_err());
    }
}
