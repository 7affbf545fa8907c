//! Heads of requests and what comes of them.

use super::*;

fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri("/exec/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn spdy_head(protocols: &[&str]) -> Parts {
    let mut headers = vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    headers.extend(protocols.iter().map(|protocol| ("X-Stream-Protocol-Version", *protocol)));
    head("POST", &headers)
}

fn websocket_head(protocols: &[&str]) -> Parts {
    let mut headers = vec![
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend(protocols.iter().map(|protocol| ("Sec-WebSocket-Protocol", *protocol)));
    head("GET", &headers)
}

fn forwarded(head: &Parts) -> PortForward {
    port_forward(head, vec![80]).unwrap().protocol.0
}

fn value<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn the_first_protocol_of_a_spdy_client_that_is_served_is_taken() {
    for (named, version, told) in [
        (
            &["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"][..],
            Version::V4,
            "v4.channel.k8s.io",
        ),
        (&["v5.channel.k8s.io, v3.channel.k8s.io"], Version::V3, "v3.channel.k8s.io"),
        (&["v2.channel.k8s.io", "v4.channel.k8s.io"], Version::V2, "v2.channel.k8s.io"),
        (&["channel.k8s.io"], Version::V1, "channel.k8s.io"),
    ] {
        let agreed = remote_command(&spdy_head(named)).unwrap();
        assert_eq!(agreed.protocol, RemoteCommand::Spdy(version), "{named:?}");
        assert_eq!(agreed.answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(value(&agreed.answer, "upgrade"), Some("SPDY/3.1"));
        assert_eq!(value(&agreed.answer, "connection"), Some("Upgrade"));
        assert_eq!(value(&agreed.answer, "x-stream-protocol-version"), Some(told));
    }
}

#[test]
fn a_client_that_names_no_protocol_is_an_old_one() {
    let agreed = remote_command(&spdy_head(&[])).unwrap();
    assert_eq!(agreed.protocol, RemoteCommand::Spdy(Version::V1));
    assert_eq!(value(&agreed.answer, "x-stream-protocol-version"), None);
    let agreed = remote_command(&websocket_head(&[])).unwrap();
    assert_eq!(agreed.protocol, RemoteCommand::WebSocket(Version::V1, Encoding::Binary));
    assert_eq!(value(&agreed.answer, "sec-websocket-protocol"), None);
    assert_eq!(forwarded(&spdy_head(&[])), PortForward::Spdy);
}

#[test]
fn a_client_without_a_common_protocol_is_told_what_there_is() {
    let refused = remote_command(&spdy_head(&["v9.channel.k8s.io"])).unwrap_err();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let accepted = refused.headers().get_all("x-accepted-stream-protocol-versions");
    let accepted: Vec<_> = accepted.iter().map(|value| value.to_str().unwrap()).collect();
    let all = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
    assert_eq!(accepted, all);
    let refused = port_forward(&websocket_head(&["v5.channel.k8s.io"]), vec![80]).unwrap_err();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[test]
fn websockets_are_accepted_with_the_key_and_the_protocol() {
    let agreed = remote_command(&websocket_head(&["v5.channel.k8s.io"])).unwrap();
    assert_eq!(agreed.protocol, RemoteCommand::WebSocket(Version::V5, Encoding::Binary));
    // The example of RFC 6455.
    let accept = value(&agreed.answer, "sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(value(&agreed.answer, "sec-websocket-protocol"), Some("v5.channel.k8s.io"));
    for (named, version, encoding) in [
        ("v4.channel.k8s.io", Version::V4, Encoding::Binary),
        ("v4.base64.channel.k8s.io", Version::V4, Encoding::Base64),
        ("base64.channel.k8s.io", Version::V1, Encoding::Base64),
    ] {
        let agreed = remote_command(&websocket_head(&[named])).unwrap();
        assert_eq!(agreed.protocol, RemoteCommand::WebSocket(version, encoding), "{named}");
    }
}

#[test]
fn ports_are_forwarded_in_three_ways() {
    for (head, protocol) in [
        (spdy_head(&["portforward.k8s.io"]), PortForward::Spdy),
        (websocket_head(&["SPDY/3.1+portforward.k8s.io"]), PortForward::Tunnel),
        (websocket_head(&["v4.channel.k8s.io"]), PortForward::WebSocket(Encoding::Binary)),
        (websocket_head(&["v4.base64.channel.k8s.io"]), PortForward::WebSocket(Encoding::Base64)),
    ] {
        assert_eq!(forwarded(&head), protocol);
    }
}

#[test]
fn what_is_no_upgrade_is_refused() {
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let version = ("sec-websocket-version", "13");
    let with = |more: &[(&'static str, &'static str)]| [&upgrade[..], more].concat();
    for (method, headers, status) in [
        ("GET", vec![], StatusCode::BAD_REQUEST),
        ("POST", vec![("upgrade", "SPDY/3.1")], StatusCode::BAD_REQUEST),
        ("POST", vec![("connection", "upgrade"), ("upgrade", "h2c")], StatusCode::BAD_REQUEST),
        ("POST", with(&[key, version]), StatusCode::BAD_REQUEST),
        ("GET", with(&[key]), StatusCode::UPGRADE_REQUIRED),
        ("GET", with(&[key, ("sec-websocket-version", "8")]), StatusCode::UPGRADE_REQUIRED),
        ("GET", with(&[version]), StatusCode::BAD_REQUEST),
        ("GET", with(&[version, ("sec-websocket-key", "short")]), StatusCode::BAD_REQUEST),
    ] {
        let refused = remote_command(&head(method, &headers)).unwrap_err();
        assert_eq!(refused.status(), status, "{method} {headers:?}");
        assert_eq!(value(&refused, "connection"), Some("close"));
    }
}

#[test]
fn ports_for_channels_are_those_of_the_request_or_of_the_query() {
    let named = |asked: &[u16], uri: &'static str| {
        let mut head = websocket_head(&["v4.channel.k8s.io"]);
        head.uri = Uri::from_static(uri);
        port_forward(&head, asked.to_vec()).map(|agreed| agreed.protocol.1)
    };
    assert_eq!(named(&[80, 81], "/portforward/x?port=9").unwrap(), [80, 81]);
    assert_eq!(named(&[], "/portforward/x?a=b&port=9,10&port=11").unwrap(), [9, 10, 11]);
    for wrong in ["/x", "/x?port=", "/x?port=0", "/x?port=65536", "/x?port=-1", "/x?port=1,x"] {
        let refused = named(&[], wrong).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    // Where ports are named later, a URL may be for any.
    for head in
        [spdy_head(&["portforward.k8s.io"]), websocket_head(&["SPDY/3.1+portforward.k8s.io"])]
    {
        assert!(port_forward(&head, vec![]).unwrap().protocol.1.is_empty());
    }
}

#[test]
fn there_are_as_many_ports_as_channels_have_numbers() {
    for (protocol, most) in [("v4.channel.k8s.io", 64), ("v4.base64.channel.k8s.io", 40)] {
        let head = websocket_head(&[protocol]);
        assert_eq!(port_forward(&head, vec![80; most]).unwrap().protocol.1.len(), most);
        let refused = port_forward(&head, vec![80; most + 1]).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{protocol}");
    }
}
