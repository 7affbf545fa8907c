//! How a record lies in its file: one header line with a version and a checksum, then JSON that a person can read.
//!
//! `cringle-record 1 1f2e3d4c5b6a7988` and the record. A file that was cut short, or that another program wrote, does
//! not pass; a record of a newer version is refused rather than misread.

use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// The version that this build writes.
pub const VERSION: u32 = 1;

const MAGIC: &str = "cringle-record";

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file cannot be read.
    #[error("failed to read record \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is no record, was cut short, or was changed.
    #[error("record \"{}\" is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file was written by a newer build.
    #[error("record \"{}\" has version {version}, this build reads up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The content does not have the shape of this record.
    #[error("failed to decode record \"{}\"", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The record cannot be put into JSON.
    #[error("failed to encode a record")]
    Encode(#[source] serde_json::Error),
}

/// The file content for a record.
///
/// # Errors
/// If the record has no JSON form.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, FormatError> {
    let body = serde_json::to_vec(record).map_err(FormatError::Encode)?;
    let mut content = format!("{MAGIC} {VERSION} {:016x}\n", checksum(&body)).into_bytes();
    content.extend_from_slice(&body);
    content.push(b'\n');
    Ok(content)
}

/// Reads the record at `path`.
///
/// # Errors
/// If it cannot be read, is damaged, newer, or of another shape.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, FormatError> {
    let content = std::fs::read(path)
        .map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    decode(path, &content)
}

/// The record in `content`; `path` is for errors only.
///
/// # Errors
/// As [`load`].
pub fn decode<T: DeserializeOwned>(path: &Path, content: &[u8]) -> Result<T, FormatError> {
    let damaged = |problem| FormatError::Damaged { path: path.to_owned(), problem };
    let end = content.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("no header"))?;
    let header = std::str::from_utf8(&content[..end]).map_err(|_utf8| damaged("no header"))?;
    let body = content[end + 1..].strip_suffix(b"\n").ok_or_else(|| damaged("cut short"))?;
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged("not a record"));
    }
    let version = words.next().and_then(|word| word.parse().ok());
    let version: u32 = version.ok_or_else(|| damaged("no version"))?;
    if version > VERSION {
        return Err(FormatError::Newer { path: path.to_owned(), version });
    }
    if words.next() != Some(format!("{:016x}", checksum(body)).as_str()) {
        return Err(damaged("checksum differs"));
    }
    serde_json::from_slice(body)
        .map_err(|source| FormatError::Decode { path: path.to_owned(), source })
}

/// FNV-1a, 64 bits: it has to tell a torn file from a whole one, not withstand an attacker with our privileges.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<u32>, FormatError> {
        decode(Path::new("r"), content)
    }

    #[test]
    fn a_record_reads_back_as_written() {
        assert_eq!(read(&encode(&vec![1u32, 2]).unwrap()).unwrap(), [1, 2]);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes() {
        let whole = encode(&vec![1u32, 2, 3]).unwrap();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut to {length}");
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x10;
            assert!(read(&changed).is_err(), "byte {index}");
        }
    }

    #[test]
    fn a_newer_record_is_refused_as_newer() {
        let content = String::from_utf8(encode(&vec![1u32]).unwrap()).unwrap();
        let newer = content.replacen("record 1", "record 2", 1);
        assert!(matches!(read(newer.as_bytes()), Err(FormatError::Newer { version: 2, .. })));
    }
}
