//! Images: from a name to layers on disk, and from layers to a container's root filesystem.
//!
//! ```text
//! pull:  registry -> manifest -> config -> layers (each streamed through a jailed worker) -> commit
//! here:  names -> records -> layers, each a directory that is stored once
//! use:   layers + a writable directory = what overlayfs mounts for a container
//! ```
//!
//! An image is here if the names table says so, and that table is replaced in one step, after all it leads to is on disk.
//! Layers stay as long as an image, a container or a pull needs them; nothing counts, everything is derived from records.

pub mod registry;
pub mod settings;
pub mod unpack;

mod commit;
mod config;
mod copy_up;
mod digest;
mod error;
mod images;
mod layers;
mod layout;
mod manifest;
mod merged;
mod open;
mod overlay;
mod platform;
mod pull;
mod settle;
mod state;
mod sweeper;
mod trash;

pub use config::ConfigError;
pub use error::{OpenError, PullError, PullErrorKind, PullFailure};
pub use images::{Images, PullRequest, Usage};
pub use manifest::ManifestError;
pub use overlay::{FillError, Ground, SnapshotUsage, Snapshots};
pub use settings::ImageSettings;

#[cfg(test)]
mod testing;
