//! The HTTP server: a request for each URL that was given out, which becomes a session.
//!
//! One request a connection: it names a token, agrees on a protocol and is upgraded, or it gets an answer and the connection
//! ends. What a client may do before that is bounded: connections, bytes and time. A session runs in the task of its
//! connection, and all of these belong to the server's own, so that ending that ends everything.

mod connection;

pub use crate::token::TokenError;

use crate::StreamingSettings;
use crate::tls::{Tls, TlsError};
use crate::token::Tokens;
use connection::Connection;
use cringle_domain::id::{ContainerId, PodId};
use cringle_service::Service;
use cringle_service::streams::{AttachRequest, ExecRequest};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How many connections may be open; further ones wait to be accepted until one of these ends.
const CONNECTIONS: usize = 1024;

/// How long accepting rests when the process has no descriptor left: as long as the queue is not empty, the socket stays
/// readable, so that there is nothing to wait for.
const REST: Duration = Duration::from_millis(50);

/// How often it is asked whether a client is still there.
const PATROL: Duration = Duration::from_secs(5);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be had.
    #[error("failed to listen for streaming clients on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The server. Dropping it ends all sessions.
#[derive(Debug)]
pub struct Streaming {
    urls: Urls,
    ending: CancellationToken,
    task: JoinHandle<()>,
}

/// Who gives out URLs of the server.
#[derive(Debug, Clone)]
pub struct Urls {
    /// What all begin with.
    base: Arc<str>,
    shared: Arc<Shared>,
}

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    pub(crate) settings: StreamingSettings,
    pub(crate) tokens: Tokens<Waiting>,
    tls: Option<Tls>,
}

/// A request that waits for its client.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// To execute something.
    Exec(ContainerId, ExecRequest),
    /// To attach.
    Attach(ContainerId, AttachRequest),
    /// To forward these ports, or any if there are none.
    PortForward(PodId, Vec<u16>),
}

impl Streaming {
    /// Begins to serve.
    ///
    /// # Errors
    /// If the address is taken, or the certificate cannot be used.
    pub async fn start(
        settings: StreamingSettings,
        service: Arc<Service>,
    ) -> Result<Self, StartError> {
        let tls = settings.tls.clone().map(Tls::load).transpose()?;
        let address = settings.address;
        let listening = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let bound = listener.local_addr().map_err(listening)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", reachable(bound)).into();
        let tokens = Tokens::new(settings.waiting);
        let shared = Arc::new(Shared { service, settings, tokens, tls });
        let ending = CancellationToken::new();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), ending.clone()));
        Ok(Self { urls: Urls { base, shared }, ending, task })
    }

    /// Who gives out its URLs.
    #[must_use]
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// Ends the server and all sessions, and waits until they are gone.
    pub async fn shut_down(mut self) {
        self.ending.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the streaming server broke down");
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Urls {
    /// What all begin with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A URL for an exec that was judged to be possible.
    ///
    /// # Errors
    /// If too many requests wait for their clients.
    pub fn exec(&self, id: ContainerId, request: ExecRequest) -> Result<String, TokenError> {
        let words = request.command.iter().map(|word| word.len() + size_of::<String>());
        let bytes = words.sum();
        self.url("exec", Waiting::Exec(id, request), bytes)
    }

    /// A URL for an attachment that was judged to be possible.
    ///
    /// # Errors
    /// If too many requests wait for their clients.
    pub fn attach(&self, id: ContainerId, request: AttachRequest) -> Result<String, TokenError> {
        self.url("attach", Waiting::Attach(id, request), 0)
    }

    /// A URL for forwarding ports of a pod: these, or any that the client names if there are none.
    ///
    /// # Errors
    /// If too many requests wait for their clients.
    pub fn port_forward(&self, pod: PodId, ports: Vec<u16>) -> Result<String, TokenError> {
        let bytes = size_of_val(ports.as_slice());
        self.url("portforward", Waiting::PortForward(pod, ports), bytes)
    }

    fn url(&self, verb: &str, request: Waiting, bytes: usize) -> Result<String, TokenError> {
        let token = self.shared.tokens.put(request, bytes)?;
        Ok(format!("{}/{verb}/{token}", self.base))
    }
}

/// An address that a client on this machine can connect to.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, ending: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = ending.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a streaming connection broke down");
                }
            }
            (accepted, place) = next => match accepted {
                Ok((stream, _)) => {
                    let connection = Connection::new(Arc::clone(&shared));
                    connections.spawn(async move {
                        let _place = place;
                        connection.serve(stream).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a streaming connection");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

impl Shared {
    fn tls(&self) -> Option<tokio_rustls::TlsAcceptor> {
        self.tls.as_ref().map(|tls| tls.current().into())
    }
}

/// Waits until a client is gone, whether or not anybody reads what it had sent before: while a program does not take its
/// input, nobody would see the end of the connection.
async fn vanished(socket: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        tokio::time::sleep(PATROL).await;
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut descriptor = [PollFd::new(socket, PollFlags::RDHUP)];
        let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut descriptor, Some(&at_once)).is_err()
            || descriptor.iter().any(|found| found.revents().intersects(gone))
        {
            return;
        }
    }
}

/// Lets the system find out that a client is gone which does not say so, and sends small pieces at once.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let prepared = sockopt::set_tcp_nodelay(stream, true)
        .and_then(|()| sockopt::set_socket_keepalive(stream, true))
        .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(30)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3));
    if let Err(error) = prepared {
        tracing::debug!(%error, "a streaming connection has no keep-alive");
    }
}
