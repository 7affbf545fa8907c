//! The words of the project, and its rules. Pure: no I/O, no clock, no async.
//!
//! A request becomes a [`spec`], the [`planner`] turns a spec into a [`plan`], and what came of it is a record with a
//! phase ([`pod`], [`container`]) that changes only by `apply`.

pub mod id;
pub mod time;

pub mod process;
pub mod reference;

pub mod cdi;
pub mod mounts;
pub mod namespaces;
pub mod resources;
pub mod security;
pub mod spec;
pub mod sysctl;

pub mod attachment;
pub mod container;
pub mod image;
pub mod pod;
pub mod snapshot;

pub mod plan;
pub mod planner;
pub mod refusal;
