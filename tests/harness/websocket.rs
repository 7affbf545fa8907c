//! A WebSocket client of the streaming server: numbered channels, over any byte stream.

use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// A client, and what it got so far on each channel.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    socket: WebSocketStream<S>,
    /// What came, by channel.
    pub got: BTreeMap<u8, Vec<u8>>,
}

impl Client {
    /// Connects to a URL that is not encrypted.
    pub async fn connect(url: &str, protocol: &str) -> Result<Self> {
        let stream = TcpStream::connect(address(url)?).await?;
        Self::over(stream, url, protocol).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Shakes hands on a connection to the URL's server.
    pub async fn over(stream: S, url: &str, protocol: &str) -> Result<Self> {
        let mut request = url.replacen("http", "ws", 1).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse()?);
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await?;
        let agreed = answer.headers().get("Sec-WebSocket-Protocol");
        ensure!(agreed.is_some_and(|agreed| agreed == protocol), "{answer:?}");
        Ok(Self { socket, got: BTreeMap::new() })
    }

    /// Sends a piece of a channel.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let message: Bytes = [&[channel][..], bytes].concat().into();
        Ok(self.socket.send(Message::Binary(message)).await?)
    }

    /// Reads until a channel has had some text.
    pub async fn expect(&mut self, channel: u8, text: &str) -> Result<()> {
        while !self.text(channel).contains(text) {
            ensure!(self.read().await?, "{text:?} did not come: {:?}", self.got);
        }
        Ok(())
    }

    /// Reads to the end; the status.
    pub async fn finish(&mut self) -> Result<String> {
        while self.read().await? {}
        Ok(self.text(3))
    }

    /// What a channel has had.
    #[must_use]
    pub fn text(&self, channel: u8) -> String {
        let got = self.got.get(&channel);
        String::from_utf8_lossy(got.map_or(&[], Vec::as_slice)).into_owned()
    }

    /// Reads one message; false at the end.
    pub async fn read(&mut self) -> Result<bool> {
        let next = tokio::time::timeout(wait::DEADLINE, self.socket.next()).await;
        match next.context("nothing came for too long")? {
            Some(Ok(Message::Binary(bytes))) => {
                if let [channel, rest @ ..] = &bytes[..] {
                    self.got.entry(*channel).or_default().extend_from_slice(rest);
                }
                Ok(true)
            }
            Some(Ok(Message::Close(_))) | None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => bail!("the connection broke: {error}"),
        }
    }
}

/// A stream of bytes in the messages of a WebSocket: what one end of a pipe gets, the other end's connection carries. Dropped,
/// the connection is.
pub async fn tunnel(url: &str, protocol: &str) -> Result<DuplexStream> {
    let Client { socket, got: _ } = Client::connect(url, protocol).await?;
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let (mut sink, mut stream) = socket.split();
        let sending = async {
            let mut piece = vec![0; 16 << 10];
            while let Ok(length @ 1..) = reader.read(&mut piece).await {
                let message = Bytes::copy_from_slice(&piece[..length]);
                if sink.send(Message::Binary(message)).await.is_err() {
                    return;
                }
            }
        };
        let receiving = async {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Binary(bytes) = message else { continue };
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        // Either side may leave; the test sees the end of the stream.
        tokio::select! {
            () = sending => {}
            () = receiving => {}
        }
    });
    Ok(near)
}

/// Address and port of a URL.
pub fn address(url: &str) -> Result<&str> {
    let (_, rest) = url.split_once("://").with_context(|| format!("{url:?} is no URL"))?;
    Ok(rest.split('/').next().unwrap_or_default())
}
