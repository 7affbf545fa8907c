//! Credentials as the CRI gives them, in the form that is used. They never show in a log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The fields of the CRI's `AuthConfig`.
#[derive(Clone, Default)]
pub struct AuthParts {
    /// A user name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Both, joined by a colon, in base 64.
    pub auth: String,
    /// The registry that they are for, if not the image's.
    pub server_address: String,
    /// A token to be exchanged for another.
    pub identity_token: String,
    /// A token for the registry itself.
    pub registry_token: String,
}

/// What is wrong with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCredentials {
    /// The field `auth` is not base 64 of `user:password`.
    #[error("auth is not a user name and a password in base 64")]
    Auth,
    /// A field has characters that no header can carry.
    #[error("credentials with control characters")]
    ControlCharacters,
}

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The host that they are for, if they say so.
    server: Option<String>,
    pub(super) secret: Secret,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Secret {
    Password { username: String, password: String },
    Identity(String),
    Registry(String),
}

impl Credentials {
    /// The credentials in these fields; none if all are empty.
    ///
    /// # Errors
    /// A field is malformed.
    pub fn from_parts(parts: AuthParts) -> Result<Option<Self>, MalformedCredentials> {
        let secret = if !parts.registry_token.is_empty() {
            Secret::Registry(parts.registry_token)
        } else if !parts.identity_token.is_empty() {
            Secret::Identity(parts.identity_token)
        } else if !parts.username.is_empty() || !parts.password.is_empty() {
            Secret::Password { username: parts.username, password: parts.password }
        } else if !parts.auth.is_empty() {
            decoded(&parts.auth)?
        } else {
            return Ok(None);
        };
        if secret.texts().iter().any(|text| text.chars().any(char::is_control)) {
            return Err(MalformedCredentials::ControlCharacters);
        }
        Ok(Some(Self { server: host_of(&parts.server_address), secret }))
    }

    /// Whether they may be shown to the registry of that name.
    pub(super) fn is_for(&self, registry: &str) -> bool {
        self.server.as_deref().is_none_or(|server| alias(server) == alias(registry))
    }

    /// Whether they are expressly for that host.
    pub(super) fn names(&self, authority: &str) -> bool {
        self.server.as_deref() == Some(authority)
    }
}

impl Secret {
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Password { username, password } => vec![username, password],
            Self::Identity(token) | Self::Registry(token) => vec![token],
        }
    }
}

fn decoded(auth: &str) -> Result<Secret, MalformedCredentials> {
    let bytes = STANDARD.decode(auth).map_err(|_malformed| MalformedCredentials::Auth)?;
    let text = String::from_utf8(bytes).map_err(|_malformed| MalformedCredentials::Auth)?;
    let (username, password) = text.split_once(':').ok_or(MalformedCredentials::Auth)?;
    // Some tools pad with NULs.
    let password = password.trim_end_matches('\0');
    Ok(Secret::Password { username: username.to_owned(), password: password.to_owned() })
}

/// The host in `https://index.docker.io/v1/` or in `registry.example.org:5000`.
fn host_of(address: &str) -> Option<String> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Docker's registry has several names.
fn alias(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

impl fmt::Debug for AuthParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AuthParts")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> Secret {
        Secret::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn each_form_of_credentials_is_understood() {
        let none = Credentials::from_parts(AuthParts::default());
        assert_eq!(none, Ok(None));
        let parts = |change: fn(&mut AuthParts)| {
            let mut parts = AuthParts::default();
            change(&mut parts);
            Credentials::from_parts(parts).map(|credentials| credentials.map(|some| some.secret))
        };
        assert_eq!(
            parts(|parts| {
                parts.username = "u".to_owned();
                parts.password = "p".to_owned();
            }),
            Ok(Some(password("u", "p")))
        );
        assert_eq!(
            parts(|parts| parts.auth = "dTpwOnE=".to_owned()),
            Ok(Some(password("u", "p:q")))
        );
        assert_eq!(
            parts(|parts| parts.identity_token = "i".to_owned()),
            Ok(Some(Secret::Identity("i".to_owned())))
        );
        assert_eq!(
            parts(|parts| parts.registry_token = "r".to_owned()),
            Ok(Some(Secret::Registry("r".to_owned())))
        );
        assert_eq!(parts(|parts| parts.auth = "%%".to_owned()), Err(MalformedCredentials::Auth));
        assert_eq!(
            parts(|parts| parts.registry_token = "a\nb".to_owned()),
            Err(MalformedCredentials::ControlCharacters)
        );
    }

    #[test]
    fn credentials_for_another_server_are_kept_from_the_registry() {
        let credentials = |server: &str| {
            let parts = AuthParts {
                username: "u".to_owned(),
                server_address: server.to_owned(),
                ..AuthParts::default()
            };
            Credentials::from_parts(parts).ok().flatten().expect("credentials")
        };
        assert!(credentials("").is_for("example.org"));
        assert!(credentials("https://index.docker.io/v1/").is_for("docker.io"));
        assert!(credentials("Example.org:5000").is_for("example.org:5000"));
        assert!(!credentials("example.org").is_for("example.org:5000"));
        assert!(!credentials("https://other.org").is_for("example.org"));
    }

    #[test]
    fn a_secret_does_not_show() {
        let parts = AuthParts { password: "hunter2".to_owned(), ..AuthParts::default() };
        assert!(!format!("{parts:?}").contains("hunter2"));
        let credentials = Credentials::from_parts(parts);
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
