//! The daemon is replaced, in an orderly way or not, while containers run, end, are killed and are out of memory: what ran
//! goes on, and what happened meanwhile is told as it was.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::PodSandboxState;
use cringle_tests::cut::Call;
use cringle_tests::inventory::processes_in;
use cringle_tests::request::{container, pod, with_logs, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use std::fs::{self, File};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the first daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is asked to.
    Terminated,
    /// By kill -9.
    Killed,
}

#[test]
fn another_daemon_takes_over_what_one_that_was_terminated_left() -> Result<()> {
    taken_over(End::Terminated)
}

#[test]
fn another_daemon_takes_over_what_one_that_was_killed_left() -> Result<()> {
    taken_over(End::Killed)
}

/// The programs are other files in another place, and those of the first are gone, as when a package is replaced.
fn taken_over(end: End) -> Result<()> {
    on_stage(async |stage| {
        stage.daemon.stop().await?;
        stage.daemon.install()?;
        stage.start_again().await?;
        stage.cri.pull(BUSYBOX).await?;
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
        let config = with_logs(pod("pod"), &stage.daemon.pod_logs());
        let main = container("main", BUSYBOX, &["sh", "-c", script]);
        let (pod, id) = stage.cri.start_in_pod(&config, &main).await?;
        let log = stage.daemon.pod_logs().join("main.log");
        let (process, before) = (stage.cri.process(&id).await?, stage.cri.container(&id).await?);
        until("the log has lines", async || Ok(numbers(&log)? > 5)).await?;

        let first = stage.daemon.program_directory().to_owned();
        replace(stage, end).await?;
        ensure!(!first.exists(), "the first programs are still there");

        let after = stage.cri.container(&id).await?;
        ensure!(stage.cri.process(&id).await? == process, "another process");
        ensure!(after == before, "{before:?} is now {after:?}");
        ensure!(stage.cri.pod(&pod).await?.state() == PodSandboxState::SandboxReady, "the pod");
        ensure!(stage.cri.output(&id, &["echo", "alive"]).await? == "alive\n", "an exec");
        let seen = numbers(&log)?;
        until("the log grows", async || Ok(numbers(&log)? > seen + 5)).await?;
        let next = container("next", BUSYBOX, &["sh", "-c", "exit 5"]);
        let next = stage.cri.create((&pod, &config), &next).await?;
        stage.cri.start(&next).await?;
        let status = stage.cri.ended(&next).await?;
        ensure!(status.exit_code == 5, "{status:?}");
        stage.cri.take_away(&pod).await?;
        numbers(&log).map(drop)
    })
}

/// Ends the daemon and starts one from other files.
async fn replace(stage: &mut Stage, end: End) -> Result<()> {
    match end {
        End::Terminated => stage.daemon.stop().await?,
        End::Killed => stage.daemon.kill()?,
    }
    stage.daemon.install()?;
    stage.start_again().await
}

/// How far a log has counted; an error if a number is missing.
fn numbers(log: &Path) -> Result<usize> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (number, line) in whole.lines().enumerate() {
        ensure!(line.ends_with(&format!(" {number}")), "line {number} is \"{line}\"");
    }
    Ok(whole.lines().count())
}

/// What a container does when it is told to, and how that must be told.
const ENDS: [(&str, &str, i32, &str); 4] = [
    ("done", "exit 0", 0, "Completed"),
    ("failed", "exit 23", 23, "Error"),
    ("killed", "sh -c 'kill -9 $$'; exit $?", 137, "Error"),
    ("hungry", "dd if=/dev/zero of=/dev/null bs=64M; exit $?", 137, "OOMKilled"),
];

#[test]
fn what_ended_while_a_terminated_daemon_was_replaced_is_told_as_it_was() -> Result<()> {
    ended_meanwhile(End::Terminated)
}

#[test]
fn what_ended_while_a_killed_daemon_was_replaced_is_told_as_it_was() -> Result<()> {
    ended_meanwhile(End::Killed)
}

fn ended_meanwhile(end: End) -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("pod");
        let pod = stage.cri.run_pod(&config).await?;
        let mut containers = Vec::new();
        for (name, script, exit_code, reason) in ENDS {
            let script = format!("while [ ! -e /tmp/go ]; do sleep 0.05; done; {script}");
            let main = container(name, BUSYBOX, &["sh", "-c", &script]);
            let main = with_memory(main, 16 << 20);
            let id = stage.cri.create((&pod, &config), &main).await?;
            stage.cri.start(&id).await?;
            containers.push((stage.cri.process(&id).await?, id, exit_code, reason));
        }
        match end {
            End::Terminated => stage.daemon.stop().await?,
            End::Killed => stage.daemon.kill()?,
        }
        let gone = now()?;
        for (process, ..) in &containers {
            File::create(format!("/proc/{process}/root/tmp/go"))?;
        }
        let bundles = stage.daemon.state().join("containers");
        until("the end of all is on record", async || {
            Ok(containers.iter().all(|(_, id, ..)| bundles.join(id).join("exit.json").exists()))
        })
        .await?;
        let over = now()?;
        stage.daemon.install()?;
        stage.start_again().await?;
        for (_, id, exit_code, reason) in &containers {
            let status = stage.cri.ended(id).await?;
            ensure!(status.exit_code == *exit_code && status.reason == *reason, "{status:?}");
            let times = [status.created_at, status.started_at, gone, status.finished_at, over];
            ensure!(times.is_sorted(), "{times:?}: {status:?}");
        }
        // Told once: another start finds the same.
        let before = stage.cri.containers(None).await?;
        let status = stage.cri.container(&containers[0].1).await?;
        replace(stage, end).await?;
        ensure!(stage.cri.containers(None).await? == before, "the list changed");
        ensure!(stage.cri.container(&containers[0].1).await? == status, "the status changed");
        stage.cri.take_away(&pod).await
    })
}

/// Nanoseconds since 1970, as containers' times are.
fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

#[test]
fn a_command_that_runs_when_the_daemon_is_terminated_is_answered_first() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let main = container("main", BUSYBOX, &["sleep", "600"]);
        let (pod, id) = stage.cri.start_in_pod(&pod("pod"), &main).await?;
        let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo done";
        let command = Call::Exec(id.clone(), ["sh", "-c", script].map(str::to_owned).to_vec());
        let mut cri = stage.cri.clone();
        let answer = tokio::spawn(async move { command.make(&mut cri).await });
        until("the command runs", async || Ok(processes_in(&id)?.len() > 1)).await?;
        let process = stage.cri.process(&id).await?;
        stage.daemon.terminate()?;
        until("the daemon ends", async || Ok(stage.daemon.said("ending") > 0)).await?;
        File::create(format!("/proc/{process}/root/tmp/go"))?;
        ensure!(answer.await?? == "done\n", "its output");
        let status = stage.daemon.ended().await?;
        ensure!(status.success(), "the daemon ended with {status}");
        stage.daemon.install()?;
        stage.start_again().await?;
        ensure!(stage.cri.process(&id).await? == process, "another process");
        stage.cri.take_away(&pod).await.context("at the end")
    })
}
