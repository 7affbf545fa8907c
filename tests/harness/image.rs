//! Images built in memory from Debian's static busybox.

use anyhow::{Context, Result};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;
use tar::{Builder, EntryType, Header};

/// Where Debian's busybox-static installs it.
const BUSYBOX: &str = "/bin/busybox";

/// Applets that tests call; each is a hard link.
const APPLETS: &[&str] = &[
    "sh", "cat", "cp", "dd", "echo", "env", "grep", "head", "hostname", "httpd", "id", "ip",
    "kill", "ls", "mkdir", "mount", "mv", "nc", "ping", "ps", "pwd", "readlink", "rm", "seq",
    "setsid", "sleep", "stat", "sync", "tail", "test", "top", "touch", "tr", "true", "false",
    "umount", "wc", "wget", "yes",
];

/// A layer with its two digests.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The compressed archive.
    pub packed: Bytes,
    /// Digest of the archive inside.
    pub diff_id: String,
}

/// What an image says of itself beside its layers.
#[derive(Debug, Clone)]
pub struct Description {
    /// Member `config` of the image's configuration.
    pub config: Value,
    /// Architecture that it says it is for.
    pub architecture: &'static str,
}

impl Default for Description {
    fn default() -> Self {
        let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
        Self { config, architecture: "amd64" }
    }
}

/// Entries of a layer, in the order in which they were added.
pub struct LayerBuilder(Builder<Vec<u8>>);

impl fmt::Debug for LayerBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LayerBuilder").finish_non_exhaustive()
    }
}

impl Default for LayerBuilder {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl LayerBuilder {
    /// Adds a directory.
    pub fn directory(mut self, path: &str, mode: u32) -> Result<Self> {
        let mut header = header(EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, path, std::io::empty())?;
        Ok(self)
    }

    /// Adds a regular file.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Result<Self> {
        let mut header = header(EntryType::Regular, mode, u64::try_from(content.len())?);
        self.0.append_data(&mut header, path, content)?;
        Ok(self)
    }

    /// Adds a hard or symbolic link.
    pub fn link(mut self, kind: EntryType, path: &str, target: &str) -> Result<Self> {
        let mut header = header(kind, 0o777, 0);
        self.0.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Compresses what was added.
    pub fn pack(self) -> Result<Layer> {
        let archive = self.0.into_inner()?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&archive)?;
        Ok(Layer { packed: encoder.finish()?.into(), diff_id: digest(&archive) })
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

/// The layer with a shell and its tools.
pub fn busybox() -> Result<Layer> {
    static LAYER: OnceLock<Layer> = OnceLock::new();
    if let Some(layer) = LAYER.get() {
        return Ok(layer.clone());
    }
    let program = std::fs::read(BUSYBOX)
        .with_context(|| format!("\"{BUSYBOX}\" is missing: install busybox-static"))?;
    let mut builder = LayerBuilder::default()
        .directory("bin", 0o755)?
        .directory("etc", 0o755)?
        .directory("tmp", 0o1777)?
        .directory("www", 0o755)?
        .file("www/index.html", 0o644, b"<html>served by the pod</html>\n")?
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home:/bin/sh\n",
        )?
        .file("etc/group", 0o644, b"root:x:0:\nalice:x:1000:\nstaff:x:50000:alice\n")?
        .file("bin/busybox", 0o755, &program)?;
    for applet in APPLETS {
        builder = builder.link(EntryType::Link, &format!("bin/{applet}"), "bin/busybox")?;
    }
    let layer = builder.pack()?;
    Ok(LAYER.get_or_init(|| layer).clone())
}

/// A digest as a registry writes it.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}
