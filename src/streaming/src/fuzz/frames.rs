//! SPDY: mutated conversations against the decoder, the headers and a whole connection.

use super::{Dice, time};
use crate::spdy::frame::{CONTROL_CAP, Control, Decoder, Event, put_data};
use crate::spdy::headers::{BLOCK_CAP, Inflater, Packer};
use crate::spdy::{Connection, Headers, Settings};
use bytes::BytesMut;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::JoinSet;

/// A conversation that is well-formed.
fn conversation(dice: &mut Dice) -> Vec<u8> {
    let (mut packer, mut bytes) = (Packer::default(), BytesMut::new());
    let mut last = 1;
    for _ in 0..1 + dice.roll(20) {
        let stream = u32::try_from(dice.roll(10)).unwrap();
        let delta = u32::try_from(dice.roll(1 << 31)).unwrap();
        let headers = Headers::new().with("streamtype", "stdin").with("port", "80");
        let fin = dice.roll(4) == 0;
        match dice.roll(9) {
            0..3 => {
                let block = packer.pack(&headers);
                let unidirectional = dice.roll(9) == 0;
                Control::SynStream { stream: last, fin, unidirectional, block }.put(&mut bytes);
                last += 2;
            }
            3 => Control::RstStream { stream: stream.max(1), status: 5 }.put(&mut bytes),
            4 => Control::Ping { id: stream }.put(&mut bytes),
            5 => Control::WindowUpdate { stream, delta }.put(&mut bytes),
            6 => Control::Settings { initial_window: Some(delta) }.put(&mut bytes),
            7 => {
                let block = packer.pack(&headers);
                Control::Headers { stream: stream.max(1), fin, block }.put(&mut bytes);
            }
            _ => put_data(&mut bytes, stream.max(1), &vec![0; dice.roll(70_000)], fin),
        }
    }
    bytes.to_vec()
}

/// The same with some of it wrong.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = conversation(dice);
    for _ in 0..dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(4) {
            0 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
            1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let (from, length) = (dice.roll(bytes.len()), dice.roll(64));
                let copied: Vec<u8> = bytes.iter().skip(from).take(length).copied().collect();
                bytes.splice(at..at, copied);
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_make_the_parsers_panic_or_keep_more_than_they_may() {
    let (begin, mut dice, mut runs) = (Instant::now(), Dice(0x5eed), 0);
    while begin.elapsed() < time() {
        let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
        let mut buffer = BytesMut::from(&mutated(&mut dice)[..]);
        while let Ok(Some(event)) = decoder.next(&mut buffer) {
            if let Event::Control(
                Control::SynStream { block, .. } | Control::Headers { block, .. },
            ) = event
            {
                let Ok(inflated) = inflater.inflate(&block) else { break };
                assert!(inflated.len() <= BLOCK_CAP, "{} bytes", inflated.len());
                if let Ok(headers) = Headers::parse(&inflated) {
                    assert_eq!(headers.block(), inflated, "headers are read as they are");
                }
            }
        }
        if matches!(decoder.next(&mut buffer), Ok(None)) {
            assert!(buffer.len() <= CONTROL_CAP + 8, "{} bytes are kept", buffer.len());
        }
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}

#[tokio::test]
async fn no_bytes_make_a_connection_panic_or_stay() {
    let (begin, mut dice, mut runs) = (Instant::now(), Dice(0xfade), 0);
    while begin.elapsed() < time() {
        let (near, mut far) = duplex(4096);
        let mut connection = Connection::serve(near, &Settings { streams_cap: 4, idle: None });
        let bytes = mutated(&mut dice);
        let client = tokio::spawn(async move {
            let (mut reading, mut writing) = tokio::io::split(&mut far);
            let write = async {
                let outcome = writing.write_all(&bytes).await;
                outcome.and(writing.shutdown().await)
            };
            let mut all = Vec::new();
            // What the server thinks of it all is tested elsewhere.
            drop(tokio::join!(write, reading.read_to_end(&mut all)));
        });
        let mut echoes = JoinSet::new();
        while let Some(incoming) = connection.accept().await {
            let mut stream = incoming.reply(&Headers::new());
            echoes.spawn(async move {
                let mut bytes = vec![0; 1000];
                while let Ok(1..) = stream.read(&mut bytes).await {
                    if stream.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            });
        }
        let ending = connection.close().await;
        let text = format!("{ending:?}");
        assert!(!text.contains("Drive"), "{text}");
        client.await.unwrap();
        while let Some(echoed) = echoes.join_next().await {
            echoed.unwrap();
        }
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}
