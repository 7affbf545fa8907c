//! The container's log file: opened so that nobody can lead us elsewhere, appended to in whole lines, opened anew on order.
//!
//! Nothing here ever stops the container (D17): while the file cannot be written, lines are dropped and counted, and the
//! first write that works again begins with a line that says how many.

use crate::clock::Stamp;
use crate::stdio::lines::{Lines, Stream, line};
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// How many of the path's last components are ours and must not be symbolic links: the pod's directory, the container's,
/// and the file. What lies above belongs to the host's administrator.
const GUARDED: usize = 3;
/// Bytes taken from a stream at once.
const CHUNK: usize = 32 * 1024;

/// Why the log's file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The path is not absolute, or has `..` in it.
    #[error("log path {0:?} is not a plain absolute path")]
    MalformedPath(PathBuf),
    /// A directory above it could not be opened or made.
    #[error("failed to open log directory {directory:?}")]
    OpenDirectory {
        /// The directory.
        directory: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The file itself could not be opened.
    #[error("failed to open log file {path:?}")]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// There is something under the name that is not a plain file of its own.
    #[error("log file {0:?} is not a regular file with one name")]
    ForeignFile(PathBuf),
}

/// A log that the lines of both streams go to.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<OwnedFd>,
    output: Lines,
    error: Lines,
    input: Vec<u8>,
    pending: Vec<u8>,
    lost: Lost,
}

/// What could not be written since the last write that worked.
#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    bytes: u64,
    reason: String,
}

impl Log {
    /// The log at `path`. If its file cannot be opened, lines are dropped until [`Self::reopen`] succeeds.
    pub(crate) fn new(path: PathBuf) -> Self {
        let mut log = Self {
            path,
            file: None,
            output: Lines::new(Stream::Output),
            error: Lines::new(Stream::Error),
            input: Vec::new(),
            pending: Vec::new(),
            lost: Lost::default(),
        };
        match open(&log.path) {
            Ok(file) => log.file = Some(file),
            Err(error) => log.lost.reason = crate::chain(&error),
        }
        log
    }

    /// What is wrong with the log; nothing if the last write worked.
    pub(crate) fn fault(&self) -> Option<String> {
        (!self.lost.reason.is_empty()).then(|| self.lost.reason.clone())
    }

    /// Opens the path anew, for it may name another file by now. A line that has begun goes to the new file.
    ///
    /// # Errors
    /// The file could not be opened; the old one stays in use.
    pub(crate) fn reopen(&mut self) -> Result<(), LogError> {
        self.file = Some(open(&self.path)?);
        if self.lost.lines == 0 {
            self.lost.reason.clear();
        }
        Ok(())
    }

    /// Takes what `source` has to say now as bytes of `stream`. Zero: it has ended.
    ///
    /// # Errors
    /// What `read` answers, EAGAIN included. Never for the log file's sake.
    pub(crate) fn take_from(
        &mut self,
        source: BorrowedFd<'_>,
        stream: Stream,
    ) -> io::Result<usize> {
        // Only as many pages of it as are read into become this process' memory.
        self.input.clear();
        self.input.reserve(CHUNK);
        let read = match rustix::io::read(source, spare_capacity(&mut self.input)) {
            // A terminal whose last user is gone says EIO.
            Err(Errno::IO) => 0,
            Err(errno) => return Err(errno.into()),
            Ok(read) => read,
        };
        let stamp = Stamp::now();
        self.pending.clear();
        let lines = match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        };
        lines.take(&self.input, &stamp, &mut self.pending);
        if read == 0 {
            lines.finish(&stamp, &mut self.pending);
        }
        self.write_batch(&stamp);
        Ok(read)
    }

    /// The bytes that the last [`Self::take_from`] took, which answered `count`.
    pub(crate) fn taken(&self, count: usize) -> &[u8] {
        self.input.get(..count).unwrap_or_default()
    }

    /// Writes what the last bytes completed; before it, if lines were lost, one that says so.
    fn write_batch(&mut self, stamp: &Stamp) {
        if self.pending.is_empty() {
            return;
        }
        let Some(file) = &self.file else {
            self.lost.add(&self.pending);
            return;
        };
        let Some(mut batch) = self.lost.notice(stamp) else {
            if let Err((kept, errno)) = append_lines(file.as_fd(), &self.pending) {
                self.lost.add(self.pending.get(kept..).unwrap_or_default());
                self.lost.reason = io::Error::from(errno).to_string();
            }
            return;
        };
        batch.extend_from_slice(&self.pending);
        match append_lines(file.as_fd(), &batch) {
            Ok(()) => self.lost = Lost::default(),
            Err((kept, errno)) => {
                // All or nothing: a disk with room for notices only must not be filled with them.
                cut(file.as_fd(), kept);
                self.lost.add(&self.pending);
                self.lost.reason = io::Error::from(errno).to_string();
            }
        }
    }
}

impl Lost {
    fn add(&mut self, lines: &[u8]) {
        let count = lines.iter().filter(|&&byte| byte == b'\n').count();
        self.lines += u64::try_from(count).unwrap_or(u64::MAX);
        self.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
    }

    /// The log line that tells of it.
    fn notice(&self, stamp: &Stamp) -> Option<Vec<u8>> {
        let Self { lines, bytes, reason } = self;
        let text = format!("cringle lost {lines} lines of log ({bytes} bytes): {reason}");
        let mut notice = Vec::new();
        line(Stream::Error, b'F', text.as_bytes(), stamp, &mut notice);
        (*lines > 0).then_some(notice)
    }
}

/// Opens the file at `path` for appending, making it (0640) and its directories (0755) as needed.
///
/// # Errors
/// The path leads through a symbolic link of ours, or to something that is not a plain file.
fn open(path: &Path) -> Result<OwnedFd, LogError> {
    let malformed = || LogError::MalformedPath(path.to_owned());
    let components: Vec<_> = path.components().skip(1).collect();
    let plain = components.iter().all(|part| matches!(part, Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(malformed());
    }
    let (name, directories) = components.split_last().ok_or_else(malformed)?;
    let mut place = PathBuf::from("/");
    let mut directory = open_directory(None, &place, OFlags::empty())?;
    for (index, component) in directories.iter().enumerate() {
        place.push(component);
        let guarded = components.len() - index <= GUARDED;
        let flags = if guarded { OFlags::NOFOLLOW } else { OFlags::empty() };
        directory = open_directory(Some((directory.as_fd(), component)), &place, flags)?;
    }
    open_file(directory.as_fd(), name, path)
}

/// Opens `component` in a directory, or the root; `place` is its name for errors.
fn open_directory(
    below: Option<(BorrowedFd<'_>, &Component<'_>)>,
    place: &Path,
    flags: OFlags,
) -> Result<OwnedFd, LogError> {
    let flags = flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = |source| LogError::OpenDirectory { directory: place.to_owned(), source };
    let Some((parent, component)) = below else {
        return rustix::fs::open("/", flags, Mode::empty()).map_err(failed);
    };
    let name = Path::new(component.as_os_str());
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        answer => return answer.map_err(failed),
    }
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)
}

fn open_file(
    directory: BorrowedFd<'_>,
    name: &Component<'_>,
    path: &Path,
) -> Result<OwnedFd, LogError> {
    // NONBLOCK: a FIFO put there must not make us wait for its reader.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let failed = |source| LogError::OpenFile { path: path.to_owned(), source };
    let name = Path::new(name.as_os_str());
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o640));
    let file = file.map_err(failed)?;
    let found = rustix::fs::fstat(&file).map_err(failed)?;
    // A second name may be a file that we were not meant to write.
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink != 1 {
        return Err(LogError::ForeignFile(path.to_owned()));
    }
    Ok(file)
}

/// Appends whole lines: all of them, or it says how many bytes of whole lines are in the file.
fn append_lines(file: BorrowedFd<'_>, lines: &[u8]) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        let errno = match rustix::io::write(file, rest) {
            Ok(more) if more > 0 => {
                written += more;
                continue;
            }
            Ok(_) => Errno::NOSPC,
            Err(Errno::INTR) => continue,
            Err(errno) => errno,
        };
        let begun = lines.get(..written).unwrap_or_default();
        let whole = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        cut(file, written - whole);
        return Err((whole, errno));
    }
    Ok(())
}

/// Takes the last `torn` bytes off the file. If that fails too, a reader sees one line cut short.
fn cut(file: BorrowedFd<'_>, torn: usize) {
    let size = rustix::fs::fstat(file).ok().and_then(|found| u64::try_from(found.st_size).ok());
    let left = size.zip(u64::try_from(torn).ok()).and_then(|(size, torn)| size.checked_sub(torn));
    if let Some(left) = left.filter(|_| torn > 0) {
        let _stays = rustix::fs::ftruncate(file, left);
    }
}

#[cfg(test)]
mod tests;
