//! A client of the same library at the other end of a pipe.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Client = WebSocketStream<DuplexStream>;

const RAW: Framing = Framing::Channels(Encoding::Binary, HalfClose::Spoken);
const BASE64: Framing = Framing::Channels(Encoding::Base64, HalfClose::Unspoken);

async fn open(framing: Framing, idle: Option<Duration>) -> (Client, WebSocket, Vec<Channel>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (socket, channels) = WebSocket::open(far, framing, 3, idle).await;
    (client, socket, channels)
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

/// What the client gets until the connection ends, without pings.
async fn rest(client: &mut Client) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        if !message.is_ping() {
            messages.push(message);
        }
    }
    messages
}

fn close_code(messages: &[Message]) -> Option<CloseCode> {
    match messages.last() {
        Some(Message::Close(Some(frame))) => Some(frame.code),
        _ => None,
    }
}

#[tokio::test]
async fn bytes_travel_on_their_channels() {
    let (mut client, _socket, mut channels) = open(RAW, None).await;
    client.send(binary(b"\x00to ")).await.unwrap();
    client.send(binary(b"\x02other")).await.unwrap();
    client.send(binary(b"\x00nought")).await.unwrap();
    let mut text = [0; 9];
    channels[0].input.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"to nought");
    let mut text = [0; 5];
    channels[2].input.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"other");
    channels[1].output.write_all(b"back").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), binary(b"\x01back"));
}

#[tokio::test]
async fn base64_is_text_and_channels_are_characters() {
    let (mut client, _socket, mut channels) = open(BASE64, None).await;
    channels[1].output.greet();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Text("1".into()));
    channels[1].output.write_all(b"hello").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Text("1aGVsbG8=".into()));
    client.send(Message::Text("0aGVsbG8=".into())).await.unwrap();
    let mut text = [0; 5];
    channels[0].input.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
}

#[tokio::test]
async fn a_client_can_end_one_channel() {
    let (mut client, _socket, mut channels) = open(RAW, None).await;
    client.send(binary(b"\x00last")).await.unwrap();
    client.send(binary(b"\xff\x00")).await.unwrap();
    client.send(binary(b"\x00too late")).await.unwrap();
    client.send(binary(b"\x02on")).await.unwrap();
    let mut text = String::new();
    channels[0].input.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last");
    let mut text = [0; 2];
    channels[2].input.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"on");
}

#[tokio::test]
async fn what_was_written_is_sent_before_the_connection_ends() {
    let (mut client, mut socket, mut channels) = open(RAW, None).await;
    let reading = tokio::spawn(async move { rest(&mut client).await });
    let output = &mut channels[1].output;
    output.write_all(&vec![b'x'; 300_000]).await.unwrap();
    output.shutdown().await.unwrap();
    drop(channels);
    socket.ended().await;
    let messages = reading.await.unwrap();
    let bytes: usize =
        messages.iter().filter(|message| message.is_binary()).map(|m| m.len() - 1).sum();
    assert_eq!(bytes, 300_000);
    assert_eq!(close_code(&messages), Some(CloseCode::Normal));
}

#[tokio::test]
async fn a_client_that_closes_ends_the_connection() {
    let (mut client, mut socket, mut channels) = open(RAW, None).await;
    client.close(None).await.unwrap();
    drop(rest(&mut client).await);
    socket.ended().await;
    assert_eq!(channels[0].input.read(&mut [0]).await.unwrap(), 0);
    channels[1].output.write_all(b"x").await.unwrap_err();
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_connection() {
    let (client, mut socket, mut channels) = open(RAW, None).await;
    drop(client);
    socket.ended().await;
    assert_eq!(channels[0].input.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_so() {
    for (framing, wrong) in [
        (RAW, binary(b"\x09x")),
        (RAW, binary(b"\xff")),
        (RAW, binary(b"\xff\x09")),
        (RAW, binary(b"\xff\x00\x00")),
        (BASE64, Message::Text("0***".into())),
        (BASE64, Message::Text("/aGVsbG8=".into())),
    ] {
        let (mut client, mut socket, _channels) = open(framing, None).await;
        client.send(wrong.clone()).await.unwrap();
        assert_eq!(close_code(&rest(&mut client).await), Some(CloseCode::Protocol), "{wrong:?}");
        socket.ended().await;
    }
}

#[tokio::test]
async fn without_half_close_its_byte_is_the_number_of_a_channel() {
    let framing = Framing::of(Version::V4, Encoding::Binary);
    let (mut client, _socket, _channels) = open(framing, None).await;
    client.send(binary(b"\xff\x00")).await.unwrap();
    assert_eq!(close_code(&rest(&mut client).await), Some(CloseCode::Protocol));
}

#[tokio::test]
async fn a_channel_that_nobody_reads_holds_up_its_client_and_not_the_others_output() {
    let (mut client, _socket, mut channels) = open(RAW, None).await;
    let piece = binary(&[0; 32 << 10]);
    let mut sent = 0_u32;
    // The queue, and what the pipe between them holds.
    while let Ok(done) =
        tokio::time::timeout(Duration::from_millis(300), client.send(piece.clone())).await
    {
        done.unwrap();
        sent += 1;
        assert!(sent < 40, "nothing holds the client up");
    }
    channels[1].output.write_all(b"out").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), binary(b"\x01out"));
    let mut all = vec![0; 32 << 10];
    channels[0].input.read_exact(&mut all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_and_pings_keep_it() {
    let idle = Duration::from_secs(100);
    let (mut client, mut socket, _channels) = open(RAW, Some(idle)).await;
    let begin = Instant::now();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        client.send(Message::Ping(Bytes::new())).await.unwrap();
    }
    let messages = rest(&mut client).await;
    assert_eq!(close_code(&messages), Some(CloseCode::Away));
    assert!(messages.iter().any(Message::is_pong));
    socket.ended().await;
    let lasted = begin.elapsed();
    assert!(lasted >= Duration::from_secs(280) && lasted < Duration::from_secs(300), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_are_pinged() {
    let (mut client, _socket, _channels) = open(RAW, None).await;
    let message = tokio::time::timeout(PING_PERIOD * 2, client.next()).await.unwrap();
    assert!(message.unwrap().unwrap().is_ping());
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection() {
    let (client, mut socket, _channels) = open(RAW, None).await;
    let mut raw = client.into_inner();
    // The head of a frame: final, binary, masked, 2^40 bytes.
    raw.write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]).await.unwrap();
    socket.ended().await;
}

#[tokio::test]
async fn a_tunnel_is_one_stream_of_bytes() {
    let (mut client, _socket, mut channels) = open(Framing::Tunnel, None).await;
    client.send(binary(b"\xff\x00 all")).await.unwrap();
    client.send(binary(b" of it")).await.unwrap();
    let mut bytes = [0; 12];
    channels[0].input.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\xff\x00 all of it");
    channels[0].output.write_all(b"back").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), binary(b"back"));
}
