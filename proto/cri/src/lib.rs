//! The Container Runtime Interface on the wire, generated from `api.proto`. What a message means is decided elsewhere.

/// Package `runtime.v1`: the messages, and a module for the server and the client of each service.
#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "fields, enum values and client methods speak for themselves; traps are commented in api.proto"
)]
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use std::fmt;

impl fmt::Debug for v1::AuthConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthConfig").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn credentials_are_never_printed() {
        let canary = || "canary".to_owned();
        let auth = AuthConfig {
            username: canary(),
            password: canary(),
            auth: canary(),
            server_address: canary(),
            identity_token: canary(),
            registry_token: canary(),
        };
        let request = PullImageRequest { auth: Some(auth), ..PullImageRequest::default() };
        let printed = format!("{request:?}");
        assert!(printed.contains("AuthConfig"), "{printed}");
        assert!(!printed.contains("canary"), "{printed}");
    }
}
