//! The 512 bytes in front of each entry.

use super::{ArchiveError, Mtime, sparse};

/// The unit of archives.
pub(super) const BLOCK: u64 = 512;

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header([u8; 512]);

impl Header {
    pub(super) fn parse(block: [u8; 512]) -> Result<Self, ArchiveError> {
        let header = Self(block);
        let stated = number(header.field(148, 8))?;
        let byte_at = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
        let unsigned: i64 = (0..512).map(|at| i64::from(byte_at(at))).sum();
        // Some old writers summed signed characters.
        let signed: i64 = (0..512).map(|at| i64::from(byte_at(at).cast_signed())).sum();
        if stated != unsigned && stated != signed {
            return Err(ArchiveError::Malformed("a wrong checksum"));
        }
        // The oldest form knows the digits only. Readers disagree on whether its other types are extensions or files.
        let is_extension = !matches!(header.type_flag(), 0 | b'0'..=b'7');
        match (header.field(257, 6), header.field(263, 2)) {
            (b"ustar\0", b"00") | (b"ustar ", b" \0") => Ok(header),
            (b"ustar\0" | b"ustar ", _) => {
                Err(ArchiveError::Malformed("an unknown version of the format"))
            }
            _ if is_extension => {
                Err(ArchiveError::Malformed("an extension of a format that it does not have"))
            }
            _ => Ok(header),
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        // Only the POSIX form has a prefix; GNU keeps other things there.
        let prefix = match (self.field(257, 6), self.field(508, 4)) {
            (b"ustar\0", b"tar\0") => text(self.field(345, 131)),
            (b"ustar\0", _) => text(self.field(345, 155)),
            _ => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, ArchiveError> {
        small(self.field(100, 8))
    }

    pub(super) fn uid(&self) -> Result<u32, ArchiveError> {
        small(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Result<u32, ArchiveError> {
        small(self.field(116, 8))
    }

    pub(super) fn size(&self) -> Result<u64, ArchiveError> {
        length(self.field(124, 12))
    }

    pub(super) fn mtime(&self) -> Result<Mtime, ArchiveError> {
        Ok(Mtime { seconds: number(self.field(136, 12))?, nanoseconds: 0 })
    }

    pub(super) fn device(&self) -> Result<(u32, u32), ArchiveError> {
        match self.type_flag() {
            b'3' | b'4' => Ok((small(self.field(329, 8))?, small(self.field(337, 8))?)),
            _ => Ok((0, 0)),
        }
    }

    pub(super) fn old_sparse_map(&self) -> Result<sparse::Map, ArchiveError> {
        let mut map = sparse::Map::new(length(self.field(483, 12))?);
        map.extend_from_table(self.field(386, 96))?;
        Ok(map)
    }

    pub(super) fn old_sparse_continues(&self) -> bool {
        self.0[482] != 0
    }

    fn field(&self, start: usize, length: usize) -> &[u8] {
        &self.0[start..start + length]
    }
}

/// A length: a number that is not negative.
pub(super) fn length(field: &[u8]) -> Result<u64, ArchiveError> {
    u64::try_from(number(field)?).map_err(|_negative| ArchiveError::Malformed("a negative number"))
}

fn small(field: &[u8]) -> Result<u32, ArchiveError> {
    u32::try_from(number(field)?)
        .map_err(|_out_of_range| ArchiveError::Malformed("a number that is too large"))
}

/// Octal digits with spaces or NULs around, or (GNU) a number in base 256 after a marking bit. Blank is zero.
fn number(field: &[u8]) -> Result<i64, ArchiveError> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |value, &byte| match byte {
        b'0'..=b'7' => value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(byte - b'0')))
            .ok_or(ArchiveError::Malformed("a number that is too large")),
        _ => Err(ArchiveError::Malformed("a number that is not octal")),
    })
}

fn base_256(field: &[u8]) -> Result<i64, ArchiveError> {
    // The second bit is the sign; the rest is two's complement.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let start: i64 = if negative { -1 } else { 0 };
    std::iter::once(first).chain(field[1..].iter().copied()).try_fold(start, |value, byte| {
        value
            .checked_mul(256)
            .map(|value| value | i64::from(byte))
            .ok_or(ArchiveError::Malformed("a number that is too large"))
    })
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}
