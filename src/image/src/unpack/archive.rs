//! Reading a tar archive as a sequence of entries: POSIX pax, ustar, GNU and the oldest form.
//!
//! Why not a ready-made reader: every count and length in an archive is chosen by whoever made it, so each needs a cap
//! here, and two readers that disagree on where an entry ends would see different files. What is ambiguous is refused.

mod header;
mod pax;
mod sparse;

use header::{BLOCK, Header};
use std::io::{self, BufRead};

/// The longest name, and the most that one extended header may say.
const LONGEST_NAME: u64 = 64 << 10;
const LONGEST_PAX: u64 = 1 << 20;
/// How many extended headers may stand before one entry.
const MOST_PREFIXES: usize = 16;

/// Why an archive cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The stream broke.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The archive is not what the formats allow.
    #[error("malformed archive: {0}")]
    Malformed(&'static str),
    /// The archive has something that this reader has no use for.
    #[error("entry of type '{}' is not supported", char::from(*.0).escape_default())]
    UnsupportedType(u8),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A point in time as archives and the kernel have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mtime {
    /// Seconds since the epoch, rounded down.
    pub(crate) seconds: i64,
    /// The rest.
    pub(crate) nanoseconds: u32,
}

/// A piece of a sparse file that is stored; the rest is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    /// How long the file is, holes included.
    pub(crate) size: u64,
    /// Where the stored content goes, for a sparse file.
    pub(crate) regions: Option<Vec<Region>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) device: (u32, u32),
}

/// An archive that is being read.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    source: R,
    /// Content of the present entry that was not taken yet.
    content: u64,
    /// Zeros after it, up to the next block.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, content: 0, padding: 0 }
    }

    /// The next entry; what was not read of the last one is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut pax = pax::Records::default();
        let mut long_name = None;
        let mut long_link = None;
        for prefixes in 0..MOST_PREFIXES {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else {
                return if prefixes == 0 {
                    Ok(None)
                } else {
                    Err(ArchiveError::Malformed("an extended header without an entry"))
                };
            };
            match header.type_flag() {
                b'x' => pax.merge(&self.read_meta(&header, LONGEST_PAX)?)?,
                b'g' => pax::check_global(&self.read_meta(&header, LONGEST_PAX)?)?,
                b'L' => long_name = Some(until_nul(self.read_meta(&header, LONGEST_NAME)?)),
                b'K' => long_link = Some(until_nul(self.read_meta(&header, LONGEST_NAME)?)),
                _ => return self.entry(&header, pax, Names { long_name, long_link }).map(Some),
            }
        }
        Err(ArchiveError::Malformed("too many extended headers before one entry"))
    }

    /// A piece of the present entry's stored content, empty at its end. Say with [`Self::consume`] how much was used.
    pub(crate) fn content(&mut self) -> Result<&[u8], ArchiveError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
        if buffer.is_empty() {
            return Err(ends_early());
        }
        let length =
            usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// So many bytes of what [`Self::content`] gave were used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.content = self.content.saturating_sub(length_of(length));
    }

    /// Reads what follows the archive's end, because the layer's digest covers it.
    pub(crate) fn drain(mut self) -> Result<R, ArchiveError> {
        loop {
            let length = self.source.fill_buf().map_err(ArchiveError::Read)?.len();
            if length == 0 {
                return Ok(self.source);
            }
            self.source.consume(length);
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        mut pax: pax::Records,
        names: Names,
    ) -> Result<Entry, ArchiveError> {
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        self.start_content(stored)?;
        let old_sparse = header.type_flag() == b'S';
        let mut sparse = pax.sparse.take().map_or(sparse::Sparse::Not, |sparse| sparse);
        if old_sparse {
            sparse = sparse::Sparse::Map(self.read_old_sparse(header)?);
        }
        let path =
            sparse.name().or(pax.path.take()).or(names.long_name).unwrap_or_else(|| header.name());
        let kind = kind_of(header.type_flag(), &path)?;
        if kind != Kind::File && stored != 0 {
            return Err(ArchiveError::Malformed("content where the entry can have none"));
        }
        let layout = self.sparse_layout(sparse, stored)?;
        let (size, regions) = match layout {
            Some((size, regions)) => (size, Some(regions)),
            None => (stored, None),
        };
        let link = pax.link.take().or(names.long_link).unwrap_or_else(|| header.link());
        for name in [&path, &link] {
            if name.contains(&0) {
                return Err(ArchiveError::Malformed("a name with a NUL"));
            }
        }
        Ok(Entry {
            path,
            kind,
            link,
            mode: header.mode()? & 0o7777,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: pax.mtime.map_or_else(|| header.mtime(), Ok)?,
            size,
            regions,
            xattrs: pax.xattrs,
            device: header.device()?,
        })
    }

    fn start_content(&mut self, stored: u64) -> Result<(), ArchiveError> {
        self.content = stored;
        self.padding = stored
            .checked_next_multiple_of(BLOCK)
            .ok_or(ArchiveError::Malformed("an impossible size"))?
            - stored;
        Ok(())
    }

    fn read_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.iter().any(|&byte| byte != 0) {
            return Header::parse(block).map(Some);
        }
        // The end is two blocks of zeros; some writers leave off the second.
        match self.read_block()? {
            Some(block) if block.iter().any(|&byte| byte != 0) => {
                Err(ArchiveError::Malformed("a lone block of zeros"))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// A block, or nothing at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; 512]>, ArchiveError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(ends_early()) };
            }
            let length = buffer.len().min(block.len() - filled);
            block[filled..filled + length].copy_from_slice(&buffer[..length]);
            self.source.consume(length);
            filled += length;
        }
        Ok(Some(block))
    }

    fn read_meta(&mut self, header: &Header, longest: u64) -> Result<Vec<u8>, ArchiveError> {
        let size = header.size()?;
        if size > longest {
            return Err(ArchiveError::Malformed("an extended header is too long"));
        }
        self.start_content(size)?;
        let mut bytes = Vec::new();
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
    }

    fn read_old_sparse(&mut self, header: &Header) -> Result<sparse::Map, ArchiveError> {
        let mut map = header.old_sparse_map()?;
        let mut more = header.old_sparse_continues();
        // The continuation stands before the content and does not count as such.
        while more {
            let block = self.read_block()?.ok_or_else(ends_early)?;
            more = map.extend_from_block(&block)?;
        }
        Ok(map)
    }

    /// The size of the whole file and its stored regions, if it is sparse.
    fn sparse_layout(
        &mut self,
        sparse: sparse::Sparse,
        stored: u64,
    ) -> Result<Option<(u64, Vec<Region>)>, ArchiveError> {
        let (map, stored) = match sparse {
            sparse::Sparse::Not => return Ok(None),
            sparse::Sparse::Map(map) => (map, stored),
            sparse::Sparse::InContent { size, .. } => {
                let map = sparse::read_from_content(size, self)?;
                (map, self.content)
            }
        };
        map.checked(stored).map(Some)
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let mut left = self.content + self.padding;
        while left > 0 {
            let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
            if buffer.is_empty() {
                return Err(ends_early());
            }
            let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.source.consume(length);
            left -= length_of(length);
        }
        self.content = 0;
        self.padding = 0;
        Ok(())
    }
}

struct Names {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

fn kind_of(type_flag: u8, path: &[u8]) -> Result<Kind, ArchiveError> {
    Ok(match type_flag {
        // The oldest form has no type for directories.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(ArchiveError::UnsupportedType(other)),
    })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn ends_early() -> ArchiveError {
    ArchiveError::Malformed("it ends in the middle of an entry")
}

fn length_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
