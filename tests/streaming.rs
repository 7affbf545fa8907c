//! Exec, attach and port-forward as a client of the streaming server sees them, by WebSocket.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{AttachRequest, ContainerConfig, ExecRequest, KeyValue};
use cringle_tests::client::code;
use cringle_tests::request::{container, pod};
use cringle_tests::session::{attachment, exec, on_terminal};
use cringle_tests::spdy::{Frame, Last, Spdy};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait;
use cringle_tests::websocket::{Client, address};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

fn sleeper() -> ContainerConfig {
    container("main", BUSYBOX, &["sleep", "600"])
}

/// A plain request; the first line of the answer.
async fn plain(url: &str, method: &str) -> Result<String> {
    let address = address(url)?;
    let path = url.split_once(address).context("a URL has its address")?.1;
    let mut stream = TcpStream::connect(address).await?;
    let upgrade =
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io";
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// How many processes of a container have a word in their command line.
async fn running(stage: &mut Stage, id: &str, word: &str) -> Result<usize> {
    let seen = stage.cri.output(id, &["ps", "-o", "args"]).await?;
    Ok(seen.lines().filter(|line| line.contains(word)).count())
}

#[test]
fn programs_on_a_terminal_are_told_its_kind_unless_the_container_says_it() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let own = KeyValue { key: "TERM".to_owned(), value: b"dumb".to_vec() };
        let kind = ["sh", "-c", "echo kind=$TERM."];
        for (tty, envs, of_first, of_exec) in [
            (true, vec![], "kind=xterm.", "kind=xterm."),
            (false, vec![], "kind=.", "kind=xterm."),
            (true, vec![own.clone()], "kind=dumb.", "kind=dumb."),
            (false, vec![own], "kind=dumb.", "kind=dumb."),
        ] {
            let script = ["sh", "-c", "read line; echo kind=$TERM.; sleep 600"];
            let main =
                ContainerConfig { tty, envs, stdin: true, ..container("main", BUSYBOX, &script) };
            let (pod, id) = stage.cri.start_in_pod(&pod("terminal"), &main).await?;
            let request = AttachRequest { tty, stderr: !tty, ..attachment(&id) };
            let url = stage.cri.attach_url(request).await?;
            let mut attached = Client::connect(&url, "v5.channel.k8s.io").await?;
            attached.send(0, b"\n").await?;
            attached.expect(1, of_first).await?;
            let url = stage.cri.exec_url(on_terminal(&id, &kind)).await?;
            let mut executed = Client::connect(&url, "v5.channel.k8s.io").await?;
            executed.finish().await?;
            ensure!(executed.text(1) == format!("{of_exec}\r\n"), "{:?}", executed.got);
            // Without a terminal nothing is added.
            let url = stage.cri.exec_url(exec(&id, &kind)).await?;
            let mut executed = Client::connect(&url, "v5.channel.k8s.io").await?;
            executed.finish().await?;
            ensure!(executed.text(1) == format!("{of_first}\n"), "{:?}", executed.got);
            stage.cri.take_away(&pod).await?;
        }
        Ok(())
    })
}

#[test]
fn an_exec_has_its_streams_and_tells_its_exit_code() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let request = exec(&id, &["sh", "-c", "cat; echo err >&2; exit 9"]);
        let url = stage.cri.exec_url(request).await?;
        let mut client = Client::connect(&url, "v5.channel.k8s.io").await?;
        client.send(0, b"through\n").await?;
        client.expect(1, "through\n").await?;
        client.send(255, &[0]).await?;
        let status = client.finish().await?;
        ensure!(status.contains("\"NonZeroExitCode\"") && status.contains("\"9\""), "{status}");
        ensure!(client.text(2) == "err\n", "{:?}", client.got);
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn much_output_is_complete_and_in_order() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let url = stage.cri.exec_url(exec(&id, &["seq", "1", "300000"])).await?;
        let mut client = Client::connect(&url, "v4.channel.k8s.io").await?;
        let status = client.finish().await?;
        ensure!(status == "{\"status\":\"Success\"}", "{status}");
        let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
        ensure!(client.text(1) == expected, "{} bytes", client.text(1).len());
        stage.cri.take_away(&pod).await
    })
}

/// What a stream of a SPDY connection says up to the end of its first line.
async fn line(client: &mut Spdy, stream: u32) -> Result<String> {
    let mut seen = String::new();
    while !seen.contains('\n') {
        let frame = client.next().await?.context("the connection ended early")?;
        if let Frame::Data(of, bytes, _) = frame
            && of == stream
        {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    Ok(seen)
}

#[test]
fn a_terminal_has_its_size_from_the_beginning() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let request = on_terminal(&id, &["sh", "-c", "stty size; read line"]);
        let url = stage.cri.exec_url(request).await?;
        let mut client = Spdy::connect(&url, "v4.channel.k8s.io").await?;
        let [error, input, sizes, output] = [1, 3, 5, 7];
        for (stream, kind) in [(error, "error"), (input, "stdin"), (sizes, "resize")] {
            client.open(stream, &[("streamtype", kind)]).await?;
        }
        client.data(sizes, b"{\"Width\":91,\"Height\":17}", Last::No).await?;
        // Nothing begins before the last stream is there, so the size can't come too late.
        client.open(output, &[("streamtype", "stdout")]).await?;
        let size = line(&mut client, output).await?;
        ensure!(size == "17 91\r\n", "{size:?}");
        drop(client);
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_terminal_follows_its_size_and_ends_though_input_stays_open() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        // Sizes and input come on channels of their own, in no order.
        let await_size =
            |size: &str| format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.01; done");
        let (first, second) = (await_size("17 91"), await_size("18 92"));
        let script = format!("{first}; echo first; read line; {second}; echo second; exit 3");
        let request = on_terminal(&id, &["sh", "-c", &script]);
        let url = stage.cri.exec_url(request).await?;
        let mut client = Client::connect(&url, "v5.channel.k8s.io").await?;
        client.send(4, b"{\"Width\":91,\"Height\":17}").await?;
        client.expect(1, "first").await?;
        client.send(4, b"{\"Width\":0,\"Height\":0}").await?;
        client.send(4, b"{\"Width\":92,\"Height\":18}").await?;
        client.send(0, b"on\n").await?;
        client.expect(1, "second").await?;
        let status = client.finish().await?;
        ensure!(status.contains("\"3\""), "{status}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_client_that_vanishes_takes_its_exec_along() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let request = exec(&id, &["sh", "-c", "echo begun; sleep 777"]);
        let url = stage.cri.exec_url(request).await?;
        let mut client = Client::connect(&url, "v5.channel.k8s.io").await?;
        client.expect(1, "begun").await?;
        ensure!(running(stage, &id, "sleep 777").await? > 0, "it does not run");
        drop(client);
        wait::until("the exec is gone", async || Ok(running(stage, &id, "sleep 777").await? == 0))
            .await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_program_that_is_not_there_is_told_as_a_failure() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let url = stage.cri.exec_url(exec(&id, &["/no/such/program"])).await?;
        let mut client = Client::connect(&url, "v5.channel.k8s.io").await?;
        let status = client.finish().await?;
        ensure!(status.contains("\"Failure\""), "{status}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_url_is_good_once_and_for_its_verb_only() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        let url = stage.cri.exec_url(exec(&id, &["true"])).await?;
        ensure!(url.starts_with("http://127.0.0.1:"), "{url}");
        let mut client = Client::connect(&url, "v5.channel.k8s.io").await?;
        client.finish().await?;
        let replayed = plain(&url, "POST").await?;
        ensure!(replayed.contains(" 404 "), "{replayed}");
        let url = stage.cri.exec_url(exec(&id, &["true"])).await?;
        let wrong = plain(&url.replace("/exec/", "/attach/"), "POST").await?;
        ensure!(wrong.contains(" 404 "), "{wrong}");
        let used_up = plain(&url, "POST").await?;
        ensure!(used_up.contains(" 404 "), "{used_up}");
        let url = stage.cri.exec_url(exec(&id, &["true"])).await?;
        let put = plain(&url, "PUT").await?;
        ensure!(put.contains(" 405 "), "{put}");
        let served = plain(&url, "POST").await?;
        ensure!(served.contains(" 101 "), "{served}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn only_so_many_urls_wait() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        for _ in 0..1000 {
            stage.cri.exec_url(exec(&id, &["true"])).await?;
        }
        let refused = stage.cri.exec_url(exec(&id, &["true"])).await;
        ensure!(code(&refused) == Some(Code::ResourceExhausted), "{refused:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn wrong_requests_are_refused_before_there_is_a_url() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("streams"), &sleeper()).await?;
        for (request, expected) in [
            (exec(&"0123456789abcdef".repeat(4), &["true"]), Code::NotFound),
            (exec("", &["true"]), Code::InvalidArgument),
            (exec(&id, &[]), Code::InvalidArgument),
            (ExecRequest { tty: true, ..exec(&id, &["true"]) }, Code::InvalidArgument),
            (
                ExecRequest { stdin: false, stdout: false, stderr: false, ..exec(&id, &["true"]) },
                Code::InvalidArgument,
            ),
        ] {
            let refused = stage.cri.exec_url(request.clone()).await;
            ensure!(code(&refused) == Some(expected), "{request:?}: {refused:?}");
        }
        let refused = stage
            .cri
            .attach_url(AttachRequest { tty: true, stderr: false, ..attachment(&id) })
            .await;
        ensure!(code(&refused) == Some(Code::InvalidArgument), "{refused:?}");
        for port in [0, -1, 65536] {
            let refused = stage.cri.forward_url(&pod, &[port]).await;
            ensure!(code(&refused) == Some(Code::InvalidArgument), "{port}: {refused:?}");
        }
        stage.cri.stop(&id, 0).await?;
        let refused = stage.cri.exec_url(exec(&id, &["true"])).await;
        ensure!(code(&refused) == Some(Code::FailedPrecondition), "{refused:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn several_clients_attach_to_one_container_and_it_outlives_them() -> Result<()> {
    on_stage(async |stage| {
        let script = "while read line; do echo \"heard $line\"; done";
        let main =
            ContainerConfig { stdin: true, ..container("main", BUSYBOX, &["sh", "-c", script]) };
        let (pod, id) = stage.run(&pod("streams"), &main).await?;
        let url = stage.cri.attach_url(attachment(&id)).await?;
        let mut first = Client::connect(&url, "v5.channel.k8s.io").await?;
        first.send(0, b"one\n").await?;
        first.expect(1, "heard one").await?;
        let url = stage.cri.attach_url(attachment(&id)).await?;
        let mut second = Client::connect(&url, "v5.channel.k8s.io").await?;
        second.send(0, b"two\n").await?;
        second.expect(1, "heard two").await?;
        first.expect(1, "heard two").await?;
        drop(first);
        second.send(0, b"three\n").await?;
        second.expect(1, "heard three").await?;
        stage.cri.stop(&id, 0).await?;
        let status = second.finish().await?;
        ensure!(status == "{\"status\":\"Success\"}", "{status}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn ports_of_a_pod_are_reached_and_a_closed_one_is_told() -> Result<()> {
    on_stage(async |stage| {
        let main = container("main", BUSYBOX, &["nc", "-ll", "-p", "8000", "-e", "cat"]);
        let (pod, id) = stage.run(&pod("streams"), &main).await?;
        stage.cri.listens(&id, &[8000]).await?;
        let url = stage.cri.forward_url(&pod, &[8000, 8001]).await?;
        let mut client = Client::connect(&url, "v4.channel.k8s.io").await?;
        client.send(0, b"through the pod").await?;
        client.expect(0, "through the pod").await?;
        client.expect(3, "error forwarding port 8001").await?;
        drop(client);
        stage.cri.take_away(&pod).await
    })
}
