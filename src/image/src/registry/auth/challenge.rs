//! The `WWW-Authenticate` header.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How a server wants us to introduce ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a user name and a password.
    Basic,
    /// With a token from that service.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// In no way that we know.
    Unknown,
}

impl Challenge {
    /// The best challenge in an answer: a token is preferred, as it opens less.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let mut best = Self::Unknown;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            match value.to_str().map_or(Self::Unknown, Self::parse) {
                bearer @ Self::Bearer { .. } => return bearer,
                Self::Basic => best = Self::Basic,
                Self::Unknown => {}
            }
        }
        best
    }

    fn parse(text: &str) -> Self {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::Basic;
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Self::Unknown;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value).filter(|scope| !scope.is_empty()),
                _ => {}
            }
        }
        realm.map_or(Self::Unknown, |realm| Self::Bearer { realm, service, scope })
    }
}

/// `name=value` and `name="value"` pairs between commas; a quoted value may have commas.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']);
        let after = after.trim_start();
        let (value, remaining) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, remaining) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), remaining)
            }
        };
        found.push((name, value));
        rest = remaining;
    }
    found
}

fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: &str| text.to_owned();
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(owned),
            scope: scope.map(owned),
        }
    }

    #[test]
    fn challenges_are_read() {
        for (text, challenge) in [
            ("Basic realm=\"x\"", Challenge::Basic),
            ("basic", Challenge::Basic),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\"",
                bearer("https://a/t", Some("s"), Some("repository:a:pull,push")),
            ),
            ("bearer realm=https://a/t, service=s", bearer("https://a/t", Some("s"), None)),
            ("Bearer realm=\"a\\\"b\",scope=\"\"", bearer("a\"b", None, None)),
            ("Bearer service=\"s\"", Challenge::Unknown),
            ("Bearer realm=\"unterminated", bearer("unterminated", None, None)),
            ("Negotiate", Challenge::Unknown),
            ("", Challenge::Unknown),
        ] {
            assert_eq!(Challenge::parse(text), challenge, "{text}");
        }
    }
}
