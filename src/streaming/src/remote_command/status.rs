//! How an exec or an attachment ended, as its client is told.
//!
//! Since version 4 that is a Kubernetes status in JSON; before it was a text, and nothing for a success.

use crate::negotiate::Version;
use cringle_service::ServiceError;
use cringle_service::streams::SessionEnd;
use serde::Serialize;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// Well.
    Success,
    /// The program ended with this code, which is not zero.
    ExitCode(i32),
    /// It did not come to an end, for this reason.
    Failure(String),
}

/// What a Kubernetes client reads; names and values are fixed by it.
#[derive(Serialize)]
struct Wire {
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

impl Status {
    /// The status of a session that ended.
    pub(super) fn of(end: SessionEnd) -> Self {
        match end {
            SessionEnd::Exited { code: 0 } | SessionEnd::ContainerEnded => Self::Success,
            SessionEnd::Exited { code } => Self::ExitCode(code),
            SessionEnd::FellBehind => {
                Self::Failure("the client did not read fast enough and was detached".to_owned())
            }
        }
    }

    /// The status of something that failed.
    pub(crate) fn failure(attempt: &str, error: &ServiceError) -> Self {
        Self::Failure(format!("{attempt}: {}", cringle_service::error::chain(error)))
    }

    /// The bytes that a client of this version is told.
    pub(super) fn text(&self, version: Version) -> Vec<u8> {
        match version {
            Version::V1 | Version::V2 | Version::V3 => self.message().into_bytes(),
            // A struct of texts and numbers can always be written.
            Version::V4 | Version::V5 => serde_json::to_vec(&self.wire()).unwrap_or_default(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => {
                format!("command terminated with non-zero exit code: exit code {code}")
            }
            Self::Failure(reason) => format!("Internal error occurred: {reason}"),
        }
    }

    fn wire(&self) -> Wire {
        let message = self.message();
        match self {
            Self::Success => {
                Wire { status: "Success", message, reason: None, details: None, code: None }
            }
            Self::ExitCode(code) => Wire {
                status: "Failure",
                message,
                reason: Some("NonZeroExitCode"),
                details: Some(Details {
                    causes: [Cause { reason: "ExitCode", message: code.to_string() }],
                }),
                code: None,
            },
            Self::Failure(_) => Wire {
                status: "Failure",
                message,
                reason: Some("InternalError"),
                details: None,
                code: Some(500),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: &Status, version: Version) -> String {
        String::from_utf8(status.text(version)).unwrap()
    }

    #[test]
    fn the_fourth_version_tells_a_status() {
        let ended = |code| Status::of(SessionEnd::Exited { code });
        assert_eq!(text(&ended(0), Version::V4), r#"{"status":"Success"}"#);
        let code = r#"{"status":"Failure","message":"command terminated with non-zero exit code: exit code 137","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}"#;
        assert_eq!(text(&ended(137), Version::V5), code);
        let failure = r#"{"status":"Failure","message":"Internal error occurred: it \"broke\"","reason":"InternalError","code":500}"#;
        assert_eq!(text(&Status::Failure("it \"broke\"".to_owned()), Version::V4), failure);
    }

    #[test]
    fn older_versions_tell_a_text_and_of_success_nothing() {
        for version in [Version::V1, Version::V2, Version::V3] {
            assert_eq!(text(&Status::Success, version), "");
            assert!(text(&Status::ExitCode(3), version).ends_with("exit code 3"));
            assert!(text(&Status::Failure("x".to_owned()), version).ends_with(": x"));
        }
    }

    #[test]
    fn a_container_that_ended_is_no_failure_of_its_attachment() {
        assert_eq!(Status::of(SessionEnd::ContainerEnded), Status::Success);
        assert!(matches!(Status::of(SessionEnd::FellBehind), Status::Failure(_)));
    }
}
