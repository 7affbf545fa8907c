//! One pull's conversation: follows redirects without carrying secrets along, tries again what may pass, and goes on to the
//! next endpoint when one has no answer.

use super::auth::{Authorizer, Challenge, Credentials, Refused};
use super::blob::Blob;
use super::hosts::{Endpoint, Role, Scope};
use super::pause;
use super::redirect;
use super::transport::{self, Origin, Outgoing, TlsOptions, Transport};
use super::{Cause, RegistryError, Stage};
use crate::digest;
use crate::settings::ImageSettings;
use cringle_domain::reference::{Digest, Reference, Selector};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LONGEST_MANIFEST: u64 = 4 << 20;
const LONGEST_MESSAGE: u64 = 64 << 10;
const MOST_REDIRECTS: usize = 10;
const ACCEPTED_MANIFESTS: &str = concat!(
    "application/vnd.oci.image.index.v1+json, ",
    "application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, ",
    "application/vnd.docker.distribution.manifest.v2+json"
);

/// What an image's registry and its mirrors are asked in one pull.
#[derive(Debug)]
pub(crate) struct Session {
    reference: Reference,
    transport: Transport,
    retry: Retry,
    servers: Vec<Server>,
    /// TLS of other hosts in the settings, for redirects to them.
    other_hosts: BTreeMap<String, TlsOptions>,
}

/// How often and how soon to try again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    pub(crate) attempts: u32,
    pub(crate) first_delay: Duration,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    authorizer: Authorizer,
    /// It gave no answer the last time.
    is_down: AtomicBool,
    /// It gave an answer in this pull.
    has_answered: AtomicBool,
}

/// A manifest or index with the type that it was sent as.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
}

/// A blob's answer, and who gave it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) response: Response<Incoming>,
    pub(super) host: String,
}

/// What to ask an endpoint for.
#[derive(Debug)]
struct Question<'a> {
    path: &'a str,
    accept: Option<&'static str>,
    /// Leave off so many bytes at the beginning.
    from: u64,
}

impl Session {
    pub(crate) fn new(
        settings: &ImageSettings,
        reference: &Reference,
        endpoints: Vec<Endpoint>,
        credentials: Option<&Credentials>,
    ) -> Self {
        let path = reference.repository().path();
        let servers = endpoints
            .into_iter()
            .map(|endpoint| Server {
                authorizer: Authorizer::new(&endpoint, credentials, path),
                endpoint,
                is_down: AtomicBool::new(false),
                has_answered: AtomicBool::new(false),
            })
            .collect();
        let other_hosts = settings
            .registries
            .iter()
            .filter_map(|(host, set)| {
                let roots = set.ca_file.iter().cloned().collect();
                let tls = TlsOptions { roots, ..TlsOptions::default() };
                (tls != TlsOptions::default()).then(|| (host.clone(), tls))
            })
            .collect();
        Self {
            reference: reference.clone(),
            transport: Transport::new(settings.progress_timeout),
            retry: Retry { attempts: settings.attempts, first_delay: settings.first_retry_delay },
            servers,
            other_hosts,
        }
    }

    /// The manifest or index that the reference names, or one of that digest in the same repository.
    pub(crate) async fn manifest(
        &self,
        digest: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let wanted = digest.or(match self.reference.selector() {
            Selector::Digest(digest) => Some(digest),
            Selector::Tag(_) => None,
        });
        let name = match (wanted, self.reference.selector()) {
            (Some(digest), _) => digest.to_string(),
            (None, Selector::Tag(tag)) => tag.to_string(),
            (None, Selector::Digest(digest)) => digest.to_string(),
        };
        let path = format!("{}/manifests/{name}", self.reference.repository().path());
        let question = Question { path: &path, accept: Some(ACCEPTED_MANIFESTS), from: 0 };
        let mut failure = None;
        for server in self.servers_for(wanted.is_some()) {
            if !server.is_wanted_after(failure.as_ref()) {
                continue;
            }
            match self.read_manifest(server, &question, wanted).await {
                Ok(document) => return Ok(document),
                Err(cause) => keep(&mut failure, self.failed(Stage::Manifest, server, cause)),
            }
        }
        Err(failure.unwrap_or_else(|| self.nobody(Stage::Manifest)))
    }

    /// A small blob, whole and checked.
    pub(crate) async fn blob_bytes(
        &self,
        stage: Stage,
        digest: &Digest,
        size: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut blob = Blob::new(self, stage, digest, size);
        let mut bytes = Vec::new();
        while let Some(piece) = blob.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// A blob as a stream.
    pub(crate) fn blob<'a>(&'a self, stage: Stage, digest: &'a Digest, size: u64) -> Blob<'a> {
        Blob::new(self, stage, digest, size)
    }

    /// The answer to a request for a blob from that byte on.
    pub(super) async fn open_blob(
        &self,
        stage: Stage,
        digest: &Digest,
        from: u64,
    ) -> Result<Opened, RegistryError> {
        let path = format!("{}/blobs/{digest}", self.reference.repository().path());
        let question = Question { path: &path, accept: None, from };
        let mut failure = None;
        for server in self.servers_for(true) {
            if !server.is_wanted_after(failure.as_ref()) {
                continue;
            }
            match self.ask(server, &question).await {
                Ok(response) => {
                    let host = server.endpoint.origin.authority().to_owned();
                    return Ok(Opened { response, host });
                }
                Err(cause) => keep(&mut failure, self.failed(stage, server, cause)),
            }
        }
        Err(failure.unwrap_or_else(|| self.nobody(stage)))
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn retry(&self) -> Retry {
        self.retry
    }

    pub(super) fn error(&self, stage: Stage, host: &str, cause: Cause) -> RegistryError {
        RegistryError {
            stage,
            reference: self.reference.to_string(),
            host: host.to_owned(),
            cause: Box::new(cause),
        }
    }

    /// The servers to ask, those that were down last: they may be back. The other scheme of a host that was reached is
    /// not among them.
    fn servers_for(&self, by_digest: bool) -> Vec<&Server> {
        let mut is_reached = false;
        let mut wanted: Vec<&Server> = Vec::new();
        for server in &self.servers {
            let is_wanted = match server.endpoint.scope {
                Scope::All => true,
                Scope::Content => by_digest,
                Scope::Tags => !by_digest,
                Scope::Fallback => !is_reached,
            };
            wanted.extend(is_wanted.then_some(server));
            is_reached = server.has_answered.load(Ordering::Relaxed);
        }
        wanted.sort_by_key(|server| server.is_down.load(Ordering::Relaxed));
        wanted
    }

    async fn read_manifest(
        &self,
        server: &Server,
        question: &Question<'_>,
        wanted: Option<&Digest>,
    ) -> Result<Document, Cause> {
        let response = self.ask(server, question).await?;
        let text_of = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let content_type = text_of("content-type");
        let announced = text_of("docker-content-digest");
        let bytes = self.transport.read(response.into_body(), LONGEST_MANIFEST).await?;
        // A tag's digest is what the registry announces; the body must be that.
        let announced: Option<Digest> = match (wanted, announced) {
            (Some(_), _) | (None, None) => None,
            (None, Some(text)) => Some(
                text.parse()
                    .map_err(|_malformed| Cause::Protocol("it announces a malformed digest"))?,
            ),
        };
        let expected = wanted.or(announced.as_ref());
        let algorithm = digest::algorithm_of(expected);
        let found = digest::of(algorithm, &bytes);
        match expected {
            Some(expected) if *expected != found => {
                Err(Cause::Digest { expected: expected.to_string(), found: found.to_string() })
            }
            Some(_) | None => Ok(Document { bytes, digest: found, content_type }),
        }
    }

    /// Asks one server, again and again while there is hope.
    async fn ask(
        &self,
        server: &Server,
        question: &Question<'_>,
    ) -> Result<Response<Incoming>, Cause> {
        let mut delay = self.retry.first_delay;
        let mut attempt = 1;
        loop {
            let Failure { cause, wait } = match self.ask_once(server, question).await {
                Ok(response) => {
                    server.note(None);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            server.note(Some(&cause));
            // Where others may have the same content, no time is lost on one that can't be reached.
            let is_only_hope =
                self.servers.len() == 1 || server.has_answered.load(Ordering::Relaxed);
            let again = cause.is_passing() && (is_only_hope || !cause.is_unreachable());
            if attempt >= self.retry.attempts || !again {
                return Err(cause);
            }
            tracing::debug!(host = server.endpoint.origin.authority(), %cause, attempt, "asking again");
            tokio::time::sleep(pause::before_next(wait, delay)).await;
            attempt += 1;
            delay *= 2;
        }
    }

    async fn ask_once(
        &self,
        server: &Server,
        question: &Question<'_>,
    ) -> Result<Response<Incoming>, Failure> {
        let first = server.url(question.path)?;
        let mut authorised = 0;
        loop {
            let standing = server.authorizer.current().await;
            let response = self.follow(server, question, first.clone(), standing.header).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && authorised < 2 {
                let challenge = Challenge::from_headers(response.headers());
                let message = self.message(response).await;
                let refused = Refused { challenge, generation: standing.generation, message };
                server.authorizer.renew(&self.transport, &server.endpoint, refused).await?;
                authorised += 1;
                continue;
            }
            return self.judge(response).await;
        }
    }

    /// Sends the request and follows redirects. Secrets and the endpoint's own headers go to the endpoint only.
    async fn follow(
        &self,
        server: &Server,
        question: &Question<'_>,
        first: Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut uri = first;
        for _ in 0..=MOST_REDIRECTS {
            let origin = Origin::of(&uri).ok_or(Cause::Protocol("a URL without a host"))?;
            let is_home = origin == server.endpoint.origin;
            let mut outgoing = Outgoing::get(uri.clone());
            if is_home {
                outgoing.headers.extend(server.endpoint.headers.clone());
                outgoing
                    .headers
                    .extend(authorization.clone().map(|value| (header::AUTHORIZATION, value)));
            }
            question.add_headers(&mut outgoing.headers)?;
            let tls = if is_home {
                Some(&server.endpoint.tls)
            } else {
                self.other_hosts.get(origin.authority())
            };
            let response = self.transport.send(outgoing, tls).await?;
            if !redirect::is_redirect(response.status()) {
                // A challenge from elsewhere is none for us.
                if !is_home && response.status() == StatusCode::UNAUTHORIZED {
                    let message = self.message(response).await;
                    return Err(Cause::Denied { status: 401, message }.into());
                }
                return Ok(response);
            }
            uri = redirect::next_location(&server.endpoint.origin, &uri, &response)?;
        }
        Err(Cause::Redirect { location: uri.to_string(), problem: "too many redirects" }.into())
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        let code = response.status();
        let status = code.as_u16();
        if matches!(status, 200 | 206) {
            // Content is addressed by its digest: no one may encode it again.
            let encoding = response.headers().get(header::CONTENT_ENCODING);
            return match encoding.map(HeaderValue::as_bytes) {
                None | Some(b"" | b"identity") => Ok(response),
                Some(_) => {
                    Err(Cause::Protocol("the answer has a content encoding nobody asked for")
                        .into())
                }
            };
        }
        let wait = pause::asked_for(response.headers());
        let message = self.message(response).await;
        let cause = match status {
            404 => Cause::NotFound,
            401 | 403 => Cause::Denied { status, message },
            _ => Cause::Status { status, message },
        };
        Err(Failure { cause, wait })
    }

    async fn message(&self, response: Response<Incoming>) -> String {
        // What can't be read says nothing.
        let bytes =
            self.transport.read(response.into_body(), LONGEST_MESSAGE).await.unwrap_or_default();
        transport::message(&bytes)
    }

    fn failed(&self, stage: Stage, server: &Server, cause: Cause) -> RegistryError {
        self.error(stage, server.endpoint.origin.authority(), cause)
    }

    fn nobody(&self, stage: Stage) -> RegistryError {
        let host = self.reference.repository().registry();
        self.error(stage, host, Cause::Protocol("no endpoint serves this"))
    }
}

impl Server {
    fn url(&self, path: &str) -> Result<Uri, Cause> {
        // A mirror of many registries must know which one is meant.
        let query = match self.endpoint.role {
            Role::Mirror => format!("?ns={}", self.endpoint.registry),
            Role::Registry => String::new(),
        };
        format!("{}/{path}{query}", self.endpoint.base)
            .parse()
            .map_err(|error: http::uri::InvalidUri| Cause::Request(error.into()))
    }

    /// Notes whether it answers.
    fn note(&self, cause: Option<&Cause>) {
        let is_down = cause.is_some_and(Cause::is_unreachable);
        self.is_down.store(is_down, Ordering::Relaxed);
        self.has_answered.fetch_or(!is_down, Ordering::Relaxed);
    }

    /// The other scheme of a host is tried only if the first one got no proper answer.
    fn is_wanted_after(&self, failure: Option<&RegistryError>) -> bool {
        self.endpoint.scope != Scope::Fallback
            || failure.is_none_or(|failure| {
                matches!(*failure.cause, Cause::Connect { .. } | Cause::Status { status: 400, .. })
            })
    }
}

/// An answer, even a refusal, says more than no answer; of two alike the later one counts, as the registry comes last.
fn keep(kept: &mut Option<RegistryError>, new: RegistryError) {
    let is_better = match kept {
        None => true,
        Some(old) => old.cause.is_unreachable() || !new.cause.is_unreachable(),
    };
    if is_better {
        *kept = Some(new);
    }
}

impl Question<'_> {
    fn add_headers(&self, headers: &mut HeaderMap) -> Result<(), Cause> {
        if let Some(accept) = self.accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        if self.from > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", self.from))
                .map_err(|error| Cause::Request(error.into()))?;
            headers.insert(header::RANGE, range);
        }
        Ok(())
    }
}

/// A failed attempt, and how long the server wants to be left alone.
struct Failure {
    cause: Cause,
    wait: Option<Duration>,
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self { cause, wait: None }
    }
}
