//! What survives: records, the journal of what was taken, and where both lie on disk.
//!
//! - [`layout`] is the only module that knows our own paths.
//! - [`atomic`] replaces a file whole or not at all.
//! - [`format`] frames a record so that a torn or foreign file is recognised.
//! - [`tracked`] is the one door through which an object's phase changes.
//! - [`holds`] notes what is about to be taken from the host, before it is taken.
//! - [`instance`] keeps a second daemon off the same roots.
//! - [`quarantine`] sets aside what cannot be read.

pub mod atomic;
pub mod failpoint;
pub mod format;
pub mod holds;
pub mod instance;
pub mod layout;
mod lives;
pub mod quarantine;
pub mod tracked;
