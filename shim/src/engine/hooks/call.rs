//! One call of one hook: its process, its streams, its end.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use cringle_kernel::clone::{self, Birth, Born};
use cringle_kernel::credential;
use cringle_kernel::error::SystemError;
use cringle_kernel::process::{self, Exit, Texts};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::super::error::{Attempting as _, EngineError, Result};
use super::super::sync::{self, End, Heard};
use super::Hook;

/// How much of what a hook writes is told.
const TAIL: usize = 1024;

/// How much is still read once it has ended: a child of it may write on.
const LAST_WORDS: usize = 64 * 1024;

/// The exit code of a process that did not become the hook; it has told why.
const FAILED: i32 = 127;

/// Why a hook failed; continues "hook … ".
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be run, or not be waited for.
    Refused(EngineError),
    /// It ended badly, saying this.
    Ended(Exit, Tail),
    /// It took too long and was killed, with this said so far.
    TimedOut(Duration, Tail),
}

/// The end of a text.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

/// Runs the hook to its end. `enter` is called in its process right before.
///
/// # Errors
/// It could not be run, took longer than `patience`, or ended with anything but zero.
pub(super) fn perform(
    hook: &Hook,
    state: &[u8],
    patience: Duration,
    enter: &dyn Fn() -> Result<()>,
) -> std::result::Result<(), Failure> {
    let end = Instant::now() + patience;
    let (born, output) = begin(hook, state, enter)?;
    let mut tail = Tail::default();
    let ended = follow(&born, &output, end, &mut tail)?;
    if ended == Ended::InTime {
        return match process::wait(&born.pidfd).attempting(wait)? {
            Exit::Code(0) => Ok(()),
            exit @ (Exit::Code(_) | Exit::Signal(_)) => Err(Failure::Ended(exit, tail)),
        };
    }
    kill(&born)?;
    Err(Failure::TimedOut(patience, tail))
}

fn wait() -> String {
    "wait for a hook".to_owned()
}

/// Clones the hook's process and waits until it executes.
fn begin(hook: &Hook, state: &[u8], enter: &dyn Fn() -> Result<()>) -> Result<(Born, OwnedFd)> {
    let attempt = || "prepare a hook".to_owned();
    let calling = Calling {
        path: CString::new(hook.path.as_os_str().as_bytes())
            .map_err(|_nul| EngineError::invalid("hooks", "a path has a NUL byte in it"))?,
        arguments: texts(&hook.arguments)?,
        environment: texts(&hook.environment)?,
    };
    let input = memory(state).attempting(attempt)?;
    let (output, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).attempting(attempt)?;
    let (ours, theirs) = sync::pair()?;
    let mut ours = Some(ours);
    let born = clone::child(&Birth::default(), || {
        drop(ours.take());
        calling.live(theirs, (input, writer), enter)
    })
    .attempting(|| "clone a hook's process".to_owned())?;
    let Some(sync) = ours else { return Err(EngineError::Phase("in its own hook")) };
    match sync.hear() {
        Ok(Heard::Closed) => Ok((born, output)),
        Ok(Heard::Ready(_) | Heard::Paused) => {
            kill(&born)?;
            Err(EngineError::Phase("ready in its hook"))
        }
        Err(error) => {
            kill(&born)?;
            Err(error)
        }
    }
}

fn texts(texts: &[String]) -> Result<Texts> {
    Texts::new(texts.iter().map(String::as_str)).attempting(|| "prepare a hook".to_owned())
}

/// A file in memory with this content: unlike a pipe it takes any amount without a reader.
fn memory(content: &[u8]) -> std::result::Result<OwnedFd, SystemError> {
    let failed = |error: std::io::Error| SystemError::new("write", "memory", error);
    let memory = rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC);
    let mut memory =
        File::from(memory.map_err(|errno| SystemError::new("memfd_create", "", errno))?);
    memory.write_all(content).map_err(failed)?;
    memory.rewind().map_err(failed)?;
    Ok(memory.into())
}

/// What is executed.
struct Calling {
    path: CString,
    arguments: Texts,
    environment: Texts,
}

impl Calling {
    /// Child-side: becomes the hook. Returns its exit code if it does not.
    fn live(
        &self,
        sync: End,
        (input, output): (OwnedFd, OwnedFd),
        enter: &dyn Fn() -> Result<()>,
    ) -> i32 {
        if let Err(error) = take_streams(&input, &output) {
            sync.fail(&error);
            process::quit(FAILED);
        }
        // From here on there are the three streams and the socket; the other descriptors' owners must not close them again.
        let sync = match process::keep_only(sync.into_descriptor()) {
            Ok(kept) => End::from_descriptor(kept),
            Err(_no_descriptor) => process::quit(FAILED),
        };
        let error = match enter() {
            Ok(()) => {
                let source = process::execute(&self.path, &self.arguments, &self.environment);
                EngineError::Attempt { attempt: "execute it".to_owned(), source }
            }
            Err(error) => error,
        };
        sync.fail(&error);
        process::quit(FAILED)
    }
}

fn take_streams(input: &OwnedFd, output: &OwnedFd) -> Result<()> {
    let attempt = || "prepare a hook".to_owned();
    process::reset_signals().attempting(attempt)?;
    rustix::process::setsid().attempting(attempt)?;
    credential::set_umask(0o022);
    rustix::process::chdir("/").attempting(attempt)?;
    rustix::stdio::dup2_stdin(input).attempting(attempt)?;
    rustix::stdio::dup2_stdout(output).attempting(attempt)?;
    rustix::stdio::dup2_stderr(output).attempting(attempt)
}

/// Whether something ended before its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    InTime,
    NotYet,
}

/// Reads what the hook writes until it ends or its time is up.
fn follow(born: &Born, output: &OwnedFd, end: Instant, tail: &mut Tail) -> Result<Ended> {
    let mut open = true;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut entries = [
            PollFd::new(&born.pidfd, PollFlags::IN),
            PollFd::new(output, if open { PollFlags::IN } else { PollFlags::empty() }),
        ];
        let watched = if open { &mut entries[..] } else { &mut entries[..1] };
        match rustix::event::poll(watched, Some(&left)) {
            Err(Errno::INTR) => continue,
            other => other.attempting(wait)?,
        };
        let [process, stream] = entries.map(|entry| !entry.revents().is_empty());
        if process {
            drain(output, tail)?;
            return Ok(Ended::InTime);
        }
        if stream {
            open = tail.read(output).attempting(wait)? > 0;
        }
        if Instant::now() >= end {
            return Ok(Ended::NotYet);
        }
    }
}

/// Reads what is there, without waiting for more.
fn drain(output: &OwnedFd, tail: &mut Tail) -> Result<()> {
    rustix::io::ioctl_fionbio(output, true).attempting(wait)?;
    let mut length = 0;
    while length < LAST_WORDS {
        match tail.read(output) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).attempting(wait),
        }
    }
    Ok(())
}

/// Kills the hook with what is in its process group, and reaps it.
fn kill(born: &Born) -> Result<()> {
    let attempt = || "end a hook".to_owned();
    if let Some(group) = Pid::from_raw(born.pid) {
        // It may have ended meanwhile, and all that were in its group.
        let _gone = rustix::process::kill_process_group(group, Signal::KILL);
    }
    process::signal(&born.pidfd, Signal::KILL.as_raw()).attempting(attempt)?;
    process::wait(&born.pidfd).map(drop).attempting(attempt)
}

impl Tail {
    /// Reads once; zero at the end.
    fn read(&mut self, output: &OwnedFd) -> std::result::Result<usize, Errno> {
        let mut buffer = [0; 4096];
        let length = rustix::io::read(output.as_fd(), &mut buffer)?;
        self.0.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let excess = self.0.len().saturating_sub(TAIL);
        drop(self.0.drain(..excess));
        Ok(length)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(formatter, "did not run: {}", crate::chain(error)),
            Self::Ended(Exit::Code(code), tail) => {
                write!(formatter, "exited with code {code}{tail}")
            }
            Self::Ended(Exit::Signal(signal), tail) => {
                write!(formatter, "was killed by signal {signal}{tail}")
            }
            Self::TimedOut(patience, tail) => {
                write!(formatter, "did not end within {patience:?} and was killed{tail}")
            }
        }
    }
}

impl fmt::Display for Tail {
    /// In one line, whatever it is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() { Ok(()) } else { write!(formatter, ", saying {text:?}") }
    }
}
