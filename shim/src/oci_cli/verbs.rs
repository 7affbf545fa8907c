//! What each command of the OCI command line does with the engine.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use cringle_kernel::process::{self, Exit};
use cringle_kernel::socket::{self, Kind, Waiting};
use oci_spec::runtime::{Linux, Process};

use super::arguments::{self, Arguments, UsageError};
use crate::engine::{self, Bundle, Child, EngineError, Phase, Running, Stdio, Target};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The engine could not.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A call failed.
    #[error(transparent)]
    System(#[from] cringle_kernel::error::SystemError),
    /// A file could not be read or written.
    #[error("failed to {attempt} {path:?}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A process file is no process.
    #[error("failed to parse {path:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A container that is not stopped is not deleted without force.
    #[error("container {0:?} is not stopped")]
    NotStopped(String),
    /// A terminal was asked for, but nowhere to send it.
    #[error("a process with a terminal needs --console-socket")]
    NoConsole,
}

type Result<T> = std::result::Result<T, Failure>;

/// Creates a container whose init waits for `start`.
pub(super) fn create(arguments: &Arguments) -> Result<u8> {
    let (bundle, link) = claim(arguments)?;
    let made = create_in(&bundle, arguments);
    if made.is_err() {
        // Nothing was made; the name is free again.
        remove(&link)?;
    }
    made
}

fn create_in(bundle: &Bundle, arguments: &Arguments) -> Result<u8> {
    let child = engine::create_waiting(bundle, stdio(wants_terminal(bundle))?)?;
    let told = hand_over(&child, arguments);
    if told.is_err() {
        engine::delete(&bundle.path)?;
    }
    told.map(|()| 0)
}

/// Starts a container that waits.
pub(super) fn start(arguments: &Arguments) -> Result<u8> {
    engine::start_waiting(&find(arguments)?)?;
    Ok(0)
}

/// Creates and starts a container, waits for its end, and takes everything back.
pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let (bundle, link) = claim(arguments)?;
    let outcome = run_in(&bundle, arguments);
    engine::delete(&bundle.path)?;
    remove(&link)?;
    outcome
}

fn run_in(bundle: &Bundle, arguments: &Arguments) -> Result<u8> {
    let created = engine::create(bundle, stdio(wants_terminal(bundle))?)?;
    hand_over(created.child(), arguments)?;
    let running = created.start()?;
    Ok(code(process::wait(running.pidfd())?))
}

/// Executes another process in a container and waits for its end.
pub(super) fn exec(arguments: &Arguments) -> Result<u8> {
    let path = find(arguments)?;
    let running = Running::find(&path)?;
    let process = requested(arguments, &path)?;
    let terminal = process.terminal().unwrap_or_default();
    let child = running.exec(&process, stdio(terminal)?)?;
    hand_over(&child, arguments)?;
    if arguments.has("detach") {
        return Ok(0);
    }
    Ok(code(process::wait(&child.pidfd)?))
}

/// Sends a signal.
pub(super) fn kill(arguments: &Arguments) -> Result<u8> {
    let word = arguments.words.get(1).map_or("TERM", String::as_str);
    let signal = arguments::signal(word)?;
    let target = if arguments.has("all") { Target::All } else { Target::Init };
    Running::find(&find(arguments)?)?.signal(signal, target)?;
    Ok(0)
}

/// Takes back what is left of a container.
pub(super) fn delete(arguments: &Arguments) -> Result<u8> {
    let force = arguments.has("force");
    let path = match find(arguments) {
        Err(Failure::File { .. }) if force => return Ok(0),
        found => found?,
    };
    if !force && engine::status(&path)?.phase != Phase::Stopped {
        return Err(Failure::NotStopped(arguments.id()?.to_owned()));
    }
    engine::delete(&path)?;
    remove(&link(arguments)?)?;
    Ok(0)
}

/// Writes the state in the form of the OCI specification.
pub(super) fn state(arguments: &Arguments) -> Result<u8> {
    let path = find(arguments)?;
    let status = engine::status(&path)?;
    let bundle = Bundle::load(&path, Vec::new())?;
    let word = match status.phase {
        Phase::Created => "created",
        Phase::Running => "running",
        Phase::Stopped => "stopped",
    };
    let mut state = serde_json::json!({
        "ociVersion": bundle.spec.version(),
        "id": arguments.id()?,
        "status": word,
        "bundle": path,
        "annotations": bundle.spec.annotations().clone().unwrap_or_default(),
    });
    if let (Some(pid), Some(fields)) = (status.pid, state.as_object_mut()) {
        fields.insert("pid".to_owned(), pid.into());
    }
    let text = format!("{state:#}\n");
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|source| Failure::File {
        attempt: "write",
        path: "/dev/stdout".into(),
        source,
    })?;
    Ok(0)
}

/// Loads the bundle and gives it the id's name, which nobody may have.
fn claim(arguments: &Arguments) -> Result<(Bundle, PathBuf)> {
    let path = canonical(&arguments.bundle)?;
    let mut bundle = Bundle::load(&path, Vec::new())?;
    arguments.id()?.clone_into(&mut bundle.id);
    let mut linux: Linux = bundle.spec.linux().clone().unwrap_or_default();
    if linux.cgroups_path().is_none() {
        linux.set_cgroups_path(Some(Path::new("/cringle-oci").join(arguments.id()?)));
        bundle.spec.set_linux(Some(linux));
    }
    let link = link(arguments)?;
    std::fs::create_dir_all(&arguments.root).map_err(|source| Failure::File {
        attempt: "make",
        path: arguments.root.clone(),
        source,
    })?;
    std::os::unix::fs::symlink(&path, &link).map_err(|source| Failure::File {
        attempt: "claim",
        path: link.clone(),
        source,
    })?;
    Ok((bundle, link))
}

fn link(arguments: &Arguments) -> Result<PathBuf> {
    Ok(arguments.root.join(arguments.id()?))
}

/// The bundle of the container.
fn find(arguments: &Arguments) -> Result<PathBuf> {
    let link = link(arguments)?;
    std::fs::read_link(&link).map_err(|source| Failure::File {
        attempt: "find container",
        path: link,
        source,
    })
}

fn remove(link: &Path) -> Result<()> {
    match std::fs::remove_file(link) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::File { attempt: "remove", path: link.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|source| Failure::File {
        attempt: "find bundle",
        path: path.to_owned(),
        source,
    })
}

fn wants_terminal(bundle: &Bundle) -> bool {
    bundle.spec.process().as_ref().and_then(Process::terminal).unwrap_or_default()
}

/// Our own streams for the process, or a terminal.
fn stdio(terminal: bool) -> Result<Stdio> {
    if terminal {
        return Ok(Stdio::Terminal);
    }
    let copied = |copy: std::io::Result<OwnedFd>| {
        copy.map_err(|source| Failure::File { attempt: "copy", path: "/dev/stdio".into(), source })
    };
    Ok(Stdio::Pipes {
        stdin: Some(copied(std::io::stdin().as_fd().try_clone_to_owned())?),
        stdout: copied(std::io::stdout().as_fd().try_clone_to_owned())?,
        stderr: copied(std::io::stderr().as_fd().try_clone_to_owned())?,
    })
}

/// Writes the process id and sends the terminal where they were asked for.
fn hand_over(child: &Child, arguments: &Arguments) -> Result<()> {
    if let Some(path) = &arguments.pid_file {
        let write = || std::fs::File::create(path)?.write_all(child.pid.to_string().as_bytes());
        write().map_err(|source| Failure::File { attempt: "write", path: path.clone(), source })?;
    }
    let Some(master) = &child.master else { return Ok(()) };
    let path = arguments.console.as_ref().ok_or(Failure::NoConsole)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = std::fs::File::open(parent.unwrap_or(Path::new(".")))
        .map_err(|source| Failure::File { attempt: "open", path: path.clone(), source })?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let console = socket::connect(directory.as_fd(), &name, Kind::Stream, Waiting::Blocks)?;
    socket::send(console.as_fd(), b"/dev/ptmx", &[master.as_fd()])?;
    Ok(())
}

/// The process of an exec: from a file, or the container's own with another command.
fn requested(arguments: &Arguments, path: &Path) -> Result<Process> {
    if let Some(path) = &arguments.process {
        let text = std::fs::read(path).map_err(|source| Failure::File {
            attempt: "read",
            path: path.clone(),
            source,
        })?;
        return serde_json::from_slice(&text)
            .map_err(|source| Failure::Parse { path: path.clone(), source });
    }
    let bundle = Bundle::load(path, Vec::new())?;
    let mut process = bundle.spec.process().clone().unwrap_or_default();
    let command = arguments.words.get(1..).unwrap_or_default().to_vec();
    if command.is_empty() {
        return Err(UsageError::Missing("a command").into());
    }
    process.set_args(Some(command));
    process.set_terminal(Some(arguments.has("tty")));
    if let Some(directory) = &arguments.directory {
        process.set_cwd(directory.clone());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(arguments.environment.iter().cloned());
    process.set_env(Some(environment));
    if let Some(user) = &arguments.user {
        let number = |text: &str| {
            let invalid = |_number| UsageError::Word { what: "user", word: user.clone() };
            text.parse::<u32>().map_err(invalid)
        };
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let mut identity = process.user().clone();
        identity.set_uid(number(uid)?);
        identity.set_gid(number(gid)?);
        process.set_user(identity);
    }
    Ok(process)
}

fn code(exit: Exit) -> u8 {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
