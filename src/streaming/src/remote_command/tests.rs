//! Clients at one end, pipes in place of a process at the other.

use super::*;
use crate::StreamingSettings;
use crate::negotiate::Encoding;
use crate::spdy::frame::{Control, Event};
use crate::spdy::testing::Client as SpdyClient;
use cringle_service::streams::Wanted;
use futures::{SinkExt, StreamExt};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, Mutex};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const ALL: Streams = Streams { input: Wanted::Yes, output: Wanted::Yes, error: Wanted::Yes };
const PIPED: Shape = Shape { streams: ALL, terminal: Terminal::Absent };
const TERMINAL: Shape = Shape {
    streams: Streams { input: Wanted::Yes, output: Wanted::Yes, error: Wanted::No },
    terminal: Terminal::Present,
};
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that the test is.
struct Process {
    input: PipeReader,
    output: PipeWriter,
    error: PipeWriter,
    exit: oneshot::Sender<i32>,
    sizes: Arc<Mutex<Vec<Size>>>,
    /// Ends when the session is let go of.
    dropped: oneshot::Receiver<()>,
}

struct FakePeer {
    descriptors: Option<[OwnedFd; 3]>,
    exit: oneshot::Receiver<i32>,
    sizes: Arc<Mutex<Vec<Size>>>,
    _dropped: oneshot::Sender<()>,
}

impl Peer for FakePeer {
    fn descriptors(&mut self) -> [Option<OwnedFd>; 3] {
        self.descriptors.take().unwrap().map(Some)
    }

    async fn ended(&mut self) -> Result<SessionEnd, ServiceError> {
        match (&mut self.exit).await {
            Ok(code) => Ok(SessionEnd::Exited { code }),
            Err(_) => std::future::pending().await,
        }
    }

    fn resize(&self, size: Size) {
        self.sizes.lock().unwrap().push(size);
    }
}

struct FakeOpening {
    opened: oneshot::Sender<(Process, Option<Size>)>,
    refusal: Option<ServiceError>,
}

impl Opening for FakeOpening {
    type Peer = FakePeer;

    async fn open(self, size: Option<Size>) -> Result<FakePeer, ServiceError> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let (input, input_end) = std::io::pipe().unwrap();
        let (output_end, output) = std::io::pipe().unwrap();
        let (error_end, error) = std::io::pipe().unwrap();
        let (exit, exited) = oneshot::channel();
        let (guard, dropped) = oneshot::channel();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let process = Process { input, output, error, exit, sizes: Arc::clone(&sizes), dropped };
        assert!(self.opened.send((process, size)).is_ok());
        let descriptors = Some([input_end.into(), output_end.into(), error_end.into()]);
        Ok(FakePeer { descriptors, exit: exited, sizes, _dropped: guard })
    }

    fn failed(error: &ServiceError) -> Status {
        Status::failure("error executing command in container", error)
    }
}

fn opening() -> (FakeOpening, oneshot::Receiver<(Process, Option<Size>)>) {
    let (opened, process) = oneshot::channel();
    (FakeOpening { opened, refusal: None }, process)
}

fn settings(idle: Option<Duration>) -> StreamingSettings {
    StreamingSettings {
        address: ([127, 0, 0, 1], 0).into(),
        tls: None,
        idle,
        creation: Duration::from_secs(30),
        waiting: 10,
    }
}

/// A SPDY client that is served, with streams 1, 3, 5… of these kinds, and the process that it gets.
async fn spdy(
    version: Version,
    shape: Shape,
    kinds: &[&str],
) -> (SpdyClient, Process, Option<Size>, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, opened) = opening();
    let served = tokio::spawn(async move {
        serve_spdy(far, version, &settings(None), shape, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, kinds).await;
    let (process, size) = tokio::time::timeout(PATIENCE, opened).await.unwrap().unwrap();
    (client, process, size, served)
}

async fn open_streams(client: &mut SpdyClient, kinds: &[&str]) {
    for (stream, kind) in (1..).step_by(2).zip(kinds) {
        client.open(stream, kind).await;
        // Clients wait for the answer before they open the next one.
        let reply = client.next().await.unwrap();
        assert!(matches!(reply, Event::Control(Control::SynReply { .. })), "{reply:?}");
    }
}

/// The bytes of all streams up to the end of the connection.
async fn everything(client: &mut SpdyClient, streams: &[u32]) -> Vec<String> {
    let mut found = vec![Vec::new(); streams.len()];
    while let Some(event) = client.next().await {
        if let Event::Data { stream, bytes, .. } = &event
            && let Some(place) = streams.iter().position(|known| known == stream)
        {
            found[place].extend_from_slice(bytes);
        }
        if matches!(event, Event::Control(Control::GoAway { .. })) {
            break;
        }
    }
    found.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

/// Reads to the end of a pipe, as a process would, without holding up the others here.
async fn read_all(mut pipe: PipeReader) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_spdy_client_gets_output_and_the_exit_code() {
    let kinds = ["error", "stdin", "stdout", "stderr"];
    let (mut client, mut process, size, served) = spdy(Version::V4, PIPED, &kinds).await;
    assert_eq!(size, None);
    client.data(3, b"input", true).await.unwrap();
    assert_eq!(read_all(process.input).await, "input");
    process.output.write_all(b"out").unwrap();
    process.error.write_all(b"err").unwrap();
    drop((process.output, process.error));
    process.exit.send(9).unwrap();
    let found = everything(&mut client, &[1, 5, 7]).await;
    assert_eq!(found[1..], ["out", "err"]);
    assert!(found[0].contains("\"ExitCode\",\"message\":\"9\""), "{found:?}");
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn the_end_is_told_though_the_client_keeps_its_input_open_and_a_child_the_output() {
    let kinds = ["error", "stdin", "stdout", "stderr"];
    let (mut client, mut process, _, served) = spdy(Version::V4, PIPED, &kinds).await;
    process.output.write_all(b"out").unwrap();
    process.exit.send(0).unwrap();
    let found = everything(&mut client, &[1, 5]).await;
    assert_eq!(found, ["{\"status\":\"Success\"}", "out"]);
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn what_was_said_before_the_end_comes_through_to_a_slow_client() {
    let kinds = ["error", "stdout"];
    let streams = Streams { input: Wanted::No, output: Wanted::Yes, error: Wanted::No };
    let shape = Shape { streams, terminal: Terminal::Absent };
    let (mut client, mut process, _, served) = spdy(Version::V4, shape, &kinds).await;
    // All of it is in the pipe when the program ends, which a child keeps open.
    rustix::pipe::fcntl_setpipe_size(&process.output, 512 << 10).unwrap();
    process.output.write_all(&vec![b'x'; 400_000]).unwrap();
    process.exit.send(0).unwrap();
    // Longer than the output is waited for after the end.
    tokio::time::sleep(GRACE * 2).await;
    let found = everything(&mut client, &[1, 3]).await;
    assert_eq!(found[1].len(), 400_000);
    assert_eq!(found[0], "{\"status\":\"Success\"}");
    drop((process.output, client));
    served.await.unwrap();
}

#[tokio::test]
async fn input_that_the_program_does_not_take_holds_nothing_up() {
    let kinds = ["error", "stdin", "stdout", "stderr"];
    let (mut client, mut process, _, _served) = spdy(Version::V4, PIPED, &kinds).await;
    drop(process.input);
    for _ in 0..100 {
        client.data(3, &[0; 16 << 10], false).await.unwrap();
    }
    process.output.write_all(b"still here").unwrap();
    drop((process.output, process.error));
    process.exit.send(0).unwrap();
    assert_eq!(everything(&mut client, &[5]).await, ["still here"]);
}

// Time goes on when all has been done: the first size can't come too late.
#[tokio::test(start_paused = true)]
async fn a_terminal_has_its_size_before_the_program_begins_and_changes_later() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, opened) = opening();
    let _served = tokio::spawn(async move {
        serve_spdy(far, Version::V4, &settings(None), TERMINAL, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, &["error", "stdin", "stdout", "resize"]).await;
    client.data(7, b"{\"Width\":80,\"Height\":24}\n", false).await.unwrap();
    let (process, size) = opened.await.unwrap();
    assert_eq!(size, Some(Size { rows: 24, columns: 80 }));
    client.data(7, b"{\"Width\":0,\"Height\":0}{\"Width\":90,\"Height\":30}", false).await.unwrap();
    let changed = async {
        while process.sizes.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
    assert_eq!(*process.sizes.lock().unwrap(), [Size { rows: 30, columns: 90 }]);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_whose_size_does_not_come_begins_all_the_same() {
    let kinds = ["error", "stdin", "stdout", "resize"];
    let (_client, _process, size, _served) = spdy(Version::V3, TERMINAL, &kinds).await;
    assert_eq!(size, None);
}

#[tokio::test]
async fn older_versions_have_no_sizes_and_tell_text() {
    let kinds = ["error", "stdin", "stdout"];
    let (mut client, process, size, _served) = spdy(Version::V2, TERMINAL, &kinds).await;
    assert_eq!(size, None);
    drop((process.output, process.error));
    process.exit.send(3).unwrap();
    let found = everything(&mut client, &[1]).await;
    assert_eq!(found, ["command terminated with non-zero exit code: exit code 3"]);
}

#[tokio::test]
async fn in_the_first_version_our_half_of_the_input_ends_at_once() {
    let kinds = ["error", "stdin", "stdout"];
    let (mut client, _process, _, _served) = spdy(Version::V1, TERMINAL, &kinds).await;
    assert!(client.read_to_end(3).await.is_empty());
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_session() {
    let kinds = ["error", "stdin", "stdout", "stderr"];
    let (client, process, _, served) = spdy(Version::V4, PIPED, &kinds).await;
    drop(client);
    tokio::time::timeout(PATIENCE, process.dropped).await.unwrap().unwrap_err();
    served.await.unwrap();
}

#[tokio::test]
async fn streams_that_were_not_asked_for_are_refused() {
    let kinds = ["error", "stdin", "stdout"];
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, opened) = opening();
    let _served = tokio::spawn(async move {
        serve_spdy(far, Version::V4, &settings(None), PIPED, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, &kinds).await;
    for (stream, kind) in [(7, "stdin"), (9, "resize"), (11, "nonsense")] {
        client.open(stream, kind).await;
        let answer = client.next().await.unwrap();
        assert!(matches!(answer, Event::Control(Control::RstStream { .. })), "{kind}: {answer:?}");
    }
    client.open(13, "stderr").await;
    opened.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_make_its_streams_is_told() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, _opened) = opening();
    let served = tokio::spawn(async move {
        serve_spdy(far, Version::V4, &settings(None), PIPED, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, &["error", "stdin"]).await;
    let found = everything(&mut client, &[1]).await;
    assert!(found[0].contains("did not make its streams in time"), "{found:?}");
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn a_program_that_cannot_begin_is_told_as_a_status() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut opening, _opened) = opening();
    let pod = cringle_domain::id::PodId::from_bytes([1; 32]);
    let source = std::io::ErrorKind::ConnectionRefused.into();
    opening.refusal = Some(ServiceError::Forward { pod, port: 1, source });
    let _served = tokio::spawn(async move {
        serve_spdy(far, Version::V4, &settings(None), PIPED, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, &["error", "stdin", "stdout", "stderr"]).await;
    let found = everything(&mut client, &[1]).await;
    let begin = "Internal error occurred: error executing command in container: failed to";
    assert!(found[0].contains(begin), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, opened) = opening();
    let _served = tokio::spawn(async move {
        let idle = Some(Duration::from_secs(100));
        serve_spdy(far, Version::V4, &settings(idle), PIPED, opening).await;
    });
    let mut client = SpdyClient::new(near);
    open_streams(&mut client, &["error", "stdin", "stdout", "stderr"]).await;
    let (process, _) = opened.await.unwrap();
    process.dropped.await.unwrap_err();
}

async fn websocket(
    version: Version,
    shape: Shape,
) -> (WebSocketStream<DuplexStream>, oneshot::Receiver<(Process, Option<Size>)>, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (opening, opened) = opening();
    let served = tokio::spawn(async move {
        serve_websocket(far, (version, Encoding::Binary), None, shape, opening).await;
    });
    (WebSocketStream::from_raw_socket(near, Role::Client, None).await, opened, served)
}

fn piece(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel][..], bytes].concat().into())
}

#[tokio::test]
async fn a_websocket_client_gets_output_and_the_exit_code() {
    let (mut client, opened, served) = websocket(Version::V5, PIPED).await;
    assert_eq!(client.next().await.unwrap().unwrap(), piece(1, b""));
    let (mut process, _) = opened.await.unwrap();
    client.send(piece(0, b"input")).await.unwrap();
    client.send(piece(255, &[0])).await.unwrap();
    assert_eq!(read_all(process.input).await, "input");
    process.output.write_all(b"out").unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), piece(1, b"out"));
    process.error.write_all(b"err").unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), piece(2, b"err"));
    drop((process.output, process.error));
    process.exit.send(9).unwrap();
    let status = client.next().await.unwrap().unwrap().into_data();
    assert_eq!(status[0], 3);
    assert!(String::from_utf8_lossy(&status).contains("NonZeroExitCode"), "{status:?}");
    assert!(client.next().await.unwrap().unwrap().is_close());
    drop(client);
    served.await.unwrap();
}

#[tokio::test]
async fn a_websocket_client_without_half_close_leaves_its_input_open() {
    let (mut client, opened, _served) = websocket(Version::V4, PIPED).await;
    let (process, _) = opened.await.unwrap();
    client.send(piece(0, b"input")).await.unwrap();
    drop((process.output, process.error));
    process.exit.send(0).unwrap();
    let mut status = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        if message.is_binary() && message.clone().into_data()[0] == 3 {
            status = message.into_data()[1..].to_vec();
        }
    }
    assert_eq!(status, b"{\"status\":\"Success\"}");
}

// Time goes on when all has been done: the size can't come too late.
#[tokio::test(start_paused = true)]
async fn a_websocket_client_sets_the_size_of_its_terminal() {
    let (mut client, opened, _served) = websocket(Version::V5, TERMINAL).await;
    client.send(piece(4, b"{\"Width\":80,\"Height\":24}")).await.unwrap();
    let (_process, size) = opened.await.unwrap();
    assert_eq!(size, Some(Size { rows: 24, columns: 80 }));
}

#[tokio::test]
async fn a_websocket_client_that_vanishes_ends_the_session() {
    let (client, opened, served) = websocket(Version::V5, PIPED).await;
    let (process, _) = opened.await.unwrap();
    drop(client);
    tokio::time::timeout(PATIENCE, process.dropped).await.unwrap().unwrap_err();
    served.await.unwrap();
}
