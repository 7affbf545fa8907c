//! What the end-to-end tests and the bench share: a stage with a network and mount namespace, a registry, a daemon and a
//! configuration of its own for each test, a CRI client, and the inventory of the host that shows what is left behind.
//!
//! A test is one closure given to [`stage::on_stage`]. It runs on its own thread, in namespaces that end with it: nothing
//! that it does to links, routes, firewall or mounts is the host's. The daemon is the real program, so is the shim.
#![expect(
    clippy::missing_errors_doc,
    reason = "each error says what was seen; nobody tells them apart"
)]

pub mod abandoned;
pub mod captured;
pub mod client;
pub mod criu;
pub mod cut;
pub mod daemon;
pub mod footprint;
pub mod image;
pub mod inventory;
pub mod leak;
pub mod limit;
pub mod page;
pub mod plugin;
pub mod program;
pub mod registry;
pub mod request;
pub mod session;
pub mod spdy;
pub mod stage;
pub mod wait;
pub mod websocket;
