//! What outlives one call: connections to the kernel, and what is known of the leases.
//!
//! The multicall program makes a context for its one call. The daemon keeps one for as long as it runs, because closing a
//! netfilter connection is slow. All connections belong to the network namespace of the thread that first needs them, so a
//! context must always be used in the same one.

use std::path::Path;

use crate::ipam::LeaseCache;
use crate::link::{LinkError, Links};
use crate::nft::{Nft, NftError};

/// The instance whose names are used when no one says otherwise.
pub const DEFAULT_INSTANCE: &str = "cni";

/// What becomes of a container's network namespace after DEL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetnsFate {
    /// It may live on, so DEL removes the interface from it and waits for the kernel.
    #[default]
    Kept,
    /// It ends at once, and takes its interfaces with it; DEL leaves them alone.
    Dies,
}

/// Connections and settings that calls share.
#[derive(Debug, Default)]
pub struct Context {
    instance: Option<String>,
    programs: Vec<FileIdentity>,
    links: Option<Links>,
    nft: Option<Nft>,
    /// What becomes of the namespaces of the containers that DEL is called for.
    pub netns_fate: NetnsFate,
    pub(crate) leases: LeaseCache,
}

/// How we know a file again without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    /// The identity of the file at that path.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(path)?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Self { device: found.dev(), inode: found.ino(), size: found.len(), modified })
    }

    /// Whether the other is the same file, or a copy that kept its length and time.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }
}

impl Context {
    /// A context for one call: the instance is the one that the configuration names, or the default one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A context for all calls of one instance of the runtime, whatever a configuration names.
    #[must_use]
    pub fn for_instance(instance: &str) -> Self {
        Self { instance: Some(instance.into()), ..Self::default() }
    }

    /// Says which files are this very program: a plugin found there is called as a function.
    #[must_use]
    pub fn with_programs(mut self, programs: Vec<FileIdentity>) -> Self {
        self.programs = programs;
        self
    }

    /// The instance whose names are used.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.instance.as_deref().unwrap_or(DEFAULT_INSTANCE)
    }

    pub(crate) fn adopt_instance(&mut self, configured: Option<&str>) {
        if self.instance.is_none() {
            self.instance = configured.map(Into::into);
        }
    }

    /// Whether the file at that path is this very program.
    #[must_use]
    pub fn is_ours(&self, path: &Path) -> bool {
        FileIdentity::of(path).is_ok_and(|found| self.programs.contains(&found))
    }

    /// The links of the host.
    ///
    /// # Errors
    /// If there is no connection yet and none can be made.
    pub fn links(&mut self) -> Result<&mut Links, LinkError> {
        let links = match self.links.take() {
            Some(links) => links,
            None => Links::open()?,
        };
        Ok(self.links.insert(links))
    }

    /// The firewall of the host.
    ///
    /// # Errors
    /// If there is no connection yet and none can be made.
    pub fn nft(&mut self) -> Result<&mut Nft, NftError> {
        let nft = match self.nft.take() {
            Some(nft) => nft,
            None => Nft::open(self.instance())?,
        };
        Ok(self.nft.insert(nft))
    }
}
