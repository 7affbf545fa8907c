//! Bytes from a client that means no good: heads of requests, WebSocket messages, SPDY frames. The seeds are fixed;
//! `CRINGLE_FUZZ_SECONDS` says how long each test takes, and 1 is the default.

mod frames;

use crate::negotiate::{self, Agreed, Encoding};
use crate::websocket::{Framing, HalfClose, WebSocket};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// What heads are made of, in any order.
const WORDS: [&str; 22] = [
    "GET /exec/x HTTP/1.1\r\n",
    "POST /portforward/x HTTP/1.1\r\n",
    "GET /portforward/x?port=80,81&a=b&port=8080 HTTP/1.1\r\n",
    "GET /portforward/x?port=80&port=&port=99999 HTTP/1.1\r\n",
    "Connection: keep-alive, Upgrade\r\n",
    "Upgrade: SPDY/3.1\r\n",
    "Upgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Version: 8\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.base64.channel.k8s.io\r\n",
    "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io, v4.channel.k8s.io\r\n",
    "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
    "X-Stream-Protocol-Version: portforward.k8s.io\r\n",
    "X-Stream-Protocol-Version: ,,\u{fffd},\r\n",
    "Host: x\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Transfer-Encoding: chunked\r\n",
    ": \r\n",
    "\r\n",
    "\u{0}",
    "\r\n\r\n",
];

/// Xorshift: good enough to choose bytes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }

    /// Makes some of it wrong.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.roll(4) {
            let at = self.roll(bytes.len());
            match self.roll(3) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.byte()),
                1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.roll(8)),
                _ => bytes.truncate(at.max(1)),
            }
        }
    }
}

fn time() -> Duration {
    let seconds = std::env::var("CRINGLE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// The answer to a head, as the server gives it but for the token.
fn answer(head: &http::request::Parts) -> negotiate::Answer {
    let answered = if head.uri.path().starts_with("/portforward/") {
        let agreed = negotiate::port_forward(head, Vec::new());
        agreed.map(|Agreed { protocol: _, answer }| answer)
    } else {
        negotiate::remote_command(head).map(|Agreed { protocol: _, answer }| answer)
    };
    answered.unwrap_or_else(|refused| *refused)
}

#[tokio::test]
async fn no_bytes_make_the_negotiation_panic() {
    let (begin, mut dice, mut answered) = (Instant::now(), Dice(0xbad), 0);
    while begin.elapsed() < time() {
        let first = WORDS[dice.roll(4)];
        let mut bytes: Vec<u8> = first.bytes().collect();
        for _ in 0..dice.roll(12) {
            bytes.extend(WORDS[dice.roll(WORDS.len())].bytes());
        }
        bytes.extend(b"\r\n");
        dice.spoil(&mut bytes);
        let (mut near, far) = duplex(64 << 10);
        let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
            let answer = answer(&request.into_parts().0);
            Ok::<_, Infallible>(answer.map(|_| Full::<bytes::Bytes>::default()))
        });
        near.write_all(&bytes).await.unwrap();
        near.shutdown().await.unwrap();
        // Most are no requests at all.
        drop(http1::Builder::new().serve_connection(TokioIo::new(far), service).await);
        let mut told = Vec::new();
        near.read_to_end(&mut told).await.unwrap();
        answered += usize::from(told.starts_with(b"HTTP/1.1 "));
    }
    assert!(answered > 100, "only {answered} were answered");
}

/// A message as a client frames it (RFC 6455, 5.2): with a mask of zeros, so that the bytes stay what they are.
fn frame(dice: &mut Dice) -> Vec<u8> {
    let kind = [0x80, 0x81, 0x82, 0x82, 0x82, 0x02, 0x01, 0x88, 0x89, 0x8a, 0xc2][dice.roll(11)];
    let length = [0, 1, 2, 5, 100, 125][dice.roll(6)];
    let mut bytes = vec![kind, 0x80 | u8::try_from(length).unwrap(), 0, 0, 0, 0];
    let channel = [0, 1, 2, 3, 4, 255, b'0', b'9'][dice.roll(8)];
    let content = (0..length).map(|place| if place == 0 { channel } else { b'A' });
    bytes.extend(content);
    if dice.roll(20) == 0 {
        // A length of 64 bits that is a lie.
        bytes = vec![kind, 0xff, dice.byte(), 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0];
    }
    bytes
}

#[tokio::test]
async fn no_bytes_make_the_channels_panic_or_stay() {
    let (begin, mut dice, mut runs) = (Instant::now(), Dice(0xc0de), 0);
    while begin.elapsed() < time() {
        let framing = [
            Framing::Tunnel,
            Framing::Channels(Encoding::Binary, HalfClose::Spoken),
            Framing::Channels(Encoding::Base64, HalfClose::Unspoken),
        ][dice.roll(3)];
        let (mut near, far) = duplex(4096);
        let (socket, channels) = WebSocket::open(far, framing, 3, None).await;
        let readers: Vec<_> = channels
            .into_iter()
            .map(|mut channel| {
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    // A channel that was cut off says so.
                    drop(channel.input.read_to_end(&mut all).await);
                })
            })
            .collect();
        let mut bytes: Vec<u8> = (0..1 + dice.roll(10)).flat_map(|_| frame(&mut dice)).collect();
        dice.spoil(&mut bytes);
        // The server may have hung up before all of it is written.
        drop(near.write_all(&bytes).await);
        drop(near.shutdown().await);
        let mut told = Vec::new();
        drop(near.read_to_end(&mut told).await);
        tokio::time::timeout(Duration::from_secs(10), socket.joined()).await.unwrap().unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}
