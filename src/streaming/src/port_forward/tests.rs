//! What the tests of both ways have in common.

use super::*;
use cringle_domain::id::PodId;
use tokio::net::TcpSocket;

/// A port that nobody listens on, nor will as long as its socket is there.
pub(super) fn closed() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Connects to this machine's own loopback address; port 1 is not permitted.
#[derive(Debug)]
pub(super) struct Loopback;

impl Connect for Loopback {
    async fn connect(&self, port: u16) -> Result<TcpStream, ServiceError> {
        let pod = PodId::from_bytes([7; 32]);
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|source| ServiceError::Forward {
            pod,
            port,
            source,
        })
    }

    fn permits(&self, port: u16) -> bool {
        port != 1
    }

    fn failed(&self, port: u16, error: &ServiceError) -> String {
        format!("error forwarding port {port}: {error}")
    }
}
