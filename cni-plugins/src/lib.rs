//! Network plugins after the Container Network Interface: a library of plugins over plain structures, with two fronts. The
//! runtime's daemon calls `plugin::run`; everyone else runs the program `cringle-cni`, which speaks the process protocol
//! (`multicall`) and ends in the same function.
//!
//! Nothing here is asynchronous, nothing logs, and no other program is ever run except a foreign plugin for addresses.
//! Whatever is made on the host bears its owner (`owner`), so DEL and GC need no record and `sweep` finds what is left over.
//! DEL succeeds on what is gone.

pub mod context;
pub mod link;
pub mod multicall;
pub mod netns;
pub mod nft;
pub mod owner;
pub mod plugin;
pub mod spec;
pub mod sweep;
pub mod sysctl;

mod bridge;
mod conntrack;
mod host;
mod ipam;
mod loopback;
mod macvlan;
mod masquerade;
mod pause;
mod pod;
mod portmap;

pub use context::{Context, NetnsFate};

#[cfg(test)]
mod testing;
