//! Commands in running containers.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::client::{code, unread_exec};
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use tonic::Code;

/// A pod with one container that sleeps.
async fn sleeper(stage: &mut Stage) -> Result<(String, String)> {
    stage.run(&pod("exec"), &container("main", BUSYBOX, &["sleep", "600"])).await
}

/// Waits until no process of a container has this in its command line. Those of a command whose time is up are all killed
/// when it is answered; it takes a moment until the last has left.
async fn gone(stage: &mut Stage, id: &str, words: &str) -> Result<()> {
    until("the end of all of them", async || {
        let seen = stage.cri.output(id, &["ps", "-o", "args"]).await?;
        Ok(!seen.contains(words))
    })
    .await
}

#[test]
fn both_streams_and_the_exit_code_come_back() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let done = stage.cri.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 9"], 10).await?;
        ensure!(done.stdout == b"out\n" && done.stderr == b"err\n", "{done:?}");
        ensure!(done.exit_code == 9, "{done:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_command_that_is_not_there_is_an_error_or_an_exit_code() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        match stage.cri.exec(&id, &["/no/such/program"], 10).await {
            Ok(done) => ensure!(done.exit_code == 127 || done.exit_code == 126, "{done:?}"),
            Err(error) => ensure!(format!("{error:#}").contains("/no/such/program"), "{error:#}"),
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_command_that_runs_too_long_ends_with_all_its_children() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let answer = stage.cri.exec(&id, &["sh", "-c", "sleep 777 & sleep 777"], 1).await;
        ensure!(code(&answer) == Some(Code::DeadlineExceeded), "{answer:?}");
        gone(stage, &id, "sleep 777").await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn nobody_escapes_the_end_of_a_command_that_runs_too_long() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let script = "trap '' TERM HUP; (setsid sleep 778 &); (setsid sh -c 'sleep 778 & wait' &); wait; sleep 778";
        let answer = stage.cri.exec(&id, &["sh", "-c", script], 1).await;
        ensure!(code(&answer) == Some(Code::DeadlineExceeded), "{answer:?}");
        gone(stage, &id, "sleep 778").await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn an_answer_stays_under_the_clients_limit_however_much_is_said() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let script = "dd if=/dev/zero bs=1M count=64 2>/dev/null; dd if=/dev/zero bs=1M count=64 >&2 2>/dev/null";
        let done = stage.cri.exec(&id, &["sh", "-c", script], 60).await?;
        let size = done.stdout.len() + done.stderr.len();
        ensure!(done.exit_code == 0, "{}", done.exit_code);
        ensure!((15 << 20..16 << 20).contains(&size), "{size} bytes");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn answers_that_nobody_reads_count_until_they_are_read() -> Result<()> {
    const LOUD: [&str; 3] = ["sh", "-c", "dd if=/dev/zero bs=1M count=7 2>/dev/null"];
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let socket = stage.daemon.socket();
        let mut unread = Vec::new();
        for _ in 0..8 {
            unread.push(unread_exec(&socket, &id, &LOUD).await?);
        }
        let refused = stage.cri.exec(&id, &LOUD, 60).await;
        ensure!(code(&refused) == Some(Code::ResourceExhausted), "a ninth large answer");
        let seen = stage.cri.output(&id, &["echo", "little"]).await?;
        ensure!(seen == "little\n", "{seen:?}");
        // One client goes, one reads; the others' answers are whole all the same.
        drop(unread.pop());
        let read = unread.pop().context("an answer")?.message().await?.context("a message")?;
        ensure!(read.stdout.len() == 7 << 20, "{} bytes", read.stdout.len());
        for _ in 0..2 {
            unread.push(unread_exec(&socket, &id, &LOUD).await?);
        }
        for mut answer in unread {
            let read = answer.message().await?.context("a message")?;
            ensure!(read.stdout.len() == 7 << 20, "{} bytes", read.stdout.len());
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_child_that_keeps_the_streams_does_not_hold_up_the_answer() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let done = stage.cri.exec(&id, &["sh", "-c", "sleep 600 & echo done"], 20).await?;
        ensure!(done.exit_code == 0 && done.stdout == b"done\n", "{done:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn much_output_is_complete() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let done = stage.cri.exec(&id, &["sh", "-c", "seq 1 100000"], 20).await?;
        let lines = done.stdout.split(|byte| *byte == b'\n').count();
        ensure!(lines == 100_001, "{lines}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_command_has_the_containers_namespaces_root_and_limits() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let process = stage.cri.process(&id).await?;
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let inside =
                stage.cri.output(&id, &["readlink", &format!("/proc/self/ns/{kind}")]).await?;
            let outside = std::fs::read_link(format!("/proc/{process}/ns/{kind}"))?;
            ensure!(inside.trim() == outside.to_string_lossy(), "{kind}: {inside}");
        }
        let inside = stage.cri.output(&id, &["cat", "/proc/self/cgroup", "/proc/1/cgroup"]).await?;
        let lines: Vec<&str> = inside.lines().collect();
        let (own, first) = lines.split_at(lines.len() / 2);
        for (own, first) in own.iter().zip(first) {
            // In the v2 tree it has a cgroup of its own below the container's, by which it can be killed with all its
            // offspring.
            let below = first.starts_with("0::") && own.starts_with("0::/");
            ensure!(own == first || below, "{inside}");
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn many_commands_at_once_each_get_their_own_answer() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let mut tasks = Vec::new();
        // More than one shim takes in one go.
        for number in 0..200 {
            let (mut cri, id) = (stage.cri.clone(), id.clone());
            tasks.push(tokio::spawn(async move {
                let text = number.to_string();
                let seen = cri.output(&id, &["echo", &text]).await?;
                ensure!(seen.trim() == text, "{seen:?} instead of {text:?}");
                Ok(())
            }));
        }
        for task in tasks {
            task.await.context("a task ended")??;
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_container_that_does_not_run_refuses_commands() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        stage.cri.stop(&id, 0).await?;
        let answer = stage.cri.exec(&id, &["true"], 10).await;
        ensure!(answer.is_err(), "a command ran in a stopped container");
        let unknown = stage.cri.exec(&"0123456789abcdef".repeat(4), &["true"], 10).await;
        ensure!(code(&unknown) == Some(Code::NotFound), "{unknown:?}");
        stage.cri.take_away(&pod).await
    })
}
