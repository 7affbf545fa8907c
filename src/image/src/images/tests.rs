//! Pulls, names and removal, from end to end.

mod full;
mod power;

use crate::Ground;
use crate::PullErrorKind;
use crate::testing::registry::{Act, OCI_IMAGE, OCI_INDEX, Registry};
use crate::testing::tarball::Tarball;
use crate::testing::{TestStore, sha256};
use cringle_domain::image::Retention;
use cringle_domain::snapshot::SnapshotKey;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

/// How long anything may take here.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn base() -> Vec<u8> {
    Tarball::new()
        .directory("etc", 0o755)
        .file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        .finish()
}

fn small(content: &str) -> Vec<u8> {
    Tarball::new().file("mark", content.as_bytes()).finish()
}

fn key(text: &str) -> SnapshotKey {
    SnapshotKey::try_from(text.to_owned()).expect("a key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulled_image_is_listed_with_its_layers() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts =
        registry.image("app", &[base(), small("1")], &json!({"User": "1002", "Cmd": ["sh"]}));
    let manifest = parts.manifest.to_string();
    let digest = registry.put_manifest("app", "v1", manifest.as_bytes(), OCI_IMAGE);
    let id = store.pull(&registry.reference("app:v1")).await.expect("pulled");
    assert_eq!(id, parts.id);
    let image = store.images.resolve(&id.to_string()).expect("the image");
    assert_eq!(image.tags[0].to_string(), registry.reference("app:v1"));
    assert_eq!(image.digests[0].to_string(), registry.reference(&format!("app@{digest}")));
    assert_eq!(image.retention, Retention::Ordinary);
    assert_eq!(image.record.config.cmd, ["sh"]);
    assert!(image.record.size > 0);
    let lower = store.images.lower_directories(&image.record);
    assert_eq!(std::fs::read_to_string(lower[0].join("mark")).expect("the top layer"), "1");
    assert!(lower[1].join("etc/passwd").exists(), "the base layer");
    let usage = store.images.usage();
    assert!(usage.bytes >= 3 * 4096 && usage.inodes == 3, "{usage:?}");
    for name in ["ingest", "trash"] {
        assert_eq!(store.count(name), 0, "{name} is empty after a pull");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_reference_finds_the_image() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("a/b", &[base()], &json!({}));
    let manifest = parts.manifest.to_string();
    let digest = registry.put_manifest("a/b", "latest", manifest.as_bytes(), OCI_IMAGE);
    let id = store.pull(&registry.reference("a/b")).await.expect("pulled");
    let reference = |rest: &str| registry.reference(&format!("a/b{rest}"));
    let hex = id.hex();
    for text in [
        reference(""),
        reference(":latest"),
        reference(&format!("@{digest}")),
        reference(&format!(":latest@{digest}")),
        id.to_string(),
        hex.to_owned(),
        hex[..12].to_owned(),
        format!("sha256:{}", &hex[..5]),
    ] {
        let found = store.images.resolve(&text).unwrap_or_else(|| panic!("{text} finds nothing"));
        assert_eq!(found.record.id, id, "{text}");
    }
    for text in [
        reference(":other"),
        "app".to_owned(),
        String::new(),
        format!("{hex}0"),
        "sha256:".to_owned(),
    ] {
        assert!(store.images.resolve(&text).is_none(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_by_digest_makes_no_tag_and_an_index_gives_the_name() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[base()], &json!({}));
    let manifest = parts.manifest.to_string();
    let child = registry.put_manifest("app", "unused", manifest.as_bytes(), OCI_IMAGE);
    let own = crate::platform::Platform::own();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_IMAGE, "digest": sha256(b"other"), "size": 5,
         "platform": {"os": "plan9", "architecture": "mips"}},
        {"mediaType": OCI_IMAGE, "digest": child, "size": manifest.len(),
         "platform": {"os": own.os, "architecture": own.architecture}},
    ]})
    .to_string();
    let digest = registry.put_manifest("app", "multi", index.as_bytes(), OCI_INDEX);
    let name = registry.reference(&format!("app@{digest}"));
    let id = store.pull(&name).await.expect("pulled");
    let image = store.images.resolve(&name).expect("the image");
    assert_eq!((id, image.tags.len()), (parts.id, 0));
    assert_eq!(image.digests.iter().map(ToString::to_string).collect::<Vec<_>>(), [name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_image_in_two_repositories_is_one_image_and_goes_with_any_name() {
    let (registry, other) = (Registry::start().await, Registry::start().await);
    let store = TestStore::new();
    let archives = [base(), small("x")];
    registry.put_image("pause", "3.9", &archives);
    other.put_image("pause", "3.9", &archives);
    registry.put_image("pause", "extra", &archives);
    for name in [
        registry.reference("pause:3.9"),
        other.reference("pause:3.9"),
        registry.reference("pause:extra"),
    ] {
        store.pull(&name).await.expect("pulled");
    }
    let images = store.images.list();
    assert_eq!(images.len(), 1);
    assert_eq!((images[0].tags.len(), images[0].digests.len()), (3, 2));
    assert_eq!(registry.count("/blobs/"), 3, "a configuration and two layers, once");
    store.images.remove(&other.reference("pause:3.9")).await.expect("removed");
    assert!(store.images.list().is_empty());
    assert!(store.images.resolve(&registry.reference("pause:extra")).is_none());
    store.images.remove(&other.reference("pause:3.9")).await.expect("gone is as good");
    for name in ["layers", "records", "blobs", "trash"] {
        assert_eq!(store.count(name), 0, "{name} is empty after the removal");
    }
    assert_eq!(store.images.usage().bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_share_layers_and_each_keeps_those_it_needs() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("one", "1", &[base(), small("one")]);
    registry.put_image("two", "1", &[base(), small("two")]);
    let first = registry.reference("one:1");
    let second = registry.reference("two:1");
    let (one, two) = tokio::join!(store.pull(&first), store.pull(&second));
    one.and(two).expect("both pulled");
    assert_eq!(store.count("layers"), 3);
    store.images.remove(&first).await.expect("removed");
    assert_eq!(store.count("layers"), 2);
    let left = store.images.resolve(&second).expect("the other image");
    assert!(store.images.lower_directories(&left.record).iter().all(|path| path.is_dir()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_keeps_the_layers_of_a_removed_image() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let top = Tarball::new().directory(".", 0o1777).file("x", b"x").finish();
    registry.put_image("app", "1", &[base(), top]);
    let name = registry.reference("app:1");
    store.pull(&name).await.expect("pulled");
    let image = store.images.resolve(&name).expect("the image");
    let active =
        store.images.snapshots().prepare(&key("c1"), Ground::of(&image.record)).expect("prepared");
    assert_eq!(active.lower.len(), 2);
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&active.upper).expect("the upper"));
    assert_eq!(mode & 0o7777, 0o1777, "the writable root looks like the image's");
    store.images.remove(&name).await.expect("removed");
    assert_eq!(store.count("layers"), 2, "the container's layers stay");
    let store = store.reopened();
    assert_eq!(store.count("layers"), 2, "also after a restart");
    store.images.snapshots().prepare(&key("c2"), Ground::of(&image.record)).expect("prepared");
    store.images.snapshots().remove(&key("c2")).expect("removed");
    store.images.snapshots().remove(&key("c1")).expect("removed");
    store.images.snapshots().remove(&key("c1")).expect("gone is as good");
    assert_eq!((store.count("layers"), store.count("snapshots")), (0, 0));
    let error = store
        .images
        .snapshots()
        .prepare(&key("c3"), Ground::of(&image.record))
        .expect_err("no layers");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_removes_all_writable_layers_but_those_named() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[base()]);
    store.pull(&registry.reference("app:1")).await.expect("pulled");
    let image = store.images.list().remove(0);
    for name in ["a", "b", "c"] {
        store.images.snapshots().prepare(&key(name), Ground::of(&image.record)).expect("prepared");
    }
    store.images.snapshots().sweep(&[key("b")].into()).expect("swept");
    assert_eq!(store.count("snapshots"), 1);
    assert!(store.root().join("snapshots/b/upper").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_survive_a_restart_and_leftovers_do_not() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[base(), small("x")]);
    let name = registry.reference("app:1");
    let id = store.pull(&name).await.expect("pulled");
    let root = store.root();
    for leftover in ["ingest/7/fs/deep", "layers/sha256-garbage", "layers/nonsense"] {
        std::fs::create_dir_all(root.join(leftover)).expect("made");
    }
    std::fs::File::create(root.join("blobs/sha256-orphan")).expect("made");
    std::fs::File::create(root.join("records/orphan.json")).expect("made");
    let draft = root.join(".names.json.123.4");
    std::fs::File::create(&draft).expect("made");
    let store = store.reopened();
    assert!(!draft.exists(), "names that were not put in place");
    assert_eq!(store.images.resolve(&name).map(|image| image.record.id.clone()), Some(id));
    let counts = ["ingest", "layers", "blobs", "records", "trash"].map(|name| store.count(name));
    assert_eq!(counts, [0, 2, 2, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_lost_a_layer_is_absent_and_can_be_pulled_again() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[base(), small("x")]);
    let name = registry.reference("app:1");
    store.pull(&name).await.expect("pulled");
    let layer = store.root().join("layers").join(sha256(&small("x")).file_name());
    std::fs::remove_dir_all(&layer).expect("lost");
    let store = store.reopened();
    assert!(store.images.resolve(&name).is_none());
    store.pull(&name).await.expect("pulled again");
    assert!(layer.join("fs/mark").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_set_aside_and_its_image_absent() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[base()]);
    registry.put_image("app", "2", &[small("2")]);
    let id = store.pull(&registry.reference("app:1")).await.expect("pulled");
    store.pull(&registry.reference("app:2")).await.expect("pulled");
    let record = store.root().join("records").join(format!("{}.json", id.file_name()));
    std::fs::File::options().write(true).truncate(true).open(record).expect("damaged");
    let store = store.reopened();
    assert_eq!(store.images.list().len(), 1);
    assert_eq!((store.count("aside"), store.count("layers")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_tag_leaves_the_old_image_without_it() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[small("old")]);
    let name = registry.reference("app:1");
    let old = store.pull(&name).await.expect("pulled");
    registry.put_image("app", "1", &[small("new")]);
    let new = store.pull(&name).await.expect("pulled");
    assert_ne!(old, new);
    assert_eq!(store.images.resolve(&name).map(|image| image.record.id.clone()), Some(new));
    let image = store.images.resolve(&old.to_string()).expect("the old image");
    assert_eq!((image.tags.len(), image.digests.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_pulls_join_and_end_only_with_the_last_waiter() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[base()], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    let gate = Arc::new(Notify::new());
    registry.script("/v2/app/manifests/1", vec![Act::Hold(Arc::clone(&gate))]);
    let name = registry.reference("app:1");
    let request = crate::PullRequest { reference: name, credentials: None };
    let mut first = Box::pin(store.images.pull(&request));
    let mut second = Box::pin(store.images.pull(&request));
    // Polled here and not as tasks: the second has joined for certain before the first goes.
    while registry.count("/manifests/") == 0 {
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
    }
    drop(first);
    gate.notify_one();
    assert_eq!(second.await.expect("pulled"), parts.id);
    assert_eq!(registry.count("/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_pull_leaves_nothing() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[base(), small("x")], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    registry.script(&format!("/v2/app/blobs/{}", parts.blob(0)), vec![Act::Hang]);
    let request = crate::PullRequest { reference: registry.reference("app:1"), credentials: None };
    let images = Arc::clone(&store.images);
    let pull = tokio::spawn(async move { images.pull(&request).await });
    // The other layer is unpacked meanwhile.
    let both = async {
        while registry.count(&parts.blob(0)) == 0 || registry.count(&parts.blob(1)) == 0 {
            assert!(!pull.is_finished(), "it does not wait for the layer");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both layers are asked for");
    pull.abort();
    assert!(pull.await.is_err_and(|error| error.is_cancelled()));
    for name in ["layers", "records", "blobs"] {
        assert_eq!(store.count(name), 0, "{name}");
    }
    let swept = async {
        while store.count("ingest") + store.count("trash") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("nothing is left");
    assert!(store.images.list().is_empty());
    store.pull(&registry.reference("app:1")).await.expect("a retry succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_removals_all_succeed() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[base()]);
    let id = store.pull(&registry.reference("app:1")).await.expect("pulled").to_string();
    let removals = (0..5).map(|_| store.images.remove(&id));
    for removed in futures::future::join_all(removals).await {
        removed.expect("removed");
    }
    assert!(store.images.resolve(&id).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_images_show_it_and_can_be_removed_all_the_same() {
    let registry = Registry::start().await;
    let settings = crate::ImageSettings {
        pinned: vec!["127.0.0.1*".to_owned()],
        ..crate::testing::settings()
    };
    let store = TestStore::with(settings);
    registry.put_image("pause", "1", &[base()]);
    let name = registry.reference("pause:1");
    store.pull(&name).await.expect("pulled");
    assert_eq!(store.images.list()[0].retention, Retention::Pinned);
    store.images.remove(&name).await.expect("removed");
    assert!(store.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_name_is_no_request() {
    let store = TestStore::new();
    let error = store.pull("not a name").await.expect_err("malformed");
    assert_eq!(error.kind(), PullErrorKind::InvalidReference);
}
