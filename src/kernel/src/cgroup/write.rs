//! The one writer: performs a list of writes in order and says which file refused.

use super::CgroupError;
use super::layout::Controller;
use rustix::io::Errno;
use std::borrow::Cow;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What to do when a write is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// It is an error.
    None,
    /// A missing file or controller is reported, not an error.
    Missing,
    /// What our own cgroup withholds (EPERM) is reported, not an error.
    Withheld,
}

/// A line to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: Controller,
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    pub(super) tolerance: Tolerance,
}

impl Write {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and names read better without &")]
    pub(super) fn new(
        controller: Controller,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        let (file, value) = (file.into(), value.to_string());
        Self { controller, file, value, tolerance: Tolerance::None }
    }

    pub(super) const fn tolerating(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }
}

/// A limit that was not set because the host withholds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamp {
    /// The file that would have been written.
    pub file: String,
    /// What would have been written.
    pub value: String,
}

/// A write with its directory found.
pub(super) struct Placed {
    pub(super) path: PathBuf,
    pub(super) write: Write,
}

/// Performs all writes in order.
pub(super) fn perform(list: &[Placed]) -> Result<Vec<Clamp>, CgroupError> {
    let mut clamps = Vec::new();
    for placed in list {
        clamps.extend(perform_one(placed)?);
    }
    Ok(clamps)
}

/// Performs all writes in order, or none: when one is refused, the files written before get their old contents back,
/// newest first.
pub(super) fn perform_or_restore(list: &[Placed]) -> Result<Vec<Clamp>, CgroupError> {
    let mut clamps = Vec::new();
    let mut before: Vec<(&Path, String)> = Vec::new();
    for placed in list {
        let old = fs::read_to_string(&placed.path).unwrap_or_default();
        match perform_one(placed) {
            Ok(None) => before.push((&placed.path, old)),
            Ok(Some(clamp)) => clamps.push(clamp),
            Err(refused) => {
                restore(&before);
                return Err(refused);
            }
        }
    }
    Ok(clamps)
}

fn restore(before: &[(&Path, String)]) {
    for (path, old) in before.iter().rev() {
        for line in old.lines() {
            // The error that is reported is the first one; this value was accepted before.
            _ = write(path, line).ok();
        }
    }
}

fn perform_one(placed: &Placed) -> Result<Option<Clamp>, CgroupError> {
    let Write { value, tolerance, .. } = &placed.write;
    match write(&placed.path, value) {
        Ok(()) => Ok(None),
        Err(source) if is_tolerated(*tolerance, &source) => {
            Ok(Some(Clamp { file: placed.write.file.to_string(), value: value.clone() }))
        }
        Err(source) => {
            Err(CgroupError::Write { file: placed.path.clone(), value: value.clone(), source })
        }
    }
}

fn is_tolerated(tolerance: Tolerance, refusal: &io::Error) -> bool {
    let errno = refusal.raw_os_error().map(Errno::from_raw_os_error);
    match tolerance {
        Tolerance::None => false,
        Tolerance::Missing => errno == Some(Errno::NOENT),
        Tolerance::Withheld => errno == Some(Errno::PERM),
    }
}

/// Writes one line by one call, as control files want it.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    // An empty write(2) never reaches the kernel's parser; a newline does.
    file.write_all(if value.is_empty() { b"\n" } else { value.as_bytes() })
}
