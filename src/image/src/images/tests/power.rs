//! A power cut during pulls and removals: what is on the disk at any moment, opened as if after one.
//!
//! The disk is a file. It is read twice in a row, and if both are equal then that is what it held at one moment: what had been
//! written by then, and nothing of what the kernel still kept in memory.

use crate::testing::disk::{make_ext4, mount, on_own_mounts, unmount};
use crate::testing::registry::Registry;
use crate::testing::settings;
use crate::testing::tarball::Tarball;
use crate::{Images, PullRequest};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SIZE: u64 = 6 << 20;
const ROUNDS: usize = 25;
const LAYERS: usize = 3;
const MOST_CUTS: usize = 150;

/// What a disk held at one moment.
struct Cut {
    disk: Vec<u8>,
    /// How many pulls and removals had been answered before, and how many had begun after.
    answered: usize,
    begun: usize,
}

/// How far the store has come. Operations are numbered from 1; odd ones pull, even ones remove what the last one pulled.
#[derive(Default)]
struct Progress {
    begun: AtomicUsize,
    answered: AtomicUsize,
    /// How often the disk was seen as it was at one moment.
    looks: AtomicUsize,
    is_over: AtomicBool,
}

/// Ends the collection when it goes, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Progress {
    /// Notes that an operation is over, and waits until someone looked at the disk since.
    async fn answer(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
        // One look may have begun before.
        let enough = self.looks.load(Ordering::SeqCst) + 2;
        let looked = async {
            while self.looks.load(Ordering::SeqCst) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looked).await.expect("the disk is looked at");
    }
}

fn content(round: usize, layer: usize) -> Vec<u8> {
    // Of no pattern that a file system would store as a hole.
    (0..90_000_usize)
        .map(|at| u8::try_from((at * (round + 3) + layer) % 251).unwrap_or(1))
        .collect()
}

fn collect(disk: &Path, progress: &Progress) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    while !progress.is_over.load(Ordering::SeqCst) {
        let answered = progress.answered.load(Ordering::SeqCst);
        let first = std::fs::read(disk).expect("the disk");
        let second = std::fs::read(disk).expect("the disk");
        if first != second {
            continue;
        }
        // One that looks like the last may promise more.
        let begun = progress.begun.load(Ordering::SeqCst);
        let is_known = cuts.last().is_some_and(|last| {
            last.disk == first && (last.answered, last.begun) == (answered, begun)
        });
        if !is_known && cuts.len() < MOST_CUTS {
            cuts.push(Cut { disk: first, answered, begun });
        }
        progress.looks.fetch_add(1, Ordering::SeqCst);
    }
    cuts
}

#[test]
fn after_a_power_cut_every_image_is_whole_or_absent_and_what_was_answered_is_so() {
    let directory = tempfile::Builder::new().tempdir_in("/dev/shm").expect("a directory in memory");
    let disk = directory.path().join("disk");
    make_ext4(&disk, SIZE);
    let progress = Progress::default();
    let cuts = std::thread::scope(|scope| {
        let collector = scope.spawn(|| collect(&disk, &progress));
        let over = Over(&progress.is_over);
        on_own_mounts(pull_and_remove(directory.path(), &disk, &progress));
        drop(over);
        collector.join().expect("cuts")
    });
    assert!(cuts.len() >= 2 * ROUNDS, "only {} cuts", cuts.len());
    let mut seen = BTreeMap::new();
    for (number, cut) in cuts.iter().enumerate() {
        let copy = directory.path().join("copy");
        std::fs::File::create(&copy).expect("a copy").write_all(&cut.disk).expect("written");
        let present = on_own_mounts(async { judge(directory.path(), &copy, number) });
        // An image may be there from the beginning of its pull to the end of its removal, and must be in between.
        for round in 0..ROUNDS {
            let (pull, removal) = (2 * round + 1, 2 * round + 2);
            let is_there = present.contains(&round);
            assert!(!is_there || cut.begun >= pull, "cut {number}: image {round} before its pull");
            assert!(!is_there || cut.answered < removal, "cut {number}: image {round} came back");
            let must = cut.answered >= pull && cut.begun < removal;
            assert!(is_there || !must, "cut {number}: image {round} is lost");
        }
        *seen.entry(present.len()).or_insert(0) += 1;
    }
    assert!(seen.len() > 1, "cuts of one kind only: {seen:?}");
}

async fn pull_and_remove(directory: &Path, disk: &Path, progress: &Progress) {
    let place = directory.join("mounted");
    std::fs::DirBuilder::new().create(&place).expect("a directory");
    mount("ext4", "loop", disk, &place);
    let registry = Registry::start_on("127.0.0.1").await;
    let images = Images::open(&place.join("images"), settings()).expect("a store");
    for round in 0..ROUNDS {
        let layers: Vec<Vec<u8>> = (0..LAYERS)
            .map(|layer| Tarball::new().file("file", &content(round, layer)).finish())
            .collect();
        registry.put_image("app", &format!("r{round}"), &layers);
        let reference = registry.reference(&format!("app:r{round}"));
        progress.begun.fetch_add(1, Ordering::SeqCst);
        let request = PullRequest { reference: reference.clone(), credentials: None };
        images.pull(&request).await.expect("pulled");
        progress.answer().await;
        progress.begun.fetch_add(1, Ordering::SeqCst);
        images.remove(&reference).await.expect("removed");
        progress.answer().await;
        images.finish_sweep();
    }
    drop(images);
    unmount(&place);
}

/// Opens the store on that disk and reads every byte of every image; which rounds' images are there.
fn judge(directory: &Path, disk: &Path, number: usize) -> Vec<usize> {
    let place = directory.join("judged");
    std::fs::DirBuilder::new().recursive(true).create(&place).expect("a directory");
    mount("ext4", "loop", disk, &place);
    let images = Images::open(&place.join("images"), settings()).expect("a store");
    images.finish_sweep();
    let mut present = Vec::new();
    for image in images.list() {
        let tag = image.tags.first().expect("a tag").to_string();
        let round =
            tag.rsplit_once(":r").and_then(|(_, round)| round.parse().ok()).expect("a round");
        let layers: Vec<PathBuf> = images.lower_directories(&image.record);
        assert_eq!(layers.len(), LAYERS, "cut {number}");
        for (layer, path) in layers.iter().rev().enumerate() {
            let found = std::fs::read(path.join("file")).unwrap_or_default();
            assert!(found == content(round, layer), "cut {number}: image {round}, layer {layer}");
        }
        assert!(images.raw_config(&image.record).is_ok(), "cut {number}: image {round}");
        present.push(round);
    }
    for leftover in ["ingest", "trash"] {
        let left = std::fs::read_dir(place.join("images").join(leftover)).expect("listed").count();
        assert_eq!(left, 0, "cut {number}: {leftover}");
    }
    drop(images);
    unmount(&place);
    present
}
