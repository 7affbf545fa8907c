//! Content digests, and prefixes of image ids.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is wrong with a text that should be a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not a digest (sha256: or sha512: and as many lower-case hexadecimal characters as that has)", .0.escape_default())]
pub struct MalformedDigest(pub String);

/// A hash function for content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what everyone uses.
    Sha256,
    /// SHA-512, which registries may use.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some content: `sha256:` and 64 lower-case hexadecimal characters, or the same with `sha512:` and 128.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The digest with these bytes, as a hash function gave them.
    ///
    /// # Errors
    /// If there are not as many as the algorithm makes.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, MalformedDigest> {
        let hex: String =
            bytes.iter().flat_map(|&byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]).collect();
        if hex.len() == algorithm.hex_length() {
            Ok(Self { algorithm, hex: hex.into_boxed_str() })
        } else {
            Err(MalformedDigest(hex))
        }
    }

    /// The hash function.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The digest as a file name: `sha256-` and the characters.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm.as_str(), self.hex)
    }

    /// The digest that [`Self::file_name`] was made of.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (algorithm, hex) = name.split_once('-')?;
        Self::from_parts(algorithm, hex)
    }

    fn from_parts(algorithm: &str, hex: &str) -> Option<Self> {
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return None,
        };
        let legal = hex.len() == algorithm.hex_length() && is_hex(hex);
        legal.then(|| Self { algorithm, hex: hex.into() })
    }
}

impl FromStr for Digest {
    type Err = MalformedDigest;

    fn from_str(text: &str) -> Result<Self, MalformedDigest> {
        text.split_once(':')
            .and_then(|(algorithm, hex)| Self::from_parts(algorithm, hex))
            .ok_or_else(|| MalformedDigest(super::shortened(text)))
    }
}

impl TryFrom<String> for Digest {
    type Error = MalformedDigest;

    fn try_from(text: String) -> Result<Self, MalformedDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The beginning of an image id, as people type it: `3f57d9`, or `sha256:3f57d9`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix(Box<str>);

impl IdPrefix {
    /// The prefix that a text gives, if it can be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let legal = (1..=Algorithm::Sha256.hex_length()).contains(&hex.len()) && is_hex(hex);
        legal.then(|| Self(hex.into()))
    }

    /// Whether an id begins so.
    #[must_use]
    pub fn matches(&self, id: &Digest) -> bool {
        id.algorithm == Algorithm::Sha256 && id.hex.starts_with(&*self.0)
    }

    pub(super) fn is_full(text: &str) -> bool {
        text.len() == Algorithm::Sha256.hex_length() && is_hex(text)
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}
