//! Mounts of a container: what their options take away.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{Mount, Signal, StatusRequest};
use cringle_tests::client::code;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, on_stage};
use cringle_tests::wait;
use std::os::unix::fs::PermissionsExt;
use tonic::Code;

fn mount(host_path: &str, container_path: &str, options: &[&str]) -> Mount {
    Mount {
        host_path: host_path.to_owned(),
        container_path: container_path.to_owned(),
        mount_options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

#[test]
fn mount_options_take_programs_devices_and_set_uid_away() -> Result<()> {
    on_stage(async |stage| {
        let features = stage.cri.runtime.status(StatusRequest { verbose: false }).await?;
        let features = features.into_inner().features.context("features are told")?;
        ensure!(features.mount_options, "it is offered");

        stage.cri.pull(BUSYBOX).await?;
        let place = stage.directory().join("volume");
        std::fs::create_dir_all(&place)?;
        let program = place.join("busybox");
        std::fs::copy("/bin/busybox", &program)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        let host = place.to_string_lossy().into_owned();
        let mut config = container("main", BUSYBOX, &["sleep", "600"]);
        config.mounts = vec![
            mount(&host, "/plain", &[]),
            mount(&host, "/noexec", &["noexec"]),
            mount(&host, "/all", &["nodev", "nosuid", "noexec"]),
        ];
        let (pod, id) = stage.cri.start_in_pod(&pod("mounts"), &config).await?;
        stage.cri.output(&id, &["/plain/busybox", "true"]).await?;
        let kept = stage.cri.output(&id, &["sh", "-c", "cat /noexec/busybox > /dev/null"]).await;
        ensure!(kept.is_ok(), "it can be read: {kept:?}");
        let script = ["sh", "-c", "/noexec/busybox true"];
        let refused = stage.cri.exec(&id, &script, 10).await?;
        ensure!(refused.exit_code == 126, "{refused:?}");

        let table = stage.cri.output(&id, &["cat", "/proc/self/mountinfo"]).await?;
        let options = |target: &str| {
            let line = table.lines().find(|line| line.split(' ').nth(4) == Some(target));
            line.and_then(|line| line.split(' ').nth(5)).unwrap_or_default().to_owned()
        };
        for word in ["nodev", "nosuid", "noexec"] {
            ensure!(options("/all").split(',').any(|one| one == word), "{}", options("/all"));
        }
        let (plain, noexec) = (options("/plain"), options("/noexec"));
        // What the host's own mount withholds stays withheld.
        for word in ["nodev", "nosuid"] {
            ensure!(noexec.contains(word) == plain.contains(word), "{plain} {noexec}");
        }
        ensure!(!plain.contains("noexec") && noexec.contains("noexec"), "{plain} {noexec}");

        let status = stage.cri.container(&id).await?;
        let shown = status.mounts.iter().find(|mount| mount.container_path == "/all");
        let shown = &shown.context("it is shown")?.mount_options;
        ensure!(shown == &["nosuid", "noexec", "nodev"], "{shown:?}");
        stage.cri.take_away(&pod).await?;
        std::fs::remove_dir_all(&place)?;
        Ok(())
    })
}

#[test]
fn other_mount_options_are_refused_by_name() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let pod_config = pod("options");
        let pod = stage.cri.run_pod(&pod_config).await?;
        for option in ["exec", "rshared", "size=1", "NOEXEC", ""] {
            let mut config = container("main", BUSYBOX, &["sleep", "600"]);
            config.mounts = vec![mount("/tmp", "/m", &["nodev", option])];
            let refused = stage.cri.create((&pod, &pod_config), &config).await;
            ensure!(code(&refused) == Some(Code::InvalidArgument), "{option:?}: {refused:?}");
        }
        ensure!(stage.cri.containers(None).await?.is_empty(), "nothing was made");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn the_stop_signal_that_was_asked_for_arrives() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let pod_config = pod("signals");
        let pod = stage.cri.run_pod(&pod_config).await?;
        for (signal, number) in [
            (Signal::Sigusr1, 10),
            (Signal::Sigrtmin, 34),
            (Signal::Sigrtminplus3, 37),
            (Signal::Sigrtmaxminus14, 50),
            (Signal::Sigrtmax, 64),
        ] {
            let script =
                format!("trap 'exit 77' {number}; : > /tmp/there; while :; do sleep 0.05; done");
            let mut config = container("main", BUSYBOX, &["sh", "-c", &script]);
            config.stop_signal = signal.into();
            let id = stage.cri.create((&pod, &pod_config), &config).await?;
            stage.cri.start(&id).await?;
            let there = format!("/proc/{}/root/tmp/there", stage.cri.process(&id).await?);
            wait::until("the trap is set", async || Ok(std::path::Path::new(&there).exists()))
                .await?;
            ensure!(stage.cri.container(&id).await?.stop_signal() == signal, "{signal:?}");
            stage.cri.stop(&id, 20).await?;
            let status = stage.cri.container(&id).await?;
            ensure!(status.exit_code == 77, "{signal:?}: {status:?}");
            stage.cri.remove(&id).await?;
        }
        stage.cri.take_away(&pod).await
    })
}
