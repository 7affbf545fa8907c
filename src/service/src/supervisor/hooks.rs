//! The hooks for the end of a container whose shim is gone: run by the shim's program, from the files in the bundle.

use super::{ShimProgram, launch};
use cringle_proto_shim::ENVIRONMENT;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// How long all of them may take; the shim's program ends each that takes longer than it may.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why they did not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum HooksError {
    /// The program could not be run.
    #[error("failed to run the shim's program")]
    Run(#[source] io::Error),
    /// It failed, and says why in the shim's log.
    #[error("the shim's program ended with {0}")]
    Failed(ExitStatus),
    /// It did not end.
    #[error("the shim's program did not end within {PATIENCE:?}")]
    Silent,
}

/// Runs them by the entry that containerd has for a shim that died. What each says goes to the shim's log.
///
/// # Errors
/// The program could not be run, or failed.
pub(super) async fn run(program: &ShimProgram, bundle: &Path) -> Result<(), HooksError> {
    let id = bundle.file_name().unwrap_or_default();
    let log = launch::open_log(bundle).map_err(|error| HooksError::Run(io::Error::other(error)))?;
    let mut child = Command::new(program.path())
        .arg0("containerd-shim-cringle-v2")
        .arg("-id")
        .arg(id)
        .arg("-bundle")
        .arg(bundle)
        .arg("delete")
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(HooksError::Run)?;
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(HooksError::Failed(status)),
        Ok(Err(error)) => Err(HooksError::Run(error)),
        Err(_elapsed) => Err(HooksError::Silent),
    }
}
