//! The error of the protocol: a code that the runtime acts on, what failed, and why.

use serde::{Deserialize, Serialize};

use super::Version;

/// The version of the configuration is not one of ours, or has no such command.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// The configuration asks for something that we don't do; the details name it.
pub const UNSUPPORTED_FIELD: u32 = 2;
/// The container is unknown; the runtime need not clean up.
pub const UNKNOWN_CONTAINER: u32 = 3;
/// A variable of the environment is missing or wrong.
pub const INVALID_ENVIRONMENT: u32 = 4;
/// Reading or writing failed.
pub const INPUT_OUTPUT: u32 = 5;
/// What was read is not what it should be.
pub const DECODING: u32 = 6;
/// The configuration contradicts itself or the host.
pub const INVALID_CONFIGURATION: u32 = 7;
/// The network namespace of the request can't be used.
pub const INVALID_NETNS: u32 = 8;
/// Something is busy; the same request may succeed later.
pub const TRY_AGAIN_LATER: u32 = 11;
/// STATUS: an ADD would fail now.
pub const NOT_AVAILABLE: u32 = 50;
/// STATUS: existing containers have limited connectivity.
pub const LIMITED_CONNECTIVITY: u32 = 51;
/// Ours: the kernel refused a change.
pub const KERNEL_REFUSED: u32 = 100;
/// Ours: CHECK found something other than what ADD had made.
pub const CHECK_FAILED: u32 = 101;
/// Ours: no address is left, or the wanted one is taken.
pub const NO_ADDRESS: u32 = 102;
/// Ours: the host port belongs to someone else.
pub const PORT_TAKEN: u32 = 103;

/// A failure as a plugin reports it.
#[expect(
    clippy::error_impl_error,
    reason = "the word of the specification, always read with its module"
)]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Error {
    /// What went wrong, by number.
    #[serde(default)]
    pub code: u32,
    /// What was attempted.
    #[serde(default)]
    pub msg: String,
    /// Why it failed, from cause to cause.
    #[serde(default)]
    pub details: String,
}

impl Error {
    /// An error that needs no more words.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// An error with the reason in its details.
    pub fn with_details(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into() }
    }

    /// An error of ours and its chain of causes.
    pub fn of(code: u32, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut details = String::new();
        let mut next = error.source();
        while let Some(cause) = next {
            let separator = if details.is_empty() { "" } else { ": " };
            details.push_str(separator);
            details.push_str(&cause.to_string());
            next = cause.source();
        }
        Self { code, msg: error.to_string(), details }
    }

    /// A configuration that can't be used.
    pub fn configuration(msg: impl Into<String>) -> Self {
        Self::new(INVALID_CONFIGURATION, msg)
    }

    /// A value of the configuration that is not of its kind.
    pub fn unparsed(msg: impl Into<String>, cause: &dyn std::error::Error) -> Self {
        Self::with_details(INVALID_CONFIGURATION, msg, cause.to_string())
    }

    /// The same failure, with what went wrong when its traces were removed.
    #[must_use]
    pub fn after_undoing(mut self, undone: Result<(), Self>) -> Self {
        if let Err(error) = undone {
            let separator = if self.details.is_empty() { "" } else { "; " };
            self.details = format!("{}{separator}then failed to undo: {error}", self.details);
        }
        self
    }

    /// What a plugin wrote on its standard output when it failed, if that is an error.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json)
            .ok()
            .filter(|error: &Self| error.code != 0 || !error.msg.is_empty())
    }

    /// The error as a plugin writes it.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        let mut object = serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code,
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_trip_over_standard_output() {
        let error = Error::with_details(7, "failed to read \"x\"", "no such file");
        let json = error.to_json(Version::V1_0_0);
        assert!(json.contains("\"cniVersion\":\"1.0.0\""), "{json}");
        assert_eq!(Error::parse(json.as_bytes()), Some(error.clone()));
        assert_eq!(error.to_string(), "failed to read \"x\": no such file");
    }

    #[test]
    fn garbage_on_standard_output_is_no_error_object() {
        for garbage in ["", "{}", "null", "panic: oh no", "[]"] {
            assert_eq!(Error::parse(garbage.as_bytes()), None, "{garbage}");
        }
    }
}
