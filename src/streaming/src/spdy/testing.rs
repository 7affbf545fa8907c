//! A scripted client: the other half of the protocol, frame by frame.

use super::dictionary;
use super::frame::{Control, Decoder, Event, put_data};
use super::headers::Headers;
use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Compresses header blocks as clients do.
pub(crate) struct Deflater(Compress);

impl Deflater {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary::bytes()).unwrap();
        Self(compress)
    }

    pub(crate) fn deflate(&mut self, block: &[u8]) -> Bytes {
        let mut deflated = Vec::with_capacity(block.len() + 1024);
        self.0.compress_vec(block, &mut deflated, FlushCompress::Sync).unwrap();
        deflated.into()
    }

    pub(crate) fn open(&mut self, stream: u32, headers: &Headers) -> Control {
        let block = self.deflate(&headers.block());
        Control::SynStream { stream, fin: false, unidirectional: false, block }
    }
}

/// Headers as a Kubernetes client gives them.
pub(crate) fn typed(kind: &str) -> Headers {
    Headers::new().with("Streamtype", kind)
}

pub(crate) fn data(stream: u32, bytes: &[u8], fin: bool) -> Event {
    Event::Data { stream, bytes: bytes.into(), fin }
}

pub(crate) fn grow(stream: u32, delta: u32) -> Event {
    Event::Control(Control::WindowUpdate { stream, delta })
}

/// What is in some bytes, the pieces of a data frame as they are cut.
pub(crate) fn events(bytes: &[u8]) -> Vec<Event> {
    let (mut decoder, mut buffer, mut events) = (Decoder::default(), bytes.into(), Vec::new());
    while let Some(event) = decoder.next(&mut buffer).unwrap() {
        events.push(event);
    }
    assert!(buffer.is_empty(), "half a frame is left: {buffer:?}");
    events
}

pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    pub(crate) deflater: Deflater,
    decoder: Decoder,
    input: BytesMut,
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        let (decoder, input) = (Decoder::default(), BytesMut::new());
        Self { io, deflater: Deflater::new(), decoder, input }
    }

    pub(crate) async fn open(&mut self, stream: u32, kind: &str) {
        let control = self.deflater.open(stream, &typed(kind));
        self.send(&control).await;
    }

    pub(crate) async fn send(&mut self, control: &Control) {
        let mut bytes = BytesMut::new();
        control.put(&mut bytes);
        self.io.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) -> io::Result<()> {
        let mut frame = BytesMut::new();
        put_data(&mut frame, stream, bytes, fin);
        self.io.write_all(&frame).await
    }

    /// The next frame or piece of one; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next(&mut self.input).unwrap() {
                return Some(event);
            }
            if self.io.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// The bytes of one stream up to its end; frames of others are passed over.
    pub(crate) async fn read_to_end(&mut self, of: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let event = self.next().await.expect("the stream ends before the connection");
            if let Event::Data { stream, bytes, fin } = event
                && stream == of
            {
                all.extend_from_slice(&bytes);
                if fin {
                    return all;
                }
            }
        }
    }
}
