//! Talking to registries: where an image's registry is reached, who we are to it, and what it sends.
//!
//! ```text
//! hosts      settings and hosts.toml -> endpoints: mirrors first, the registry itself last
//! transport  one HTTP request, confined: no redirect, no retry; TLS as set for that host
//! auth       challenge -> token or password, for one host and never for another
//! redirect   whether and where to go on
//! session    one pull: retries, other endpoints; manifests and small blobs
//! blob       one large blob as a stream, taken up again where it broke
//! ```
//!
//! Whatever a registry sends is checked here against a cap and, if its digest is known, against that.

pub(crate) mod auth;
pub(crate) mod blob;
pub(crate) mod hosts;
mod pause;
pub(crate) mod redirect;
pub(crate) mod session;
pub(crate) mod transport;

pub use auth::{AuthParts, Credentials, MalformedCredentials};
pub use hosts::HostsError;
pub use transport::TlsError;

use std::fmt;
use std::time::Duration;

/// What was asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The manifest or index.
    Manifest,
    /// The image's configuration.
    Config,
    /// A layer.
    Layer,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Manifest => "the manifest",
            Self::Config => "the configuration",
            Self::Layer => "a layer",
        })
    }
}

/// A request to a registry that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("failed to fetch {stage} of \"{reference}\" from {host}")]
pub struct RegistryError {
    /// What was asked.
    pub stage: Stage,
    /// For which image.
    pub reference: String,
    /// Whom.
    pub host: String,
    /// What went wrong.
    #[source]
    pub cause: Box<Cause>,
}

/// What can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No connection, or it broke before an answer.
    #[error("failed to reach {host}")]
    Connect {
        /// The host, which may be another after a redirect.
        host: String,
        /// Why.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// The connection broke during the answer.
    #[error("the connection broke after {received} bytes")]
    Broken {
        /// How much had arrived.
        received: u64,
        /// Why; nothing if the answer simply ended early.
        #[source]
        source: Option<hyper::Error>,
    },
    /// Nothing came for too long.
    #[error("no progress for {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The registry says that there is no such thing.
    #[error("not found (status 404)")]
    NotFound,
    /// The registry wants other credentials.
    #[error("access denied (status {status}){}", said(.message))]
    Denied {
        /// The status.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// The registry names a token service that may not see these credentials.
    #[error(
        "{registry} sends to the token service \"{realm}\", which is not allowed to see its credentials"
    )]
    Realm {
        /// Who sends.
        registry: String,
        /// Where to.
        realm: String,
    },
    /// Any other status that isn't success.
    #[error("status {status}{}", said(.message))]
    Status {
        /// The status.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// A redirect that must not or can't be followed.
    #[error("redirect to \"{location}\" refused: {problem}")]
    Redirect {
        /// Where to.
        location: String,
        /// Why not.
        problem: &'static str,
    },
    /// The answer is longer than allowed or announced.
    #[error("the answer has more than {0} bytes")]
    TooLarge(u64),
    /// The answer has another digest than what was asked.
    #[error("its digest is {found}, not {expected}")]
    Digest {
        /// What was asked.
        expected: String,
        /// What came.
        found: String,
    },
    /// The answer is not what the protocol allows.
    #[error("{0}")]
    Protocol(&'static str),
    /// The request could not be formed.
    #[error("failed to form a request")]
    Request(#[source] http::Error),
    /// The certificates for this host could not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Cause {
    /// Whether the same request may well succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::TimedOut(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::NotFound
            | Self::Denied { .. }
            | Self::Realm { .. }
            | Self::Redirect { .. }
            | Self::TooLarge(_)
            | Self::Digest { .. }
            | Self::Protocol(_)
            | Self::Request(_)
            | Self::Tls(_) => false,
        }
    }

    /// Whether the host gave no proper answer at all, so that it's no use to ask it more.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::TimedOut(_))
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

#[cfg(test)]
mod tests;
