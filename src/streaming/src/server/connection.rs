//! One connection: its request, the answer, and the session that it becomes.

use super::{Shared, Waiting, prepare, vanished};
use crate::attach::Attach;
use crate::exec::Exec;
use crate::negotiate::{self, Agreed, Answer, PortForward, RemoteCommand, text};
use crate::port_forward;
use crate::remote_command::{self, Opening, Shape};
use cringle_domain::id::PodId;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a client may take for its handshake, and again for the head of its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the head of a request may be long.
const HEAD: usize = 16 << 10;

/// How many headers a request may have.
const HEADERS: usize = 64;

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// What the connection becomes when the answer is sent.
    next: Mutex<Option<Next>>,
}

#[derive(Debug)]
struct Next {
    upgrade: OnUpgrade,
    session: Planned,
}

/// A session whose client has come.
#[derive(Debug)]
enum Planned {
    Exec(Exec, RemoteCommand),
    Attach(Attach, RemoteCommand),
    PortForward(PodId, Vec<u16>, PortForward),
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, next: Mutex::default() }
    }

    /// Serves it to its end.
    pub(super) async fn serve(self, stream: TcpStream) {
        prepare(&stream);
        let socket = match stream.as_fd().try_clone_to_owned() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "failed to watch a streaming connection"),
        };
        tokio::select! {
            () = self.shake_hands(stream) => {}
            () = vanished(&socket) => tracing::debug!("a streaming client vanished"),
        }
    }

    async fn shake_hands(self, stream: TcpStream) {
        let Some(acceptor) = self.shared.tls() else { return self.speak(stream).await };
        match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a streaming client did not agree on TLS"),
            Err(_elapsed) => tracing::debug!("a streaming client was too slow"),
        }
    }

    async fn speak<I>(self, io: I)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(async |request| Ok::<_, Infallible>(self.answer(request)));
        let spoken = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await;
        if let Err(error) = spoken {
            tracing::debug!(%error, "a streaming client went before it was answered");
            return;
        }
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Next { upgrade, session }) = next else { return };
        match upgrade.await {
            Ok(io) => session.run(TokioIo::new(io), &self.shared).await,
            Err(error) => tracing::debug!(%error, "a streaming connection was not upgraded"),
        }
    }

    /// The answer to a request; if it is to switch protocols, what comes next is kept.
    fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        if !matches!(head.method, Method::GET | Method::POST) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        }
        if !hyper::body::Body::is_end_stream(&body) {
            return text(StatusCode::BAD_REQUEST, "a request to upgrade has no body");
        }
        let Some(waiting) = self.claim(head.uri.path()) else {
            return text(StatusCode::NOT_FOUND, "not found");
        };
        match self.plan(waiting, &head) {
            Ok(Agreed { protocol, answer }) => {
                let next = Next { upgrade, session: protocol };
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
                answer
            }
            Err(answer) => *answer,
        }
    }

    /// The request that a path names. A token that is used with the wrong verb is used up too.
    fn claim(&self, path: &str) -> Option<Waiting> {
        let (verb, token) = path.strip_prefix('/')?.split_once('/')?;
        let waiting = self.shared.tokens.take(token)?;
        let fits = match &waiting {
            Waiting::Exec(..) => verb == "exec",
            Waiting::Attach(..) => verb == "attach",
            Waiting::PortForward(..) => verb == "portforward",
        };
        fits.then_some(waiting)
    }

    fn plan(&self, waiting: Waiting, head: &Parts) -> Result<Agreed<Planned>, Box<Answer>> {
        let service = Arc::clone(&self.shared.service);
        match waiting {
            Waiting::Exec(container, request) => {
                let exec = Exec { service, container, request };
                let Agreed { protocol, answer } = negotiate::remote_command(head)?;
                Ok(Agreed { protocol: Planned::Exec(exec, protocol), answer })
            }
            Waiting::Attach(container, request) => {
                let attach = Attach { service, container, request };
                let Agreed { protocol, answer } = negotiate::remote_command(head)?;
                Ok(Agreed { protocol: Planned::Attach(attach, protocol), answer })
            }
            Waiting::PortForward(pod, ports) => {
                let Agreed { protocol, answer } = negotiate::port_forward(head, ports)?;
                let (protocol, ports) = protocol;
                Ok(Agreed { protocol: Planned::PortForward(pod, ports, protocol), answer })
            }
        }
    }
}

impl Planned {
    async fn run(self, io: TokioIo<Upgraded>, shared: &Arc<Shared>) {
        match self {
            Self::Exec(exec, protocol) => {
                let (streams, terminal) = (exec.request.streams, exec.request.terminal);
                tracing::debug!(container = %exec.container, ?protocol, "an exec begins");
                command(io, shared, (Shape { streams, terminal }, protocol), exec).await;
            }
            Self::Attach(attach, protocol) => {
                let (streams, terminal) = (attach.request.streams, attach.request.terminal);
                tracing::debug!(container = %attach.container, ?protocol, "an attachment begins");
                command(io, shared, (Shape { streams, terminal }, protocol), attach).await;
            }
            Self::PortForward(pod, ports, protocol) => {
                tracing::debug!(%pod, ?protocol, "a port-forward begins");
                let service = Arc::clone(&shared.service);
                let forward = port_forward::Forward { service, pod, ports };
                port_forward::serve(io, protocol, &shared.settings, forward).await;
            }
        }
        tracing::debug!("a streaming session ended");
    }
}

async fn command<O: Opening>(
    io: TokioIo<Upgraded>,
    shared: &Shared,
    (shape, protocol): (Shape, RemoteCommand),
    opening: O,
) {
    match protocol {
        RemoteCommand::Spdy(version) => {
            remote_command::serve_spdy(io, version, &shared.settings, shape, opening).await;
        }
        RemoteCommand::WebSocket(version, encoding) => {
            let idle = shared.settings.idle;
            remote_command::serve_websocket(io, (version, encoding), idle, shape, opening).await;
        }
    }
}
