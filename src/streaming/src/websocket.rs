//! WebSocket after the handshake: numbered channels, or one stream of bytes, over a connection.
//!
//! One task owns the socket. What a channel gets waits in a short queue; while it is full nothing more is read, which
//! holds the client up: the protocol has no window of its own. What is written goes through one short queue for all
//! channels, in turn. Idle means no message and no ping from the client and none of ours that carries bytes; our own pings,
//! which keep proxies from forgetting the connection, and the answers to them do not count.

mod channel;

pub(crate) use channel::Channel;

use crate::negotiate::{Encoding, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// How often we ask whether the client is there.
const PING_PERIOD: Duration = Duration::from_secs(30);

/// How long a client has to answer that we close.
const FAREWELL: Duration = Duration::from_secs(2);

/// The largest message that is taken: clients that have all their input at hand send it as one.
const LARGEST_MESSAGE: usize = 16 << 20;

/// Messages that wait, in each direction.
const QUEUE: usize = 4;

/// The byte that says which channel ends, in version 5.
const END_OF_CHANNEL: u8 = 255;

/// How messages are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The first byte is the number of a channel.
    Channels(Encoding, HalfClose),
    /// All bytes are those of one stream.
    Tunnel,
}

/// Whether a client can end a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HalfClose {
    /// By a message for that.
    Spoken,
    /// Not at all.
    Unspoken,
}

impl Framing {
    /// Channels as this version of remote commands has them.
    pub(crate) fn of(version: Version, encoding: Encoding) -> Self {
        let half_close = match version {
            Version::V5 => HalfClose::Spoken,
            Version::V1 | Version::V2 | Version::V3 | Version::V4 => HalfClose::Unspoken,
        };
        Self::Channels(encoding, half_close)
    }

    /// A piece of a channel as a message.
    fn message(self, channel: u8, piece: &[u8]) -> Message {
        match self {
            Self::Tunnel => Message::Binary(Bytes::copy_from_slice(piece)),
            Self::Channels(Encoding::Binary, _) => {
                let mut message = Vec::with_capacity(1 + piece.len());
                message.push(channel);
                message.extend_from_slice(piece);
                Message::Binary(message.into())
            }
            Self::Channels(Encoding::Base64, _) => {
                let mut message = String::with_capacity(1 + piece.len().div_ceil(3) * 4);
                message.push(char::from(b'0'.saturating_add(channel)));
                STANDARD.encode_string(piece, &mut message);
                Message::Text(message.into())
            }
        }
    }
}

/// The socket, of which the channels are parts. Dropping it ends the connection at once.
#[derive(Debug)]
pub(crate) struct WebSocket {
    task: JoinHandle<()>,
}

impl WebSocket {
    /// Serves this connection with so many channels, for clients that are not idle for longer than `idle`.
    pub(crate) async fn open<I>(
        io: I,
        framing: Framing,
        channels: u8,
        idle: Option<Duration>,
    ) -> (Self, Vec<Channel>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(LARGEST_MESSAGE))
            .max_frame_size(Some(LARGEST_MESSAGE))
            .read_buffer_size(32 << 10)
            .write_buffer_size(32 << 10);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
        let (queue, written) = mpsc::channel(QUEUE);
        let mut read = Vec::new();
        let mut parts = Vec::new();
        for number in 0..channels {
            let (sender, receiver) = mpsc::channel(QUEUE);
            read.push(Some(sender));
            parts.push(Channel::new(number, framing, receiver, queue.clone()));
        }
        let reader = Reader { framing, channels: read };
        let task = tokio::spawn(serve(socket, reader, written, idle));
        (Self { task }, parts)
    }

    /// Waits until the connection has ended: because the client wants it, because it was idle, or because all channels
    /// were dropped and what they wrote was sent.
    pub(crate) async fn ended(&mut self) {
        // A panic of the task ends the connection just so, and is shown where panics are.
        drop((&mut self.task).await);
    }

    /// The same for who wants to know of a panic.
    #[cfg(test)]
    pub(crate) async fn joined(mut self) -> Result<(), tokio::task::JoinError> {
        (&mut self.task).await
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When bytes or pings were last seen.
#[derive(Debug)]
struct Activity(Mutex<Instant>);

impl Activity {
    fn begin() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn seen(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing was seen for so long.
    async fn ceased(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = self.last();
            tokio::time::sleep_until(last + limit).await;
            if self.last() == last {
                return;
            }
        }
    }
}

async fn serve<I>(
    socket: WebSocketStream<I>,
    mut reader: Reader,
    mut written: mpsc::Receiver<Message>,
    idle: Option<Duration>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let activity = Activity::begin();
    let farewell = tokio::select! {
        ended = reader.read(&mut stream, &activity) => match ended {
            ReadEnd::Closed => return,
            ReadEnd::Nonsense(code, why) => (code, why),
        },
        sent = write(&mut sink, &mut written, &activity) => match sent {
            Ok(()) => (CloseCode::Normal, ""),
            Err(_gone) => return,
        },
        () = activity.ceased(idle) => {
            tracing::debug!("a streaming connection was idle for too long");
            (CloseCode::Away, "idle")
        }
    };
    let (code, reason) = farewell;
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    let close = async {
        // A client that is gone needs no farewell; one that answers does so before it closes.
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_late)) = stream.next().await {}
        }
    };
    if tokio::time::timeout(FAREWELL, close).await.is_err() {
        tracing::debug!("a streaming client did not answer that its connection ends");
    }
}

/// Sends what the channels write until all of them are dropped, and a ping now and then.
async fn write<I>(
    sink: &mut SplitSink<WebSocketStream<I>, Message>,
    written: &mut mpsc::Receiver<Message>,
    activity: &Activity,
) -> Result<(), tungstenite::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = tokio::time::interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = written.recv() => message,
            _ = ping.tick() => {
                sink.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        let Some(message) = message else { return Ok(()) };
        sink.feed(message).await?;
        while let Ok(next) = written.try_recv() {
            sink.feed(next).await?;
        }
        sink.flush().await?;
        activity.seen();
    }
}

/// What the client sends, and whom it is for.
#[derive(Debug)]
struct Reader {
    framing: Framing,
    /// None: the client ended it.
    channels: Vec<Option<mpsc::Sender<Bytes>>>,
}

/// Why there is nothing more to read.
#[derive(Debug)]
enum ReadEnd {
    /// The client closed, or is gone.
    Closed,
    /// It does not keep to the protocol.
    Nonsense(CloseCode, &'static str),
}

impl Reader {
    async fn read<I>(
        &mut self,
        stream: &mut SplitStream<WebSocketStream<I>>,
        activity: &Activity,
    ) -> ReadEnd
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(tungstenite::Error::Capacity(_))) => {
                    return ReadEnd::Nonsense(CloseCode::Size, "a message is too large");
                }
                Some(Err(_)) | None => return ReadEnd::Closed,
            };
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Ping(_) => {
                    activity.seen();
                    continue;
                }
                // After a close the stream ends by itself, when our answer was sent.
                Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
            };
            activity.seen();
            if let Err(why) = self.pass_on(bytes).await {
                return ReadEnd::Nonsense(CloseCode::Protocol, why);
            }
            // Bytes may have waited here for as long as the program did not take them.
            activity.seen();
        }
    }

    async fn pass_on(&mut self, mut message: Bytes) -> Result<(), &'static str> {
        let Framing::Channels(encoding, half_close) = self.framing else {
            return self.give(0, message).await;
        };
        let Some(first) = message.first().copied() else { return Ok(()) };
        let mut piece = message.split_off(1);
        if first == END_OF_CHANNEL && half_close == HalfClose::Spoken {
            let [channel] = piece[..] else { return Err("which channel ends was not said") };
            let channel = self.channels.get_mut(usize::from(channel));
            channel.ok_or("there is no such channel")?.take();
            return Ok(());
        }
        let channel = match encoding {
            Encoding::Binary => first,
            Encoding::Base64 => {
                piece = STANDARD.decode(&piece).map_err(|_wrong| "that is not base64")?.into();
                first.checked_sub(b'0').ok_or("there is no such channel")?
            }
        };
        if piece.is_empty() { Ok(()) } else { self.give(channel, piece).await }
    }

    async fn give(&mut self, channel: u8, piece: Bytes) -> Result<(), &'static str> {
        let channel = self.channels.get(usize::from(channel)).ok_or("there is no such channel")?;
        if let Some(sender) = channel
            && let Err(_unread) = sender.send(piece).await
        {
            // Nobody reads this channel, or does so no more.
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
