//! The exit record: on disk before anyone is told (architecture, "the shim's view of one process").

use cringle_proto_shim::record::{EXIT_FILE, ExitRecord};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Why a record could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("failed to write record {name:?}")]
pub(crate) struct RecordError {
    name: &'static str,
    #[source]
    source: io::Error,
}

/// Writes the exit record.
///
/// # Errors
/// The file system refuses.
pub(crate) fn write(bundle: &Path, record: &ExitRecord) -> Result<(), RecordError> {
    replace(bundle, EXIT_FILE, record)
}

/// Forgets the exit record; one that is gone is forgotten.
///
/// # Errors
/// The file system refuses.
pub(crate) fn forget(bundle: &Path) -> Result<(), RecordError> {
    match rustix::fs::unlinkat(CWD, bundle.join(EXIT_FILE), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(RecordError { name: EXIT_FILE, source: errno.into() }),
    }
}

/// Replaces a file of the bundle in one step. Not synced: after a power cut there is no container to tell about (D6).
///
/// # Errors
/// The file system refuses.
pub(crate) fn replace<T: Serialize>(
    bundle: &Path,
    name: &'static str,
    content: &T,
) -> Result<(), RecordError> {
    let failed = |source| RecordError { name, source };
    let text = serde_json::to_vec(content).map_err(io::Error::other).map_err(failed)?;
    let new = bundle.join(format!(".{name}.new"));
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&new, flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
    file.write_all(&text).map_err(failed)?;
    std::fs::rename(&new, bundle.join(name)).map_err(failed)
}
