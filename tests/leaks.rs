//! Execs, attachments and forwarded ports by the thousand, most of them with a client or a program that misbehaves:
//! afterwards daemon and shim have what they had before. `CRINGLE_LEAK_ROUNDS` multiplies how often; with it the figures are
//! printed.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::ContainerConfig;
use cringle_proto_cri::v1::{NamespaceMode, NamespaceOption};
use cringle_tests::client::{Cri, code};
use cringle_tests::footprint::{self, Footprint};
use cringle_tests::request::{container, namespaces, pod, with_namespaces, with_security};
use cringle_tests::session::{attachment, exec, on_terminal};
use cringle_tests::spdy::{Frame, Last, Spdy, asked, open_pair};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::{self, until};
use cringle_tests::websocket::{Client, address};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

/// How many clients there are at once.
const TOGETHER: usize = 8;
/// What memory may grow, in KiB, beside two of a hundred: what the heap keeps in pieces after a few hundred clients at once.
/// It does not grow with their number, which a run with more rounds shows.
const SLACK: u64 = 12 << 10;
const V5: &str = "v5.channel.k8s.io";

fn rounds(count: usize) -> usize {
    let factor = std::env::var("CRINGLE_LEAK_ROUNDS").ok().and_then(|text| text.parse().ok());
    count * factor.unwrap_or(1)
}

fn tell(what: &str) -> Result<()> {
    if std::env::var_os("CRINGLE_LEAK_ROUNDS").is_some() {
        writeln!(std::io::stderr(), "{what}")?;
    }
    Ok(())
}

/// What there was at one moment of the daemon, of one container's shim, and of the groups of its execs.
#[derive(Debug)]
struct Base {
    container: String,
    daemon: (u32, Footprint),
    shim: (u32, Footprint),
    groups: usize,
}

impl Base {
    async fn take(stage: &mut Stage, container: &str) -> Result<Self> {
        let process = u32::try_from(stage.cri.process(container).await?)?;
        let (daemon, shim) = (stage.daemon.id()?, footprint::parent(process)?);
        Ok(Self {
            container: container.to_owned(),
            daemon: (daemon, Footprint::of(daemon)?),
            shim: (shim, Footprint::of(shim)?),
            groups: groups(process)?,
        })
    }

    /// The same when all that was killed has left.
    async fn settled(stage: &mut Stage, container: &str) -> Result<Self> {
        let mut base = Self::take(stage, container).await?;
        until("what was killed has left", async || {
            stage.cri.output(container, &["true"]).await?;
            base = Self::take(stage, container).await?;
            Ok(base.groups == 0 && base.shim.1.zombies == 0)
        })
        .await?;
        Ok(base)
    }

    /// Waits until there is no more than this.
    async fn reached_again(&self, stage: &mut Stage) -> Result<()> {
        let mut now = None;
        let back = until("daemon and shim have what they had", async || {
            // Groups that could not be removed when their exec ended are removed with the next.
            stage.cri.output(&self.container, &["true"]).await?;
            let seen = now.insert(Self::take(stage, &self.container).await?);
            Ok(fits(&seen.daemon.1, &self.daemon.1)
                && fits(&seen.shim.1, &self.shim.1)
                && seen.groups <= self.groups)
        });
        let back = back.await;
        let now = now.context("it was looked at")?;
        let told = format!(
            "daemon: {} -> {}\nshim: {} -> {}\ngroups of execs: {} -> {}",
            self.daemon.1, now.daemon.1, self.shim.1, now.shim.1, self.groups, now.groups
        );
        tell(&told)?;
        back.context(told)
    }
}

fn fits(now: &Footprint, before: &Footprint) -> bool {
    now.fits(before) && now.memory <= before.memory + before.memory / 50 + SLACK
}

/// The groups of execs below the cgroup of a process, in all hierarchies.
fn groups(process: u32) -> Result<usize> {
    let mut count = 0;
    for line in std::fs::read_to_string(format!("/proc/{process}/cgroup"))?.lines() {
        let path = line.splitn(3, ':').nth(2).context("a cgroup has a path")?;
        for hierarchy in ["", "unified"] {
            let place: PathBuf =
                [Path::new("/sys/fs/cgroup"), Path::new(hierarchy)].iter().collect();
            let entries = std::fs::read_dir(place.join(path.trim_start_matches('/')));
            let names = entries.into_iter().flatten().filter_map(|entry| entry.ok());
            count += names
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"))
                .count();
        }
    }
    Ok(count)
}

/// Does something so often, some of it at once.
async fn many(count: usize, work: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let all = stream::iter(0..count).map(|number| work(number)).buffer_unordered(TOGETHER);
    all.try_collect().await
}

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
            return (Code::Ok, cri.exec(id, &["sh", "-c", script], 30).await);
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
async fn forward(client: &mut Spdy, numbers: std::ops::Range<u32>) -> Result<()> {
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

#[test]
fn a_thousand_forwarded_connections_leave_nothing() -> Result<()> {
    on_stage(async |stage| {
        // The letters make its queue long enough.
        let listen = format!("-{}", "l".repeat(64));
        let script = format!(
            "httpd -p 127.0.0.1:8002; httpd -p [::1]:8003; exec nc {listen} -p 8000 -e cat"
        );
        let main = container("main", BUSYBOX, &["sh", "-c", &script]);
        let (pod, id) = with_container(stage, &main).await?;
        until("the servers listen", async || {
            let files = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
            let seen = stage.cri.output(&id, &files).await?;
            Ok([":1F40 ", ":1F42 ", ":1F43 "].iter().all(|port| seen.contains(port)))
        })
        .await?;
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
