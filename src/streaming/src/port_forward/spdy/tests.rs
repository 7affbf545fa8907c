//! A SPDY client at one end, servers on the loopback address at the other.

use super::super::tests::{Loopback, closed};
use super::*;
use crate::spdy::frame::{Control, Event};
use crate::spdy::testing::Client;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn client() -> (Client, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let served = tokio::spawn(serve(far, None, Duration::from_secs(30), Loopback));
    (Client::new(near), served)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn headers(kind: &str, port: &str, request: Option<&str>) -> Headers {
    let headers = Headers::new().with("streamtype", kind).with("port", port);
    request.map_or(headers.clone(), |request| headers.with("requestid", request))
}

/// Opens a stream and waits for what becomes of it.
async fn open(client: &mut Client, opened: u32, headers: &Headers) -> Event {
    let control = client.deflater.open(opened, headers);
    client.send(&control).await;
    loop {
        let event = client.next().await.unwrap();
        if let Event::Control(Control::SynReply { stream, .. } | Control::RstStream { stream, .. }) =
            &event
            && *stream == opened
        {
            return event;
        }
    }
}

/// Opens both streams of a connection, as clients do: the error's first, with its half ended.
async fn open_pair(client: &mut Client, error: u32, port: u16, request: Option<&str>) {
    let port = port.to_string();
    for (stream, kind) in [(error, "error"), (error + 2, "data")] {
        let answer = open(client, stream, &headers(kind, &port, request)).await;
        assert!(matches!(answer, Event::Control(Control::SynReply { .. })), "{answer:?}");
        if stream == error {
            client.data(error, b"", true).await.unwrap();
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_half_ends() {
    let (listener, port) = listener().await;
    let (mut client, _served) = client();
    open_pair(&mut client, 1, port, Some("0")).await;
    client.data(3, b"question", true).await.unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut question = String::new();
    connection.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    connection.write_all(b"answer").await.unwrap();
    drop(connection);
    assert_eq!(client.read_to_end(3).await, b"answer");
    assert_eq!(client.read_to_end(1).await, b"");
}

#[tokio::test]
async fn many_connections_share_one_and_a_stalled_one_holds_up_none() {
    const COUNT: u32 = 1000;
    let (listener, port) = listener().await;
    let answering = tokio::spawn(async move {
        let mut connections = Vec::new();
        for _ in 0..COUNT {
            let (mut connection, _) = listener.accept().await.unwrap();
            connections.push(tokio::spawn(async move {
                let mut question = Vec::new();
                connection.read_to_end(&mut question).await.unwrap();
                connection.write_all(&question).await.unwrap();
            }));
        }
        for connection in connections {
            connection.await.unwrap();
        }
    });
    let (mut client, _served) = client();
    for number in 0..COUNT {
        open_pair(&mut client, 1 + 4 * number, port, Some(&number.to_string())).await;
    }
    // All but the first ask; that one stays open and silent until they are done.
    for number in (1..COUNT).chain([0]) {
        let stream = 3 + 4 * number;
        let question = format!("question {number}");
        client.data(stream, question.as_bytes(), true).await.unwrap();
        assert_eq!(client.read_to_end(stream).await, question.as_bytes());
    }
    answering.await.unwrap();
}

#[tokio::test]
async fn clients_without_numbers_of_requests_are_served() {
    let (listener, port) = listener().await;
    let (mut client, _served) = client();
    open_pair(&mut client, 1, port, None).await;
    open_pair(&mut client, 5, port, None).await;
    for _ in 0..2 {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(b"hello").await.unwrap();
    }
    let first = client.read_to_end(3).await;
    assert_eq!(first, b"hello");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_and_the_others_go_on() {
    let (listener, port) = listener().await;
    let (_socket, closed) = closed();
    let (mut client, _served) = client();
    open_pair(&mut client, 1, closed, Some("0")).await;
    let error = String::from_utf8(client.read_to_end(1).await).unwrap();
    assert!(error.starts_with(&format!("error forwarding port {closed}")), "{error}");
    open_pair(&mut client, 5, port, Some("1")).await;
    drop(listener.accept().await.unwrap());
    assert!(client.read_to_end(7).await.is_empty());
}

#[tokio::test]
async fn streams_that_make_no_sense_are_refused() {
    let (mut client, _served) = client();
    let port = headers("data", "80", Some("0"));
    let answer = open(&mut client, 1, &port).await;
    assert!(matches!(answer, Event::Control(Control::SynReply { .. })), "{answer:?}");
    let wrong = [
        // The same kind again for the same request.
        headers("data", "80", Some("0")),
        headers("stdin", "80", Some("1")),
        headers("data", "0", Some("1")),
        headers("data", "65536", Some("1")),
        headers("data", "-1", Some("1")),
        headers("data", "", Some("1")),
        // Not permitted.
        headers("data", "1", Some("1")),
        Headers::new().with("streamtype", "data"),
        Headers::new().with("port", "80"),
    ];
    for (stream, headers) in (3..).step_by(2).zip(&wrong) {
        let answer = open(&mut client, stream, headers).await;
        let refused = matches!(answer, Event::Control(Control::RstStream { .. }));
        assert!(refused, "{headers:?}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_pair_is_let_go_of_in_the_end() {
    let (mut client, _served) = client();
    let answer = open(&mut client, 1, &headers("data", "80", Some("0"))).await;
    assert!(matches!(answer, Event::Control(Control::SynReply { .. })), "{answer:?}");
    let answer = client.next().await.unwrap();
    assert!(matches!(answer, Event::Control(Control::RstStream { stream: 1, .. })), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_all_connections() {
    let (listener, port) = listener().await;
    let (mut client, served) = client();
    open_pair(&mut client, 1, port, Some("0")).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    drop(client);
    assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    served.await.unwrap();
}
