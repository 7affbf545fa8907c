//! Why a request cannot be met, as data. `daemon/rpc/status.rs` gives each its gRPC code.

/// A request that is wrong, or that this daemon does not offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field has a value that it may not have. Code InvalidArgument.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the CRI names it (`linux.security_context.run_as_group`).
        field: String,
        /// What was given and what is allowed.
        problem: String,
    },
    /// The request asks for something that is not built or not on this machine. Code Unimplemented.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The request cannot be met in the present state. Code FailedPrecondition.
    #[error("{0}")]
    WrongState(String),
}

impl Refusal {
    /// An invalid field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }
}
