//! Execs and attachments by the thousand, most of them with a client or a program that misbehaves:
//! afterwards daemon and shim have what they had before. `CRINGLE_LEAK_ROUNDS` multiplies how often; with it the figures are
//! printed.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::ContainerConfig;
use cringle_tests::client::{Cri, code};
use cringle_tests::footprint;
use cringle_tests::leak::{Base, many, rounds, tell};
use cringle_tests::request::{container, pod};
use cringle_tests::session::{attachment, exec, on_terminal};
use cringle_tests::spdy::Spdy;
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait;
use cringle_tests::websocket::{Client, address};
use futures::{StreamExt, stream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

const V5: &str = "v5.channel.k8s.io";

async fn with_container(stage: &mut Stage, main: &ContainerConfig) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    stage.cri.start_in_pod(&pod("leaks"), main).await
}

fn sleeper() -> ContainerConfig {
    container("main", BUSYBOX, &["sleep", "6000"])
}

/// One ExecSync; every fiftieth is of the same kind.
async fn exec_sync(cri: &Cri, socket: &Path, id: &str, number: usize) -> Result<()> {
    let mut cri = cri.clone();
    match number % 50 {
        0 => {
            let answer = cri.exec(id, &["sh", "-c", "sleep 777 & sleep 777"], 1).await;
            ensure!(code(&answer) == Some(Code::DeadlineExceeded), "{answer:?}");
        }
        1..6 => match cri.exec(id, &["/no/such/program"], 10).await {
            Ok(done) => ensure!(done.exit_code == 127, "{done:?}"),
            Err(error) => ensure!(format!("{error:#}").contains("/no/such/program"), "{error:#}"),
        },
        6..11 => {
            let script = "(setsid sleep 0.5 &); sleep 0.4 & echo done";
            let done = cri.exec(id, &["sh", "-c", script], 20).await?;
            ensure!(done.stdout == b"done\n", "{done:?}");
        }
        11..16 => {
            let mut own = Cri::connect(socket).await?;
            let waited = own.exec(id, &["sleep", "777"], 0);
            let cut = tokio::time::timeout(Duration::from_millis(30), waited).await;
            ensure!(cut.is_err(), "it ended: {cut:?}");
        }
        16 => {
            let done = cri.exec(id, &["sh", "-c", "seq 1 20000; exit 3"], 20).await?;
            ensure!(done.exit_code == 3 && done.stdout.len() == 108_894, "{}", done.exit_code);
        }
        _ => {
            let text = number.to_string();
            let seen = cri.output(id, &["echo", &text]).await?;
            ensure!(seen.trim() == text, "{seen:?} instead of {text:?}");
        }
    }
    Ok(())
}

#[test]
fn short_commands_of_all_kinds_leave_nothing() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = with_container(stage, &sleeper()).await?;
        let (cri, socket) = (stage.cri.clone(), stage.daemon.socket());
        let work = async |number| exec_sync(&cri, &socket, &id, number).await;
        many(200, &work).await?;
        let base = Base::settled(stage, &id).await?;
        many(rounds(2000), &work).await?;
        base.reached_again(stage).await?;
        let seen = stage.cri.output(&id, &["ps", "-o", "args"]).await?;
        ensure!(!seen.contains("sleep 777"), "{seen}");
        stage.cri.take_away(&pod).await
    })
}

/// Fifty commands of which ten end by themselves; how many were refused.
async fn talk(cri: &Cri, id: &str) -> Result<usize> {
    let talking = stream::iter(0..50).map(async |number| {
        let mut cri = cri.clone();
        if number % 5 == 0 {
            let script = "dd if=/dev/zero bs=1M count=20 2>/dev/null; dd if=/dev/zero bs=1M count=20 >&2 2>/dev/null";
            return (Code::Ok, cri.exec(id, &["sh", "-c", script], 120).await);
        }
        let script = "yes out & yes err >&2 & wait";
        (Code::DeadlineExceeded, cri.exec(id, &["sh", "-c", script], 2).await)
    });
    let answers: Vec<_> = talking.buffer_unordered(50).collect().await;
    let mut refused = 0;
    for (expected, answer) in &answers {
        match answer {
            Ok(done) => {
                let size = done.stdout.len() + done.stderr.len();
                ensure!(*expected == Code::Ok, "{size} bytes without an end");
                ensure!((15 << 20..16 << 20).contains(&size), "{size} bytes");
            }
            // Too much at once is refused, never cut short.
            Err(_) if code(answer) == Some(Code::ResourceExhausted) => refused += 1,
            Err(error) => ensure!(code(answer) == Some(*expected), "{error:#}"),
        }
    }
    Ok(refused)
}

#[test]
fn fifty_commands_that_never_stop_talking_cost_no_more_than_their_budget() -> Result<()> {
    /// 128 MiB of output in all, as much again while answers are encoded, and what small ones may keep.
    const BUDGET: u64 = (2 * 128 + 64) << 10;
    on_stage(async |stage| {
        let (pod, id) = with_container(stage, &sleeper()).await?;
        stage.cri.output(&id, &["true"]).await?;
        // What a first burst has left is there for the next.
        talk(&stage.cri, &id).await?;
        let base = Base::settled(stage, &id).await?;
        let (peak, peak_shim, lists) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        let watching = async {
            let mut cri = stage.cri.clone();
            loop {
                peak.fetch_max(footprint::memory(base.daemon.0)?, Ordering::Relaxed);
                peak_shim.fetch_max(footprint::memory(base.shim.0)?, Ordering::Relaxed);
                cri.containers(None).await?;
                lists.fetch_add(1, Ordering::Relaxed);
            }
        };
        let refused = tokio::select! {
            refused = talk(&stage.cri, &id) => refused?,
            broken = watching => return broken,
        };
        let (peak, peak_shim) = (peak.into_inner(), peak_shim.into_inner());
        let (lists, before) = (lists.into_inner(), base.daemon.1.memory);
        tell(&format!(
            "daemon: {before} KiB, at most {peak}; shim: {} KiB, at most {peak_shim}; {lists} lists; {refused} refused",
            base.shim.1.memory
        ))?;
        ensure!(peak < before + BUDGET, "{before} KiB became {peak}");
        ensure!(peak_shim < base.shim.1.memory + 2048, "the shim has {peak_shim} KiB");
        ensure!(lists > 20, "only {lists} lists were answered meanwhile");
        base.reached_again(stage).await?;
        stage.cri.take_away(&pod).await
    })
}

/// One client of the streaming server that behaves badly.
async fn streamed(cri: &Cri, server: &str, id: &str, number: usize) -> Result<()> {
    let mut cri = cri.clone();
    match number % 4 {
        0 => {
            let url = cri.exec_url(on_terminal(id, &["/no/such/program"])).await?;
            let mut client = Client::connect(&url, V5).await?;
            client.send(4, b"{\"Width\":80,\"Height\":24}").await?;
            let status = client.finish().await?;
            ensure!(status.contains("\"Failure\""), "{status}");
        }
        1 => {
            let url = cri.attach_url(attachment(id)).await?;
            let mut client = Client::connect(&url, V5).await?;
            if number % 8 == 1 {
                client.send(0, format!("{number}\n").as_bytes()).await?;
                client.expect(1, &format!("heard {number}\n")).await?;
            }
        }
        2 => {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(b"POST /exec/half HTTP/1.1\r\nConnection: Upgr").await?;
        }
        _ => {
            let url = cri.exec_url(on_terminal(id, &["cat"])).await?;
            let mut client = Client::connect(&url, V5).await?;
            for size in 1..100 {
                let size = format!("{{\"Width\":{size},\"Height\":{size}}}");
                client.send(4, size.as_bytes()).await?;
            }
            client.send(0, b"seen\n").await?;
            client.expect(1, "seen").await?;
        }
    }
    Ok(())
}

/// Three hundred clients that begin and say no more, beside some work; they are sent away.
async fn crowd(
    stage: &mut Stage,
    id: &str,
    server: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut silent = Vec::new();
    for number in 0..300 {
        if number % 3 == 0 {
            let url = stage.cri.exec_url(exec(id, &["true"])).await?;
            silent.push(Spdy::connect(&url, "v4.channel.k8s.io").await?.into_inner());
            continue;
        }
        let mut stream = TcpStream::connect(server).await?;
        let text: &[u8] = if number % 3 == 1 { b"" } else { b"GET /exec/half HTTP/1.1\r\n" };
        stream.write_all(text).await?;
        silent.push(stream);
    }
    work.await?;
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(wait::DEADLINE, stream.read_to_end(&mut rest)).await;
        ended.context("a client that says nothing may stay")??;
    }
    Ok(())
}

#[test]
fn clients_of_streams_that_break_off_leave_nothing() -> Result<()> {
    on_stage(async |stage| {
        stage.configure("\n[streaming]\ncreation_timeout = \"1s\"\n").await?;
        let script = "while read line; do echo \"heard $line\"; done";
        let main =
            ContainerConfig { stdin: true, ..container("main", BUSYBOX, &["sh", "-c", script]) };
        let (pod, id) = with_container(stage, &main).await?;
        let cri = stage.cri.clone();
        let server = address(&stage.cri.attach_url(attachment(&id)).await?)?.to_owned();
        let work = async |number| streamed(&cri, &server, &id, number).await;
        // Once before the first look, for the most that there is at one time decides how much memory is kept for good.
        crowd(stage, &id, &server, many(200, &work)).await?;
        let base = Base::settled(stage, &id).await?;
        crowd(stage, &id, &server, many(rounds(4000), &work)).await?;
        base.reached_again(stage).await?;
        stage.cri.take_away(&pod).await
    })
}
