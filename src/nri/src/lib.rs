//! Plugins of the Node Resource Interface (NRI, as of version 0.12): programs that are told what happens to pods and
//! containers, and that may change containers before they are made.
//!
//! ```text
//!  listener, launcher --> registration --> list of plugins, by index
//!                          (register,        |
//!                           configure,       v
//!  Nri::tell, create, ... ---------> one request at a time, each plugin in turn --> one merged answer
//! ```
//!
//! - [`frame`], [`connection`]: bytes, messages, calls; what a plugin can make us hold is bounded.
//! - [`plugin`], [`hook`]: one plugin, and what it can subscribe to; what becomes of it when it fails.
//! - [`merge`], [`owners`]: the answers of all made into one; two that set the same are an error that names both.
//! - [`validate`]: who may look at the outcome and reject it.
//! - [`register`], [`launch`], [`synchronize`]: how a plugin comes to be in the list, knowing all that there is.
//!
//! Plugins rely on being told one thing at a time, so a request waits for the one before. A plugin holds one up for no
//! longer than its time-out, and is dropped then.
//!
//! No plugin misses anything: an operation that brings something about does so while it holds [`Nri::steady`], and a plugin
//! joins only while nobody does, so that what it was not told of as an event is in what it is told at the beginning.

mod connection;
mod error;
mod frame;
mod hook;
mod launch;
mod merge;
mod nri;
mod owners;
mod plugin;
mod register;
mod settings;
mod synchronize;
mod validate;

pub use connection::AskError;
pub use error::HookError;
pub use hook::Hook;
pub use merge::{Creation, Update};
pub use nri::{Nri, Runtime, Steady};
pub use owners::Owners;
pub use settings::{NriSettings, Rejected, ValidatorSettings};

#[cfg(test)]
mod testing;
