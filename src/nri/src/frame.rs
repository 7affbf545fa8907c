//! Bytes on the one connection to a plugin: ttrpc messages of two connections, multiplexed.
//!
//! A frame is the number of a connection, a length and so many bytes of that connection's stream, all numbers big-endian.
//! A ttrpc message is a header of ten bytes and a payload. Frames say nothing about messages, but Go's library reads each
//! frame into the buffer it has just then: four kilobytes while it expects a header, the rest of the message afterwards.
//! So a message goes in one frame if it is that small, and else in two.

/// The connection on which plugins serve.
pub(crate) const PLUGIN_SERVICE: u32 = 1;
/// The connection on which the runtime serves.
pub(crate) const RUNTIME_SERVICE: u32 = 2;
/// The largest payload of a message.
pub(crate) const LARGEST_MESSAGE: usize = 4 << 20;
/// Length of a frame's header.
pub(crate) const FRAME_HEADER: usize = 8;

const MESSAGE_HEADER: usize = 10;
const LARGEST_FRAME: usize = MESSAGE_HEADER + LARGEST_MESSAGE;
const FIRST_FRAME: usize = 4096;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call.
    Request,
    /// The answer to one.
    Response,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is.
    pub(crate) kind: Kind,
    /// Which call it belongs to.
    pub(crate) stream: u32,
    /// Its content.
    pub(crate) payload: Vec<u8>,
}

/// Bytes that are none of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A frame or message that says it is larger than any.
    #[error("it says that {0} bytes follow, which is more than ever")]
    TooLarge(u32),
    /// A message of a kind that there is not.
    #[error("a message is of kind {0}")]
    Kind(u8),
}

/// The bytes of a message on a connection.
pub(crate) fn encode(connection: u32, message: &Message) -> Vec<u8> {
    let (kind, flags) = match message.kind {
        // No more of the request comes: it is no stream.
        Kind::Request => (1, 1),
        Kind::Response => (2, 0),
    };
    let mut whole = Vec::with_capacity(MESSAGE_HEADER + message.payload.len());
    whole.extend(length(message.payload.len()).to_be_bytes());
    whole.extend(message.stream.to_be_bytes());
    whole.extend([kind, flags]);
    whole.extend(&message.payload);
    let (first, rest) = whole.split_at(whole.len().min(FIRST_FRAME));
    let mut bytes = Vec::with_capacity(whole.len() + 2 * FRAME_HEADER);
    for frame in [first, rest].into_iter().filter(|frame| !frame.is_empty()) {
        bytes.extend(connection.to_be_bytes());
        bytes.extend(length(frame.len()).to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// Callers send nothing that is larger than [`LARGEST_MESSAGE`].
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Connection and length of the frame that follows its header.
///
/// # Errors
/// It is larger than any.
pub(crate) fn frame(header: [u8; FRAME_HEADER]) -> Result<(u32, u32), FrameError> {
    let [a, b, c, d, e, f, g, h] = header;
    let length = u32::from_be_bytes([e, f, g, h]);
    if length as usize > LARGEST_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    Ok((u32::from_be_bytes([a, b, c, d]), length))
}

/// Messages out of the frames of one connection. It holds less than one message beside the last frame.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
    /// How many of these were taken already. They go once for each frame, not for each message: a frame may have very many.
    taken: usize,
}

impl Assembler {
    /// Where the next frame is to be added, at the end.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        drop(self.bytes.drain(..self.taken));
        self.taken = 0;
        &mut self.bytes
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// What came is no message.
    pub(crate) fn message(&mut self) -> Result<Option<Message>, FrameError> {
        let left = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = left.split_first_chunk::<MESSAGE_HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h, kind, _flags] = *header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length as usize > LARGEST_MESSAGE {
            return Err(FrameError::TooLarge(length));
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            other => return Err(FrameError::Kind(other)),
        };
        let Some(payload) = rest.get(..length as usize) else { return Ok(None) };
        let stream = u32::from_be_bytes([e, f, g, h]);
        let message = Message { kind, stream, payload: payload.to_owned() };
        self.taken += MESSAGE_HEADER + length as usize;
        if self.taken == self.bytes.len() {
            // A large message is rare, and no reason to keep room for another.
            *self = Self::default();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Message {
        Message { kind: Kind::Request, stream: 7, payload: vec![42; length] }
    }

    /// The frames of some bytes.
    fn frames(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk() {
            let (connection, length) = frame(*header).unwrap();
            let (content, rest) = rest.split_at(length as usize);
            frames.push((connection, content.to_owned()));
            bytes = rest;
        }
        frames
    }

    #[test]
    fn a_message_is_one_small_frame_or_a_small_one_and_the_rest() {
        for (length, expected) in
            [(0, &[10][..]), (4086, &[4096]), (4087, &[4096, 1]), (100_000, &[4096, 95_914])]
        {
            let frames = frames(&encode(PLUGIN_SERVICE, &message(length)));
            let lengths: Vec<usize> = frames.iter().map(|(_, content)| content.len()).collect();
            assert_eq!(lengths, expected, "{length}");
            assert!(frames.iter().all(|(connection, _)| *connection == PLUGIN_SERVICE));
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_were_cut() {
        let whole: Vec<u8> = [message(3), message(0), message(5000)]
            .iter()
            .flat_map(|message| frames(&encode(RUNTIME_SERVICE, message)))
            .flat_map(|(_, content)| content)
            .collect();
        for size in [1, 7, 4096, whole.len()] {
            let mut assembler = Assembler::default();
            let mut found = Vec::new();
            for piece in whole.chunks(size) {
                assembler.room().extend(piece);
                while let Some(message) = assembler.message().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [message(3), message(0), message(5000)], "{size}");
            assert!(assembler.bytes.is_empty());
        }
    }

    #[test]
    fn what_is_larger_than_ever_or_of_no_kind_is_refused() {
        frame([0, 0, 0, 1, 0, 0x40, 0, 10]).unwrap();
        frame([0, 0, 0, 1, 0, 0x40, 0, 11]).unwrap_err();
        let outcome = |bytes: &[u8]| {
            let mut assembler = Assembler::default();
            assembler.room().extend(bytes);
            assembler.message()
        };
        let large = outcome(&[0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0]);
        assert_eq!(large, Err(FrameError::TooLarge(0x40_0001)));
        assert_eq!(outcome(&[0, 0, 0, 0, 0, 0, 0, 1, 3, 0]), Err(FrameError::Kind(3)));
    }

    #[test]
    fn very_many_small_messages_come_out_of_one_frame() {
        let one = encode(PLUGIN_SERVICE, &message(0));
        let mut assembler = Assembler::default();
        let wanted = 300_000;
        for _ in 0..wanted {
            assembler.room().extend(one.iter().skip(FRAME_HEADER));
        }
        let mut found = 0;
        while assembler.message().unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, wanted);
    }
}
