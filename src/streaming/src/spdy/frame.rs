//! Frames on the wire: from bytes to frames and back.
//!
//! ```text
//! control  1 version:15 type:16 | flags:8 length:24 | payload
//! data     0 stream:31          | flags:8 length:24 | payload
//! ```
//!
//! Only a control frame is kept until it is whole, and it may have [`CONTROL_CAP`] bytes at most. Data go on as they come
//! in, in pieces; control frames of unknown types are skipped as they come in. No count or length that a peer claims
//! is ever memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that each control frame bears: SPDY/3.1 calls itself 3.
const VERSION: u16 = 3;
const HEADER: usize = 8;
/// Payload of the longest control frame that is taken.
pub const CONTROL_CAP: usize = 64 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const INITIAL_WINDOW_SIZE: u32 = 7;
const CONTROL_BIT: u32 = 1 << 31;
const LENGTH_MASK: u32 = 0x00ff_ffff;

/// A control frame. Header blocks are as on the wire, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A stream is opened; priority, slot and the associated stream mean nothing to a server.
    SynStream {
        /// The new stream.
        stream: u32,
        /// The opener sends nothing on it.
        fin: bool,
        /// The opener wants nothing back on it.
        unidirectional: bool,
        /// The compressed header block.
        block: Bytes,
    },
    /// A stream is accepted.
    SynReply {
        /// The stream.
        stream: u32,
        /// The sender sends no more on it.
        fin: bool,
        /// The compressed header block.
        block: Bytes,
    },
    /// A stream ends at once.
    RstStream {
        /// The stream.
        stream: u32,
        /// Why, see [`Status`].
        status: u32,
    },
    /// Settings, of which only the initial window is of use to a server.
    Settings {
        /// What a stream's window starts with.
        initial_window: Option<u32>,
    },
    /// A question for a sign of life, or the answer to one: the parity of its id tells.
    Ping {
        /// Odd from clients, even from servers.
        id: u32,
    },
    /// The sender takes no more streams.
    GoAway {
        /// The last stream that it took.
        last: u32,
        /// 0 is no error, 1 a breach of the protocol, 2 an internal error.
        status: u32,
    },
    /// More headers on a stream.
    Headers {
        /// The stream.
        stream: u32,
        /// The sender sends no more on it.
        fin: bool,
        /// The compressed header block.
        block: Bytes,
    },
    /// The sender has room for more.
    WindowUpdate {
        /// The stream; 0 is the connection.
        stream: u32,
        /// So many bytes more.
        delta: u32,
    },
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The peer broke the rules.
    ProtocolError,
    /// There is no such stream.
    InvalidStream,
    /// The stream is not taken, and nothing was done for it.
    RefusedStream,
    /// The stream is of no use any more.
    Cancel,
    /// The peer's window has grown beyond what there is.
    FlowControlError,
    /// The peer sends on a stream that it had ended.
    StreamAlreadyClosed,
}

impl Status {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::ProtocolError => 1,
            Self::InvalidStream => 2,
            Self::RefusedStream => 3,
            Self::Cancel => 5,
            Self::FlowControlError => 7,
            Self::StreamAlreadyClosed => 9,
        }
    }
}

/// What comes in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A control frame.
    Control(Control),
    /// A piece of a data frame.
    Data {
        /// The stream.
        stream: u32,
        /// The piece, not empty unless the frame is.
        bytes: BytesMut,
        /// The sender sends no more on the stream.
        fin: bool,
    },
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A control frame of another version: its headers could not be read.
    #[error("failed to read a frame of SPDY version {version}: only version 3 is spoken")]
    Version {
        /// What the frame says.
        version: u16,
    },
    /// A control frame that is not worth its memory.
    #[error(
        "failed to read a control frame of type {kind}: its {length} bytes are over {CONTROL_CAP}"
    )]
    TooLarge {
        /// The frame's type.
        kind: u16,
        /// What it claims.
        length: usize,
    },
    /// A control frame whose length does not fit its type, or a count in it.
    #[error("failed to read a control frame of type {kind}: it cannot have {length} bytes")]
    Length {
        /// The frame's type.
        kind: u16,
        /// What it claims.
        length: usize,
    },
    /// A frame for a stream that cannot be.
    #[error("failed to read a frame of type {kind}: it is for stream 0")]
    ZeroStream {
        /// The frame's type; 0 is data.
        kind: u16,
    },
}

/// Cuts bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes left of a frame that is skipped.
    skipped: usize,
    data: Option<DataFrame>,
}

/// A data frame of which a part is still to come.
#[derive(Debug)]
struct DataFrame {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    /// Takes the next frame or piece of a frame off the front of the buffer; none if the rest of it is still to come.
    ///
    /// # Errors
    /// The bytes are no frame of this protocol. What follows in the buffer means nothing then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, FrameError> {
        loop {
            let skipped = self.skipped.min(buffer.len());
            buffer.advance(skipped);
            self.skipped -= skipped;
            if let Some(frame) = self.data.take() {
                return Ok(self.piece(frame, buffer));
            }
            let Some((mut header, _)) = buffer.split_at_checked(HEADER) else {
                return Ok(None);
            };
            let (first, second) = (header.get_u32(), header.get_u32());
            let [flags, ..] = second.to_be_bytes();
            let length = usize::try_from(second & LENGTH_MASK).unwrap_or(usize::MAX);
            if first & CONTROL_BIT == 0 {
                if first == 0 {
                    return Err(FrameError::ZeroStream { kind: 0 });
                }
                buffer.advance(HEADER);
                let frame = DataFrame { stream: first, left: length, fin: flags & FIN != 0 };
                if length == 0 {
                    return Ok(self.piece(frame, buffer));
                }
                self.data = Some(frame);
                continue;
            }
            let kind = control_kind(first)?;
            if !is_known(kind) {
                buffer.advance(HEADER);
                self.skipped = length;
                continue;
            }
            if length > CONTROL_CAP {
                return Err(FrameError::TooLarge { kind, length });
            }
            if buffer.len() < HEADER + length {
                return Ok(None);
            }
            buffer.advance(HEADER);
            let payload = buffer.split_to(length).freeze();
            return control(kind, flags, payload).map(|control| Some(Event::Control(control)));
        }
    }

    fn piece(&mut self, mut frame: DataFrame, buffer: &mut BytesMut) -> Option<Event> {
        if buffer.is_empty() && frame.left > 0 {
            self.data = Some(frame);
            return None;
        }
        let bytes = buffer.split_to(frame.left.min(buffer.len()));
        frame.left -= bytes.len();
        let (stream, fin) = (frame.stream, frame.fin && frame.left == 0);
        if frame.left > 0 {
            self.data = Some(frame);
        }
        Some(Event::Data { stream, bytes, fin })
    }
}

fn control_kind(first: u32) -> Result<u16, FrameError> {
    let [high, low, kind_high, kind_low] = first.to_be_bytes();
    let version = u16::from_be_bytes([high & 0x7f, low]);
    if version == VERSION {
        Ok(u16::from_be_bytes([kind_high, kind_low]))
    } else {
        Err(FrameError::Version { version })
    }
}

fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        SYN_STREAM | SYN_REPLY | RST_STREAM | SETTINGS | PING | GOAWAY | HEADERS | WINDOW_UPDATE
    )
}

fn control(kind: u16, flags: u8, mut payload: Bytes) -> Result<Control, FrameError> {
    let length = payload.len();
    let fits = match kind {
        SYN_STREAM => length >= 10,
        SYN_REPLY | HEADERS | SETTINGS => length >= 4,
        PING => length == 4,
        _ => length == 8,
    };
    if !fits {
        return Err(FrameError::Length { kind, length });
    }
    let first = payload.get_u32();
    let stream = first & !CONTROL_BIT;
    let fin = flags & FIN != 0;
    if stream == 0 && matches!(kind, SYN_STREAM | SYN_REPLY | RST_STREAM | HEADERS) {
        return Err(FrameError::ZeroStream { kind });
    }
    Ok(match kind {
        SYN_STREAM => {
            // The associated stream, priority and slot.
            payload.advance(6);
            let unidirectional = flags & UNIDIRECTIONAL != 0;
            Control::SynStream { stream, fin, unidirectional, block: payload }
        }
        SYN_REPLY => Control::SynReply { stream, fin, block: payload },
        RST_STREAM => Control::RstStream { stream, status: payload.get_u32() },
        SETTINGS => Control::Settings { initial_window: initial_window(first, payload)? },
        PING => Control::Ping { id: first },
        GOAWAY => Control::GoAway { last: stream, status: payload.get_u32() },
        HEADERS => Control::Headers { stream, fin, block: payload },
        _ => Control::WindowUpdate { stream, delta: payload.get_u32() & !CONTROL_BIT },
    })
}

fn initial_window(count: u32, mut payload: Bytes) -> Result<Option<u32>, FrameError> {
    if u64::from(count) * 8 != u64::try_from(payload.len()).unwrap_or(u64::MAX) {
        return Err(FrameError::Length { kind: SETTINGS, length: payload.len() + 4 });
    }
    let mut window = None;
    while payload.has_remaining() {
        let (id, value) = (payload.get_u32() & LENGTH_MASK, payload.get_u32());
        if id == INITIAL_WINDOW_SIZE {
            window = Some(value);
        }
    }
    Ok(window)
}

impl Control {
    /// Appends the frame to a buffer.
    pub fn put(&self, buffer: &mut BytesMut) {
        match self {
            Self::SynStream { stream, fin, unidirectional, block } => {
                let flags = flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL);
                put_header(buffer, SYN_STREAM, flags, 10 + block.len());
                buffer.put_u32(*stream);
                buffer.put_bytes(0, 6);
                buffer.put_slice(block);
            }
            Self::SynReply { stream, fin, block } => {
                put_header(buffer, SYN_REPLY, flag(*fin, FIN), 4 + block.len());
                buffer.put_u32(*stream);
                buffer.put_slice(block);
            }
            Self::RstStream { stream, status } => put_pair(buffer, RST_STREAM, *stream, *status),
            Self::Settings { initial_window } => {
                put_header(buffer, SETTINGS, 0, if initial_window.is_some() { 12 } else { 4 });
                buffer.put_u32(u32::from(initial_window.is_some()));
                if let Some(window) = initial_window {
                    buffer.put_u32(INITIAL_WINDOW_SIZE);
                    buffer.put_u32(*window);
                }
            }
            Self::Ping { id } => {
                put_header(buffer, PING, 0, 4);
                buffer.put_u32(*id);
            }
            Self::GoAway { last, status } => put_pair(buffer, GOAWAY, *last, *status),
            Self::Headers { stream, fin, block } => {
                put_header(buffer, HEADERS, flag(*fin, FIN), 4 + block.len());
                buffer.put_u32(*stream);
                buffer.put_slice(block);
            }
            Self::WindowUpdate { stream, delta } => {
                put_pair(buffer, WINDOW_UPDATE, *stream, *delta);
            }
        }
    }
}

/// Appends a data frame to a buffer.
pub fn put_data(buffer: &mut BytesMut, stream: u32, bytes: &[u8], fin: bool) {
    buffer.put_u32(stream);
    buffer.put_u32(length_word(flag(fin, FIN), bytes.len()));
    buffer.put_slice(bytes);
}

fn put_pair(buffer: &mut BytesMut, kind: u16, first: u32, second: u32) {
    put_header(buffer, kind, 0, 8);
    buffer.put_u32(first);
    buffer.put_u32(second);
}

fn put_header(buffer: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    buffer.put_u32(CONTROL_BIT | (u32::from(VERSION) << 16) | u32::from(kind));
    buffer.put_u32(length_word(flags, length));
}

/// What we send is cut into pieces far below the 16 MiB that fit into a length.
fn length_word(flags: u8, length: usize) -> u32 {
    (u32::from(flags) << 24) | (u32::try_from(length).unwrap_or(u32::MAX) & LENGTH_MASK)
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

#[cfg(test)]
mod tests;
