//! Files with holes: GNU tar's own form, and its three forms within pax.

use super::header::{self, BLOCK};
use super::pax::decimal;
use super::{Archive, ArchiveError, Region};
use std::io::BufRead;

const MOST_REGIONS: usize = 65_536;
const LONGEST_NUMBER: usize = 20;

/// How an entry is sparse.
#[derive(Debug)]
pub(super) enum Sparse {
    /// It is not.
    Not,
    /// The map is known.
    Map(Map),
    /// The map stands at the beginning of the content.
    InContent {
        /// How long the whole file is.
        size: u64,
        /// The file's true name.
        name: Option<Vec<u8>>,
    },
}

impl Sparse {
    /// The true name of the entry, if the map has it.
    pub(super) fn name(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Not => None,
            Self::Map(map) => map.name.take(),
            Self::InContent { name, .. } => name.take(),
        }
    }
}

/// Where the stored pieces of a file belong.
#[derive(Debug)]
pub(super) struct Map {
    size: u64,
    name: Option<Vec<u8>>,
    regions: Vec<Region>,
}

impl Map {
    pub(super) fn new(size: u64) -> Self {
        Self { size, name: None, regions: Vec::new() }
    }

    /// Takes a continuation block; says whether another one follows.
    pub(super) fn extend_from_block(&mut self, block: &[u8; 512]) -> Result<bool, ArchiveError> {
        self.extend_from_table(&block[..504])?;
        Ok(block[504] != 0)
    }

    /// Takes pairs of offset and length, twelve bytes each, up to the first empty one.
    pub(super) fn extend_from_table(&mut self, table: &[u8]) -> Result<(), ArchiveError> {
        for pair in table.chunks_exact(24).take_while(|pair| pair[0] != 0) {
            let (offset, length) = pair.split_at(12);
            self.push(header::length(offset)?, header::length(length)?)?;
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), ArchiveError> {
        if self.regions.len() >= MOST_REGIONS {
            return Err(ArchiveError::Malformed("a sparse file with too many pieces"));
        }
        self.regions.push(Region { offset, length });
        Ok(())
    }

    /// The size and the pieces, if they are in order, inside the file, and as long as what is stored.
    pub(super) fn checked(self, stored: u64) -> Result<(u64, Vec<Region>), ArchiveError> {
        let malformed = || ArchiveError::Malformed("a sparse file whose pieces do not fit");
        let mut end = 0;
        let mut total = 0_u64;
        for region in &self.regions {
            if region.offset < end {
                return Err(malformed());
            }
            end = region.offset.checked_add(region.length).ok_or_else(malformed)?;
            total = total.checked_add(region.length).ok_or_else(malformed)?;
        }
        if end > self.size || total != stored {
            return Err(malformed());
        }
        Ok((self.size, self.regions))
    }
}

/// The `GNU.sparse.*` keywords of one extended header.
#[derive(Debug, Default)]
pub(super) struct Keywords {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    any: bool,
}

impl Keywords {
    pub(super) fn take(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        self.any = true;
        match keyword {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.number(value)?,
            b"map" => {
                for number in value.split(|&byte| byte == b',') {
                    self.number(number)?;
                }
            }
            // The number of pieces is seen from the pieces.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Option<Sparse>, ArchiveError> {
        if !self.any {
            return Ok(None);
        }
        let size = self.size.ok_or(ArchiveError::Malformed("a sparse file without a size"))?;
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Ok(Some(Sparse::InContent { size, name: self.name })),
            (None | Some(0), _) => {
                let mut map = Map { size, name: self.name, regions: Vec::new() };
                if !self.numbers.len().is_multiple_of(2) {
                    return Err(ArchiveError::Malformed("a sparse file with half a piece"));
                }
                for pair in self.numbers.chunks_exact(2) {
                    map.push(pair[0], pair[1])?;
                }
                Ok(Some(Sparse::Map(map)))
            }
            (Some(_), _) => Err(ArchiveError::Malformed("a sparse file of an unknown version")),
        }
    }

    fn number(&mut self, text: &[u8]) -> Result<(), ArchiveError> {
        if self.numbers.len() >= 2 * MOST_REGIONS {
            return Err(ArchiveError::Malformed("a sparse file with too many pieces"));
        }
        self.numbers.push(decimal(text)?);
        Ok(())
    }
}

/// Reads the map at the beginning of an entry's content: decimal numbers, a line each, padded to a block.
pub(super) fn read_from_content<R: BufRead>(
    size: u64,
    archive: &mut Archive<R>,
) -> Result<Map, ArchiveError> {
    let mut reader = Numbers { archive, used: 0 };
    let count = reader.next_number()?;
    let mut map = Map::new(size);
    for _ in 0..count {
        let offset = reader.next_number()?;
        let length = reader.next_number()?;
        map.push(offset, length)?;
    }
    reader.skip_padding()?;
    Ok(map)
}

struct Numbers<'archive, R> {
    archive: &'archive mut Archive<R>,
    used: u64,
}

impl<R: BufRead> Numbers<'_, R> {
    fn next_number(&mut self) -> Result<u64, ArchiveError> {
        let mut digits = Vec::with_capacity(LONGEST_NUMBER);
        loop {
            match self.next_byte()? {
                b'\n' => return decimal(&digits),
                byte if digits.len() < LONGEST_NUMBER => digits.push(byte),
                _ => return Err(ArchiveError::Malformed("a sparse file whose map is not numbers")),
            }
        }
    }

    fn skip_padding(&mut self) -> Result<(), ArchiveError> {
        while !self.used.is_multiple_of(BLOCK) {
            self.next_byte()?;
        }
        Ok(())
    }

    fn next_byte(&mut self) -> Result<u8, ArchiveError> {
        let byte = *self
            .archive
            .content()?
            .first()
            .ok_or(ArchiveError::Malformed("a sparse file without its map"))?;
        self.archive.consume(1);
        self.used += 1;
        Ok(byte)
    }
}
