//! The worker process: from argument to report.

use super::archive::Archive;
use super::inflate::Inflated;
use super::jail;
use super::report::{Report, UnpackError, Unpacked};
use super::tree::Tree;
use crate::settings::LayerLimits;
use cringle_domain::reference::{Algorithm, Digest};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Unpacks the layer on descriptor 0 into the directory on descriptor 1 and reports on descriptor 2.
///
/// This is the whole life of the process; it is to be called first thing, while there is only one thread.
#[must_use]
pub fn worker_main() -> ExitCode {
    let result = limits_from_arguments().and_then(unpack);
    let code = if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let report = match result {
        Ok(unpacked) => Report::Unpacked(unpacked),
        Err(error) => error.report(),
    };
    // If the report can't be delivered, then there is nobody left to tell.
    let _undelivered = send(&report);
    code
}

fn limits_from_arguments() -> Result<LayerLimits, UnpackError> {
    let text = std::env::args().nth(2).unwrap_or_default();
    serde_json::from_str(&text)
        .map_err(|error| UnpackError::Jail("read the limits", io::Error::from(error)))
}

fn unpack(limits: LayerLimits) -> Result<Unpacked, UnpackError> {
    let stream = own(&io::stdin(), "take the stream")?;
    let directory = own(&io::stdout(), "take the layer directory")?;
    let seal = jail::Seal::new()?;
    jail::limit_resources(&limits)?;
    let directory = jail::enter(&directory)?;
    let close = seal.clone();
    let inflated = Inflated::start(File::from(stream), limits.ratio, move || close.close())
        .map_err(|error| UnpackError::Jail("start to inflate", error))?;
    seal.close().map_err(|error| UnpackError::Jail("filter system calls", error))?;
    inflated.begin();
    let mut archive = Archive::new(inflated);
    let mut tree = Tree::new(directory, limits);
    while let Some(entry) = archive.next_entry()? {
        tree.add(&entry, &mut archive)?;
    }
    let hash = archive.drain()?.finish();
    let (usage, marks) = tree.finish()?;
    let diff_id = Digest::from_bytes(Algorithm::Sha256, &hash).map_err(|malformed| {
        UnpackError::Jail("form the digest", io::Error::new(io::ErrorKind::InvalidData, malformed))
    })?;
    Ok(Unpacked {
        diff_id,
        bytes: usage.bytes,
        inodes: usage.inodes,
        dropped_xattrs: usage.dropped_xattrs,
        marks,
    })
}

fn own(stream: &impl AsFd, action: &'static str) -> Result<OwnedFd, UnpackError> {
    stream.as_fd().try_clone_to_owned().map_err(|error| UnpackError::Jail(action, error))
}

fn send(report: &Report) -> io::Result<()> {
    use io::Write;
    let text = serde_json::to_vec(report)?;
    io::stderr().lock().write_all(&text)
}
