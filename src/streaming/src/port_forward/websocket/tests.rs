//! A WebSocket client at one end, servers on the loopback address at the other.

use super::super::tests::{Loopback, closed};
use super::*;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

async fn client(ports: Vec<u16>) -> (WebSocketStream<DuplexStream>, tokio::task::JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let served = tokio::spawn(serve(far, Encoding::Binary, None, ports, Loopback));
    (WebSocketStream::from_raw_socket(near, Role::Client, None).await, served)
}

async fn next(client: &mut WebSocketStream<DuplexStream>) -> Bytes {
    client.next().await.unwrap().unwrap().into_data()
}

#[tokio::test]
async fn each_port_has_two_channels_which_begin_with_its_number() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_socket, closed) = closed();
    let (mut client, served) = client(vec![port, closed]).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut begins = Vec::new();
    let mut error = Vec::new();
    while begins.len() < 4 || error.is_empty() {
        let message = next(&mut client).await;
        if message.len() == 3 && begins.len() < 4 {
            begins.push(message);
        } else {
            assert_eq!(message[0], 3);
            error.extend_from_slice(&message[1..]);
        }
    }
    begins.sort();
    let number =
        |channel: u8, port: u16| Bytes::from([&[channel][..], &port.to_le_bytes()].concat());
    assert_eq!(begins, [number(0, port), number(1, port), number(2, closed), number(3, closed)]);
    assert!(String::from_utf8(error).unwrap().contains(&format!("port {closed}")));

    client.send(Message::Binary(Bytes::from_static(b"\x00question"))).await.unwrap();
    let mut question = [0; 8];
    connection.read_exact(&mut question).await.unwrap();
    assert_eq!(&question, b"question");
    connection.write_all(b"answer").await.unwrap();
    assert_eq!(next(&mut client).await, &b"\x00answer"[..]);

    drop(connection);
    assert!(client.next().await.unwrap().unwrap().is_close());
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_connection_into_the_pod() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, served) = client(vec![listener.local_addr().unwrap().port()]).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    drop(client);
    assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    served.await.unwrap();
}
