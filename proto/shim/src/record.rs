//! Files that a shim leaves in the bundle. Each is replaced atomically, never changed in place.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Name of the exit record in the bundle.
pub const EXIT_FILE: &str = "exit.json";
/// Name of the file that says which process the shim is.
pub const SHIM_FILE: &str = "shim.json";
/// Version of both.
pub const VERSION: u32 = 1;

/// How and when a container ended: written before the end is reported to anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`VERSION`].
    pub version: u32,
    /// How it ended.
    pub ending: Ending,
    /// When, in nanoseconds since the epoch.
    pub at_nanoseconds: u64,
    /// Process id it had; absent if there never was one.
    pub pid: Option<i32>,
}

/// Name of the file in a directory that a container is restored from.
pub const RESTORE_FILE: &str = "restore.json";
/// In that directory, where CRIU's images are.
pub const RESTORE_IMAGES: &str = "checkpoint";
/// In that directory, where CRIU writes.
pub const RESTORE_WORK: &str = "work";

/// How a container is made of its checkpoint: what Task `Create` has no words for but the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// [`VERSION`].
    pub version: u32,
    /// CRIU's program.
    pub program: PathBuf,
    /// Its search path.
    pub path: String,
    /// What the images call the first three descriptors of the first process that lead to the outside; empty: they lead
    /// nowhere or to the container's own.
    pub streams: [String; 3],
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// The kernel killed it, or the child it waited for, for lack of memory.
    OutOfMemory,
    /// It never ran the container's program; the text says why.
    NeverStarted(String),
}

/// Which process a shim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// [`VERSION`].
    pub version: u32,
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}
