//! The codes of pulls.

use cringle_image::{PullError, PullErrorKind};
use tonic::Code;

/// The registry did not answer, or not as registries do: the kubelet shows it as the reason for waiting (R-00d).
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";

/// The code of a pull that failed.
pub(super) fn code(error: &PullError) -> Code {
    match error.kind() {
        PullErrorKind::InvalidReference => Code::InvalidArgument,
        PullErrorKind::NotFound | PullErrorKind::NoPlatform => Code::NotFound,
        PullErrorKind::Unauthorized => Code::Unauthenticated,
        PullErrorKind::RegistryUnavailable | PullErrorKind::TimedOut => Code::Unavailable,
        PullErrorKind::DigestMismatch | PullErrorKind::Corrupt => Code::DataLoss,
        PullErrorKind::TooLarge | PullErrorKind::DiskFull => Code::ResourceExhausted,
        PullErrorKind::Unsupported | PullErrorKind::Misconfigured => Code::FailedPrecondition,
        PullErrorKind::Internal => Code::Internal,
    }
}

/// The word that the kubelet looks for at the beginning of the message.
pub(super) fn prefix(error: &PullError) -> Option<&'static str> {
    match error.kind() {
        PullErrorKind::RegistryUnavailable | PullErrorKind::TimedOut => Some(REGISTRY_UNAVAILABLE),
        PullErrorKind::InvalidReference
        | PullErrorKind::NotFound
        | PullErrorKind::Unauthorized
        | PullErrorKind::DigestMismatch
        | PullErrorKind::NoPlatform
        | PullErrorKind::Unsupported
        | PullErrorKind::Corrupt
        | PullErrorKind::TooLarge
        | PullErrorKind::DiskFull
        | PullErrorKind::Misconfigured
        | PullErrorKind::Internal => None,
    }
}
