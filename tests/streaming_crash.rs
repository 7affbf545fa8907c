//! The daemon is killed while clients have streams: what was executed for them ends, what they were attached to goes on.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Result, ensure};
use cringle_proto_cri::v1::{ContainerConfig, ContainerState};
use cringle_tests::inventory::processes_of;
use cringle_tests::request::{container, pod, with_logs};
use cringle_tests::session::{attachment, exec, on_terminal};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use cringle_tests::websocket::Client;
use std::fs;
use std::path::Path;

const V5: &str = "v5.channel.k8s.io";

/// Numbered lines for ever, and a server that gives back what it gets.
const TALKER: &str =
    "nc -ll -p 8000 -e cat & i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";

/// How many processes of a container say this in their command line, as the host sees it.
fn running(container: &str, words: &str) -> Result<usize> {
    let mut count = 0;
    for process in processes_of(container)? {
        // One that ends while we look has no command line any more.
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&command).replace('\0', " ").contains(words));
    }
    Ok(count)
}

fn lines(log: &Path) -> Result<usize> {
    Ok(fs::read_to_string(log)?.lines().count())
}

/// A pod of two: one that talks and serves, one whose only client is its input.
async fn start(stage: &mut Stage) -> Result<(String, String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    let config = with_logs(pod("crash"), &stage.daemon.pod_logs());
    let talker = container("talker", BUSYBOX, &["sh", "-c", TALKER]);
    let (pod, talker) = stage.cri.start_in_pod(&config, &talker).await?;
    let script = "cat; echo end of input; sleep 6000";
    let reader = container("reader", BUSYBOX, &["sh", "-c", script]);
    let reader = ContainerConfig { stdin: true, stdin_once: true, ..reader };
    let reader = stage.cri.create((&pod, &config), &reader).await?;
    stage.cri.start(&reader).await?;
    Ok((pod, talker, reader))
}

#[test]
fn streams_end_with_the_daemon_and_containers_do_not() -> Result<()> {
    on_stage(async |stage| {
        let (pod, talker, reader) = start(stage).await?;
        let [spoken, read] =
            ["talker.log", "reader.log"].map(|name| stage.daemon.pod_logs().join(name));
        let script = "(setsid sleep 779 &); echo begun; sleep 779";
        let url = stage.cri.exec_url(exec(&talker, &["sh", "-c", script])).await?;
        let mut executed = Client::connect(&url, V5).await?;
        executed.expect(1, "begun").await?;
        // The end of its terminal would end the shell, but not what has left its session.
        let url = stage.cri.exec_url(on_terminal(&talker, &["sh", "-c", script])).await?;
        let mut on_terminal = Client::connect(&url, V5).await?;
        on_terminal.expect(1, "begun").await?;
        let url = stage.cri.attach_url(attachment(&reader)).await?;
        let mut attached = Client::connect(&url, V5).await?;
        attached.send(0, b"first word\n").await?;
        attached.expect(1, "first word").await?;
        stage.cri.listens(&talker, &[8000]).await?;
        let url = stage.cri.forward_url(&pod, &[8000]).await?;
        let mut forwarded = Client::connect(&url, "v4.channel.k8s.io").await?;
        forwarded.send(0, b"through").await?;
        forwarded.expect(0, "through").await?;
        let (mut cri, id) = (stage.cri.clone(), talker.clone());
        let synchronous =
            tokio::spawn(async move { cri.exec(&id, &["sh", "-c", "sleep 779"], 0).await });
        until("all of it runs", async || Ok(running(&talker, "sleep 779")? == 5)).await?;

        stage.daemon.kill()?;
        ensure!(synchronous.await?.is_err(), "an answer of a daemon that is dead");
        for client in [&mut executed, &mut on_terminal, &mut attached, &mut forwarded] {
            // An end without a farewell is an error.
            while client.read().await.unwrap_or(false) {}
        }
        until("what was executed has ended", async || Ok(running(&talker, "sleep 779")? == 0))
            .await?;
        until("the input has ended", async || {
            Ok(fs::read_to_string(&read)?.contains("end of input"))
        })
        .await?;
        let seen = lines(&spoken)?;
        until("the log grows on", async || Ok(lines(&spoken)? > seen + 20)).await?;
        stage.start_again().await?;

        for id in [&talker, &reader] {
            let status = stage.cri.container(id).await?;
            ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        }
        ensure!(running(&talker, "sleep 779")? == 0, "an exec came back");
        let seen = stage.cri.output(&talker, &["echo", "alive"]).await?;
        ensure!(seen == "alive\n", "{seen:?}");
        stage.cri.take_away(&pod).await?;
        let text = fs::read_to_string(&spoken)?;
        for (number, line) in text.lines().enumerate() {
            ensure!(line.ends_with(&format!(" stdout F {number}")), "line {number} is \"{line}\"");
        }
        let text = fs::read_to_string(&read)?;
        ensure!(text.matches("first word").count() == 1, "{text}");
        Ok(())
    })
}
