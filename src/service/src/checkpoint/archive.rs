//! The archive of a checkpoint: what lies in its directory, as one file that is there whole or not at all.

use super::CheckpointError;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tar::{Builder, EntryType, Header};

/// What an archive has, by the names that others read, in their order. What is not there is left out.
pub(crate) const MEMBERS: [&str; 8] =
    [CONFIG, SPEC, STATUS, CHANGES, GONE, STATISTICS, super::criu::LOG, IMAGES];
/// What the container is.
pub(crate) const CONFIG: &str = "config.dump";
/// Its runtime spec.
pub(crate) const SPEC: &str = "spec.dump";
/// Its state.
pub(crate) const STATUS: &str = "status";
/// What it wrote to its root.
pub(crate) const CHANGES: &str = "rootfs-diff.tar";
/// What is gone from its root.
pub(crate) const GONE: &str = "deleted.files";
/// What CRIU measured.
pub(crate) const STATISTICS: &str = "stats-dump";
/// CRIU's images.
pub(crate) const IMAGES: &str = "checkpoint";
/// Among them, where the streams of its first process lead.
pub(crate) const STREAMS: &str = "descriptors.json";

/// How long something may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    end: Instant,
    whole: Duration,
}

impl Limit {
    /// From now on.
    pub(crate) fn of(whole: Duration) -> Self {
        /// Too far to be counted is as good as a year.
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let now = Instant::now();
        Self { end: now.checked_add(whole).unwrap_or_else(|| now + YEAR), whole }
    }

    /// That it was not enough.
    pub(crate) fn late(self) -> CheckpointError {
        CheckpointError::Late(self.whole)
    }

    /// What is left of it.
    ///
    /// # Errors
    /// Nothing is.
    pub(crate) fn left(self) -> Result<Duration, CheckpointError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(CheckpointError::Late(self.whole)) } else { Ok(left) }
    }
}

/// This part of a file system is not for checkpoints, up to [`RESERVE_BYTES`]: a container that made a large file of nothing
/// must not fill the disk that all others write to.
const RESERVE: u64 = 20;
/// Enough for others even of a large file system.
const RESERVE_BYTES: u64 = 1 << 30;
/// How much is written until room is looked for again.
const STRIDE: u64 = 16 << 20;

/// A file that is written only as long as there is time, and room for others.
pub(crate) struct Timed {
    file: File,
    limit: Limit,
    /// Bytes until room is looked for again.
    stride: u64,
}

impl Timed {
    /// A new file, for root alone.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub(crate) fn create(path: &Path, limit: Limit) -> Result<Self, CheckpointError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        Ok(Self { file: file.map_err(CheckpointError::file("make", path))?, limit, stride: 0 })
    }

    fn require_room(&mut self) -> io::Result<()> {
        let found = rustix::fs::fstatvfs(&self.file)?;
        require_reserve(found.f_bavail, found.f_blocks, found.f_frsize)?;
        self.stride = STRIDE;
        Ok(())
    }
}

/// A file system has no room that a checkpoint might use.
#[derive(Debug, thiserror::Error)]
#[error("no space left for checkpoints: {} KiB are free, and the last {} are for others", .left >> 10, .kept >> 10)]
struct NoRoom {
    /// In bytes.
    left: u64,
    /// In bytes.
    kept: u64,
}

/// Fails with `StorageFull` if the file system, `blocks` of `size` bytes large, has no more than the others' part.
fn require_reserve(available: u64, blocks: u64, size: u64) -> io::Result<()> {
    let left = available.saturating_mul(size);
    let kept = (blocks / RESERVE).saturating_mul(size).min(RESERVE_BYTES);
    if left < kept {
        return Err(io::Error::new(io::ErrorKind::StorageFull, NoRoom { left, kept }));
    }
    Ok(())
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit.left().is_err() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        if self.stride == 0 {
            self.require_room()?;
        }
        let written = self.file.write(bytes)?;
        self.stride = self.stride.saturating_sub(u64::try_from(written).unwrap_or(STRIDE));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Says of a failure whether it came of the lack of time.
pub(crate) fn or_late<T>(
    result: Result<T, CheckpointError>,
    limit: Limit,
) -> Result<T, CheckpointError> {
    match result {
        Err(CheckpointError::File { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
            Err(CheckpointError::Late(limit.whole))
        }
        other => other,
    }
}

/// Writes the archive of `directory` to `draft`, and gives it the name `path` when it is whole and on disk.
///
/// # Errors
/// A file cannot be read or written, or there is no time left. Nothing is at `path` then that was not before; the draft is
/// the caller's to remove.
pub(crate) fn write(
    directory: &Path,
    draft: &Path,
    path: &Path,
    limit: Limit,
) -> Result<(), CheckpointError> {
    or_late(pack(directory, draft, limit), limit)?;
    std::fs::rename(draft, path).map_err(CheckpointError::file("make", path))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    cringle_store::atomic::sync_directory(parent).map_err(CheckpointError::file("sync", parent))
}

fn pack(directory: &Path, draft: &Path, limit: Limit) -> Result<(), CheckpointError> {
    let mut builder =
        Builder::new(io::BufWriter::with_capacity(256 << 10, Timed::create(draft, limit)?));
    for name in MEMBERS {
        append(&mut builder, directory, Path::new(name))?;
    }
    let fails = || CheckpointError::file("write", draft);
    let writer = builder.into_inner().map_err(fails())?;
    let timed = writer.into_inner().map_err(|error| fails()(error.into_error()))?;
    timed.file.sync_all().map_err(fails())
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    directory: &Path,
    name: &Path,
) -> Result<(), CheckpointError> {
    let place = directory.join(name);
    let fails = || CheckpointError::file("archive", &place);
    let found = match place.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(fails())?,
    };
    let mut header = header_of(&found, 0, 0);
    // Whatever mask its program ran with, a process' memory is for root alone.
    header.set_mode(if found.is_dir() { 0o700 } else { 0o600 });
    if !found.is_dir() {
        let file = File::open(&place).map_err(fails())?;
        return builder.append_data(&mut header, name, file).map_err(fails());
    }
    builder.append_data(&mut header, name, io::empty()).map_err(fails())?;
    let mut names: Vec<_> = std::fs::read_dir(&place)
        .and_then(|entries| entries.map(|entry| entry.map(|one| one.file_name())).collect())
        .map_err(fails())?;
    names.sort_unstable();
    names.iter().try_for_each(|below| append(builder, directory, &name.join(below)))
}

/// The header of what was found, with another owner. What has no content has no size.
pub(crate) fn header_of(found: &Metadata, user: u32, group: u32) -> Header {
    let kind = found.file_type();
    let mut header = Header::new_gnu();
    header.set_mode(found.mode() & 0o7777);
    header.set_uid(user.into());
    header.set_gid(group.into());
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(if kind.is_file() { found.len() } else { 0 });
    header.set_entry_type(if kind.is_dir() {
        EntryType::Directory
    } else if kind.is_symlink() {
        EntryType::Symlink
    } else if kind.is_char_device() {
        EntryType::Char
    } else if kind.is_block_device() {
        EntryType::Block
    } else if kind.is_fifo() {
        EntryType::Fifo
    } else {
        EntryType::Regular
    });
    if kind.is_char_device() || kind.is_block_device() {
        let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        // A header of this kind has the fields.
        if header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).is_err() {}
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn limit() -> Limit {
        Limit::of(Duration::from_secs(60))
    }

    fn put(path: &Path, content: &[u8]) {
        File::create(path).unwrap().write_all(content).unwrap();
    }

    #[test]
    fn an_archive_has_the_known_members_in_order_and_is_for_root_alone() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("work");
        std::fs::create_dir_all(work.join(IMAGES)).unwrap();
        put(&work.join("other"), b"not for others");
        put(&work.join(SPEC), b"{}");
        put(&work.join(CONFIG), b"[1]");
        put(&work.join(IMAGES).join("pages-1.img"), &vec![7; 100_000]);
        let (draft, path) = (place.path().join(".draft"), place.path().join("a.tar"));
        put(&path, b"an older one");
        write(&work, &draft, &path, limit()).unwrap();
        assert!(!draft.exists());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let told: Vec<_> = entries
            .map(|entry| {
                let header = entry.header();
                let name = entry.path().unwrap().display().to_string();
                (name, header.size().unwrap(), header.mode().unwrap())
            })
            .collect();
        let expected = [
            (CONFIG, 3, 0o600),
            (SPEC, 2, 0o600),
            (IMAGES, 0, 0o700),
            ("checkpoint/pages-1.img", 100_000, 0o600),
        ];
        assert_eq!(told, expected.map(|(name, size, mode)| (name.to_owned(), size, mode)));
    }

    #[test]
    fn others_keep_a_part_of_a_small_disk_and_a_gibibyte_of_a_large_one() {
        const MIB_IN_PAGES: u64 = 256;
        let gib = |count: u64| count * 1024 * MIB_IN_PAGES;
        require_reserve(gib(1), gib(252), 4096).unwrap();
        require_reserve(51 * MIB_IN_PAGES, gib(1), 4096).unwrap_err();
        require_reserve(52 * MIB_IN_PAGES, gib(1), 4096).unwrap();
        let full = require_reserve(1023 * MIB_IN_PAGES, gib(252), 4096).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            full.to_string(),
            "no space left for checkpoints: 1047552 KiB are free, and the last 1048576 are for others"
        );
        // File systems that tell no size, like some in user space, have no such part.
        require_reserve(0, 0, 4096).unwrap();
    }

    #[test]
    fn without_time_nothing_is_made_and_the_old_file_stays() {
        let place = tempfile::tempdir().unwrap();
        put(&place.path().join(CONFIG), b"x");
        let (draft, path) = (place.path().join(".draft"), place.path().join("a.tar"));
        put(&path, b"old");
        let late = Limit::of(Duration::ZERO);
        let error = write(place.path(), &draft, &path, late).unwrap_err();
        assert!(matches!(error, CheckpointError::Late(_)), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        // Somebody else's file is never written to.
        put(&draft, b"theirs");
        write(place.path(), &draft, &path, limit()).unwrap_err();
        assert_eq!(std::fs::read(&draft).unwrap(), b"theirs");
    }
}
