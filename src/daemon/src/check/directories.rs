//! Where the daemon keeps things: whether it can, how much room there is, and whether containers' file systems work there.

use super::finding::{Area, Finding, Verdict};
use super::scratch::{Scratch, existing};
use crate::config::Settings;
use cringle_kernel::mount::{self, Attributes, Parameter};
use rustix::fs::{StatVfs, StatVfsMountFlags};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MEBIBYTE: u64 = 1 << 20;

/// Below this much room nothing can be pulled; below that, not for long.
const LEAST_SPACE: u64 = 100 * MEBIBYTE;
const LITTLE_SPACE: u64 = 2048 * MEBIBYTE;

/// The same for files: images have tens of thousands.
const LEAST_FILES: u64 = 1000;
const FEW_FILES: u64 = 100_000;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let (daemon, network) = (&settings.daemon, &settings.network);
    let socket = daemon.socket.as_path();
    let mut findings = vec![
        directory("root", daemon.root.as_path()),
        directory("state", daemon.state.as_path()),
        directory("socket's directory", socket.parent().unwrap_or(socket)),
        directory("network.netns_directory", network.netns_directory.as_path()),
        directory("network.cache_directory", network.cache_directory.as_path()),
    ];
    if findings.first().is_some_and(|root| root.verdict == Verdict::Ok) {
        findings.extend([room(daemon.root.as_path()), overlay(daemon.root.as_path())]);
    }
    findings
}

/// Whether the directory is there or can be made, and be written to.
fn directory(subject: &str, path: &Path) -> Finding {
    let place = existing(path);
    let shown = format!("\"{}\"", path.display());
    let fails = |problem: &str, hint: &str| {
        Finding::failure(Area::Directories, subject, format!("{shown} {problem}"), hint)
    };
    if !place.is_dir() {
        let problem = format!("cannot be: \"{}\" is no directory", place.display());
        return fails(&problem, "move it away, or choose another directory in the configuration");
    }
    let vfs = match rustix::fs::statvfs(place) {
        Ok(vfs) => vfs,
        Err(error) => return fails(&format!("cannot be looked at: {error}"), "run it as root"),
    };
    if vfs.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return fails("is on a read-only file system", "mount it writable, or choose another");
    }
    if let Err(error) = Scratch::make(place) {
        return fails(&format!("cannot be written to: {error}"), "run it as root");
    }
    let kind = file_system(place);
    let state = if place == path { "is there" } else { "will be made" };
    Finding::fine(Area::Directories, subject, format!("{shown} {state} ({kind})"))
}

/// How much more fits where images are kept.
fn room(path: &Path) -> Finding {
    let vfs = match rustix::fs::statvfs(existing(path)) {
        Ok(vfs) => vfs,
        Err(error) => {
            return Finding::failure(Area::Directories, "space", error, "look at the disk");
        }
    };
    judge_room(&vfs)
}

fn judge_room(vfs: &StatVfs) -> Finding {
    let bytes = vfs.f_bavail.saturating_mul(vfs.f_frsize);
    // Some file systems don't count files: they say they have none at all.
    let files = (vfs.f_files > 0).then_some(vfs.f_favail);
    let mut detail = format!("{} MiB free", bytes / MEBIBYTE);
    if let Some(files) = files {
        detail.push_str(&format!(", {files} more files"));
    }
    let files = files.unwrap_or(u64::MAX);
    let hint = "make room, or put `root` on a larger disk";
    if bytes < LEAST_SPACE || files < LEAST_FILES {
        Finding::failure(Area::Directories, "space", detail, hint)
    } else if bytes < LITTLE_SPACE || files < FEW_FILES {
        Finding::warning(Area::Directories, "space", detail, hint)
    } else {
        Finding::fine(Area::Directories, "space", detail)
    }
}

/// Mounts what a container's root file system is: layers with a writable one on top. It is attached nowhere.
fn overlay(root: &Path) -> Finding {
    match mount_overlay(existing(root)) {
        Ok(()) => Finding::fine(Area::Directories, "overlay", "works on the file system of `root`"),
        Err(error) => {
            let hint = "load the module \"overlay\", and put `root` on ext4 or xfs (with d_type)";
            Finding::failure(Area::Directories, "overlay", error, hint)
        }
    }
}

fn mount_overlay(place: &Path) -> Result<(), String> {
    let made = |error: std::io::Error| format!("failed to make directories: {error}");
    let scratch = Scratch::make(place).map_err(made)?;
    let mut parameters = Vec::new();
    for (key, name) in [(c"lowerdir", "lower"), (c"upperdir", "upper"), (c"workdir", "work")] {
        let path = scratch.directory(name).map_err(made)?;
        let value = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        parameters.push(Parameter { key: key.to_owned(), value: Some(value) });
    }
    let mounted = mount::filesystem(c"overlay", &parameters, Attributes::NONE);
    mounted.map(drop).map_err(|error| cringle_service::error::chain(&error))
}

/// The name of a file system, of those that nodes have.
fn file_system(path: &Path) -> String {
    const NAMES: [(u64, &str); 11] = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xf2f5_2010, "f2fs"),
        (0x0102_1994, "tmpfs"),
        (0x8584_58f6, "ramfs"),
        (0x794c_7630, "overlay"),
        (0x6969, "nfs"),
        (0x6573_5546, "fuse"),
        (0x0102_1997, "9p"),
    ];
    let Ok(found) = rustix::fs::statfs(path) else { return "unknown".to_owned() };
    let Ok(kind) = u64::try_from(found.f_type) else { return "unknown".to_owned() };
    let name = NAMES.iter().find(|(number, _)| *number == kind);
    name.map_or_else(|| format!("file system {kind:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_there_or_will_be_made_and_a_file_is_none() {
        let place = tempfile::tempdir().unwrap();
        assert!(directory("x", place.path()).detail.contains("is there"));
        let finding = directory("x", &place.path().join("a/b"));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert!(finding.detail.contains("will be made"), "{finding:?}");
        drop(std::fs::File::create(place.path().join("file")).unwrap());
        assert_eq!(directory("x", &place.path().join("file/b")).verdict, Verdict::Failed);
        assert_eq!(place.path().read_dir().unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn little_room_is_told_and_too_little_fails() {
        let place = tempfile::tempdir().unwrap();
        let verdict = |mebibytes: u64, files: u64, left: u64| {
            let mut vfs = rustix::fs::statvfs(place.path()).unwrap();
            (vfs.f_frsize, vfs.f_bavail) = (MEBIBYTE, mebibytes);
            (vfs.f_files, vfs.f_favail) = (files, left);
            judge_room(&vfs).verdict
        };
        assert_eq!(verdict(10_000, 1_000_000, 900_000), Verdict::Ok);
        assert_eq!(verdict(10_000, 0, 0), Verdict::Ok, "files are not counted");
        assert_eq!(verdict(1000, 0, 0), Verdict::Warning);
        assert_eq!(verdict(10_000, 1_000_000, 5000), Verdict::Warning);
        assert_eq!(verdict(10, 0, 0), Verdict::Failed);
        assert_eq!(verdict(10_000, 1_000_000, 5), Verdict::Failed);
    }
}
