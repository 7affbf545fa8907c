//! Running one plugin: ours by a call, a foreign one as a process by the book (CNI specification 1.1, section 2 and 3).
//!
//! A process gets its own group, which is killed at the deadline, a fixed environment, and caps on what it may answer.

use crate::conf::{Origin, Plugin};
use crate::identity::Identities;
use crate::worker::WorkerLost;
use crate::{BuiltinPlugins, Network, NetworkSettings};
use cringle_cni::context::{Context, NetnsFate};
use cringle_cni::plugin;
use cringle_cni::spec::error::DECODING;
use cringle_cni::spec::{Error as SpecError, Network as Configuration};
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// The most that a plugin may answer on each stream.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// How much of its standard error is told.
const TOLD: usize = 4096;

/// How long an inherited stream is read after the plugin itself has ended.
const DRAIN: Duration = Duration::from_millis(200);

/// Tries while an installer is still writing the program, and the pause between them.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// One call of one plugin.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) verb: Verb,
    pub(crate) kind: String,
    pub(crate) origin: Origin,
    pub(crate) container_id: String,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) interface: String,
    pub(crate) arguments: String,
    pub(crate) configuration: String,
    pub(crate) timeout: Duration,
}

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Delete,
    Check,
    Collect,
    Status,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Delete => "DEL",
            Self::Check => "CHECK",
            Self::Collect => "GC",
            Self::Status => "STATUS",
        }
    }

    fn command(self) -> plugin::Command {
        match self {
            Self::Add => plugin::Command::Add,
            Self::Delete => plugin::Command::Delete,
            Self::Check => plugin::Command::Check,
            Self::Collect => plugin::Command::Collect,
            Self::Status => plugin::Command::Status,
        }
    }
}

/// Why a plugin did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// No file of that name in the plugin directories.
    #[error("no plugin \"{kind}\" in {directories:?}")]
    Missing {
        /// The type.
        kind: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// It could not be executed or talked to.
    #[error("failed to execute plugin \"{kind}\"")]
    Execute {
        /// The type.
        kind: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// It reported an error.
    #[error("plugin \"{kind}\" answered code {}: {error}{told}", error.code)]
    Reported {
        /// The type.
        kind: String,
        /// Its error.
        error: SpecError,
        /// What it wrote on standard error.
        told: String,
    },
    /// It ended without an error that could be read.
    #[error("plugin \"{kind}\" {how}{told}")]
    Abnormal {
        /// The type.
        kind: String,
        /// How it ended, or what it answered.
        how: String,
        /// What it wrote on standard error.
        told: String,
    },
    /// It did not end in time, and was killed.
    #[error("plugin \"{kind}\" did not end within {} s", timeout.as_secs())]
    TimedOut {
        /// The type.
        kind: String,
        /// The time that it had.
        timeout: Duration,
    },
    /// A plugin of ours has a bug.
    #[error("plugin \"{kind}\" failed")]
    Lost {
        /// The type.
        kind: String,
        /// The bug.
        #[source]
        source: WorkerLost,
    },
}

impl InvokeError {
    /// The code of the protocol, if the plugin gave one.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Reported { error, .. } => Some(error.code),
            Self::Missing { .. }
            | Self::Execute { .. }
            | Self::Abnormal { .. }
            | Self::TimedOut { .. }
            | Self::Lost { .. } => None,
        }
    }
}

impl Network {
    /// Runs a plugin; its answer is JSON for ADD and nothing otherwise.
    pub(crate) async fn invoke(
        &self,
        invocation: Invocation,
    ) -> Result<Option<Box<RawValue>>, InvokeError> {
        match self.program_of(&invocation.kind, invocation.origin)? {
            Some(program) => self.execute(invocation, program).await,
            None => self.call(invocation).await,
        }
    }

    /// Whether a plugin is there.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn require(&self, plugin: &Plugin) -> Result<(), InvokeError> {
        self.program_of(&plugin.kind, plugin.origin).map(drop)
    }

    /// The program for a type, or nothing if the call is ours.
    fn program_of(&self, kind: &str, origin: Origin) -> Result<Option<PathBuf>, InvokeError> {
        program_of(&self.settings, &self.identity, kind, origin)
    }

    pub(crate) async fn call(
        &self,
        invocation: Invocation,
    ) -> Result<Option<Box<RawValue>>, InvokeError> {
        let kind = invocation.kind.clone();
        let path = self.settings.plugin_directories.clone();
        let timeout = invocation.timeout;
        let answer = self.worker.run(move |context| call_ours(invocation, path, context));
        // The thread takes one job after the other, so a DEL comes after an ADD that was given up.
        let Ok(answer) = tokio::time::timeout(timeout, answer).await else {
            return Err(InvokeError::TimedOut { kind, timeout });
        };
        match answer {
            Ok(Ok(Some(text))) => parse_result(&kind, &text, String::new()).map(Some),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(InvokeError::Reported { kind, error, told: String::new() }),
            Err(source) => Err(InvokeError::Lost { kind, source }),
        }
    }

    fn plugin_path(&self) -> OsString {
        std::env::join_paths(&self.settings.plugin_directories).unwrap_or_default()
    }

    async fn execute(
        &self,
        invocation: Invocation,
        program: PathBuf,
    ) -> Result<Option<Box<RawValue>>, InvokeError> {
        let kind = invocation.kind.clone();
        let failed = |source| InvokeError::Execute { kind: kind.clone(), source };
        let mut group = Group(self.spawn(&invocation, &program).await.map_err(failed)?);
        let talk = converse(&mut group.0, invocation.configuration.as_bytes());
        let Ok(talked) = tokio::time::timeout(invocation.timeout, talk).await else {
            return Err(InvokeError::TimedOut { kind, timeout: invocation.timeout });
        };
        let answer = talked.map_err(failed)?;
        judge(invocation, &answer)
    }

    /// Starts the program; while somebody is still writing it, waits a little.
    async fn spawn(&self, invocation: &Invocation, program: &PathBuf) -> std::io::Result<Child> {
        let mut tries = 0;
        loop {
            match self.command(invocation, program).spawn() {
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                        && tries < BUSY_TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    fn command(&self, invocation: &Invocation, program: &PathBuf) -> Command {
        let mut command = Command::new(program);
        // Plugins expect a normal environment (PATH, KUBECONFIG, proxies), so ours is passed on.
        command
            .env_remove("NOTIFY_SOCKET")
            .env("CNI_COMMAND", invocation.verb.name())
            .env("CNI_CONTAINERID", &invocation.container_id)
            .env("CNI_IFNAME", &invocation.interface)
            .env("CNI_ARGS", &invocation.arguments)
            .env("CNI_PATH", self.plugin_path())
            .env("CNI_NETNS", invocation.netns.as_deref().unwrap_or("".as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// The program for a type, or nothing if the call is ours.
pub(crate) fn program_of(
    settings: &NetworkSettings,
    identities: &Identities,
    kind: &str,
    origin: Origin,
) -> Result<Option<PathBuf>, InvokeError> {
    if origin == Origin::Own {
        return Ok(None);
    }
    let directories = &settings.plugin_directories;
    let found = directories.iter().map(|one| one.join(kind)).find(|path| path.is_file());
    let builtin =
        settings.builtin_plugins == BuiltinPlugins::InProcess && plugin::KNOWN.contains(&kind);
    match found {
        Some(path) if builtin && identities.is_ours(&path) => Ok(None),
        Some(path) => Ok(Some(path)),
        None if builtin => Ok(None),
        None => {
            Err(InvokeError::Missing { kind: kind.to_owned(), directories: directories.clone() })
        }
    }
}

/// Runs on the worker thread. A result is answered in the version of the configuration, as a process would.
fn call_ours(
    invocation: Invocation,
    path: Vec<PathBuf>,
    context: &mut Context,
) -> Result<Option<String>, SpecError> {
    let config = RawValue::from_string(invocation.configuration)
        .map_err(|error| SpecError::new(DECODING, error.to_string()))?;
    let version = Configuration::parse(config.get())?.version;
    let request = plugin::Request {
        container_id: invocation.container_id,
        netns: invocation.netns,
        if_name: invocation.interface,
        args: invocation.arguments,
        path,
        config,
    };
    // The pod's namespace ends right after DEL and takes its links with it.
    context.netns_fate = NetnsFate::Dies;
    let result = plugin::run(invocation.verb.command(), &invocation.kind, &request, context)?;
    Ok(result.map(|result| result.to_json(version)))
}

struct Answer {
    status: std::process::ExitStatus,
    output: Vec<u8>,
    told: Vec<u8>,
}

async fn converse(child: &mut Child, configuration: &[u8]) -> std::io::Result<Answer> {
    let (input, output, told) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut input) = input {
            // A plugin that does not read its configuration tells by its answer.
            if input.write_all(configuration).await.is_err() {}
        }
    };
    let (mut output_bytes, mut told_bytes) = (Vec::new(), Vec::new());
    let status = {
        let read = async {
            tokio::join!(
                write,
                read_capped(output, &mut output_bytes),
                read_tail(told, &mut told_bytes)
            )
        };
        tokio::pin!(read);
        tokio::select! {
            // All streams closed: only the exit is missing.
            _ = &mut read => child.wait().await?,
            // It ended, but a descendant may hold its streams open.
            status = child.wait() => {
                if tokio::time::timeout(DRAIN, read).await.is_err() {
                    tracing::debug!("a descendant of a plugin holds its streams open");
                }
                status?
            }
        }
    };
    Ok(Answer { status, output: output_bytes, told: told_bytes })
}

/// Reads to the end and keeps only what is told, so that the writer is not blocked.
async fn read_tail(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; TOLD];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(TOLD));
    }
}

/// Reads up to the cap and discards the rest, so that the writer is not blocked.
async fn read_capped(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    if (&mut stream).take(OUTPUT_LIMIT + 1).read_to_end(kept).await.is_err() {
        return;
    }
    if tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.is_err() {}
}

fn judge(invocation: Invocation, answer: &Answer) -> Result<Option<Box<RawValue>>, InvokeError> {
    let kind = invocation.kind;
    let told = tail(&answer.told);
    let text = String::from_utf8_lossy(&answer.output);
    if !answer.status.success() {
        let reported = serde_json::from_str::<SpecError>(text.trim()).ok();
        if let Some(error) = reported.filter(|error| error.code != 0 || !error.msg.is_empty()) {
            return Err(InvokeError::Reported { kind, error, told });
        }
        let how = match answer.status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("ended with status {}", answer.status.code().unwrap_or(-1)),
        };
        return Err(InvokeError::Abnormal { kind, how, told });
    }
    match invocation.verb {
        Verb::Add if answer.output.len() as u64 > OUTPUT_LIMIT => {
            let how = "answered more than 1 MiB".to_owned();
            Err(InvokeError::Abnormal { kind, how, told })
        }
        Verb::Add => parse_result(&kind, text.trim(), told).map(Some),
        Verb::Delete | Verb::Check | Verb::Collect | Verb::Status => Ok(None),
    }
}

/// An answer to ADD; old plugins may say nothing.
fn parse_result(kind: &str, text: &str, told: String) -> Result<Box<RawValue>, InvokeError> {
    let text = if text.is_empty() || text == "null" { "{}" } else { text };
    let object = serde_json::from_str::<crate::conf::Object>(text);
    let raw = object.and_then(|_| serde_json::from_str::<Box<RawValue>>(text));
    raw.map_err(|error| InvokeError::Abnormal {
        kind: kind.to_owned(),
        how: format!("answered what is no result ({error})"),
        told,
    })
}

/// The end of what a plugin wrote on standard error, as a clause.
fn tail(told: &[u8]) -> String {
    let text = String::from_utf8_lossy(told);
    match text.trim() {
        "" => String::new(),
        text => format!("; it wrote: {text}"),
    }
}

/// A plugin's process and its group, which ends with it unless the plugin has ended by itself: at the deadline, and when
/// the caller goes away.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // No id any more once it was reaped; then the number may be another's.
        let leader = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = leader.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself just now; the runtime reaps it.
            if rustix::process::kill_process_group(group, rustix::process::Signal::KILL).is_err() {}
        }
    }
}
