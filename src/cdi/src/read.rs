//! One file: whose it is, how large it may be, what is in it.

use crate::check::{self, CheckError};
use crate::document::Document;
use cringle_domain::cdi::DeviceName;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// A file that can be used.
#[derive(Debug)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) document: Document,
    /// The names of its devices, in their order.
    pub(crate) names: Vec<DeviceName>,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It can't be opened or read.
    #[error("failed to read it")]
    Open(#[source] io::Error),
    /// It is a directory, a pipe or the like.
    #[error("it is no plain file")]
    NoFile,
    /// Somebody else could change it.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// It is too large.
    #[error("it is larger than {LARGEST} bytes")]
    Large,
    /// It is no JSON of this form.
    #[error("failed to parse it")]
    Json(#[from] serde_json::Error),
    /// It is no YAML of this form.
    #[error("failed to parse it: {0}")]
    Yaml(String),
    /// It makes no sense.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// A file or directory that others than root can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForeignError {
    /// It belongs to somebody.
    #[error("it belongs to user {0}, not to root")]
    Owner(u32),
    /// Everybody can write to it, or a group of users.
    #[error("others than root can write to it (mode {0:o})")]
    Writable(u32),
}

/// What tells a file from the one that was read before: a file that was replaced or written to has another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    place: (u64, u64),
    size: i64,
    changed: [(i64, u64); 2],
    rights: (u32, u32, u32),
}

impl Stamp {
    /// The stamp of what is at a path now.
    ///
    /// # Errors
    /// What stat(2) answers.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::stat(path)?;
        Ok(Self {
            place: (found.st_dev, found.st_ino),
            size: found.st_size,
            changed: [(found.st_mtime, found.st_mtime_nsec), (found.st_ctime, found.st_ctime_nsec)],
            rights: (found.st_uid, found.st_gid, found.st_mode),
        })
    }
}

/// Reads a file. Its name says which form it has.
///
/// # Errors
/// Why it can't be used.
pub(crate) fn read(path: &Path) -> Result<Source, ReadError> {
    // Without waiting, for it may be a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty());
    let file = file.map_err(|errno| ReadError::Open(errno.into()))?;
    let found = rustix::fs::fstat(&file).map_err(|errno| ReadError::Open(errno.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(ReadError::NoFile);
    }
    refuse_foreign(&found)?;
    let document = parse(path, &content(file)?)?;
    let names = check::check(&document)?;
    Ok(Source { path: path.to_owned(), document, names })
}

/// Refuses what others than root, or than the user that we are, can change.
///
/// # Errors
/// Who can.
pub(crate) fn refuse_foreign(found: &Stat) -> Result<(), ForeignError> {
    let (own, mode) = (rustix::process::geteuid().as_raw(), found.st_mode & 0o7777);
    if found.st_uid != 0 && found.st_uid != own {
        return Err(ForeignError::Owner(found.st_uid));
    }
    let by_group = mode & 0o020 != 0 && found.st_gid != 0;
    if by_group || mode & 0o002 != 0 { Err(ForeignError::Writable(mode)) } else { Ok(()) }
}

fn content(file: OwnedFd) -> Result<Vec<u8>, ReadError> {
    let mut content = Vec::new();
    File::from(file).take(LARGEST + 1).read_to_end(&mut content).map_err(ReadError::Open)?;
    if content.len() as u64 > LARGEST { Err(ReadError::Large) } else { Ok(content) }
}

fn parse(path: &Path, text: &[u8]) -> Result<Document, ReadError> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(serde_json::from_slice(text)?);
    }
    let mut options = serde_saphyr::Options::default();
    // As the tools that write these files have it: 0660 is a file mode.
    options.legacy_octal_numbers = true;
    // The place in the file is enough; the text around it is not for a log.
    options.with_snippet = false;
    serde_saphyr::from_slice_with_options(text, options)
        .map_err(|error| ReadError::Yaml(error.to_string().replace('\n', " ")))
}

#[cfg(test)]
mod tests;
