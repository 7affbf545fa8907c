//! A SPDY client of the streaming server, frame by frame. Like the clients of Kubernetes it knows no windows; unlike
//! them it does not compress: a zlib stream may say that its bytes are stored.

use crate::client::Cri;
use crate::wait;
use crate::websocket::address;
use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const CONTROL: u32 = 0x8003_0000;
const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const FIN: u32 = 1 << 24;
const HEADER: usize = 8;

/// Whether a frame is the last of its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// More may follow.
    No,
    /// It is.
    Yes,
}

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// It takes a stream.
    Reply(u32),
    /// It ends a stream at once.
    Reset(u32),
    /// Bytes of a stream.
    Data(u32, Vec<u8>, Last),
    /// Something that is of no use here.
    Other,
}

/// A connection.
#[derive(Debug)]
pub struct Spdy<S = TcpStream> {
    stream: S,
    input: BytesMut,
    begun: bool,
}

impl Spdy {
    /// Connects, and agrees on a protocol.
    pub async fn connect(url: &str, protocol: &str) -> Result<Self> {
        let address = address(url)?;
        let path = url.split_once(address).context("a URL has its address")?.1;
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8(answer)?;
        ensure!(answer.starts_with("HTTP/1.1 101 ") && answer.contains(protocol), "{answer}");
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Spdy<S> {
    /// Speaks on a stream where SPDY was agreed on.
    #[must_use]
    pub fn over(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), begun: false }
    }

    /// The bare connection.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Opens a stream with headers.
    pub async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Result<()> {
        let mut block = BytesMut::new();
        block.put_u32(u32::try_from(headers.len())?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(u32::try_from(text.len())?);
            block.put_slice(text.as_bytes());
        }
        let mut payload = BytesMut::new();
        payload.put_u32(stream);
        // No associated stream, no priority, no slot.
        payload.put_bytes(0, 6);
        if !self.begun {
            self.begun = true;
            payload.put_slice(&[0x78, 0x01]);
        }
        for part in [&block[..], &[]] {
            let length = u16::try_from(part.len())?;
            payload.put_u8(0);
            payload.put_u16_le(length);
            payload.put_u16_le(!length);
            payload.put_slice(part);
        }
        self.control(SYN_STREAM, &payload).await
    }

    /// Sends bytes on a stream.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], last: Last) -> Result<()> {
        let mut frame = BytesMut::new();
        frame.put_u32(stream);
        let flags = if last == Last::Yes { FIN } else { 0 };
        frame.put_u32(flags | u32::try_from(bytes.len())?);
        frame.put_slice(bytes);
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Ends a stream at once.
    pub async fn reset(&mut self, stream: u32) -> Result<()> {
        let mut payload = BytesMut::new();
        payload.put_u32(stream);
        payload.put_u32(5);
        self.control(RST_STREAM, &payload).await
    }

    /// The next frame; none at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        while self.missing() {
            let read = tokio::time::timeout(wait::DEADLINE, self.stream.read_buf(&mut self.input));
            if read.await.context("nothing came for too long")?? == 0 {
                return Ok(None);
            }
        }
        let (first, second) = (self.input.get_u32(), self.input.get_u32());
        let mut payload = self.input.split_to(usize::try_from(second & 0x00ff_ffff)?);
        if first & CONTROL != CONTROL {
            let last = if second & FIN == 0 { Last::No } else { Last::Yes };
            return Ok(Some(Frame::Data(first, payload.to_vec(), last)));
        }
        Ok(Some(match first & 0xffff {
            SYN_REPLY => Frame::Reply(payload.get_u32()),
            RST_STREAM => Frame::Reset(payload.get_u32()),
            PING => {
                self.control(PING, &payload).await?;
                Frame::Other
            }
            _ => Frame::Other,
        }))
    }

    /// Whether the next frame is not whole yet.
    fn missing(&self) -> bool {
        let Some((mut header, rest)) = self.input.split_at_checked(HEADER) else { return true };
        header.advance(4);
        usize::try_from(header.get_u32() & 0x00ff_ffff).is_ok_and(|length| rest.len() < length)
    }

    async fn control(&mut self, kind: u32, payload: &[u8]) -> Result<()> {
        let mut frame = BytesMut::new();
        frame.put_u32(CONTROL | kind);
        frame.put_u32(u32::try_from(payload.len())?);
        frame.put_slice(payload);
        Ok(self.stream.write_all(&frame).await?)
    }
}

/// Opens both streams of a forwarded connection: the one for an error, and the one for its bytes.
pub async fn open_pair<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Spdy<S>,
    number: u32,
    port: &str,
) -> Result<(u32, u32)> {
    let (error, bytes) = (4 * number + 1, 4 * number + 3);
    let request = number.to_string();
    for (stream, kind) in [(error, "error"), (bytes, "data")] {
        let headers = [("streamtype", kind), ("port", port), ("requestid", &request)];
        client.open(stream, &headers).await?;
    }
    client.data(error, b"", Last::Yes).await?;
    Ok((error, bytes))
}

/// What a server says to a request through a forwarded port, or the error in its place.
pub async fn asked(cri: &mut Cri, pod: &str, port: u16) -> Result<String> {
    let url = cri.forward_url(pod, &[]).await?;
    let mut client = Spdy::connect(&url, "portforward.k8s.io").await?;
    let (error, bytes) = open_pair(&mut client, 0, &port.to_string()).await?;
    client.data(bytes, b"GET / HTTP/1.0\r\n\r\n", Last::Yes).await?;
    let mut got = String::new();
    loop {
        match client.next().await?.context("the connection ended early")? {
            Frame::Data(stream, bytes, last) => {
                got.push_str(&String::from_utf8_lossy(&bytes));
                // The stream of errors ends last.
                if stream == error && last == Last::Yes {
                    return Ok(got);
                }
            }
            Frame::Reset(_) | Frame::Reply(_) | Frame::Other => {}
        }
    }
}
