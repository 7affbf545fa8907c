//! One HTTP request and its answer. Redirects, retries and authorisation are decided above.

mod tls;

pub use tls::TlsError;
pub(crate) use tls::{TlsOptions, Verification};

use super::Cause;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Fewer bytes than this within the progress timeout are no progress: a server must not hold us with a byte at a time.
const LEAST_PROGRESS: u64 = 1024;
const LONGEST_MESSAGE: usize = 300;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Connections to all servers of one pull.
pub(crate) struct Transport {
    progress_timeout: Duration,
    /// One client, with its own connections, for each way to use TLS.
    clients: Mutex<HashMap<TlsOptions, HttpClient>>,
}

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A server as browsers tell them apart: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    https: bool,
    host: String,
    port: u16,
    authority: String,
}

impl Transport {
    pub(crate) fn new(progress_timeout: Duration) -> Self {
        Self { progress_timeout, clients: Mutex::new(HashMap::new()) }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        tls: Option<&TlsOptions>,
    ) -> Result<Response<Incoming>, Cause> {
        let host = outgoing.uri.authority().map(ToString::to_string).unwrap_or_default();
        let client = self.client(tls)?;
        let mut request = Request::builder()
            .method(outgoing.method)
            .uri(outgoing.uri)
            .body(Full::new(outgoing.body))
            .map_err(Cause::Request)?;
        *request.headers_mut() = outgoing.headers;
        let agent = HeaderValue::from_static(concat!("cringle/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        match timeout(self.progress_timeout, client.request(request)).await {
            Ok(answer) => answer.map_err(|source| Cause::Connect { host, source }),
            Err(_elapsed) => Err(Cause::TimedOut(self.progress_timeout)),
        }
    }

    /// Reads a whole body of at most so many bytes.
    pub(crate) async fn read(&self, body: Incoming, longest: u64) -> Result<Vec<u8>, Cause> {
        let mut stream = BodyStream::new(body, self.progress_timeout);
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await? {
            bytes.extend_from_slice(&piece);
            if stream.received > longest {
                return Err(Cause::TooLarge(longest));
            }
        }
        Ok(bytes)
    }

    /// A body as a stream under the progress timeout.
    pub(crate) fn stream(&self, body: Incoming) -> BodyStream {
        BodyStream::new(body, self.progress_timeout)
    }

    fn client(&self, tls: Option<&TlsOptions>) -> Result<HttpClient, Cause> {
        let options = tls.cloned().unwrap_or_default();
        // A poisoned lock still guards a whole map.
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = clients.get(&options) {
            return Ok(client.clone());
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT.min(self.progress_timeout)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::configuration(&options)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        clients.insert(options, client.clone());
        Ok(client)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Outgoing {
    pub(crate) fn get(uri: Uri) -> Self {
        Self { method: Method::GET, uri, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// A body that must keep coming.
#[derive(Debug)]
pub(crate) struct BodyStream {
    body: Incoming,
    progress_timeout: Duration,
    window_end: Instant,
    in_window: u64,
    pub(crate) received: u64,
}

impl BodyStream {
    fn new(body: Incoming, progress_timeout: Duration) -> Self {
        let window_end = Instant::now() + progress_timeout;
        Self { body, progress_timeout, window_end, in_window: 0, received: 0 }
    }

    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let frame = timeout_at(self.window_end, self.body.frame())
                .await
                .map_err(|_elapsed| Cause::TimedOut(self.progress_timeout))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|source| Cause::Broken {
                received: self.received,
                source: Some(source),
            })?;
            // Trailers say nothing to us.
            let Ok(piece) = frame.into_data() else { continue };
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.received = self.received.saturating_add(length);
            self.in_window = self.in_window.saturating_add(length);
            if self.in_window >= LEAST_PROGRESS {
                self.in_window = 0;
                self.window_end = Instant::now() + self.progress_timeout;
            }
            return Ok(Some(piece));
        }
    }

    /// Someone else took so long: the server gets that time too.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.window_end += time;
    }
}

impl Origin {
    /// The server that a URL names, if it is of HTTP.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        // A user name in a URL would be a second, unguarded way to pass secrets.
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host, port, authority: authority.as_str().to_ascii_lowercase() })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Host and, if it was written, port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether this is a name or address of the machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host is a name or address of the machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| canonical(address).is_loopback())
}

/// Whether a server may send us on to that one. Addresses that only this machine or its link can reach would let a foreign
/// registry use us to ask, say, the cloud's metadata service.
pub(crate) fn check_target(from: &Origin, to: &Origin) -> Result<(), &'static str> {
    if from.host == to.host {
        return Ok(());
    }
    if is_loopback(&to.host) && !from.is_loopback() {
        return Err("it is an address of this machine");
    }
    let Ok(address) = to.host.parse::<IpAddr>().map(canonical) else { return Ok(()) };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local || address.is_unspecified() || address.is_multicast() {
        return Err("it is an address of the local link");
    }
    Ok(())
}

fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::to_canonical(&address),
    }
}

/// The URL with more query parameters.
pub(crate) fn with_query(uri: &Uri, query: &str) -> Result<Uri, Cause> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{separator}{query}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| Cause::Request(error.into()))
}

/// What a server says about its refusal, for people: the messages of the protocol's error list.
pub(crate) fn message(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(answer) = serde_json::from_slice::<Errors>(bytes) else { return String::new() };
    let texts: Vec<String> = answer
        .errors
        .iter()
        .map(
            |error| {
                if error.message.is_empty() { error.code.clone() } else { error.message.clone() }
            },
        )
        .collect();
    texts
        .join("; ")
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST_MESSAGE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().expect("a URL")).expect("an origin")
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://a.io/x").host(), "a.io");
        assert_ne!(origin("https://a.io/"), origin("http://a.io/"));
        assert_ne!(origin("https://a.io/"), origin("https://a.io:444/"));
        for text in ["ftp://a.io/", "/path", "https://user:secret@a.io/"] {
            assert_eq!(Origin::of(&text.parse().expect("a URL")), None, "{text}");
        }
    }

    #[test]
    fn a_foreign_server_cannot_send_us_to_local_addresses() {
        let foreign = origin("https://registry.example.org/");
        for text in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://127.0.0.1:8080/",
            "http://localhost/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0/",
        ] {
            assert!(check_target(&foreign, &origin(text)).is_err(), "{text}");
        }
        assert_eq!(check_target(&foreign, &origin("https://cdn.example.net/")), Ok(()));
        assert_eq!(check_target(&foreign, &origin("https://10.0.0.7/")), Ok(()));
        assert_eq!(
            check_target(&origin("http://127.0.0.1:1/"), &origin("http://127.0.0.2:2/")),
            Ok(())
        );
    }

    #[test]
    fn the_message_of_a_refusal_is_found() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nway"},{"code":"OTHER"}]}"#;
        assert_eq!(message(body), "noway; OTHER");
        assert_eq!(message(b"<html>"), "");
    }
}
