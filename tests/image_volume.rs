//! Images as volumes of containers.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, IdMapping, Mount, NamespaceMode, NamespaceOption, UserNamespace,
};
use cringle_tests::client::{self, code, message};
use cringle_tests::image::Description;
use cringle_tests::request::{container, in_namespaces, namespaces, pod, with_namespaces};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use tonic::Code;

fn volume(image: &str, target: &str, sub_path: &str) -> Mount {
    Mount {
        container_path: target.to_owned(),
        readonly: true,
        image: Some(client::image(image)),
        image_sub_path: sub_path.to_owned(),
        ..Mount::default()
    }
}

fn with_volumes(name: &str, mounts: Vec<Mount>) -> ContainerConfig {
    ContainerConfig { mounts, ..container(name, BUSYBOX, &["sleep", "600"]) }
}

/// Pulls busybox and an image of two layers, whose name is the content of its /etc/image.
async fn images(stage: &mut Stage) -> Result<String> {
    stage.cri.pull(BUSYBOX).await?;
    let data = stage.add_image("test/data", &Description::default())?;
    stage.cri.pull(&data).await?;
    Ok(data)
}

#[test]
fn an_image_is_a_volume_that_is_read_and_run_from_but_never_written() -> Result<()> {
    on_stage(async |stage| {
        let data = images(stage).await?;
        let mounts = vec![volume(&data, "/data", ""), volume(BUSYBOX, "/tools", "")];
        let config = pod("volume");
        let (id, main) = stage.cri.start_in_pod(&config, &with_volumes("main", mounts)).await?;
        let content = stage.cri.output(&main, &["cat", "/data/etc/image"]).await?;
        ensure!(content == "test/data", "{content:?}");
        let ran = stage.cri.output(&main, &["/tools/bin/echo", "ran"]).await?;
        ensure!(ran == "ran\n", "{ran:?}");
        let written = stage.cri.exec(&main, &["touch", "/data/new"], 20).await?;
        let why = String::from_utf8_lossy(&written.stderr).into_owned();
        ensure!(written.exit_code != 0 && why.contains("Read-only"), "{why}");

        let shown = stage.cri.container(&main).await?.mounts;
        let pulled = stage.cri.image(&data).await?.context("the image is here")?;
        let image = shown[0].image.as_ref().context("the mount shows its image")?;
        ensure!(image.image == data, "{image:?}");
        ensure!(image.image_ref == pulled.id, "{image:?} {pulled:?}");
        ensure!(shown[0].readonly && shown[0].host_path.is_empty(), "{shown:?}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn a_part_of_an_image_is_a_directory_or_a_file_and_stays_in_the_image() -> Result<()> {
    on_stage(async |stage| {
        let data = images(stage).await?;
        let config = pod("part");
        let mounts = vec![volume(&data, "/part", "etc"), volume(&data, "/one", "etc/image")];
        let (id, main) = stage.cri.start_in_pod(&config, &with_volumes("main", mounts)).await?;
        let contents = stage.cri.output(&main, &["cat", "/part/image", "/one"]).await?;
        ensure!(contents == "test/datatest/data", "{contents:?}");
        let listed = stage.cri.output(&main, &["ls", "/part"]).await?;
        ensure!(listed.contains("passwd") && !listed.contains("bin"), "{listed}");
        for (sub_path, expected) in [
            ("no/such", Code::InvalidArgument),
            ("../etc", Code::InvalidArgument),
            ("/etc", Code::InvalidArgument),
        ] {
            let wrong = with_volumes("wrong", vec![volume(&data, "/wrong", sub_path)]);
            let answer = stage.cri.create((&id, &config), &wrong).await;
            ensure!(code(&answer) == Some(expected), "{sub_path}: {answer:?}");
        }
        let wrong = with_volumes("wrong", vec![volume(&data, "/wrong", "no/such")]);
        let answer = stage.cri.create((&id, &config), &wrong).await;
        ensure!(message(&answer).starts_with("ImageVolumeMountFailed"), "{answer:?}");
        let writable = Mount { readonly: false, ..volume(&data, "/wrong", "") };
        let answer = stage.cri.create((&id, &config), &with_volumes("wrong", vec![writable])).await;
        ensure!(code(&answer) == Some(Code::InvalidArgument), "{answer:?}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn an_image_that_is_not_here_is_no_volume_and_one_in_use_stays_when_it_is_removed() -> Result<()> {
    on_stage(async |stage| {
        let data = images(stage).await?;
        let config = pod("kept");
        let pod_id = stage.cri.run_pod(&config).await?;
        let absent = with_volumes("absent", vec![volume("registry.example/no/such:1", "/x", "")]);
        let answer = stage.cri.create((&pod_id, &config), &absent).await;
        ensure!(message(&answer).starts_with("ImageVolumeMountFailed"), "{answer:?}");
        ensure!(code(&answer) == Some(Code::NotFound), "{answer:?}");

        let main = with_volumes("main", vec![volume(&data, "/data", "")]);
        let main = stage.cri.create((&pod_id, &config), &main).await?;
        stage.cri.remove_image(&data).await?;
        ensure!(stage.cri.image(&data).await?.is_none(), "a removed image is shown");
        // It is found again from the note of the writable layer.
        stage.crash().await?;
        stage.cri.start(&main).await?;
        let content = stage.cri.output(&main, &["cat", "/data/etc/image"]).await?;
        ensure!(content == "test/data", "{content:?}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn pods_share_an_image_and_each_sees_its_own_users() -> Result<()> {
    on_stage(async |stage| {
        let data = images(stage).await?;
        let mut pods = Vec::new();
        for host_id in [300_000, 400_000] {
            let range = IdMapping { container_id: 0, host_id, length: 65_536 };
            let users = UserNamespace {
                mode: NamespaceMode::Pod.into(),
                uids: vec![range],
                gids: vec![range],
            };
            let options = NamespaceOption { userns_options: Some(users), ..namespaces() };
            let config = with_namespaces(pod(&format!("pod-{host_id}")), options.clone());
            // The image of the container is the volume's too: the same layers are mapped once.
            let mounts = vec![
                volume(&data, "/data", ""),
                volume(BUSYBOX, "/tools", ""),
                volume(&data, "/part", "etc"),
            ];
            let main = in_namespaces(with_volumes("main", mounts), &options);
            let (id, main) = stage.cri.start_in_pod(&config, &main).await?;
            let files = ["/data/etc/image", "/tools/bin/busybox", "/part/image"];
            let command = ["stat", "-c", "%u:%g", files[0], files[1], files[2]];
            let owners = stage.cri.output(&main, &command).await?;
            ensure!(owners == "0:0\n0:0\n0:0\n", "{host_id}: {owners}");
            stage.cri.output(&main, &["/tools/bin/true"]).await?;
            pods.push(id);
        }
        for id in pods {
            stage.cri.take_away(&id).await?;
        }
        Ok(())
    })
}
