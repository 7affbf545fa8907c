//! The names of images: repositories, tags, digests, and the texts by which clients ask for an image.
//!
//! Everything here has one checked constructor; a value that exists is well formed and safe to put into a URL or a file
//! name. Short names are completed as every client expects: no host means `docker.io`, a single word there means
//! `library/`, neither tag nor digest means `latest`.

mod digest;

pub use digest::{Algorithm, Digest, IdPrefix, MalformedDigest};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The registry of names without a host.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// What is wrong with a text that should name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not an image name: {problem}", text.escape_default())]
pub struct MalformedReference {
    text: String,
    problem: &'static str,
}

/// Where an image lives: a registry host and a path in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Box<str>,
    path: Box<str>,
}

/// A word that points to one version of an image, and that may be moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// Which image of a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// The one that the tag points to now.
    Tag(Tag),
    /// The one with that manifest digest, whatever any tag says.
    Digest(Digest),
}

/// The full name of an image.
///
/// ```
/// # use cringle_domain::reference::Reference;
/// let reference: Reference = "busybox".parse().unwrap();
/// assert_eq!(reference.to_string(), "docker.io/library/busybox:latest");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    repository: Repository,
    selector: Selector,
}

impl Repository {
    /// The registry as written, `docker.io` if it was not: a host with an optional port.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, such as `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (registry, path) = split_registry(text);
        if registry.len() + 1 + path.len() > LONGEST_NAME {
            return Err("the repository is longer than 255 characters");
        }
        if !is_host_and_port(registry) {
            return Err("the registry is not a host with an optional port");
        }
        if !path.split('/').all(is_path_component) {
            return Err(
                "the repository may have lower-case letters, digits, and single separators in between",
            );
        }
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            if IdPrefix::is_full(path) {
                return Err("64 hexadecimal characters are an id");
            }
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self { registry: registry.into(), path: path.into_boxed_str() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.path)
    }
}

impl Tag {
    /// The text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let first_is_legal = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if first_is_legal && text.len() <= LONGEST_TAG && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err("a tag has 1 to 128 letters, digits, '_', '.' and '-'")
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Reference {
    /// Where the image lives.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Which image of the repository is meant.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The name by digest of an image in the same repository.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), selector: Selector::Digest(digest) }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.is_ascii() {
            return Err("only ASCII characters are allowed");
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest =
                    digest.parse().map_err(|MalformedDigest(_)| "the digest is malformed")?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !name.is_empty() => (name, Some(tag)),
            Some(_) | None => (name, None),
        };
        let tag = tag.map(Tag::parse).transpose()?;
        let repository = Repository::parse(name)?;
        // A digest says all; the tag beside it is for the reader.
        let selector = match (digest, tag) {
            (Some(digest), _) => Selector::Digest(digest),
            (None, Some(tag)) => Selector::Tag(tag),
            (None, None) => Selector::Tag(Tag(DEFAULT_TAG.into())),
        };
        Ok(Self { repository, selector })
    }
}

impl FromStr for Reference {
    type Err = MalformedReference;

    fn from_str(text: &str) -> Result<Self, MalformedReference> {
        Self::parse(text).map_err(|problem| MalformedReference { text: shortened(text), problem })
    }
}

impl TryFrom<String> for Reference {
    type Error = MalformedReference;

    fn try_from(text: String) -> Result<Self, MalformedReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Tag(tag) => write!(formatter, "{}:{tag}", self.repository),
            Selector::Digest(digest) => write!(formatter, "{}@{digest}", self.repository),
        }
    }
}

/// The first word is a registry if it cannot be a part of a path: it has a dot, a port or capitals, or is `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else { return (DEFAULT_REGISTRY, text) };
    let is_registry = first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    if !is_registry {
        return (DEFAULT_REGISTRY, text);
    }
    if first == "index.docker.io" { (DEFAULT_REGISTRY, rest) } else { (first, rest) }
}

fn is_host_and_port(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        let port = rest.strip_prefix(':');
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (rest.is_empty() || port.is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Words of lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_are_words = bytes.first().is_some_and(|&byte| is_word(byte))
        && bytes.last().is_some_and(|&byte| is_word(byte));
    ends_are_words
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// Foreign text in an error message stays readable.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests;
