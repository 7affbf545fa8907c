//! Validated requests: what the client asked for, before anything is decided.

mod container;
mod pod;

pub use container::{ContainerMetadata, ContainerSpec, ImageRequest, Input, Terminal};
pub use pod::{DnsConfig, PodMetadata, PodSpec, PortMapping, Protocol};
