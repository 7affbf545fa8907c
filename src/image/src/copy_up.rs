//! Putting a file of a lower layer into one above, under all names that the upper one has for it.
//!
//! The names exist in the upper layer as placeholders; nobody else changes it now.

use crate::merged::Found;
use crate::unpack::layers_may_have;
use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, SeekFrom, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// One of the new names, in its open directory.
struct Name<'path> {
    directory: OwnedFd,
    name: &'path [u8],
    /// Of the directory, which a layer has a say in and making files changes.
    times: Timestamps,
}

/// Copies a file with all it has and gives the copy those names.
pub(crate) fn copy_up(found: &Found, root: impl AsFd, names: &[Vec<u8>]) -> io::Result<()> {
    let names: Vec<Name<'_>> =
        names.iter().map(|path| Name::open(&root, path)).collect::<Result<_, _>>()?;
    for place in &names {
        match fs::unlinkat(&place.directory, place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let Some((first, others)) = names.split_first() else { return Ok(()) };
    make(found, first)?;
    for other in others {
        match fs::linkat(
            &first.directory,
            first.name,
            &other.directory,
            other.name,
            AtFlags::empty(),
        ) {
            // Two paths may lead to the same name.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for place in &names {
        fs::futimens(&place.directory, &place.times)?;
    }
    Ok(())
}

impl<'path> Name<'path> {
    fn open(root: &impl AsFd, path: &'path [u8]) -> io::Result<Self> {
        let split = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match split {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let open = || fs::openat2(root, parent, flags, Mode::empty(), resolve);
        // A rename elsewhere on the machine can make this happen; it doesn't last.
        let directory =
            open().or_else(|errno| if errno == Errno::AGAIN { open() } else { Err(errno) })?;
        let times = times_of(&fs::fstat(&directory)?);
        Ok(Self { directory, name, times })
    }
}

fn make(found: &Found, place: &Name<'_>) -> io::Result<()> {
    let (directory, name, stat) = (&place.directory, place.name, &found.stat);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => return copy_file(found, place),
        FileType::Symlink => {
            let target = fs::readlinkat(&found.directory, found.name.as_slice(), Vec::new())?;
            fs::symlinkat(target, directory, name)?;
        }
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
            fs::mknodat(directory, name, kind, Mode::empty(), stat.st_rdev)?;
        }
        FileType::Directory | FileType::Socket | FileType::Unknown => {
            return Err(Errno::INVAL.into());
        }
    }
    let (uid, gid) = owner_of(stat);
    fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        fs::chmodat(directory, name, mode_of(stat), AtFlags::empty())?;
    }
    Ok(fs::utimensat(directory, name, &times_of(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_file(found: &Found, place: &Name<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = fs::openat(&found.directory, found.name.as_slice(), flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = fs::openat(&place.directory, place.name, flags, Mode::RUSR | Mode::WUSR)?;
    let (mut source, mut copy) = (File::from(source), File::from(copy));
    copy_content(&mut source, &mut copy)?;
    let (uid, gid) = owner_of(&found.stat);
    // In this order, because a change of owner clears bits of the mode and file capabilities.
    fs::fchown(&copy, Some(uid), Some(gid))?;
    fs::fchmod(&copy, mode_of(&found.stat))?;
    copy_attributes(&source, &copy)?;
    Ok(fs::futimens(&copy, &times_of(&found.stat))?)
}

/// Copies what is stored and leaves holes as they are.
fn copy_content(source: &mut File, copy: &mut File) -> io::Result<()> {
    copy.set_len(source.metadata()?.len())?;
    let mut at = 0;
    loop {
        at = match fs::seek(&*source, SeekFrom::Data(at)) {
            Ok(at) => at,
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = fs::seek(&*source, SeekFrom::Hole(at))?;
        fs::seek(&*source, SeekFrom::Start(at))?;
        fs::seek(&*copy, SeekFrom::Start(at))?;
        io::copy(&mut source.take(end - at), copy)?;
        at = end;
    }
}

fn copy_attributes(source: &File, copy: &File) -> io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match fs::flistxattr(source, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..length].split(|&byte| byte == 0).filter(|name| layers_may_have(name)) {
        let length = fs::fgetxattr(source, name, value.as_mut_slice())?;
        fs::fsetxattr(copy, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

pub(crate) fn owner_of(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

pub(crate) fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & RawMode::from(0o7777_u16))
}

pub(crate) fn times_of(stat: &Stat) -> Timestamps {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    }
}
