//! Layers that have files of the layers below.

use crate::PullErrorKind;
use crate::testing::registry::Registry;
use crate::testing::tarball::{Head, Tarball};
use crate::testing::{TestStore, chain};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn base() -> Tarball {
    let program = Head { name: b"data/program", mode: 0o4755, uid: 7, gid: 8, ..Head::default() };
    Tarball::new()
        .directory("data", 0o755)
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .entry(&program, b"program")
        .symlink("lib", "usr/lib")
        .file("usr/lib/l", b"library")
        .file("removed", b"removed")
}

/// Directories of the image's layers, the topmost first.
fn layers(store: &TestStore, reference: &str) -> Vec<PathBuf> {
    let image = store.images.resolve(reference).expect("the image is here");
    store.images.lower_directories(&image.record)
}

fn content(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_link_into_a_lower_layer_has_all_that_the_file_has() {
    let (registry, store) = (Registry::start().await, TestStore::new());
    let top = Tarball::new()
        .directory("own", 0o755)
        .hard_link("own/linked", "data/program")
        .hard_link("again", "own/linked")
        .hard_link("data/program", "data/program")
        .hard_link("symbolic", "lib")
        .hard_link("through", "lib/l")
        .finish();
    registry.put_image(
        "app",
        "1",
        &[base().finish(), Tarball::new().file("m", b"m").finish(), top],
    );
    let reference = registry.reference("app:1");
    store.pull(&reference).await.expect("pulled");
    let top = layers(&store, &reference).remove(0);
    let stat = std::fs::symlink_metadata(top.join("own/linked")).expect("it is there");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o4755, 7, 8));
    assert_eq!((stat.mtime(), stat.nlink(), stat.len()), (1_600_000_000, 3, 7));
    for name in ["again", "data/program"] {
        assert_eq!(std::fs::metadata(top.join(name)).expect(name).ino(), stat.ino(), "{name}");
    }
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(top.join("again"), "user.note", &mut value);
    assert_eq!(length.map(|length| &value[..length]), Ok(&b"kept"[..]));
    assert_eq!(std::fs::read_link(top.join("symbolic")).expect("a link").to_str(), Some("usr/lib"));
    assert_eq!(content(&top.join("through")), "library");
    assert_eq!(std::fs::metadata(top.join("own")).expect("own").mtime(), 1_600_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_link_to_what_no_layer_shows_is_an_error_that_names_both() {
    let (registry, store) = (Registry::start().await, TestStore::new());
    let middle = Tarball::new().file(".wh.removed", b"").finish();
    for (tag, target) in [("a", "removed"), ("b", "never/was"), ("c", "data"), ("d", "lib/l/x")] {
        let top = Tarball::new().hard_link("entry", target).finish();
        registry.put_image("app", tag, &[base().finish(), middle.clone(), top]);
        let error = store.pull(&registry.reference(&format!("app:{tag}"))).await.expect_err(target);
        let text = chain(&error);
        assert_eq!(error.kind(), PullErrorKind::Corrupt, "{text}");
        assert!(text.contains("\"entry\"") && text.contains(&format!("\"{target}\"")), "{text}");
    }
    let first = Tarball::new().hard_link("entry", "nowhere").finish();
    registry.put_image("app", "first", &[first]);
    let error = store.pull(&registry.reference("app:first")).await.expect_err("nothing below");
    assert_eq!(error.kind(), PullErrorKind::Corrupt, "{}", chain(&error));
    assert_eq!((store.count("layers"), store.count("ingest"), store.count("trash")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_layer_on_two_bases_has_the_files_of_each() {
    let (registry, store) = (Registry::start().await, TestStore::new());
    let top = Tarball::new().hard_link("link", "file").finish();
    let references = ["one", "two"].map(|name| {
        let base = Tarball::new().file("file", name.as_bytes()).finish();
        registry.put_image("app", name, &[base, top.clone()]);
        registry.reference(&format!("app:{name}"))
    });
    for reference in &references {
        store.pull(reference).await.expect("pulled");
    }
    let store = store.reopened();
    for (reference, name) in references.iter().zip(["one", "two"]) {
        store.pull(reference).await.expect("pulled again");
        assert_eq!(content(&layers(&store, reference).remove(0).join("link")), name);
    }
    assert_eq!(store.count("layers"), 4);
    store.images.remove(&references[0]).await.expect("removed");
    assert_eq!(store.count("layers"), 2);
    assert_eq!(content(&layers(&store, &references[1]).remove(0).join("link")), "two");
}
