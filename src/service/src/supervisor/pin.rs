//! The shim's entry that makes and pins namespaces which the daemon, having more than one thread, can't.

use super::{PATIENCE, ShimProgram};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Why the shim's program did not pin.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The thread that waits for it, or it, could not be had.
    #[error("failed to run the shim's program")]
    Run(#[source] io::Error),
    /// It failed; its own words.
    #[error("{0}")]
    Refused(String),
}

/// Runs the entry with these further arguments and waits for its end, for as long as any shim is waited for, on a thread made for it: the program dies with the thread
/// that called it, so that a daemon that is gone pins nothing.
///
/// # Errors
/// It could not be run, or its words.
pub(crate) async fn pin(program: &ShimProgram, arguments: Vec<OsString>) -> Result<(), PinError> {
    let program = program.clone();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("pin".to_owned()).spawn(move || {
        // Nobody to tell if the operation is gone: it tears down what was noted.
        drop(sender.send(run(&program, &arguments)));
    });
    spawned.map_err(PinError::Run)?;
    let gone = || Err(PinError::Run(io::Error::other("its thread ended without an answer")));
    receiver.await.unwrap_or_else(|_gone| gone())
}

/// Whether this host can make namespaces for users of a pod's own, and show files of that directory with other ids.
///
/// # Errors
/// What it can't, in the shim's words.
pub fn probe(program: &ShimProgram, directory: &std::path::Path) -> Result<(), PinError> {
    run(program, &["--probe".into(), directory.into()])
}

fn run(program: &ShimProgram, arguments: &[OsString]) -> Result<(), PinError> {
    let mut command = Command::new(program.path());
    command
        .arg0("containerd-shim-cringle-v2")
        .args(["pin", "--parent", &std::process::id().to_string()])
        .args(arguments)
        .env_clear();
    let output = output_within(command, PATIENCE).map_err(PinError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let line = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // What the shim says begins with the time, which a log line of ours has as well.
    let words = line.split_once("Z ").map_or(line.as_str(), |(_, words)| words);
    let words = if words.is_empty() { output.status.to_string() } else { words.to_owned() };
    Err(PinError::Refused(words))
}

/// Runs a program that says little to its end, or kills it when its time is up.
fn output_within(mut command: Command, patience: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Ours to reap, so its number is nobody else's.
    let ended = i32::try_from(child.id())
        .map_err(io::Error::other)
        .and_then(|pid| cringle_kernel::process::open(pid).map_err(io::Error::other))
        .and_then(|process| {
            cringle_kernel::poll::readable(process.as_fd(), Some(patience))
                .map_err(io::Error::other)
        });
    if !matches!(ended, Ok(true)) {
        child.kill()?;
        child.wait()?;
    }
    if ended? {
        return child.wait_with_output();
    }
    let problem = format!("it was killed after {} s", patience.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_when_its_time_is_up() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >&2; exec sleep 1000"]);
        let error = output_within(command, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_a_program_says_comes_with_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo words >&2; exit 3"]);
        let output = output_within(command, Duration::from_secs(60)).unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(3), &b"words\n"[..]));
    }
}
