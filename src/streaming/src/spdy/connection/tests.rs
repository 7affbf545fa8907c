//! Tests.

use crate::spdy::frame::{Control, Event, Status};
use crate::spdy::headers::Inflater;
use crate::spdy::testing::Client;
use crate::spdy::{Connection, ConnectionError, Ending, Headers, Incoming, Settings, Stream};
use bytes::BytesMut;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::Instant;

const SETTINGS: Settings = Settings { streams_cap: 1000, idle: None };

fn pair(settings: &Settings) -> (Connection, Client) {
    let (near, far) = duplex(64 << 10);
    (Connection::serve(near, settings), Client::new(far))
}

/// A stream that the client has opened and that was accepted.
async fn opened(connection: &mut Connection, client: &mut Client, stream: u32) -> Stream {
    client.open(stream, "data").await;
    let stream = connection.accept().await.unwrap().reply(&Headers::new());
    let reply = client.next().await.unwrap();
    assert!(matches!(reply, Event::Control(Control::SynReply { .. })), "{reply:?}");
    stream
}

fn farewell(last: u32, status: u32) -> Option<Event> {
    Some(Event::Control(Control::GoAway { last, status }))
}

fn reset(stream: u32, status: Status) -> Option<Event> {
    Some(Event::Control(Control::RstStream { stream, status: status.code() }))
}

#[tokio::test]
async fn a_stream_is_offered_with_its_headers_and_replied_to() {
    let (mut connection, mut client) = pair(&SETTINGS);
    client.open(1, "stdout").await;
    let incoming: Incoming = connection.accept().await.unwrap();
    assert_eq!((incoming.id(), incoming.headers.get("streamtype")), (1, Some("stdout")));
    let stream = incoming.reply(&Headers::new().with("a", "b"));
    assert_eq!(stream.id(), 1);
    let Some(Event::Control(Control::SynReply { stream: 1, fin: false, block })) =
        client.next().await
    else {
        panic!("no reply");
    };
    let inflated = Inflater::default().inflate(&block).unwrap();
    assert_eq!(Headers::parse(&inflated).unwrap().get("a"), Some("b"));
}

#[tokio::test]
async fn a_stream_that_is_not_taken_is_reset() {
    let (mut connection, mut client) = pair(&SETTINGS);
    client.open(1, "strange").await;
    connection.accept().await.unwrap().refuse();
    assert_eq!(client.next().await, reset(1, Status::RefusedStream));
    client.open(3, "strange").await;
    drop(connection.accept().await.unwrap());
    assert_eq!(client.next().await, reset(3, Status::Cancel));
    drop(opened(&mut connection, &mut client, 5).await);
    assert_eq!(client.next().await, reset(5, Status::Cancel));
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_half_ends() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    client.data(1, b"to the server", true).await.unwrap();
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"to the server");
    stream.write_all(b"to the client").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(client.read_to_end(1).await, b"to the client");
    drop(stream);
    client.send(&Control::Ping { id: 1 }).await;
    let next = client.next().await;
    assert_eq!(
        next,
        Some(Event::Control(Control::Ping { id: 1 })),
        "a finished stream is not reset"
    );
}

#[tokio::test]
async fn a_reset_wakes_a_reader_and_a_writer() {
    let (mut connection, mut client) = pair(&SETTINGS);
    client.send(&Control::Settings { initial_window: Some(0) }).await;
    let (mut reader, mut writer) = split(opened(&mut connection, &mut client, 1).await);
    let written = tokio::spawn(async move { writer.write_all(&[0; 1 << 20]).await });
    let read = tokio::spawn(async move { reader.read_u8().await });
    client.send(&Control::RstStream { stream: 1, status: Status::Cancel.code() }).await;
    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(written.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn the_end_of_a_connection_wakes_all_who_use_it() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let read = tokio::spawn(async move { stream.read_u8().await });
    drop(client);
    assert!(connection.accept().await.is_none(), "the client has left");
    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ending = connection.close().await;
    assert!(matches!(ending, Ending::Left), "{ending:?}");
}

#[tokio::test]
async fn a_dropped_connection_ends_its_streams_and_hangs_up() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    drop(connection);
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn closing_sends_all_that_was_written_and_then_a_farewell() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    // What fits into the pipe, the gathering and the stream's own buffer, and is thus not sent when the close begins.
    stream.write_all(&[7; 20 << 10]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let closing = tokio::spawn(connection.close());
    assert_eq!(client.read_to_end(1).await, [7; 20 << 10]);
    assert_eq!(client.next().await, reset(1, Status::Cancel));
    assert_eq!(client.next().await, farewell(1, 0));
    assert_eq!(client.next().await, None);
    // What a client still sends does not keep it from reading what was sent.
    client.data(1, &[0; 1000], true).await.unwrap();
    drop(client);
    let ending = closing.await.unwrap();
    assert!(matches!(ending, Ending::Closed), "{ending:?}");
}

#[tokio::test]
async fn a_connection_that_is_closed_waits_for_a_client_that_reads_late() {
    let (near, far) = duplex(1000);
    let (mut connection, mut client) = (Connection::serve(near, &SETTINGS), Client::new(far));
    let mut stream = opened(&mut connection, &mut client, 1).await;
    stream.write_all(&[7; 30_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut closing = tokio::spawn(connection.close());
    tokio::select! {
        biased;
        ending = &mut closing => panic!("{ending:?} before all was read"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(client.read_to_end(1).await, [7; 30_000]);
    drop(client);
    closing.await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_spdy_end_the_connection_with_a_farewell_that_says_so() {
    let table: &[&[u8]] = &[
        b"\x80\x02\0\x01\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0",
        b"\x80\x03\0\x04\0\0\0\x04\xff\xff\xff\xff",
        b"\x80\x03\0\x01\0\xff\xff\xff",
        b"\x80\x03\0\x01\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0bomb",
        b"\x80\x03\0\x09\0\0\0\x08\0\0\0\0\x7f\xff\xff\xff",
    ];
    for bytes in table {
        let (connection, mut client) = pair(&SETTINGS);
        client.io.write_all(bytes).await.unwrap();
        assert_eq!(client.next().await, farewell(0, 1), "{bytes:?}");
        drop(client);
        let ending = connection.close().await;
        let told = matches!(
            ending,
            Ending::Failed(
                ConnectionError::Frame(_) | ConnectionError::Headers(_) | ConnectionError::Window
            )
        );
        assert!(told, "{ending:?}");
    }
}

const IDLE: Settings = Settings { idle: Some(Duration::from_millis(400)), ..SETTINGS };

/// After this with activity of one kind, a connection that overlooked it would end too early.
const ACTIVE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_connection_on_which_the_client_was_active_last_ends_when_it_is_idle_for_too_long() {
    let (connection, mut client) = pair(&IDLE);
    let (begin, mut last) = (Instant::now(), Instant::now());
    while begin.elapsed() < ACTIVE {
        last = Instant::now();
        // Even numbers are answers.
        client.send(&Control::Ping { id: 2 }).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.next().await, farewell(0, 0));
    assert!(last.elapsed() >= Duration::from_millis(400), "a ping is activity");
    drop(client);
    let ending = connection.close().await;
    assert!(matches!(ending, Ending::Idle), "{ending:?}");
}

#[tokio::test]
async fn a_connection_on_which_we_were_active_last_ends_when_it_is_idle_for_too_long() {
    let (mut connection, mut client) = pair(&IDLE);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let (begin, mut last) = (Instant::now(), Instant::now());
    let mut bytes = 0;
    while begin.elapsed() < ACTIVE && bytes < 60_000 {
        last = Instant::now();
        stream.write_all(b"x").await.unwrap();
        assert!(matches!(client.next().await, Some(Event::Data { .. })));
        bytes += 1;
    }
    assert_eq!(client.next().await, farewell(1, 0));
    assert!(last.elapsed() >= Duration::from_millis(400), "a byte is activity");
}

#[tokio::test]
async fn a_reader_that_comes_late_gets_all() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let flooding = tokio::spawn(async move {
        client.data(1, &[7; 1 << 20], true).await.unwrap();
        client
    });
    while !connection.shared.state().is_full() {
        tokio::task::yield_now().await;
    }
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 1 << 20);
    flooding.await.unwrap();
}

#[tokio::test]
async fn much_goes_to_a_client_that_knows_no_windows_and_answers_no_pings() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let writing = tokio::spawn(async move {
        stream.write_all(&[7; 1 << 20]).await?;
        stream.shutdown().await
    });
    assert_eq!(client.read_to_end(1).await.len(), 1 << 20);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn much_comes_from_a_client_that_knows_no_windows() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stream = opened(&mut connection, &mut client, 1).await;
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map(|_| all.len())
    });
    client.data(1, &vec![7; 10 << 20], false).await.unwrap();
    client.data(1, b"end", true).await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), (10 << 20) + 3);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_what_comes_in_and_not_what_goes_out() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let stalled = opened(&mut connection, &mut client, 1).await;
    let mut other = opened(&mut connection, &mut client, 3).await;
    // More than the pipe and what may wait for readers; the write cannot end.
    let mut flood = BytesMut::new();
    crate::spdy::frame::put_data(&mut flood, 1, &[0; 1 << 20], false);
    Control::Ping { id: 9 }.put(&mut flood);
    let (mut reading, mut writing) = split(client.io);
    let flooding = tokio::spawn(async move { writing.write_all(&flood).await.map(|()| writing) });
    let mut all = vec![0; 16 + 10_000];
    other.write_all(&[7; 10_000]).await.unwrap();
    reading.read_exact(&mut all[..10_008]).await.unwrap();
    assert!(!flooding.is_finished(), "a megabyte was taken for a reader that is not there");
    drop(stalled);
    // Its reset, and the answer to the ping behind the flood.
    reading.read_exact(&mut all[..16 + 12]).await.unwrap();
    assert_eq!(&all[16..28], b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x09");
    flooding.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_thousand_streams_work_beside_stalled_ones() {
    let (mut connection, mut client) = pair(&SETTINGS);
    let mut stalled = Vec::new();
    for n in 0..1000 {
        let mut stream = opened(&mut connection, &mut client, 2 * n + 1).await;
        if n % 2 == 0 {
            client.data(2 * n + 1, b"unread", false).await.unwrap();
            stalled.push(stream);
        } else {
            tokio::spawn(async move {
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap();
                stream.write_all(&read).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    }
    client.open(2001, "one too many").await;
    assert_eq!(client.next().await, reset(2001, Status::RefusedStream));
    for n in (1..1000).step_by(2) {
        client.data(2 * n + 1, &[7; 100], true).await.unwrap();
        assert_eq!(client.read_to_end(2 * n + 1).await, [7; 100], "stream {n}");
    }
    assert_eq!(stalled.len(), 500);
}
