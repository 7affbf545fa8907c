//! Running an operation to its end, whatever becomes of the client that asked for it.

use crate::ServiceError;
use std::future::Future;
use tracing::Instrument;

/// Runs `operation` in a task of its own and waits for it. If the caller is dropped, the task goes on.
///
/// # Errors
/// The operation's; [`ServiceError::Panicked`] if it has a bug.
pub async fn detached<T: Send + 'static>(
    operation: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    match tokio::spawn(operation.in_current_span()).await {
        Ok(result) => result,
        Err(error) => Err(ServiceError::Panicked(error)),
    }
}
