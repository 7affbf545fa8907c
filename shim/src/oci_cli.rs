//! The OCI command line: the engine for one container, without daemon, socket or supervisor.
//!
//! ```text
//! create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID
//! start ID    kill [--all] ID [SIGNAL]    delete [--force] ID    state ID
//! run [--bundle DIR] ID                   exec [--cwd DIR] [--user UID[:GID]] [--env K=V]... ID COMMAND...
//! ```
//! Its state is a link for each id to the bundle, below `--root` (default `/run/cringle-oci`). The process that runs `create` ends
//! before the container starts: the container's init then waits at a socket in the bundle, which `start` connects to.

mod arguments;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::{Arguments, UsageError};
use verbs::Failure;

/// Whether a word names a command of this command line.
pub(crate) fn is_command(word: &OsString) -> bool {
    ["create", "start", "kill", "delete", "state", "run", "exec"].iter().any(|known| word == known)
        || word == "--root"
}

/// Runs a command. `words` does not include the program's name.
///
/// # Errors
/// The command line makes no sense, or what it asks for failed.
pub(crate) fn run(words: &[OsString]) -> Result<ExitCode, Failure> {
    let arguments = Arguments::parse(words)?;
    let code = match arguments.command.as_str() {
        "create" => verbs::create(&arguments)?,
        "start" => verbs::start(&arguments)?,
        "kill" => verbs::kill(&arguments)?,
        "delete" => verbs::delete(&arguments)?,
        "state" => verbs::state(&arguments)?,
        "run" => verbs::run(&arguments)?,
        "exec" => verbs::exec(&arguments)?,
        other => return Err(UsageError::Command(other.to_owned()).into()),
    };
    Ok(ExitCode::from(code))
}
