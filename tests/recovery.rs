//! The daemon dies and comes back: what ran goes on, what happened meanwhile is known, what was half done is undone.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{ContainerConfig, ContainerState, PodSandboxState};
use cringle_tests::footprint;
use cringle_tests::inventory::{Inventory, processes_of};
use cringle_tests::request::{container, pod, with_logs, with_namespaces};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A pod with logs and one started container.
async fn start(stage: &mut Stage, config: &ContainerConfig) -> Result<(String, String)> {
    let pod = with_logs(pod("pod"), &stage.daemon.pod_logs());
    stage.run(&pod, config).await
}

#[test]
fn a_container_runs_on_and_its_log_has_no_gap() -> Result<()> {
    on_stage(async |stage| {
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
        let (pod, id) = start(stage, &container("main", BUSYBOX, &["sh", "-c", script])).await?;
        let log = stage.daemon.pod_logs().join("main.log");
        let process = stage.cri.process(&id).await?;
        until("the log has lines", async || Ok(lines(&log)? > 5)).await?;
        stage.daemon.kill()?;
        let seen = lines(&log)?;
        until("the log grows without a daemon", async || Ok(lines(&log)? > seen + 20)).await?;
        stage.start_again().await?;

        ensure!(stage.cri.process(&id).await? == process, "another process");
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        ensure!(stage.cri.pod(&pod).await?.state() == PodSandboxState::SandboxReady, "the pod");
        let seen = stage.cri.output(&id, &["echo", "alive"]).await?;
        ensure!(seen == "alive\n", "{seen:?}");
        stage.cri.take_away(&pod).await?;
        let text = std::fs::read_to_string(&log)?;
        for (number, line) in text.lines().enumerate() {
            ensure!(line.ends_with(&format!(" {number}")), "line {number} is \"{line}\"");
        }
        Ok(())
    })
}

fn lines(log: &Path) -> Result<usize> {
    Ok(std::fs::read_to_string(log)?.lines().count())
}

#[test]
fn an_exit_while_the_daemon_was_dead_is_told_with_its_code() -> Result<()> {
    on_stage(async |stage| {
        let flag = stage.directory().join("flags");
        std::fs::create_dir_all(&flag)?;
        let mut config = container(
            "main",
            BUSYBOX,
            &["sh", "-c", "while [ ! -e /flags/go ]; do sleep 0.05; done; exit 23"],
        );
        config.mounts.push(cringle_proto_cri::v1::Mount {
            container_path: "/flags".to_owned(),
            host_path: flag.to_string_lossy().into_owned(),
            ..cringle_proto_cri::v1::Mount::default()
        });
        let (pod, id) = start(stage, &config).await?;
        let process = stage.cri.process(&id).await?;
        stage.daemon.kill()?;
        std::fs::create_dir_all(flag.join("go"))?;
        let gone = format!("/proc/{process}");
        until("the container ends", async || Ok(!Path::new(&gone).exists())).await?;
        stage.start_again().await?;
        // The process is gone a moment before its shim has read the last output and tells the end.
        let status = stage.cri.ended(&id).await?;
        ensure!(status.exit_code == 23 && status.finished_at > 0, "{status:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn everything_can_be_taken_away_after_a_crash() -> Result<()> {
    on_stage(async |stage| {
        let (first, _) = start(stage, &container("main", BUSYBOX, &["sleep", "600"])).await?;
        let mut shared = pod("shared");
        let options = cringle_proto_cri::v1::NamespaceOption {
            pid: cringle_proto_cri::v1::NamespaceMode::Pod.into(),
            ..cringle_proto_cri::v1::NamespaceOption::default()
        };
        shared = with_namespaces(shared, options);
        let second = stage.cri.run_pod(&shared).await?;
        stage.crash().await?;
        ensure!(stage.cri.pods().await?.len() == 2, "pods are lost");
        stage.cri.take_away(&first).await?;
        stage.cri.take_away(&second).await
    })
}

#[test]
fn an_image_survives_a_crash() -> Result<()> {
    on_stage(async |stage| {
        let id = stage.cri.pull(BUSYBOX).await?;
        stage.crash().await?;
        let image = stage.cri.image(BUSYBOX).await?.context("the image is there")?;
        ensure!(image.id == id, "{image:?}");
        Ok(())
    })
}

#[test]
fn a_second_daemon_on_the_same_roots_is_refused() -> Result<()> {
    on_stage(async |stage| {
        let output = Command::new(
            std::env::current_exe()?.ancestors().nth(2).context("a place")?.join("cringle"),
        )
        .arg("serve")
        .arg("--config")
        .arg(stage.directory().join("cringle.toml"))
        .output()?;
        ensure!(!output.status.success(), "a second daemon started");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(text.contains("lock"), "{text}");
        ensure!(stage.cri.pods().await?.is_empty(), "the first answers");
        Ok(())
    })
}

#[test]
fn a_container_whose_shim_was_killed_is_not_left_running() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = start(stage, &container("main", BUSYBOX, &["sleep", "600"])).await?;
        let process = stage.cri.process(&id).await?;
        let shim = i32::try_from(footprint::parent(u32::try_from(process)?)?)?;
        let shim = rustix::process::Pid::from_raw(shim).context("a process id")?;
        rustix::process::kill_process(shim, rustix::process::Signal::KILL)?;
        stage.cri.ended(&id).await?;
        let gone = format!("/proc/{process}");
        until("its process is gone", async || Ok(!Path::new(&gone).exists())).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn no_disk_is_waited_for_on_the_start_path() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let record = stage.directory().join("calls");
        let mut tracer = trace(stage, &record).await?;
        let config = with_logs(pod("pod"), &stage.daemon.pod_logs());
        let pod = stage.cri.run_pod(&config).await?;
        let main = container("main", BUSYBOX, &["sleep", "600"]);
        let id = stage.cri.create((&pod, &config), &main).await?;
        stage.cri.start(&id).await?;
        let calls = syncs(&record)?;
        ensure!(calls.is_empty(), "{calls:?}");
        stage.cri.take_away(&pod).await?;
        // The tracer works: making an image durable does wait for the disk.
        let other = stage.add_image("test/other", &cringle_tests::image::Description::default())?;
        stage.cri.pull(&other).await?;
        until("the tracer saw a sync", async || Ok(!syncs(&record)?.is_empty())).await?;
        tracer.kill()?;
        tracer.wait()?;
        Ok(())
    })
}

#[test]
fn a_test_that_fails_while_the_daemon_is_dead_leaves_nothing() -> Result<()> {
    let mut place = None;
    let failed = on_stage(async |stage| {
        let scope = stage.daemon.scope();
        place = Some((Inventory::take(&scope)?, scope));
        let (_, id) = start(stage, &container("main", BUSYBOX, &["sleep", "6000"])).await?;
        ensure!(!processes_of(&id)?.is_empty(), "nothing runs that could be left");
        stage.daemon.kill()?;
        bail!("on purpose")
    });
    // Without root there was no stage.
    let Some((before, scope)) = place else { return failed };
    let text = format!("{:#}", failed.expect_err("the test failed"));
    ensure!(text.ends_with("on purpose"), "{text}");
    let left = Inventory::take(&scope)?.since(&before);
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Records the calls of the daemon and of all that it starts which wait for a disk.
async fn trace(stage: &mut Stage, record: &Path) -> Result<Child> {
    let process = stage.daemon.id()?;
    let child = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync", "-o"])
        .arg(record)
        .arg("-p")
        .arg(process.to_string())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to run \"strace\"")?;
    until("the tracer is attached to every thread", async || {
        for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread that has ended since it was listed needs no tracer.
            let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else {
                continue;
            };
            let Some(tracer) = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))
            else {
                bail!("no tracer in {status}");
            };
            if tracer.trim() == "0" {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(child)
}

fn syncs(record: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(record)?;
    Ok(text.lines().filter(|line| line.contains("sync(")).map(str::to_owned).collect())
}
