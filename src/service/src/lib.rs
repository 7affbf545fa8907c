//! The use cases: what the daemon does for each request, one file per verb.
//!
//! A request that changes something runs in a task of its own ([`detached`]): a client that hangs up does not cut a
//! procedure in half. An object is changed by one operation at a time; lists and status read the last published snapshot
//! and wait for nobody.
//!
//! - [`pod`] and [`container`]: one file per verb.
//! - [`index`]: who is there, by id, prefix and name; [`claims`]: joins a retry to the operation in flight, whose
//!   [`progress`] others are told.
//! - [`streams`]: what a client's exec, attachment or forwarded port is made of.
//! - [`supervisor`]: the client of a shim; [`bundle`]: a plan as an OCI bundle.
//! - [`cdi`]: devices that vendors describe in files.
//! - [`events`]: the one order of all changes, told to those who subscribed.
//! - [`stats`]: what pods and containers use; [`metrics`]: the same as named values, with what goes on in here.
//! - [`nri`]: what plugins are told of all that, and what they change.
//! - [`checkpoint`]: what a running container is, as an archive.
//! - [`teardown`]: the one function that gives a pod's holds back.
//! - [`recover`], [`sweep`]: what a start does with what it finds.

pub mod bundle;
pub mod supervisor;

mod cgroups;
pub mod claims;
pub mod clock;
pub mod detached;
pub mod error;
pub mod index;
pub mod memory;
pub mod progress;

pub mod cdi;
pub mod checkpoint;
pub mod container;
pub mod events;
pub mod metrics;
pub mod parents;
pub mod pod;
pub mod recover;
pub mod settings;
pub mod stats;
pub mod streams;
pub mod sweep;
pub mod teardown;

pub mod abilities;
mod host;
mod nri;
mod service;

pub use cdi::CdiFiles;
pub use error::ServiceError;
pub use service::Service;
pub use settings::{ServiceSettings, Writes};
