//! What the daemon's configuration decides about streaming.

use crate::tls::TlsFiles;
use std::net::SocketAddr;
use std::time::Duration;

/// How streaming is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamingSettings {
    /// Where; port 0 is any that is free.
    pub address: SocketAddr,
    /// The certificate; without one it is plain.
    pub tls: Option<TlsFiles>,
    /// How long nothing may happen on a connection; none is for ever.
    pub idle: Option<Duration>,
    /// How long a client may take to make the streams that it asked for.
    pub creation: Duration,
    /// How many requests may wait for their clients.
    pub waiting: usize,
}
