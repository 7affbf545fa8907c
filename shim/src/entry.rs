//! Which of its entries the shim was called by, and what each prepares.

mod containerd;

use crate::Failure;
use crate::serve::{Sockets, serve};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// A command line that fits no entry.
#[derive(Debug, thiserror::Error)]
#[error("usage: {0}")]
pub(crate) struct Usage(pub(crate) &'static str);

/// Runs the entry that the arguments name.
///
/// # Errors
/// The entry's failure.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let words = arguments.get(1..).unwrap_or_default();
    match words.first() {
        Some(first) if first == "serve" => run_serve(words.get(1..).unwrap_or_default()),
        Some(first) if first == "pin" => crate::pin::run(words.get(1..).unwrap_or_default()),
        // containerd puts its options before its verb, so a bare verb is the OCI command line's.
        Some(first) if crate::oci_cli::is_command(first) => Ok(crate::oci_cli::run(words)?),
        Some(_) | None => {
            containerd::Call::parse(words)?.perform()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

const SERVE_USAGE: &str =
    "containerd-shim-cringle-v2 serve --bundle DIRECTORY [--socket PATH-TO-REMOVE]";

/// The shim proper: the Task socket is standard input, the control socket standard output.
fn run_serve(words: &[OsString]) -> Result<ExitCode, Failure> {
    let (mut bundle, mut socket) = (None, None);
    for pair in words.chunks(2) {
        match pair {
            [flag, value] if flag == "--bundle" => bundle = Some(PathBuf::from(value)),
            [flag, value] if flag == "--socket" => socket = Some(PathBuf::from(value)),
            _ => return Err(Usage(SERVE_USAGE).into()),
        }
    }
    let bundle = bundle.ok_or(Usage(SERVE_USAGE))?;
    let sockets = Sockets {
        // Not by the standard library's handles, which would allocate buffers for the shim's whole life.
        task: rustix::stdio::stdin().try_clone_to_owned()?,
        control: rustix::stdio::stdout().try_clone_to_owned()?,
    };
    sanitise()?;
    serve(bundle, sockets)?;
    if let Some(socket) = socket {
        containerd::remove_socket(&socket)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes this process one that nobody else has a part in.
fn sanitise() -> Result<(), Failure> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    point_at(&null)?;
    // A process group leader cannot make a session; whoever made it one has separated us already.
    let _leader_already = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir("/")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"cringle-shim")?;
    Ok(())
}

/// Standard input and output lead nowhere from now on; errors go where they went.
fn point_at(null: &OwnedFd) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)
}
