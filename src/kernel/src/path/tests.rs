//! A root full of traps, and a canary beside it that must not change.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A scratch directory with a root and a canary directory in it, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("cringle-path-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        fs::create_dir_all(path.join("canary")).unwrap();
        Self(path)
    }

    fn root(&self) -> Root {
        Root::open(&self.0.join("root")).unwrap()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path)
    }

    fn canary_is_untouched(&self) -> bool {
        fs::read_dir(self.0.join("canary")).unwrap().next().is_none()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn inode(place: &OwnedFd) -> u64 {
    rustix::fs::fstat(place).unwrap().st_ino
}

#[test]
fn missing_directories_are_made_inside_the_root() {
    let scratch = Scratch::new();
    let place = scratch.root().directory(Path::new("/a/b/c"), Links::Follow).unwrap();
    assert_eq!(inode(&place), fs::metadata(scratch.at("a/b/c")).unwrap().ino());
    assert_eq!(fs::metadata(scratch.at("a/b")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn an_absolute_link_starts_at_the_root_and_dot_dot_stops_there() {
    let scratch = Scratch::new();
    let canary = scratch.0.join("canary");
    symlink(&canary, scratch.at("absolute")).unwrap();
    symlink("../../../../../../..", scratch.at("up")).unwrap();
    symlink("../canary", scratch.at("relative")).unwrap();
    for path in ["/absolute/x", "/up/x", "/relative/x", "/../canary/x", "/absolute/../../../y/z"] {
        scratch.root().directory(Path::new(path), Links::Follow).unwrap();
        assert!(scratch.canary_is_untouched(), "{path}");
    }
    assert!(scratch.at("x").is_dir() && scratch.at("canary/x").is_dir());
}

#[test]
fn a_link_that_leads_nowhere_gets_its_target_made() {
    let scratch = Scratch::new();
    symlink("/new/place/file", scratch.at("dangling")).unwrap();
    let place = scratch.root().file_or_existing(Path::new("/dangling")).unwrap();
    assert_eq!(inode(&place), fs::metadata(scratch.at("new/place/file")).unwrap().ino());
}

#[test]
fn links_are_refused_where_they_are_not_wanted() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.at("real")).unwrap();
    symlink("real", scratch.at("proc")).unwrap();
    symlink("nowhere", scratch.at("sys")).unwrap();
    for path in ["/proc", "/sys", "/proc/x"] {
        assert!(scratch.root().directory(Path::new(path), Links::Refuse).is_err(), "{path}");
    }
    assert!(!scratch.at("nowhere").exists() && !scratch.at("real/x").exists());
}

#[test]
fn links_in_a_circle_are_an_error() {
    let scratch = Scratch::new();
    symlink("b", scratch.at("a")).unwrap();
    symlink("a", scratch.at("b")).unwrap();
    scratch.root().file_or_existing(Path::new("/a")).unwrap_err();
    scratch.root().directory(Path::new("/a/c"), Links::Follow).unwrap_err();
}

#[test]
fn magic_links_are_refused() {
    let root = Root::open(Path::new("/proc")).unwrap();
    root.place(Path::new("/self/root"), Links::Follow).unwrap_err();
    root.place(Path::new("/self/status"), Links::Follow).unwrap();
}

#[test]
fn an_existing_fifo_is_a_place_and_is_not_opened() {
    let scratch = Scratch::new();
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, scratch.at("fifo"), FileType::Fifo, mode, 0).unwrap();
    let place = scratch.root().file_or_existing(Path::new("/fifo")).unwrap();
    assert_eq!(kind(&place).unwrap(), FileType::Fifo);
}

#[test]
fn a_name_exchanged_for_a_link_meanwhile_never_leads_out() {
    use std::sync::atomic::AtomicBool;
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.at("swap")).unwrap();
    symlink(scratch.0.join("canary"), scratch.at("link")).unwrap();
    let (swap, link) = (scratch.at("swap"), scratch.at("link"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &swap, rustix::fs::CWD, &link, flags)
                    .unwrap();
            }
        });
        let root = scratch.root();
        for number in 0..500 {
            let path = PathBuf::from(format!("/swap/{number}/x"));
            // Success and failure are both right: what counts is where nothing appears.
            drop(root.directory(&path, Links::Follow));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(scratch.canary_is_untouched());
}
