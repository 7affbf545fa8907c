//! From the head of a request to the way in which its client will speak, or the answer that turns it away.
//!
//! A SPDY client names its protocols in `X-Stream-Protocol-Version`, a WebSocket client in `Sec-WebSocket-Protocol`; of
//! those that are served the first in the client's order is taken. Clients from before there was a choice name none.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An answer of ours: short texts only.
pub(crate) type Answer = Response<Full<Bytes>>;

/// How a client speaks, and the answer that says so.
#[derive(Debug)]
pub(crate) struct Agreed<P> {
    /// What was agreed on.
    pub(crate) protocol: P,
    /// Switching protocols.
    pub(crate) answer: Answer,
}

/// How an exec or an attachment is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemoteCommand {
    /// A SPDY stream for each stream.
    Spdy(Version),
    /// A WebSocket message for each piece of a stream.
    WebSocket(Version, Encoding),
}

/// How forwarded connections are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortForward {
    /// Two SPDY streams for each connection.
    Spdy,
    /// SPDY in WebSocket messages.
    Tunnel,
    /// Two channels of a WebSocket for each port.
    WebSocket(Encoding),
}

/// The protocol of remote commands, by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// `channel.k8s.io`.
    V1,
    /// The server leaves standard input open.
    V2,
    /// Terminals can be resized.
    V3,
    /// The end is told as a status with the exit code.
    V4,
    /// A WebSocket's client can end a stream.
    V5,
}

/// What the messages of a WebSocket are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Bytes.
    Binary,
    /// Base64 in text.
    Base64,
}

const PROTOCOLS: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
const SPDY_COMMANDS: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];
const SPDY_FORWARDS: [(&str, ()); 1] = [("portforward.k8s.io", ())];
const WEBSOCKET_COMMANDS: [(&str, (Version, Encoding)); 7] = [
    ("v5.channel.k8s.io", (Version::V5, Encoding::Binary)),
    ("v4.channel.k8s.io", (Version::V4, Encoding::Binary)),
    ("v3.channel.k8s.io", (Version::V3, Encoding::Binary)),
    ("v2.channel.k8s.io", (Version::V2, Encoding::Binary)),
    ("channel.k8s.io", (Version::V1, Encoding::Binary)),
    ("v4.base64.channel.k8s.io", (Version::V4, Encoding::Base64)),
    ("base64.channel.k8s.io", (Version::V1, Encoding::Base64)),
];
const WEBSOCKET_FORWARDS: [(&str, PortForward); 3] = [
    ("SPDY/3.1+portforward.k8s.io", PortForward::Tunnel),
    ("v4.channel.k8s.io", PortForward::WebSocket(Encoding::Binary)),
    ("v4.base64.channel.k8s.io", PortForward::WebSocket(Encoding::Base64)),
];

/// How this client speaks an exec or an attachment.
///
/// # Errors
/// The answer that says why it is not served.
pub(crate) fn remote_command(head: &Parts) -> Result<Agreed<RemoteCommand>, Box<Answer>> {
    if asks_for(&head.headers, "websocket") {
        let unnamed = (Version::V1, Encoding::Binary);
        let agreed = websocket(head, &WEBSOCKET_COMMANDS, unnamed)?;
        let (version, encoding) = agreed.protocol;
        let protocol = RemoteCommand::WebSocket(version, encoding);
        return Ok(Agreed { protocol, answer: agreed.answer });
    }
    let agreed = spdy(head, &SPDY_COMMANDS, Version::V1)?;
    Ok(Agreed { protocol: RemoteCommand::Spdy(agreed.protocol), answer: agreed.answer })
}

/// How this client speaks forwarded connections, and of which ports: the ones that the URL was made for, or if it was made
/// for none and the client needs to name them beforehand, those that it names.
///
/// # Errors
/// The answer that says why it is not served.
pub(crate) fn port_forward(
    head: &Parts,
    asked: Vec<u16>,
) -> Result<Agreed<(PortForward, Vec<u16>)>, Box<Answer>> {
    if !asks_for(&head.headers, "websocket") {
        let agreed = spdy(head, &SPDY_FORWARDS, ())?;
        return Ok(Agreed { protocol: (PortForward::Spdy, asked), answer: agreed.answer });
    }
    let unnamed = PortForward::WebSocket(Encoding::Binary);
    let Agreed { protocol, answer } = websocket(head, &WEBSOCKET_FORWARDS, unnamed)?;
    let ports = match protocol {
        PortForward::WebSocket(encoding) => ports(encoding, asked, &head.uri)?,
        PortForward::Spdy | PortForward::Tunnel => asked,
    };
    Ok(Agreed { protocol: (protocol, ports), answer })
}

/// The ports that are forwarded over channels: those of the request for the URL, or else those that the URL's query names.
fn ports(encoding: Encoding, asked: Vec<u16>, uri: &Uri) -> Result<Vec<u16>, Box<Answer>> {
    let mut ports = asked;
    if ports.is_empty() {
        let named = uri.query().unwrap_or_default().split('&');
        let named = named.filter_map(|pair| pair.strip_prefix("port="));
        for word in named.flat_map(|list| list.split(',')) {
            let port = word.parse().ok().filter(|port| *port > 0);
            ports.push(port.ok_or_else(|| refused("a port is not between 1 and 65535"))?);
        }
    }
    let most = most_ports(encoding);
    if ports.is_empty() || ports.len() > most {
        let reason = format!("between 1 and {most} ports can be forwarded over such channels");
        return Err(refused(&reason));
    }
    Ok(ports)
}

/// Ports of one request. Each has two channels, and in base64 a channel's number is one ASCII character, from "0" on.
fn most_ports(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Binary => 64,
        Encoding::Base64 => 40,
    }
}

/// An answer that is a line of text, and the last on its connection.
pub(crate) fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    // There is nothing that a second request could be about.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn spdy<P: Copy>(
    head: &Parts,
    served: &[(&'static str, P)],
    unnamed: P,
) -> Result<Agreed<P>, Box<Answer>> {
    if !asks_for(&head.headers, SPDY) {
        return Err(refused("unable to upgrade: neither SPDY/3.1 nor WebSocket was asked for"));
    }
    let mut answer = switching(SPDY);
    let Some((name, protocol)) = choose(&head.headers, &PROTOCOLS, served, unnamed) else {
        let mut answer = text(StatusCode::FORBIDDEN, "unable to upgrade: no protocol in common");
        for (name, _) in served {
            answer.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        return Err(Box::new(answer));
    };
    if let Some(name) = name {
        answer.headers_mut().insert(PROTOCOLS, HeaderValue::from_static(name));
    }
    Ok(Agreed { protocol, answer })
}

fn websocket<P: Copy>(
    head: &Parts,
    served: &[(&'static str, P)],
    unnamed: P,
) -> Result<Agreed<P>, Box<Answer>> {
    if head.method != Method::GET {
        return Err(refused("unable to upgrade: a WebSocket is asked for by GET"));
    }
    let header = |name: HeaderName| head.headers.get(name).map(HeaderValue::as_bytes);
    if header(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        let mut answer = text(StatusCode::UPGRADE_REQUIRED, "unable to upgrade: use version 13");
        let version = HeaderValue::from_static("13");
        answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
        return Err(Box::new(answer));
    }
    let key = header(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| refused("unable to upgrade: Sec-WebSocket-Key is missing"))?;
    let accepted = HeaderValue::try_from(derive_accept_key(key))
        .map_err(|_impossible| refused("unable to upgrade: Sec-WebSocket-Key is wrong"))?;
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let Some((chosen, protocol)) = choose(&head.headers, &name, served, unnamed) else {
        let answer = text(StatusCode::FORBIDDEN, "unable to upgrade: no protocol in common");
        return Err(Box::new(answer));
    };
    let mut answer = switching("websocket");
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(chosen) = chosen {
        answer.headers_mut().insert(name, HeaderValue::from_static(chosen));
    }
    Ok(Agreed { protocol, answer })
}

/// The first protocol of a client's that is served; without a name if it named none.
fn choose<P: Copy>(
    headers: &HeaderMap,
    name: &HeaderName,
    served: &[(&'static str, P)],
    unnamed: P,
) -> Option<(Option<&'static str>, P)> {
    let mut named = words(headers, name).peekable();
    if named.peek().is_none() {
        return Some((None, unnamed));
    }
    named
        .find_map(|word| served.iter().find(|(name, _)| *name == word))
        .map(|(name, protocol)| (Some(*name), *protocol))
}

fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let has =
        |name, wanted: &str| words(headers, &name).any(|word| word.eq_ignore_ascii_case(wanted));
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, protocol)
}

/// The words of all headers of a name, which are parted by commas.
fn words<'head>(headers: &'head HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'head str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    answer
}

fn refused(reason: &str) -> Box<Answer> {
    Box::new(text(StatusCode::BAD_REQUEST, reason))
}

#[cfg(test)]
mod tests;
