//! Port-forward: connections of a client's to loopback addresses in a pod.
//!
//! - [`spdy`]: any number of connections, two streams each; plain or in the messages of a WebSocket.
//! - [`websocket`]: one connection for each port that was named beforehand.

mod spdy;
mod websocket;

use crate::StreamingSettings;
use crate::negotiate::PortForward;
use crate::websocket::{Channel, Framing, WebSocket};
use cringle_domain::id::PodId;
use cringle_service::{Service, ServiceError};
use std::future::Future;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Who connects to ports.
pub(crate) trait Connect: Send + Sync + 'static {
    /// Connects to a port.
    fn connect(&self, port: u16) -> impl Future<Output = Result<TcpStream, ServiceError>> + Send;

    /// Whether this port may be connected to.
    fn permits(&self, port: u16) -> bool;

    /// A failure, as the client is told.
    fn failed(&self, port: u16, error: &ServiceError) -> String;
}

/// Connections to the ports of a pod.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Who connects.
    pub(crate) service: Arc<Service>,
    /// The pod.
    pub(crate) pod: PodId,
    /// The ports that were asked for; none: the client names one with each connection.
    pub(crate) ports: Vec<u16>,
}

impl Connect for Forward {
    async fn connect(&self, port: u16) -> Result<TcpStream, ServiceError> {
        self.service.connect_in_pod(&self.pod, port).await
    }

    fn permits(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    fn failed(&self, port: u16, error: &ServiceError) -> String {
        let chain = cringle_service::error::chain(error);
        format!("error forwarding port {port} to pod {}: {chain}", self.pod)
    }
}

/// Serves a client until it leaves.
pub(crate) async fn serve<I>(
    io: I,
    protocol: PortForward,
    settings: &StreamingSettings,
    forward: Forward,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match protocol {
        PortForward::Spdy => spdy::serve(io, settings.idle, settings.creation, forward).await,
        PortForward::Tunnel => {
            let (mut socket, channels) =
                WebSocket::open(io, Framing::Tunnel, 1, settings.idle).await;
            let Ok([Channel { input, output }]) = <[Channel; 1]>::try_from(channels) else {
                return;
            };
            // The socket sees all bytes and the pings between them, so it alone knows what is idle.
            let io = tokio::io::join(input, output);
            spdy::serve(io, None, settings.creation, forward).await;
            socket.ended().await;
        }
        PortForward::WebSocket(encoding) => {
            websocket::serve(io, encoding, settings.idle, forward.ports.clone(), forward).await;
        }
    }
}

#[cfg(test)]
mod tests;
