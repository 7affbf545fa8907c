//! Which of its entries the shim was called by, and what each prepares.

use crate::serve::{Sockets, serve};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use std::error::Error;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn Error>;

/// A command line that fits no entry.
#[derive(Debug, thiserror::Error)]
#[error("usage: {0}")]
struct Usage(&'static str);

/// Runs the entry that the arguments name.
///
/// # Errors
/// The entry's failure.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let mut words = arguments.iter().skip(1);
    if words.next().is_some_and(|word| word == "serve") {
        let (Some(flag), Some(bundle), None) = (words.next(), words.next(), words.next()) else {
            return Err(Usage(SERVE_USAGE).into());
        };
        if flag != "--bundle" {
            return Err(Usage(SERVE_USAGE).into());
        }
        return run_serve(PathBuf::from(bundle));
    }
    Err(Usage(SERVE_USAGE).into())
}

const SERVE_USAGE: &str = "containerd-shim-cringle-v2 serve --bundle DIRECTORY";

/// The entry of our own daemon: the Task socket is standard input, the control socket standard output.
fn run_serve(bundle: PathBuf) -> Result<ExitCode, Failure> {
    let sockets = Sockets {
        task: std::io::stdin().as_fd().try_clone_to_owned()?,
        control: Some(std::io::stdout().as_fd().try_clone_to_owned()?),
    };
    sanitise()?;
    serve(bundle, sockets)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes this process one that nobody else has a part in.
pub(crate) fn sanitise() -> Result<(), Failure> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    point_at(&null)?;
    // A process group leader cannot make a session; it has one of its own then.
    if rustix::process::setsid().is_err() {}
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
