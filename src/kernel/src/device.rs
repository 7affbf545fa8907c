//! The host's device nodes: what a path is, and what there is below `/dev`.

use crate::error::{Result, SystemError};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Which kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it was found.
    pub path: PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
}

/// All devices of the host, but for those that each container has of its own: terminals in `/dev/pts`, `/dev/ptmx` and
/// `/dev/console`.
///
/// # Errors
/// What readdir(3) of `/dev` answers.
pub fn all() -> Result<Vec<Device>> {
    let mut found = below(Path::new("/dev"))?;
    let own = ["/dev/ptmx", "/dev/console"].map(Path::new);
    found.retain(|device| !own.contains(&device.path.as_path()));
    Ok(found)
}

/// The device that this path is, or leads to by symbolic links; or if it is a directory, all devices below it.
///
/// # Errors
/// What stat(2) or readdir(3) answers; or that it is neither.
pub fn at(path: &Path) -> Result<Vec<Device>> {
    let metadata = fs::metadata(path).map_err(|source| failure("stat", path, source))?;
    if metadata.is_dir() {
        return below(path);
    }
    match Device::from_metadata(path, &metadata) {
        Some(device) => Ok(vec![device]),
        None => {
            let problem = io::Error::other("neither a device nor a directory");
            Err(failure("stat", path, problem))
        }
    }
}

impl Device {
    /// The device of that metadata; none if it is something else.
    fn from_metadata(path: &Path, metadata: &fs::Metadata) -> Option<Self> {
        let kind = if metadata.file_type().is_char_device() {
            Kind::Character
        } else if metadata.file_type().is_block_device() {
            Kind::Block
        } else {
            return None;
        };
        Some(Self {
            path: path.to_path_buf(),
            kind,
            major: rustix::fs::major(metadata.rdev()),
            minor: rustix::fs::minor(metadata.rdev()),
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
        })
    }
}

/// The devices below a directory, sorted by path. Symbolic links are not followed: what they lead to is found under its
/// own name. Directories that hold no devices but much else are passed over.
fn below(directory: &Path) -> Result<Vec<Device>> {
    /// Deeper than anything udev makes.
    const DEEPEST: usize = 8;
    let mut found = Vec::new();
    let mut directories = vec![(directory.to_path_buf(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Gone meanwhile, or not for us; the first one must be there.
            Err(_) if depth > 0 => continue,
            Err(source) => return Err(failure("readdir", &directory, source)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                let is_other =
                    ["pts", "shm", "fd", "mqueue"].iter().any(|&n| entry.file_name() == n);
                if depth < DEEPEST && !is_other {
                    directories.push((path, depth + 1));
                }
            } else {
                found.extend(Device::from_metadata(&path, &metadata));
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn failure(call: &'static str, path: &Path, source: io::Error) -> SystemError {
    SystemError::new(call, format!("\"{}\"", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_null_device_is_what_it_is_everywhere() {
        let [null] = at(Path::new("/dev/null")).unwrap().try_into().unwrap();
        assert_eq!((null.kind, null.major, null.minor), (Kind::Character, 1, 3));
        assert_eq!(null.mode & 0o666, 0o666);
    }

    #[test]
    fn the_list_has_devices_and_no_terminals() {
        let all = all().unwrap();
        assert!(all.iter().any(|device| device.path == Path::new("/dev/zero")));
        assert!(!all.iter().any(|device| device.path.starts_with("/dev/pts")));
        assert!(!all.iter().any(|device| device.path == Path::new("/dev/console")));
    }

    #[test]
    fn a_directory_means_the_devices_below_it_and_a_file_is_refused() {
        let directory =
            std::env::temp_dir().join(format!("cringle-test-{}-devices", std::process::id()));
        fs::DirBuilder::new().recursive(true).create(directory.join("deep")).unwrap();
        let node = directory.join("deep/null");
        let number = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::CharacterDevice;
        let made = rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, number);
        let file = directory.join("file");
        drop(fs::File::create(&file).unwrap());
        std::os::unix::fs::symlink("/dev/zero", directory.join("link")).unwrap();

        let found = at(&directory).unwrap();
        let link = at(&directory.join("link")).unwrap();
        let refused = at(&file);
        fs::remove_dir_all(&directory).unwrap();

        if made.is_ok() {
            let [null] = found.try_into().unwrap();
            assert_eq!((null.path, null.major, null.minor), (node, 1, 3));
        }
        assert_eq!(link[0].minor, 5);
        assert!(refused.is_err(), "{refused:?}");
    }
}
