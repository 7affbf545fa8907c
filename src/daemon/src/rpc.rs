//! The CRI over gRPC: from the socket to the use cases and back.

mod server;

mod checkpoint;
mod images;
mod runtime;
mod stats;
mod streaming;

mod convert;
mod events;
mod parts;
mod status;
mod verbose;

mod held;
mod instrument;
mod latency;

pub(crate) use images::ImageRpc;
pub(crate) use latency::Latencies;
pub(crate) use runtime::RuntimeRpc;
pub(crate) use server::{Services, serve};
pub(crate) use streaming::StreamingRpc;
