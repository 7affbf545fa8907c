//! Who we are to a registry.
//!
//! Credentials belong to one registry. They are shown to its own host and to the token service that it names, if that is
//! on the same host, in the same domain, or listed in the settings; never to mirrors, never after a redirect.

mod challenge;
mod credentials;

pub(crate) use challenge::Challenge;
pub use credentials::{AuthParts, Credentials, MalformedCredentials};

use super::Cause;
use super::hosts::{Endpoint, Role};
use super::transport::{self, Origin, Outgoing, Transport};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credentials::Secret;
use http::{HeaderValue, Method, Uri, header};
use serde::Deserialize;
use tokio::sync::Mutex;

const LONGEST_TOKEN_ANSWER: u64 = 64 << 10;

/// Our standing with one endpoint during one pull.
#[derive(Debug)]
pub(crate) struct Authorizer {
    secret: Option<Secret>,
    scope: String,
    state: Mutex<State>,
}

/// How we introduce ourselves now.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) header: Option<HeaderValue>,
    /// Counts renewals, so that several requests refused at once lead to one.
    pub(crate) generation: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authorizer {
    pub(crate) fn new(
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
        repository: &str,
    ) -> Self {
        let secret = credentials
            .filter(|credentials| match endpoint.role {
                Role::Registry => credentials.is_for(&endpoint.registry),
                Role::Mirror => credentials.names(endpoint.origin.authority()),
            })
            .map(|credentials| credentials.secret.clone());
        // A token for the registry itself needs no exchange.
        let header = match &secret {
            Some(Secret::Registry(token)) => sensitive(format!("Bearer {token}")),
            Some(Secret::Password { .. } | Secret::Identity(_)) | None => None,
        };
        Self {
            secret,
            scope: format!("repository:{repository}:pull"),
            state: Mutex::new(State { header, generation: 0 }),
        }
    }

    pub(crate) async fn current(&self) -> State {
        self.state.lock().await.clone()
    }

    /// Answers a challenge that the endpoint gave to a request of that generation.
    pub(crate) async fn renew(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        refused: Refused,
    ) -> Result<(), Cause> {
        let mut state = self.state.lock().await;
        if state.generation != refused.generation {
            return Ok(());
        }
        let denied = || Cause::Denied { status: 401, message: refused.message.clone() };
        let header = match (&refused.challenge, &self.secret) {
            (Challenge::Basic, Some(Secret::Password { username, password })) => {
                basic(username, password)
            }
            (Challenge::Bearer { realm, service, scope }, secret) => {
                let asked = Asked {
                    realm,
                    service: service.as_deref(),
                    scope: scope.as_deref().unwrap_or(&self.scope),
                };
                let token = fetch_token(transport, endpoint, secret.as_ref(), &asked).await?;
                sensitive(format!("Bearer {token}"))
            }
            (Challenge::Basic, _) | (Challenge::Unknown, _) => None,
        };
        state.header = Some(header.ok_or_else(denied)?);
        state.generation += 1;
        Ok(())
    }
}

/// A request that was refused with status 401.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) challenge: Challenge,
    pub(crate) generation: u64,
    pub(crate) message: String,
}

struct Asked<'challenge> {
    realm: &'challenge str,
    service: Option<&'challenge str>,
    scope: &'challenge str,
}

async fn fetch_token(
    transport: &Transport,
    endpoint: &Endpoint,
    secret: Option<&Secret>,
    asked: &Asked<'_>,
) -> Result<String, Cause> {
    let realm = allowed_realm(endpoint, secret, asked.realm)?;
    let mut form = vec![("scope", asked.scope)];
    form.extend(asked.service.map(|service| ("service", service)));
    let mut request = Outgoing::get(realm.clone());
    match secret {
        Some(Secret::Identity(token)) => {
            form.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "cringle"),
                ("refresh_token", token),
            ]);
            request.method = Method::POST;
            request.body = encode(&form).into();
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers.insert(header::CONTENT_TYPE, form_type);
        }
        Some(Secret::Password { username, password }) => {
            request.uri = transport::with_query(&realm, &encode(&form))?;
            request
                .headers
                .extend(basic(username, password).map(|value| (header::AUTHORIZATION, value)));
        }
        Some(Secret::Registry(_)) | None => {
            request.uri = transport::with_query(&realm, &encode(&form))?
        }
    }
    // The settings of the registry's host are for that host only.
    let origin = Origin::of(&realm).ok_or(Cause::Protocol("a token service without a host"))?;
    let tls = (origin == endpoint.origin).then_some(&endpoint.tls);
    let response = transport.send(request, tls).await?;
    let status = response.status().as_u16();
    let bytes = transport.read(response.into_body(), LONGEST_TOKEN_ANSWER).await?;
    match status {
        200..=299 => {}
        400..=403 => return Err(Cause::Denied { status, message: transport::message(&bytes) }),
        _ => return Err(Cause::Status { status, message: transport::message(&bytes) }),
    }
    let malformed = Cause::Protocol("the token service sent no token");
    let Ok(answer) = serde_json::from_slice::<TokenAnswer>(&bytes) else { return Err(malformed) };
    answer.token.or(answer.access_token).filter(|token| !token.is_empty()).ok_or(malformed)
}

/// The address of the token service, if it may be used.
fn allowed_realm(endpoint: &Endpoint, secret: Option<&Secret>, realm: &str) -> Result<Uri, Cause> {
    let refused = || Cause::Realm {
        registry: endpoint.origin.authority().to_owned(),
        realm: realm.to_owned(),
    };
    let uri: Uri = realm.parse().map_err(|_malformed| refused())?;
    let origin = Origin::of(&uri).ok_or_else(refused)?;
    // A token is as good as a password: it must not travel less protected than the image.
    if endpoint.origin.is_https() && !origin.is_https() {
        return Err(refused());
    }
    transport::check_target(&endpoint.origin, &origin).map_err(|_problem| refused())?;
    let may_see = secret.is_none()
        || origin.host() == endpoint.origin.host()
        || is_same_domain(endpoint.origin.host(), origin.host())
        || endpoint
            .token_hosts
            .iter()
            .any(|host| host == origin.host() || host == origin.authority());
    if may_see { Ok(uri) } else { Err(refused()) }
}

/// Whether two hosts belong together: `registry-1.docker.io` and `auth.docker.io`, `registry.gitlab.com` and `gitlab.com`.
/// Two labels that look like a country's second level (`co.uk`) are not a domain.
fn is_same_domain(registry: &str, other: &str) -> bool {
    if registry.parse::<std::net::IpAddr>().is_ok() {
        return false;
    }
    let Some((_, domain)) = registry.split_once('.') else { return false };
    let mut labels = domain.rsplit('.');
    let (top, second) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let is_public =
        second.is_empty() || (labels.next().is_none() && top.len() == 2 && second.len() <= 3);
    !is_public
        && other.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn encode(form: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        form.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
    pairs.join("&")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_service_is_trusted_within_the_registrys_domain_only() {
        for (registry, other, trusted) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("registry.example.org", "auth.example.org", true),
            ("registry-1.docker.io", "auth.docker.io.evil.org", false),
            ("registry-1.docker.io", "evildocker.io", false),
            ("example.co.uk", "evil.co.uk", false),
            ("example.org", "evil.org", false),
            ("localhost", "evil.org", false),
            ("10.0.0.1", "11.0.0.1", false),
        ] {
            assert_eq!(is_same_domain(registry, other), trusted, "{registry} {other}");
        }
    }

    #[test]
    fn form_values_are_percent_encoded() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("service", "x y")]),
            "scope=repository%3Aa%2Fb%3Apull&service=x%20y"
        );
    }
}
