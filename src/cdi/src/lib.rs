//! The Container Device Interface: files in which vendors describe their devices, and what a container that asks for one of
//! them gets.
//!
//! - [`Catalog`] knows the devices of some directories. It looks again each time it is asked, and reads what has changed.
//! - A device is a list of edits to the runtime specification of a container; [`Catalog::apply`] makes them.
//!
//! Who can write such a file can run programs as root (a hook is an edit), so files that others than root can change are not
//! used. A file that can't be used is reported ([`Fault`]) and hides no other file.

mod apply;
mod catalog;
mod check;
mod document;
mod nodes;
mod read;
mod version;

pub use apply::{ApplyError, EditError};
pub use catalog::{Catalog, Fault, Report};
