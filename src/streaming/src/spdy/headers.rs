//! Headers: the name/value block, and its compression.
//!
//! All blocks of one direction are one zlib stream that starts with a [known text](super::dictionary). So each block
//! that comes in must be inflated, also one of a stream that is refused; and one that cannot be inflated ends the connection.
//!
//! We answer with next to no headers. So what goes out is zlib's form for stored bytes: as good for every reader, and without
//! the quarter of a megabyte that a compressor takes.

use super::dictionary;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Decompress, DecompressError, FlushDecompress, Status};

/// Bytes that one block may have inflated.
pub const BLOCK_CAP: usize = 16 << 10;
/// Headers that one block may have.
pub const COUNT_CAP: usize = 128;

/// Headers of one stream, in the order of the wire; names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

/// A header block that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not zlib, or not with the dictionary of SPDY/3.
    #[error("failed to inflate a header block")]
    Inflate(#[source] DecompressError),
    /// The peer ended the zlib stream, or a block in the midst of its bits.
    #[error("failed to inflate a header block: it ends early")]
    Cut,
    /// More than headers need.
    #[error(
        "failed to inflate a header block: it has over {BLOCK_CAP} bytes or {COUNT_CAP} headers"
    )]
    TooLarge,
    /// Lengths that do not add up.
    #[error("failed to read a header block: its lengths do not fit")]
    Lengths,
    /// A name or value that may not be; the connection is none the worse for it.
    #[error("failed to read header {name:?}: it is no header or is given twice")]
    Name {
        /// The name, as far as it can be shown.
        name: String,
    },
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more. Several values of one name are one value, with NUL between them.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The first value of a name, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        value.split('\0').next()
    }

    /// Names and values, several values of one name with NUL between them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Reads an inflated block.
    ///
    /// # Errors
    /// The block's lengths do not fit, or it has a name that may not be.
    pub fn parse(mut block: &[u8]) -> Result<Self, HeaderError> {
        let count = block.try_get_u32().map_err(lengths)?;
        if usize::try_from(count).is_ok_and(|count| count > COUNT_CAP) {
            return Err(HeaderError::TooLarge);
        }
        let mut headers = Self::default();
        let mut wrong = None;
        for _ in 0..count {
            let (name, value) = (text(&mut block)?, text(&mut block)?);
            let known = headers.0.iter().any(|(known, _)| known.as_bytes() == name);
            let lower = !name.is_empty() && !name.iter().any(u8::is_ascii_uppercase);
            match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                (Ok(name), Ok(value)) if lower && !known => {
                    headers.0.push((name.to_owned(), value.to_owned()));
                }
                _ => wrong = Some(String::from_utf8_lossy(name).into_owned()),
            }
        }
        match wrong {
            _ if !block.is_empty() => Err(HeaderError::Lengths),
            Some(name) => Err(HeaderError::Name { name }),
            None => Ok(headers),
        }
    }

    /// The block as it is before compression.
    pub fn block(&self) -> BytesMut {
        let mut block = BytesMut::new();
        block.put_u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
            block.put_slice(text.as_bytes());
        }
        block
    }
}

fn text<'a>(block: &mut &'a [u8]) -> Result<&'a [u8], HeaderError> {
    let length = usize::try_from(block.try_get_u32().map_err(lengths)?).unwrap_or(usize::MAX);
    let (text, rest) = block.split_at_checked(length).ok_or(HeaderError::Lengths)?;
    *block = rest;
    Ok(text)
}

fn lengths(_: bytes::TryGetError) -> HeaderError {
    HeaderError::Lengths
}

/// The header blocks that come in, one after the other.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    /// Inflates the next block.
    ///
    /// # Errors
    /// The block is not to be inflated, or is longer than it may be. Nothing that follows can be inflated then.
    pub fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut inflated = Vec::with_capacity(256);
        loop {
            let before = (self.0.total_in(), inflated.len());
            let outcome = self.0.decompress_vec(block, &mut inflated, FlushDecompress::Sync);
            let read = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            block = block.get(read..).unwrap_or_default();
            match outcome {
                Ok(Status::Ok | Status::BufError) if inflated.len() > BLOCK_CAP => {
                    return Err(HeaderError::TooLarge);
                }
                // A full vector may have left something behind.
                Ok(Status::Ok | Status::BufError) if inflated.len() == inflated.capacity() => {
                    inflated.reserve(inflated.len());
                }
                Ok(Status::Ok | Status::BufError) if block.is_empty() => return Ok(inflated),
                Ok(Status::Ok | Status::BufError) if before.1 < inflated.len() || read > 0 => {}
                Ok(_) => return Err(HeaderError::Cut),
                Err(fault) if fault.needs_dictionary() == Some(dictionary::ADLER) => {
                    self.0.set_dictionary(&dictionary::bytes()).map_err(HeaderError::Inflate)?;
                }
                Err(fault) => return Err(HeaderError::Inflate(fault)),
            }
        }
    }
}

/// The header blocks that go out, one after the other.
#[derive(Debug, Default)]
pub struct Packer {
    started: bool,
}

impl Packer {
    /// The next block, as zlib stores bytes that are not compressed.
    pub fn pack(&mut self, headers: &Headers) -> Bytes {
        let block = headers.block();
        let mut packed = BytesMut::with_capacity(block.len() + 16);
        if !self.started {
            self.started = true;
            // Deflate with a window of 32 KiB and a dictionary, which is named by its sum.
            packed.put_slice(&[0x78, 0xbb]);
            packed.put_u32(dictionary::ADLER);
        }
        for part in block.chunks(usize::from(u16::MAX)) {
            put_stored(&mut packed, part);
        }
        // The empty part is the mark of a flush: some readers hold back what they have until they see it.
        put_stored(&mut packed, &[]);
        packed.freeze()
    }
}

fn put_stored(packed: &mut BytesMut, part: &[u8]) {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    packed.put_u8(0);
    packed.put_u16_le(length);
    packed.put_u16_le(!length);
    packed.put_slice(part);
}

#[cfg(test)]
mod tests;
