//! Processes: identity, signals, and how they ended.

mod signal;

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use signal::{MalformedSignal, Signal};

/// A process of this boot. A pid alone may be used again; with its start time it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub start_time: u64,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It exited with this status.
    Code(u8),
    /// It was killed by this signal.
    Signal(Signal),
    /// The kernel killed it for lack of memory.
    OutOfMemory,
    /// It could not be started; the text says why.
    NeverStarted(String),
    /// Nobody saw its end; the text says why.
    Unseen(String),
}

impl Outcome {
    /// The exit code as the CRI shows it.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Code(code) => i32::from(*code),
            Self::Signal(signal) => 128 + signal.number(),
            Self::OutOfMemory => 137,
            Self::NeverStarted(_) => 128,
            Self::Unseen(_) => 255,
        }
    }

    /// The reason as the CRI shows it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Code(0) => "Completed",
            Self::Code(_) | Self::Signal(_) => "Error",
            Self::OutOfMemory => "OOMKilled",
            Self::NeverStarted(_) => "StartError",
            Self::Unseen(_) => "Unknown",
        }
    }

    /// A sentence for people; empty if the code says it all.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::NeverStarted(text) | Self::Unseen(text) => text,
            Self::Code(_) | Self::Signal(_) | Self::OutOfMemory => "",
        }
    }
}

/// The end of a container: how and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub at: Timestamp,
}
