//! Images: pulling, naming, removing, and registries that do wrong.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::ImageFsInfoRequest;
use cringle_tests::client::{code, message};
use cringle_tests::image::{Description, LayerBuilder, busybox};
use cringle_tests::registry::Fault;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use tar::EntryType;
use tonic::Code;

#[test]
fn a_pulled_image_has_every_name_and_loses_all_at_once() -> Result<()> {
    on_stage(async |stage| {
        let id = stage.cri.pull(BUSYBOX).await?;
        let image = stage.cri.image(BUSYBOX).await?.context("the image is there")?;
        ensure!(image.id == id && image.repo_tags == [BUSYBOX], "{image:?}");
        ensure!(image.size > 0 && image.repo_digests.len() == 1, "{image:?}");
        let short = id.trim_start_matches("sha256:")[..12].to_owned();
        for name in [id.clone(), short, image.repo_digests[0].clone()] {
            let same = stage.cri.image(&name).await?;
            ensure!(same.as_ref() == Some(&image), "{name}: {same:?}");
        }
        ensure!(stage.cri.all_images().await? == [image.clone()], "the list has it once");

        stage.cri.remove_image(BUSYBOX).await?;
        ensure!(stage.cri.image(&id).await?.is_none(), "it is there by its id");
        ensure!(stage.cri.all_images().await?.is_empty(), "it is listed");
        stage.cri.remove_image(BUSYBOX).await
    })
}

#[test]
fn a_shared_layer_is_fetched_once() -> Result<()> {
    on_stage(async |stage| {
        let other = stage.add_image("test/other", &Description::default())?;
        stage.cri.pull(BUSYBOX).await?;
        let before = blobs(stage);
        stage.cri.pull(&other).await?;
        // A configuration and a layer of its own, but not the layer that is there already.
        ensure!(blobs(stage) == before + 2, "{:?}", stage.registry.requests());
        let again = blobs(stage);
        stage.cri.pull(&other).await?;
        ensure!(blobs(stage) == again, "{:?}", stage.registry.requests());
        Ok(())
    })
}

fn blobs(stage: &Stage) -> usize {
    let requests = stage.registry.requests();
    requests.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
}

#[test]
fn the_entry_for_this_machine_is_chosen_from_an_index() -> Result<()> {
    on_stage(async |stage| {
        let layers = [busybox()?];
        let foreign = Description { architecture: "s390x", ..Description::default() };
        let registry = &stage.registry;
        let ours = registry.add("test/many", "ours", &layers, &Description::default())?;
        let theirs = registry.add("test/many", "theirs", &layers, &foreign)?;
        registry.add_index("test/many", "all", &[(&theirs, "s390x"), (&ours, "amd64")])?;
        registry.add_index("test/many", "none", &[(&theirs, "s390x")])?;
        let id = stage.cri.pull("registry.example/test/many:all").await?;
        ensure!(id == stage.cri.pull("registry.example/test/many:ours").await?, "{id}");
        let refused = stage.cri.pull("registry.example/test/many:none").await;
        ensure!(refused.is_err(), "an image for another machine was pulled");
        ensure!(message(&refused).contains("test/many:none"), "{refused:?}");
        Ok(())
    })
}

#[test]
fn a_registry_that_does_wrong_is_named_and_nothing_is_left() -> Result<()> {
    on_stage(async |stage| {
        for (piece, fault, expected) in [
            ("/manifests/", Fault::Status(404), Some(Code::NotFound)),
            ("/manifests/", Fault::Status(401), None),
            ("/manifests/", Fault::Corrupted, None),
            ("/blobs/", Fault::Status(404), None),
            ("/blobs/", Fault::Corrupted, None),
            ("/blobs/", Fault::Truncated, None),
        ] {
            stage.registry.fail(piece, fault);
            let answer = stage.cri.pull(BUSYBOX).await;
            ensure!(answer.is_err(), "{piece} {fault:?} was not noticed");
            ensure!(message(&answer).contains("test/busybox"), "{piece} {fault:?}: {answer:?}");
            ensure!(
                expected.is_none() || code(&answer) == expected,
                "{piece} {fault:?}: {answer:?}"
            );
            ensure!(stage.cri.all_images().await?.is_empty(), "{piece} {fault:?}: it is listed");
            stage.registry.heal();
        }
        stage.cri.pull(BUSYBOX).await?;
        Ok(())
    })
}

#[test]
fn identical_pulls_at_once_are_one() -> Result<()> {
    on_stage(async |stage| {
        let mut tasks = Vec::new();
        for _ in 0..5 {
            let mut cri = stage.cri.clone();
            tasks.push(tokio::spawn(async move { cri.pull(BUSYBOX).await }));
        }
        let mut ids = Vec::new();
        for task in tasks {
            ids.push(task.await??);
        }
        ids.dedup();
        ensure!(ids.len() == 1, "{ids:?}");
        ensure!(blobs(stage) == 2, "{:?}", stage.registry.requests());
        Ok(())
    })
}

#[test]
fn layers_are_unpacked_as_they_say() -> Result<()> {
    on_stage(async |stage| {
        let lower = LayerBuilder::default()
            .directory("data", 0o755)?
            .file("data/removed", 0o644, b"lower")?
            .file("data/kept", 0o640, b"kept")?
            .directory("covered", 0o755)?
            .file("covered/below", 0o644, b"below")?
            .file("setuid", 0o4755, b"program")?
            .link(EntryType::Link, "linked", "data/kept")?
            .link(EntryType::Symlink, "symbolic", "data/kept")?
            .pack()?;
        let upper = LayerBuilder::default()
            .file("data/.wh.removed", 0o644, b"")?
            .directory("covered", 0o755)?
            .file("covered/.wh..wh..opq", 0o644, b"")?
            .file("covered/above", 0o644, b"above")?
            .pack()?;
        let layers = [busybox()?, lower, upper];
        stage.registry.add("test/layers", "1", &layers, &Description::default())?;
        let reference = "registry.example/test/layers:1";
        stage.cri.pull(reference).await?;
        let main = container("main", reference, &["sleep", "600"]);
        let (pod_id, id) = stage.cri.start_in_pod(&pod("layers"), &main).await?;
        let script = "ls /data /covered; stat -c '%a %h' /setuid /data/kept; cat /linked /symbolic";
        let seen = stage.cri.output(&id, &["sh", "-c", script]).await?;
        let expected = "/covered:\nabove\n\n/data:\nkept\n4755 1\n640 2\nkeptkept";
        ensure!(seen == expected, "{seen}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn use_of_the_disk_is_told() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let answer = stage.cri.images.image_fs_info(ImageFsInfoRequest {}).await?.into_inner();
        let usage = answer.image_filesystems.first().context("there is a file system")?;
        let used = usage.used_bytes.as_ref().context("it has a size")?.value;
        ensure!(used > 1 << 20, "{usage:?}");
        Ok(())
    })
}
