//! Extended headers of the pax format: `length keyword=value` lines that overrule the header after them.

use super::sparse::{self, Sparse};
use super::{ArchiveError, Mtime};

const XATTR: &[u8] = b"SCHILY.xattr.";
const MOST_XATTRS: usize = 256;

/// What the extended headers before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

impl Records {
    /// Adds what one extended header says; the last word on a keyword counts.
    pub(super) fn merge(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut sparse = sparse::Keywords::default();
        for record in Lines(bytes) {
            let (keyword, value) = record?;
            if let Some(name) = keyword.strip_prefix(XATTR) {
                self.add_xattr(name, value)?;
            } else if let Some(keyword) = keyword.strip_prefix(b"GNU.sparse.") {
                sparse.take(keyword, value)?;
            } else {
                self.take(keyword, value)?;
            }
        }
        if let Some(sparse) = sparse.finish()? {
            self.sparse = Some(sparse);
        }
        Ok(())
    }

    fn take(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        // An empty value takes the keyword back.
        let value = Some(value).filter(|value| !value.is_empty());
        match keyword {
            b"path" => self.path = value.map(<[u8]>::to_vec),
            b"linkpath" => self.link = value.map(<[u8]>::to_vec),
            b"size" => self.size = value.map(decimal).transpose()?,
            b"uid" => self.uid = value.map(id).transpose()?,
            b"gid" => self.gid = value.map(id).transpose()?,
            b"mtime" => self.mtime = value.map(time).transpose()?,
            // Access times, user names, comments and vendors' notes have no place in a file tree.
            _ => {}
        }
        Ok(())
    }

    fn add_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(ArchiveError::Malformed("an attribute without a proper name"));
        }
        self.xattrs.retain(|(existing, _)| existing != name);
        if self.xattrs.len() >= MOST_XATTRS {
            return Err(ArchiveError::Malformed("too many attributes on one entry"));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// A global header would overrule all entries after it. Nobody ships layers with one that matters, and readers disagree
/// on it, so only those are accepted that say nothing about entries.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), ArchiveError> {
    for record in Lines(bytes) {
        let (keyword, _) = record?;
        let matters = matches!(keyword, b"path" | b"linkpath" | b"size" | b"uid" | b"gid")
            || keyword.starts_with(b"GNU.sparse.")
            || keyword.starts_with(XATTR);
        if matters {
            return Err(ArchiveError::Malformed("a global header that overrules entries"));
        }
    }
    Ok(())
}

/// The `length keyword=value` lines of an extended header.
struct Lines<'bytes>(&'bytes [u8]);

impl<'bytes> Iterator for Lines<'bytes> {
    type Item = Result<(&'bytes [u8], &'bytes [u8]), ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or(ArchiveError::Malformed("an extended header that is not one")))
    }
}

impl<'bytes> Lines<'bytes> {
    fn split(&mut self) -> Option<(&'bytes [u8], &'bytes [u8])> {
        let bytes = self.0;
        let space = bytes.iter().take(12).position(|&byte| byte == b' ')?;
        let length = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
        // The length counts the whole line, its own digits and the line feed too.
        if length <= space + 1 || length > bytes.len() {
            return None;
        }
        let (line, rest) = bytes.split_at(length);
        let line = line[space + 1..].strip_suffix(b"\n")?;
        let equals = line.iter().position(|&byte| byte == b'=')?;
        self.0 = rest;
        Some((&line[..equals], &line[equals + 1..]))
    }
}

/// A number without sign, in decimal digits.
pub(super) fn decimal(text: &[u8]) -> Result<u64, ArchiveError> {
    let malformed = ArchiveError::Malformed("a number that is not decimal");
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(malformed)
}

fn id(text: &[u8]) -> Result<u32, ArchiveError> {
    u32::try_from(decimal(text)?).map_err(|_out_of_range| {
        ArchiveError::Malformed("a user or group number that is too large")
    })
}

/// `-?seconds[.fraction]`.
fn time(text: &[u8]) -> Result<Mtime, ArchiveError> {
    let malformed = || ArchiveError::Malformed("a time that is not a number");
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let seconds = decimal(parts.next().unwrap_or_default())?;
    let seconds = i64::try_from(seconds).map_err(|_out_of_range| malformed())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let nanoseconds = (0..9).fold(0, |value, place| {
        value * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'))
    });
    // A negative time is rounded down, so that the nanoseconds stay positive.
    Ok(match (negative, nanoseconds) {
        (false, _) => Mtime { seconds, nanoseconds },
        (true, 0) => Mtime { seconds: -seconds, nanoseconds },
        (true, _) => Mtime { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}
