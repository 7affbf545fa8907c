//! Measurements for Prometheus: a page at `/metrics`, on an address or a socket of its own, if the configuration names one.
//!
//! The page is made anew for each request ([`page`]), in Prometheus' text form ([`text`]). Nobody is asked who they are, so
//! by default there is no such page, and its socket is for root alone. Why not a library for it: cAdvisor's names are fixed
//! and do not follow the rules that libraries hold names to.

mod page;
mod text;

use crate::config::MetricsAddress;
use crate::listen::{self, ListenError};
use crate::rpc::Latencies;
use cringle_service::Service;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// How many may read at the same time; others wait.
const READERS: usize = 8;

/// How long a connection may take over a request before it is closed.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// How long accepting rests after a failure, which mostly is a lack of descriptors.
const REST: Duration = Duration::from_millis(50);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    /// The address cannot be had.
    #[error("failed to listen on \"{address}\"")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] ListenError),
}

/// The page's server. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Metrics {
    server: Option<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        if let Some(socket) = &self.socket
            && let Err(error) = std::fs::remove_file(socket)
        {
            tracing::debug!(%error, "the socket for metrics was not removed");
        }
    }
}

/// What the page shows.
#[derive(Debug)]
pub(crate) struct Source {
    /// Pods, containers, pulls, stages.
    pub(crate) service: Arc<Service>,
    /// Requests.
    pub(crate) latencies: Arc<Latencies>,
}

/// Serves the page, if it is to be served.
///
/// # Errors
/// If the address or the socket cannot be had.
pub(crate) async fn start(
    address: &MetricsAddress,
    source: Source,
) -> Result<Metrics, MetricsError> {
    let source = Arc::new(source);
    match address {
        MetricsAddress::Nowhere => Ok(Metrics { server: None, socket: None }),
        MetricsAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.map_err(|source| MetricsError::Listen { address: *address, source })?;
            tracing::info!(%address, "metrics");
            let server = Some(tokio::spawn(serve(Listener::Tcp(listener), source)));
            Ok(Metrics { server, socket: None })
        }
        MetricsAddress::Unix(path) => {
            let listener = listen::listen_alone(path)?;
            tracing::info!(socket = %path.display(), "metrics");
            let server = Some(tokio::spawn(serve(Listener::Unix(listener), source)));
            Ok(Metrics { server, socket: Some(path.clone()) })
        }
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// For ever. Connections end by themselves: each has a time limit.
async fn serve(listener: Listener, source: Arc<Source>) {
    let places = Arc::new(Semaphore::new(READERS));
    // Never closed, so there is always a place in the end.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = match &listener {
            Listener::Tcp(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| follow(stream, Arc::clone(&source), place))
            }
            Listener::Unix(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| follow(stream, Arc::clone(&source), place))
            }
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "failed to accept a connection for metrics");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Answers one connection, in a task that ends when the request is answered or took too long.
fn follow<S>(stream: S, source: Arc<Source>, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let answers = service_fn(move |request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&request, &source).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answers);
    tokio::spawn(async move {
        match tokio::time::timeout(REQUEST_PATIENCE, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics broke"),
            Err(_elapsed) => tracing::debug!("a connection for metrics took too long"),
        }
        drop(place);
    });
}

async fn answer(request: &Request<Incoming>, source: &Source) -> Response<String> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let page = page::page(source).await;
            with_type(Response::new(page), "text/plain; version=0.0.4; charset=utf-8")
        }
        (_, "/metrics") => refused(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
        _ => refused(StatusCode::NOT_FOUND, "there is only /metrics\n"),
    }
}

fn refused(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    with_type(response, "text/plain")
}

fn with_type(mut response: Response<String>, kind: &'static str) -> Response<String> {
    let value = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
