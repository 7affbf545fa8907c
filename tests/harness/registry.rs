//! A registry on loopback that serves images from memory and does wrong what it is told to.

use crate::image::{Description, Layer, digest};
use anyhow::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status and nothing else.
    Status(u16),
    /// The right length is promised, half of it is sent, the connection ends.
    Truncated,
    /// As long as it should be, with one byte changed.
    Corrupted,
    /// Headers are sent, and then nothing for ever.
    Stalled,
    /// All is right, but comes in many small pieces, one at a time.
    Slow,
}

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    /// Where it listens.
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Content {
    /// By digest.
    blobs: HashMap<String, Bytes>,
    /// By "repository:tag" and "repository@digest": media type and document.
    manifests: HashMap<String, (&'static str, Bytes)>,
    /// By a piece of the path.
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
    /// One for each answer that is held back, and this one.
    stalled: Arc<()>,
}

impl Registry {
    /// Starts one on a free port of 127.0.0.1, in the network namespace of this thread.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let content = Arc::new(Mutex::new(Content::default()));
        let task = tokio::spawn(serve(listener, Arc::clone(&content)));
        Ok(Self { address, content, task })
    }

    /// Adds an image under "repository:tag"; its manifest's digest.
    pub fn add(
        &self,
        repository: &str,
        tag: &str,
        layers: &[Layer],
        description: &Description,
    ) -> Result<String> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": description.architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": description.config, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?;
        let entries: Vec<Value> =
            layers.iter().map(|layer| self.keep(LAYER, layer.packed.clone())).collect();
        let document = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.keep(CONFIG, config.into()), "layers": entries,
        }))?;
        Ok(self.name(repository, tag, (MANIFEST, document.into())))
    }

    /// Adds an index under "repository:tag" of manifests that are there by digest, each with an architecture.
    pub fn add_index(
        &self,
        repository: &str,
        tag: &str,
        manifests: &[(&str, &str)],
    ) -> Result<String> {
        let entry = |(name, architecture): &(&str, &str)| {
            let size = self
                .lock()
                .manifests
                .get(&format!("{repository}@{name}"))
                .map_or(0, |(_, document)| document.len());
            json!({"mediaType": MANIFEST, "digest": name, "size": size,
                   "platform": {"architecture": architecture, "os": "linux"}})
        };
        let entries: Vec<Value> = manifests.iter().map(entry).collect();
        let document = serde_json::to_vec(
            &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
        )?;
        Ok(self.name(repository, tag, (INDEX, document.into())))
    }

    /// From now on, requests whose path has this piece go wrong.
    pub fn fail(&self, piece: &str, fault: Fault) {
        self.lock().faults.push((piece.to_owned(), fault));
    }

    /// From now on, all is well again.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Method and path of every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// How many answers are held back for clients that are still there.
    #[must_use]
    pub fn stalled(&self) -> usize {
        Arc::strong_count(&self.lock().stalled) - 1
    }

    fn keep(&self, media_type: &str, content: Bytes) -> Value {
        let name = digest(&content);
        let descriptor = json!({"mediaType": media_type, "digest": name, "size": content.len()});
        self.lock().blobs.insert(name, content);
        descriptor
    }

    fn name(&self, repository: &str, tag: &str, document: (&'static str, Bytes)) -> String {
        let name = digest(&document.1);
        let mut content = self.lock();
        content.manifests.insert(format!("{repository}@{name}"), document.clone());
        content.manifests.insert(format!("{repository}:{tag}"), document);
        name
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = BoxBody<Bytes, io::Error>;

/// A body that is not as long as was promised.
struct Unfinished {
    first: Option<Bytes>,
    end: End,
}

enum End {
    Cut,
    Never {
        /// Counts it while its client is there.
        _mark: Arc<()>,
    },
}

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match (self.first.take(), &self.end) {
            (Some(first), _) => Poll::Ready(Some(Ok(Frame::data(first)))),
            (None, End::Cut) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            (None, End::Never { .. }) => Poll::Pending,
        }
    }
}

/// A body that takes its time.
struct Slow {
    rest: Bytes,
    piece: usize,
    pause: Pin<Box<Sleep>>,
}

const PAUSE: Duration = Duration::from_millis(5);

impl Slow {
    fn new(rest: Bytes) -> Self {
        let piece = rest.len() / 32 + 1;
        Self { rest, piece, pause: Box::pin(sleep(PAUSE)) }
    }
}

impl hyper::body::Body for Slow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(context));
        self.pause = Box::pin(sleep(PAUSE));
        let length = self.piece.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

async fn serve(listener: TcpListener, content: Arc<Mutex<Content>>) {
    // Ends with the task: an error of accept means that the stage is gone.
    while let Ok((stream, _)) = listener.accept().await {
        let content = Arc::clone(&content);
        let service = service_fn(move |request| {
            let answer = answer(&content, &request);
            async move { answer }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that hangs up is nothing to this side.
            connection.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
        });
    }
}

fn answer(
    content: &Mutex<Content>,
    request: &Request<Incoming>,
) -> Result<Response<Body>, hyper::http::Error> {
    let path = request.uri().path();
    let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
    content.requests.push(format!("{} {path}", request.method()));
    let fault =
        content.faults.iter().find(|(piece, _)| path.contains(piece)).map(|(_, fault)| *fault);
    if let Some(Fault::Status(status)) = fault {
        return Response::builder().status(status).body(full(Bytes::new()));
    }
    let Some((media_type, document)) = find(&content, path) else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(full(Bytes::new()));
    };
    let builder = Response::builder()
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, document.len())
        .header("Docker-Content-Digest", digest(&document));
    if request.method() == Method::HEAD {
        return builder.body(full(Bytes::new()));
    }
    builder.body(match fault {
        None | Some(Fault::Status(_)) => full(document),
        Some(Fault::Corrupted) => full(corrupted(&document)),
        Some(Fault::Truncated) => {
            Unfinished { first: Some(document.slice(..document.len() / 2)), end: End::Cut }.boxed()
        }
        Some(Fault::Slow) => Slow::new(document).boxed(),
        Some(Fault::Stalled) => {
            let end = End::Never { _mark: Arc::clone(&content.stalled) };
            Unfinished { first: None, end }.boxed()
        }
    })
}

fn find(content: &Content, path: &str) -> Option<(&'static str, Bytes)> {
    let path = path.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some(("application/json", Bytes::from_static(b"{}")));
    }
    if let Some((_, name)) = path.split_once("/blobs/") {
        return content.blobs.get(name).map(|blob| ("application/octet-stream", blob.clone()));
    }
    let (repository, name) = path.split_once("/manifests/")?;
    let separator = if name.contains(':') { '@' } else { ':' };
    content.manifests.get(&format!("{repository}{separator}{name}")).cloned()
}

fn full(content: Bytes) -> Body {
    Full::new(content).map_err(|never| match never {}).boxed()
}

fn corrupted(content: &Bytes) -> Bytes {
    let mut changed = content.to_vec();
    if let Some(byte) = changed.last_mut() {
        *byte ^= 0xff;
    }
    changed.into()
}
