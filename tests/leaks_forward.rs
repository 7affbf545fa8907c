//! Forwarded connections by the thousand: afterwards daemon and shim have what they had before. `CRINGLE_LEAK_ROUNDS`
//! multiplies how often; with it the figures are printed.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{ContainerConfig, NamespaceMode, NamespaceOption};
use cringle_tests::client::Cri;
use cringle_tests::leak::{Base, many, rounds};
use cringle_tests::request::{container, namespaces, pod, with_namespaces, with_security};
use cringle_tests::spdy::{Frame, Last, Spdy, asked, open_pair};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use cringle_tests::websocket::tunnel;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// SPDY in the messages of a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Pairs of streams on one connection, by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// Bytes go through, and the client ends its half.
    Carried,
    /// The client resets both streams at once.
    Dropped,
    /// Nobody listens.
    Refused,
    /// Bytes go through, and then the client resets.
    Broken,
}

impl Pair {
    fn of(number: u32) -> Self {
        match number % 4 {
            0 => Self::Carried,
            1 => Self::Dropped,
            2 => Self::Refused,
            _ => Self::Broken,
        }
    }
}

/// Makes pairs on one connection and waits for what becomes of each.
async fn forward<S>(client: &mut Spdy<S>, numbers: std::ops::Range<u32>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // By stream: what comes to its end with what text, or what is reset when some of it came.
    let mut expected = BTreeMap::new();
    for number in numbers {
        let pair = Pair::of(number);
        let port = if pair == Pair::Refused { "8999" } else { "8000" };
        let (error, bytes) = open_pair(client, number, port).await?;
        let word = format!("word {number}");
        match pair {
            Pair::Carried => {
                client.data(bytes, word.as_bytes(), Last::Yes).await?;
                expected.insert(bytes, (word, String::new(), pair));
                expected.insert(error, (String::new(), String::new(), pair));
            }
            Pair::Dropped => {
                client.reset(bytes).await?;
                client.reset(error).await?;
            }
            Pair::Refused => {
                expected.insert(error, ("error forwarding port 8999".into(), String::new(), pair));
            }
            Pair::Broken => {
                client.data(bytes, word.as_bytes(), Last::No).await?;
                expected.insert(bytes, (word, String::new(), pair));
            }
        }
    }
    while !expected.is_empty() {
        let frame = client.next().await?;
        let Some(frame) = frame else { bail!("the connection ended before {expected:?}") };
        let Frame::Data(stream, bytes, last) = frame else { continue };
        let Some((wanted, got, pair)) = expected.get_mut(&stream) else { continue };
        got.push_str(&String::from_utf8(bytes)?);
        if *pair == Pair::Broken && got == wanted {
            client.reset(stream).await?;
            expected.remove(&stream);
        } else if last == Last::Yes {
            ensure!(got.starts_with(&*wanted), "{got:?} instead of {wanted:?}");
            ensure!(*pair == Pair::Refused || got == wanted, "{got:?} instead of {wanted:?}");
            expected.remove(&stream);
        }
    }
    Ok(())
}

fn sleeper() -> ContainerConfig {
    container("main", BUSYBOX, &["sleep", "6000"])
}

/// A pod in which ports 8000, 8002 and 8003 are served, the last by IPv6 only; and its container.
async fn serving(stage: &mut Stage) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    // The letters make its queue long enough.
    let listen = format!("-{}", "l".repeat(64));
    let script =
        format!("httpd -p 127.0.0.1:8002; httpd -p [::1]:8003; exec nc {listen} -p 8000 -e cat");
    let main = container("main", BUSYBOX, &["sh", "-c", &script]);
    let (pod, id) = stage.cri.start_in_pod(&pod("leaks"), &main).await?;
    until("the servers listen", async || {
        let files = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
        let seen = stage.cri.output(&id, &files).await?;
        Ok([":1F40 ", ":1F42 ", ":1F43 "].iter().all(|port| seen.contains(port)))
    })
    .await?;
    Ok((pod, id))
}

#[test]
fn a_thousand_forwarded_connections_leave_nothing() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = serving(stage).await?;
        for port in [8002, 8003] {
            let seen = asked(&mut stage.cri, &pod, port).await?;
            ensure!(seen.starts_with("HTTP/1."), "{port}: {seen:?}");
        }
        let url = stage.cri.forward_url(&pod, &[]).await?;
        let mut client = Spdy::connect(&url, "portforward.k8s.io").await?;
        forward(&mut client, 0..100).await?;
        let base = Base::settled(stage, &id).await?;
        let end = 100 + u32::try_from(rounds(1000))?;
        for number in (100..end).step_by(40) {
            forward(&mut client, number..(number + 40).min(end)).await?;
        }
        for (number, port) in (end..).zip(["0", "65536", "-1"]) {
            let (error, bytes) = open_pair(&mut client, number, port).await?;
            for stream in [error, bytes] {
                while client.next().await?.context("the connection ended")? != Frame::Reset(stream)
                {
                }
            }
        }
        // The connection itself was there before.
        base.reached_again(stage).await?;
        drop(client);

        let url = stage.cri.forward_url(&pod, &[8000]).await?;
        let mut late = Spdy::connect(&url, "portforward.k8s.io").await?;
        stage.cri.stop_pod(&pod).await?;
        let (error, _) = open_pair(&mut late, 0, "8000").await?;
        let told = loop {
            let next = late.next().await?.context("the connection ended")?;
            if let Frame::Data(stream, bytes, _) = next
                && stream == error
                && !bytes.is_empty()
            {
                break String::from_utf8(bytes)?;
            }
        };
        ensure!(told.contains("error forwarding port 8000"), "{told}");
        let refused = stage.cri.forward_url(&pod, &[8000]).await;
        ensure!(refused.is_err(), "a pod that is stopped: {refused:?}");
        stage.cri.remove_pod(&pod).await
    })
}

/// A client that comes by a tunnel, has a connection of each kind, and stays for the answers or not.
async fn tunnelled(cri: &Cri, pod: &str, number: usize) -> Result<()> {
    let url = cri.clone().forward_url(pod, &[]).await?;
    let mut client = Spdy::over(tunnel(&url, TUNNEL).await?);
    if number.is_multiple_of(2) {
        return forward(&mut client, 0..4).await;
    }
    let (_, bytes) = open_pair(&mut client, 0, "8000").await?;
    client.data(bytes, b"word", Last::No).await
}

#[test]
fn connections_forwarded_through_a_thousand_tunnels_leave_nothing() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = serving(stage).await?;
        let cri = stage.cri.clone();
        let work = async |number| tunnelled(&cri, &pod, number).await;
        many(200, &work).await?;
        let base = Base::settled(stage, &id).await?;
        many(rounds(1000), &work).await?;
        base.reached_again(stage).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_pod_on_the_hosts_network_has_the_hosts_ports() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let node = NamespaceOption { network: NamespaceMode::Node.into(), ..namespaces() };
        let config = with_namespaces(pod("node"), node.clone());
        let main = with_security(sleeper(), |security| security.namespace_options = Some(node));
        let (on_node, _) = stage.cri.start_in_pod(&config, &main).await?;
        let (apart, _) = stage.cri.start_in_pod(&pod("apart"), &sleeper()).await?;
        // This thread is where the daemon is.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let serving = async {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"from the host").await?;
            // As long as it asks; only then is there an end to see.
            stream.read_to_end(&mut Vec::new()).await?;
            anyhow::Ok(())
        };
        let mut cri = stage.cri.clone();
        let (served, seen) = tokio::join!(serving, asked(&mut cri, &on_node, port));
        served?;
        ensure!(seen? == "from the host");
        let seen = asked(&mut cri, &apart, port).await?;
        ensure!(seen.contains(&format!("error forwarding port {port}")), "{seen:?}");
        stage.cri.take_away(&on_node).await?;
        stage.cri.take_away(&apart).await
    })
}
