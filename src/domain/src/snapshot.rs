//! What a container's root filesystem is made of.
//!
//! A layer of an image is immutable and may be a parent; what a container writes is an [`Active`] snapshot and never one.
//! Both are directories; mounting them is the business of whoever starts the container.

use crate::id::ContainerId;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The name of a writable snapshot: one for each container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotKey(Box<str>);

/// What is wrong with a text that should name a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not a snapshot key (1 to 128 letters, digits and '-')", .0.escape_default())]
pub struct MalformedSnapshotKey(pub String);

impl SnapshotKey {
    /// The text of the key; safe as a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotKey {
    type Error = MalformedSnapshotKey;

    fn try_from(text: String) -> Result<Self, MalformedSnapshotKey> {
        let legal = (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if legal { Ok(Self(text.into_boxed_str())) } else { Err(MalformedSnapshotKey(text)) }
    }
}

impl From<SnapshotKey> for String {
    fn from(key: SnapshotKey) -> Self {
        key.0.into_string()
    }
}

impl From<&ContainerId> for SnapshotKey {
    fn from(id: &ContainerId) -> Self {
        Self(id.as_str().into())
    }
}

/// The directories of one container's root filesystem, ready to be mounted as an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The read-only layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Scratch space of the overlay.
    pub work: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_plain_file_name() {
        SnapshotKey::try_from("ab".repeat(32)).expect("a key");
        for text in ["", ".", "..", "a/b", "a b", &"a".repeat(129)] {
            assert!(SnapshotKey::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
