//! Containers: life cycle, exit codes, logs, limits, identity.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerState, Int64Value, LinuxContainerResources, Mount,
    ReopenContainerLogRequest, UpdateContainerResourcesRequest,
};
use cringle_tests::client::{code, message};
use cringle_tests::limit;
use cringle_tests::request::{container, pod, with_logs, with_memory, with_security};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use std::path::Path;
use tonic::Code;

/// A pod with logs below the stage's directory, and the started container.
async fn start(stage: &mut Stage, config: &ContainerConfig) -> Result<(String, String)> {
    let (pod, id) = create(stage, config).await?;
    stage.cri.start(&id).await?;
    Ok((pod, id))
}

async fn create(stage: &mut Stage, config: &ContainerConfig) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    let pod = with_logs(pod("pod"), &stage.daemon.pod_logs());
    let pod_id = stage.cri.run_pod(&pod).await?;
    let id = stage.cri.create((&pod_id, &pod), config).await?;
    Ok((pod_id, id))
}

#[test]
fn a_container_is_created_running_exited_and_gone() -> Result<()> {
    on_stage(async |stage| {
        let mut config = container("life", BUSYBOX, &["sh", "-c", "read line"]);
        config.labels.insert("part".to_owned(), "one".to_owned());
        config.annotations.insert("note".to_owned(), "kept".to_owned());
        let (pod, id) = create(stage, &config).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerCreated, "{status:?}");
        ensure!(status.created_at > 0 && status.started_at == 0, "{status:?}");

        // Standard input is empty, so the shell ends at once, with the failure of `read`.
        stage.cri.start(&id).await?;
        let status = stage.cri.ended(&id).await?;
        ensure!(status.exit_code == 1 && status.reason == "Error", "{status:?}");
        ensure!(status.started_at >= status.created_at, "{status:?}");
        ensure!(status.finished_at >= status.started_at, "{status:?}");
        ensure!(status.labels == config.labels, "{status:?}");
        ensure!(status.annotations == config.annotations, "{status:?}");

        stage.cri.remove(&id).await?;
        stage.cri.remove(&id).await?;
        let gone = stage.cri.container(&id).await;
        ensure!(code(&gone) == Some(Code::NotFound), "{gone:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn exit_codes_and_signals_are_told_as_they_were() -> Result<()> {
    on_stage(async |stage| {
        for (script, exit_code, reason) in
            [("exit 0", 0, "Completed"), ("exit 42", 42, "Error"), ("kill -9 $$", 137, "Error")]
        {
            // The first process of a PID namespace can't signal itself: a shell below it does.
            let command = ["sh", "-c", &format!("sh -c '{script}'; exit $?")];
            let (pod, id) = start(stage, &container("code", BUSYBOX, &command)).await?;
            let status = stage.cri.ended(&id).await?;
            ensure!(status.exit_code == exit_code, "{script}: {status:?}");
            ensure!(status.reason == reason, "{script}: {status:?}");
            stage.cri.take_away(&pod).await?;
        }
        Ok(())
    })
}

#[test]
fn stop_gives_the_grace_period_and_then_kills() -> Result<()> {
    on_stage(async |stage| {
        let polite = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
        let (pod, id) = start(stage, &container("polite", BUSYBOX, &polite)).await?;
        // The trap is set when the shell has a child.
        until("the shell waits", async || has_child(stage, &id).await).await?;
        stage.cri.stop(&id, 20).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.exit_code == 3, "{status:?}");
        stage.cri.take_away(&pod).await?;

        // Its first process has no handler for the signal, so it never arrives.
        let (pod, id) = start(stage, &container("deaf", BUSYBOX, &["sleep", "600"])).await?;
        stage.cri.stop(&id, 1).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.exit_code == 137, "{status:?}");
        stage.cri.stop(&id, 1).await?;
        stage.cri.take_away(&pod).await
    })
}

async fn has_child(stage: &Stage, id: &str) -> Result<bool> {
    let process = stage.cri.clone().process(id).await?;
    let children = format!("/proc/{process}/task/{process}/children");
    Ok(!std::fs::read_to_string(children)?.trim().is_empty())
}

#[test]
fn a_running_container_can_be_removed() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = start(stage, &container("main", BUSYBOX, &["sleep", "600"])).await?;
        let process = stage.cri.process(&id).await?;
        stage.cri.remove(&id).await?;
        let left = Path::new(&format!("/proc/{process}")).exists();
        ensure!(!left, "its process is there");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_command_that_is_not_there_is_a_clear_error_and_an_exited_container() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = create(stage, &container("main", BUSYBOX, &["/no/such/program"])).await?;
        let answer = stage.cri.start(&id).await;
        ensure!(message(&answer).contains("/no/such/program"), "{answer:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.exit_code == 128 && status.reason == "StartError", "{status:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn output_is_logged_line_by_line_with_stream_and_time() -> Result<()> {
    on_stage(async |stage| {
        let script = "echo first; echo second >&2; printf partial";
        let (pod, id) = start(stage, &container("main", BUSYBOX, &["sh", "-c", script])).await?;
        let status = stage.cri.ended(&id).await?;
        let log = std::fs::read_to_string(&status.log_path)?;
        let mut lines: Vec<Vec<&str>> =
            log.lines().map(|line| line.splitn(4, ' ').skip(1).collect()).collect();
        lines.sort_unstable();
        let expected =
            [["stderr", "F", "second"], ["stdout", "F", "first"], ["stdout", "P", "partial"]];
        // The end of the stream may also close the last line.
        let last_full = [expected[0], expected[1], ["stdout", "F", "partial"]];
        ensure!(lines == expected || lines == sorted(last_full), "{log}");
        for line in log.lines() {
            let time = line.split(' ').next().unwrap_or_default();
            ensure!(time.len() >= 30 && time.ends_with('Z'), "{line}");
        }
        stage.cri.take_away(&pod).await
    })
}

fn sorted<const N: usize>(mut lines: [[&'static str; 3]; N]) -> [[&'static str; 3]; N] {
    lines.sort_unstable();
    lines
}

#[test]
fn a_reopened_log_goes_on_in_a_new_file_without_a_gap() -> Result<()> {
    on_stage(async |stage| {
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
        let (pod, id) = start(stage, &container("main", BUSYBOX, &["sh", "-c", script])).await?;
        let log = stage.daemon.pod_logs().join("main.log");
        let old = stage.daemon.pod_logs().join("main.log.old");
        until("the log has lines", async || Ok(numbers(&log)?.len() > 5)).await?;
        std::fs::rename(&log, &old)?;
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        stage.cri.runtime.reopen_container_log(request).await?;
        ensure!(log.exists(), "the new file is there when the call returned");
        until("the new log has lines", async || Ok(numbers(&log)?.len() > 5)).await?;
        stage.cri.take_away(&pod).await?;
        let mut all = numbers(&old)?;
        all.extend(numbers(&log)?);
        let expected: Vec<u64> = (0..).take(all.len()).collect();
        ensure!(all == expected, "{all:?}");
        Ok(())
    })
}

/// What counts in a log, in order.
fn numbers(log: &Path) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(log)?;
    // The last line may be half written.
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end]
        .lines()
        .map(|line| {
            let word = line.rsplit(' ').next().unwrap_or_default();
            word.parse().with_context(|| format!("\"{line}\" ends with a number"))
        })
        .collect()
}

#[test]
fn too_much_memory_is_an_out_of_memory_kill() -> Result<()> {
    on_stage(async |stage| {
        let script = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M; exit $?"];
        let config = with_memory(container("main", BUSYBOX, &script), 16 << 20);
        let (pod, id) = start(stage, &config).await?;
        let status = stage.cri.ended(&id).await?;
        ensure!(status.exit_code == 137 && status.reason == "OOMKilled", "{status:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_limit_can_be_changed_while_the_container_runs() -> Result<()> {
    on_stage(async |stage| {
        let config = with_memory(container("main", BUSYBOX, &["sleep", "600"]), 64 << 20);
        let (pod, id) = start(stage, &config).await?;
        let request = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(LinuxContainerResources {
                memory_limit_in_bytes: 96 << 20,
                ..LinuxContainerResources::default()
            }),
            ..UpdateContainerResourcesRequest::default()
        };
        stage.cri.runtime.update_container_resources(request).await?;
        let process = stage.cri.process(&id).await?;
        let limit = limit::memory(process)?;
        ensure!(limit == 96 << 20, "{limit}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_user_runs_without_privileges_and_with_its_groups() -> Result<()> {
    on_stage(async |stage| {
        let config = with_security(container("main", BUSYBOX, &["sleep", "600"]), |security| {
            security.run_as_user = Some(Int64Value { value: 1000 });
            security.supplemental_groups = vec![1234];
            security.no_new_privs = true;
        });
        let (pod, id) = start(stage, &config).await?;
        let who = stage.cri.output(&id, &["id"]).await?;
        for word in ["uid=1000", "gid=1000", "50000", "1234"] {
            ensure!(who.contains(word), "{word} is not in {who}");
        }
        let status = stage.cri.output(&id, &["cat", "/proc/self/status"]).await?;
        for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            ensure!(status.lines().any(|seen| seen == line), "{line} is not in {status}");
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn volumes_are_seen_and_read_only_ones_can_not_be_written() -> Result<()> {
    on_stage(async |stage| {
        let host_path = stage.directory().join("volume").to_string_lossy().into_owned();
        std::fs::create_dir_all(&host_path)?;
        let mount = |container_path: &str, readonly| Mount {
            container_path: container_path.to_owned(),
            host_path: host_path.clone(),
            readonly,
            ..Mount::default()
        };
        let mut config = container("main", BUSYBOX, &["sleep", "600"]);
        config.mounts = vec![mount("/data", false), mount("/fixed", true)];
        let (pod, id) = start(stage, &config).await?;
        stage.cri.output(&id, &["sh", "-c", "echo written > /data/file"]).await?;
        let seen = stage.cri.output(&id, &["cat", "/fixed/file"]).await?;
        ensure!(seen == "written\n", "{seen:?}");
        let refused = stage.cri.exec(&id, &["touch", "/fixed/file"], 10).await?;
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.exit_code != 0 && stderr.contains("Read-only"), "{stderr}");
        stage.cri.take_away(&pod).await?;
        let kept = std::fs::read_to_string(Path::new(&host_path).join("file"))?;
        ensure!(kept == "written\n", "{kept:?}");
        std::fs::remove_dir_all(&host_path)?;
        Ok(())
    })
}

#[test]
fn nothing_of_a_container_is_mounted_on_the_host() -> Result<()> {
    on_stage(async |stage| {
        let (pod, _) = start(stage, &container("main", BUSYBOX, &["sleep", "600"])).await?;
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
        // The daemon lives in this mount namespace: a mount that it or the shim made would be seen.
        ensure!(!table.contains(" - overlay "), "{table}");
        stage.cri.take_away(&pod).await
    })
}
