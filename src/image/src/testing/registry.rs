//! A registry on loopback that does what its script says.

use super::sha256;
use super::tarball::gzip;
use bytes::Bytes;
use cringle_domain::reference::Digest;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One answer of the script, given instead of the usual one.
#[derive(Clone)]
pub(crate) enum Act {
    /// That status, with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// The usual answer, but the connection breaks after so many bytes of the body.
    Break(usize),
    /// The usual answer with another body.
    Body(Vec<u8>),
    /// The usual answer as if the request had no `Range`.
    IgnoreRange,
    /// No answer until the gate opens.
    Hold(Arc<Notify>),
    /// No answer at all.
    Hang,
}

/// A request as the registry saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) body: String,
}

/// How the registry wants its clients to introduce themselves.
#[derive(Clone)]
pub(crate) enum Access {
    Open,
    /// The header value that is let in, and the challenge for all others.
    Guarded {
        allowed: String,
        challenge: String,
    },
}

#[derive(Clone)]
struct Content {
    bytes: Bytes,
    content_type: &'static str,
    digest: Option<Digest>,
}

struct State {
    content: HashMap<String, Content>,
    script: HashMap<String, VecDeque<Act>>,
    access: Access,
    seen: Vec<Seen>,
}

/// A running registry; it ends when this is dropped.
pub(crate) struct Registry {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::start_on("127.0.0.1").await
    }

    pub(crate) async fn start_on(address: &str) -> Self {
        Self::start_with(address, None).await
    }

    pub(crate) async fn start_with_tls() -> Self {
        Self::start_with("127.0.0.1", Some(super::tls::acceptor())).await
    }

    async fn start_with(address: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            content: HashMap::new(),
            script: HashMap::new(),
            access: Access::Open,
            seen: Vec::new(),
        }));
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&state)));
        Self { host: format!("{address}:{port}"), state, server }
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    pub(crate) fn guard(&self, allowed: &str, challenge: &str) {
        let access =
            Access::Guarded { allowed: allowed.to_owned(), challenge: challenge.to_owned() };
        self.state.lock().expect("a lock").access = access;
    }

    /// What to do at the next requests for a path, instead of the usual.
    pub(crate) fn script(&self, path: &str, acts: Vec<Act>) {
        self.state.lock().expect("a lock").script.entry(path.to_owned()).or_default().extend(acts);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().expect("a lock").seen.clone()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }

    /// Anything at any path.
    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>, content_type: &'static str) {
        let digest = None;
        let content = Content { bytes: bytes.into(), content_type, digest };
        self.state.lock().expect("a lock").content.insert(path.to_owned(), content);
    }

    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let path = format!("/v2/{repository}/blobs/{digest}");
        self.put(&path, bytes.to_vec(), "application/octet-stream");
        digest
    }

    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        bytes: &[u8],
        content_type: &'static str,
    ) -> Digest {
        let digest = sha256(bytes);
        for name in [tag, &digest.to_string()] {
            let content = Content {
                bytes: Bytes::copy_from_slice(bytes),
                content_type,
                digest: Some(digest.clone()),
            };
            let path = format!("/v2/{repository}/manifests/{name}");
            self.state.lock().expect("a lock").content.insert(path, content);
        }
        digest
    }

    /// An image of these archives; returns its id.
    pub(crate) fn put_image(&self, repository: &str, tag: &str, archives: &[Vec<u8>]) -> Digest {
        let image = self.image(repository, archives, &json!({}));
        self.put_manifest(repository, tag, image.manifest.to_string().as_bytes(), OCI_IMAGE);
        image.id
    }

    /// The parts of an image, with the blobs put already.
    pub(crate) fn image(&self, repository: &str, archives: &[Vec<u8>], process: &Value) -> Parts {
        let diff_ids: Vec<Digest> = archives.iter().map(|archive| sha256(archive)).collect();
        let layers: Vec<Value> = archives
            .iter()
            .map(|archive| {
                let blob = gzip(archive);
                let digest = self.put_blob(repository, &blob);
                json!({"mediaType": OCI_LAYER, "digest": digest, "size": blob.len()})
            })
            .collect();
        let config = json!({
            "architecture": crate::platform::Platform::own().architecture, "os": "linux",
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        self.parts(repository, &config, &layers)
    }

    pub(crate) fn parts(&self, repository: &str, config: &Value, layers: &[Value]) -> Parts {
        let text = config.to_string();
        let id = self.put_blob(repository, text.as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_IMAGE,
            "config": {"mediaType": OCI_CONFIG, "digest": id, "size": text.len()},
            "layers": layers,
        });
        Parts { id, manifest }
    }
}

/// The parts of an image that a test may change.
pub(crate) struct Parts {
    pub(crate) id: Digest,
    pub(crate) manifest: Value,
}

impl Parts {
    /// The digest of a layer's blob.
    pub(crate) fn blob(&self, layer: usize) -> String {
        self.manifest["layers"][layer]["digest"].as_str().expect("a digest").to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // Broken connections are part of the script.
            let server = http1::Builder::new();
            match tls {
                None => server.serve_connection(TokioIo::new(stream), service).await.is_ok(),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return false };
                    server.serve_connection(TokioIo::new(stream), service).await.is_ok()
                }
            }
        });
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let text_of = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let seen = Seen {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        authorization: text_of(header::AUTHORIZATION),
        range: text_of(header::RANGE),
        body: body.collect().await.map_or_else(
            |_broken| String::new(),
            |body| String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        ),
    };
    let (act, content, refusal) = {
        let mut state = state.lock().expect("a lock");
        state.seen.push(seen.clone());
        let refusal = match &state.access {
            Access::Guarded { allowed, challenge }
                if seen.path.starts_with("/v2/")
                    && seen.authorization.as_ref() != Some(allowed) =>
            {
                Some(challenge.clone())
            }
            Access::Guarded { .. } | Access::Open => None,
        };
        // Whoever is refused gets to see nothing of the script.
        let act = match refusal {
            None => state.script.get_mut(&seen.path).and_then(VecDeque::pop_front),
            Some(_) => None,
        };
        (act, state.content.get(&seen.path).cloned(), refusal)
    };
    if let Some(challenge) = refusal {
        return Ok(plain(401, vec![("www-authenticate", challenge)], ""));
    }
    Ok(perform(act, content, seen.range).await)
}

async fn perform(
    act: Option<Act>,
    content: Option<Content>,
    range: Option<String>,
) -> Response<Body> {
    let missing = || {
        plain(404, Vec::new(), r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such thing"}]}"#)
    };
    match act {
        Some(Act::Status(status, headers, body)) => plain(status, headers, body),
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::Hold(gate)) => {
            gate.notified().await;
            content.map_or_else(missing, |content| usual(&content, range, None))
        }
        Some(Act::Break(after)) => {
            content.map_or_else(missing, |content| usual(&content, range, Some(after)))
        }
        Some(Act::IgnoreRange) => {
            content.map_or_else(missing, |content| usual(&content, None, None))
        }
        Some(Act::Body(bytes)) => content.map_or_else(missing, |content| {
            usual(&Content { bytes: bytes.into(), ..content }, range, None)
        }),
        None => content.map_or_else(missing, |content| usual(&content, range, None)),
    }
}

fn usual(content: &Content, range: Option<String>, break_after: Option<usize>) -> Response<Body> {
    let start = range
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let rest = content.bytes.slice(start.unwrap_or(0)..);
    let mut response = Response::builder()
        .status(if start.is_some() { 206 } else { 200 })
        .header(header::CONTENT_TYPE, content.content_type)
        .header(header::CONTENT_LENGTH, rest.len());
    if let Some(start) = start {
        let total = content.bytes.len();
        response =
            response.header(header::CONTENT_RANGE, format!("bytes {start}-{}/{total}", total - 1));
    }
    if let Some(digest) = &content.digest {
        response = response.header("docker-content-digest", digest.to_string());
    }
    let body = match break_after {
        None => whole(rest),
        Some(after) => {
            let piece = rest.slice(..after.min(rest.len()));
            let data = stream::iter([Ok(Frame::data(piece))]);
            // A pause lets the server send what it has.
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            });
            BoxBody::new(StreamBody::new(data.chain(end)))
        }
    };
    response.body(body).expect("an answer")
}

fn plain(status: u16, headers: Vec<(&'static str, String)>, body: &'static str) -> Response<Body> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value.parse().expect("a header"));
    }
    let mut response = Response::new(whole(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = map;
    response
}

fn whole(bytes: Bytes) -> Body {
    BoxBody::new(Full::new(bytes).map_err(|never| match never {}))
}
