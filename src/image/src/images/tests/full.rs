//! A disk that is full, in bytes or in inodes, at each thing that a pull writes.

use crate::error::is_full;
use crate::testing::disk::{mount, on_own_mounts, unmount};
use crate::testing::registry::Registry;
use crate::testing::tarball::Tarball;
use crate::testing::{chain, settings};
use crate::{Images, PullErrorKind, PullRequest};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PAGE: u64 = 4096;

/// A store on a tmpfs with those options.
struct Disk {
    directory: Mounted,
    images: Arc<Images>,
}

/// A directory that something is mounted on: it could not be removed before that is gone.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.path());
    }
}

impl Disk {
    fn new(options: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        mount("tmpfs", options, Path::new("tmpfs"), directory.path());
        let directory = Mounted(directory);
        let images = Images::open(&directory.path().join("images"), settings()).expect("a store");
        Self { directory, images }
    }

    async fn pull(&self, reference: &str) -> Result<(), crate::PullError> {
        let request = PullRequest { reference: reference.to_owned(), credentials: None };
        self.images.pull(&request).await.map(drop)
    }

    /// What the store has on disk once all that is unneeded is gone.
    fn files(&self) -> BTreeSet<PathBuf> {
        self.images.finish_sweep();
        let mut found = BTreeSet::new();
        let mut pending = vec![self.directory.path().join("images")];
        while let Some(directory) = pending.pop() {
            // What a failed pull had begun is deleted while we look: what has gone meanwhile is not there.
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
                    pending.push(path.clone());
                }
                found.insert(path);
            }
        }
        found
    }

    /// Waits until it has that, because what a failed pull had begun ends right after it.
    async fn has(&self, expected: &BTreeSet<PathBuf>, case: &str) {
        let settled = async {
            while self.files() != *expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
        assert!(settled.is_ok(), "{case}: {:?} are left", self.files().difference(expected));
    }

    /// Takes all space but so many pages.
    fn fill(&self, left: u64) {
        let state = rustix::fs::statvfs(self.directory.path()).expect("a size");
        let mut file = File::create(self.directory.path().join("filler")).expect("a file");
        let pages = state.f_bavail.saturating_sub(left);
        for _ in 0..pages {
            match file.write_all(&[1; 4096]) {
                // A worker that is just ending may have taken the last: less is left then, which is as full.
                Err(error) if is_full(&error) => break,
                written => written.expect("written"),
            }
        }
        assert_eq!(state.f_frsize, PAGE, "the tests count in pages");
    }

    /// Takes all inodes but so many.
    fn use_up(&self, left: u64) {
        let place = self.directory.path().join("fillers");
        std::fs::DirBuilder::new().create(&place).expect("a directory");
        let state = rustix::fs::statvfs(self.directory.path()).expect("a size");
        for number in left..state.f_favail {
            match File::create(place.join(number.to_string())) {
                Err(error) if is_full(&error) => break,
                made => drop(made.expect("made")),
            }
        }
    }

    fn free(&self) {
        for name in ["filler", "fillers"] {
            let path = self.directory.path().join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(path).expect("removed");
            } else if path.exists() {
                std::fs::remove_file(path).expect("removed");
            }
        }
    }
}

fn small(name: &str) -> Vec<u8> {
    Tarball::new().directory("d", 0o755).file("d/file", name.as_bytes()).finish()
}

#[test]
fn a_layer_that_does_not_fit_is_named_and_gone() {
    on_own_mounts(async {
        let registry = Registry::start().await;
        let disk = Disk::new("size=4m");
        let huge = Tarball::new().file("before", b"").file("huge", &vec![7; 6 << 20]).finish();
        // One layer: of several the one that finds no space may be another.
        registry.put_image("app", "huge", &[huge]);
        registry.put_image("app", "small", &[small("base")]);
        let before = disk.files();
        let error = disk.pull(&registry.reference("app:huge")).await.expect_err("no space");
        let text = chain(&error);
        assert_eq!(error.kind(), PullErrorKind::DiskFull, "{text}");
        assert!(text.contains("\"huge\"") && text.contains("app:huge"), "{text}");
        disk.has(&before, &text).await;
        disk.pull(&registry.reference("app:small")).await.expect("there is space again");
    });
}

/// With more and more space, each step of the pull is the one that finds the disk full.
#[test]
fn wherever_a_pull_finds_the_disk_full_it_leaves_nothing_and_the_images_that_were_there() {
    on_own_mounts(async {
        let registry = Registry::start().await;
        registry.put_image("app", "old", &[small("old")]);
        registry.put_image("app", "new", &[small("new"), small("upper")]);
        for (what, options, most) in [("pages", "size=512k", 64), ("inodes", "nr_inodes=128", 64)] {
            let disk = Disk::new(options);
            disk.pull(&registry.reference("app:old")).await.expect("pulled");
            let before = disk.files();
            let mut failures = BTreeSet::new();
            let mut left = 0;
            loop {
                if what == "pages" {
                    disk.fill(left)
                } else {
                    disk.use_up(left)
                };
                let pulled = disk.pull(&registry.reference("app:new")).await;
                let Err(error) = pulled else { break };
                let text = chain(&error);
                assert_eq!(error.kind(), PullErrorKind::DiskFull, "{left} {what}: {text}");
                assert!(text.contains("No space left on device"), "{left} {what}: {text}");
                disk.has(&before, &format!("{left} {what}: {text}")).await;
                assert_eq!(disk.images.list().len(), 1, "{left} {what}: {text}");
                failures.insert(text.split('"').next().unwrap_or_default().to_owned());
                disk.free();
                left += 1;
                assert!(left < most, "it never fits: {text}");
            }
            assert!(failures.len() >= 3, "only some steps were tried: {failures:?}");
            disk.free();
            let Disk { directory, images } = disk;
            drop(images);
            let images =
                Images::open(&directory.path().join("images"), settings()).expect("a store");
            assert_eq!(images.list().len(), 2, "after a restart");
        }
    });
}

#[test]
fn an_image_can_be_removed_when_nothing_can_be_written() {
    on_own_mounts(async {
        let registry = Registry::start().await;
        for name in ["a", "b"] {
            registry.put_image("app", name, &[small(name)]);
        }
        let disk = Disk::new("size=512k,nr_inodes=128");
        for name in ["a", "b"] {
            disk.pull(&registry.reference(&format!("app:{name}"))).await.expect("pulled");
        }
        disk.use_up(0);
        disk.images.remove(&registry.reference("app:a")).await.expect("removed");
        assert_eq!(disk.images.list().len(), 1);
        let Disk { directory, images } = disk;
        images.finish_sweep();
        drop(images);
        let images = Images::open(&directory.path().join("images"), settings()).expect("a store");
        let names: Vec<String> =
            images.list().iter().flat_map(|image| &image.tags).map(ToString::to_string).collect();
        assert_eq!(names, [registry.reference("app:b")], "after a restart");
    });
}
