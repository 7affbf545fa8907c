//! What is recorded of an image, and what containers take from it.
//!
//! A record is immutable: it describes content by digests. Names point to records and are kept apart, because many names
//! may share an image and a name can move.

use crate::reference::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One image that is here, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the image's configuration: its identity.
    pub id: Digest,
    /// The digest of the manifest of this platform.
    pub manifest: Digest,
    /// The layers, the base first.
    pub layers: Vec<Layer>,
    /// Bytes of the compressed layers, the configuration and the manifest; never zero.
    pub size: u64,
    /// What containers take from the image.
    pub config: ImageConfig,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the layer's tar archive.
    pub diff_id: Digest,
    /// The digest of what the registry sent.
    pub blob: Digest,
    /// Bytes of what the registry sent.
    pub size: u64,
    /// The digest of this layer and all below it, if its files depend on those: it has hard links into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
}

impl Layer {
    /// What the layer's files are kept by: equal keys, equal files.
    #[must_use]
    pub fn key(&self) -> &Digest {
        self.chain.as_ref().unwrap_or(&self.diff_id)
    }
}

/// What an image says about its containers. Absent and empty mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// The beginning of the command line.
    pub entrypoint: Vec<String>,
    /// The rest of the command line, unless the container has arguments of its own.
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// The working directory; empty means `/`.
    pub working_dir: String,
    /// Paths that want a volume.
    pub volumes: Vec<String>,
    /// The signal that asks the process to stop, by name or number; empty means SIGTERM.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that the image says it listens on, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// The architecture, by its Go name.
    pub architecture: String,
    /// The operating system, by its Go name.
    pub os: String,
    /// When the image was made (RFC 3339); empty if it does not say.
    pub created: String,
}

/// The user of an image as the CRI shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// The image names none: root.
    Unset,
    /// A number.
    Id(u32),
    /// A name.
    Name(String),
}

impl ImageConfig {
    /// The image's user without its group.
    #[must_use]
    pub fn image_user(&self) -> ImageUser {
        let user = self.user.split_once(':').map_or(self.user.as_str(), |(user, _)| user);
        if user.is_empty() {
            return ImageUser::Unset;
        }
        user.parse().map_or_else(|_| ImageUser::Name(user.to_owned()), ImageUser::Id)
    }
}

/// An image with the names it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image.
    pub record: std::sync::Arc<ImageRecord>,
    /// Its names by tag, sorted.
    pub tags: Vec<Reference>,
    /// Its names by digest, sorted.
    pub digests: Vec<Reference>,
    /// Whether garbage collection must spare it.
    pub retention: Retention,
}

/// Whether a client's garbage collection may remove an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// It may.
    Ordinary,
    /// The settings pin it.
    Pinned,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_not_part_of_the_user() {
        for (text, user) in [
            ("", ImageUser::Unset),
            (":100", ImageUser::Unset),
            ("1002", ImageUser::Id(1002)),
            ("1003:users", ImageUser::Id(1003)),
            ("www-data", ImageUser::Name("www-data".to_owned())),
            ("www-data:100", ImageUser::Name("www-data".to_owned())),
        ] {
            let config = ImageConfig { user: text.to_owned(), ..ImageConfig::default() };
            assert_eq!(config.image_user(), user, "{text}");
        }
    }
}
