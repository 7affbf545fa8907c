//! Running an operation to its end, whatever becomes of the client that asked for it.

use crate::ServiceError;
use crate::progress::Progress;
use std::future::Future;
use std::sync::Arc;
use tracing::Instrument;

/// Runs `operation` in a task of its own and waits for it. If the caller is dropped, the task goes on.
///
/// # Errors
/// The operation's; [`ServiceError::Panicked`] if it has a bug.
pub async fn detached<T: Send + 'static>(
    operation: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    detached_with(Arc::default(), operation).await
}

/// The same for an operation whose progress others can ask for.
///
/// # Errors
/// As [`detached`].
pub(crate) async fn detached_with<T: Send + 'static>(
    progress: Arc<Progress>,
    operation: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    let mut waiting = Waiting(Some(Arc::clone(&progress)));
    let operation = async move {
        let result = Arc::clone(&progress).of(operation).await;
        if progress.is_unheard() {
            log_unheard(&result);
        }
        result
    };
    let outcome = tokio::spawn(operation.in_current_span()).await;
    waiting.0 = None;
    outcome.unwrap_or_else(|error| Err(ServiceError::Panicked(error)))
}

/// The log is the only one left to be told.
fn log_unheard<T>(result: &Result<T, ServiceError>) {
    match result {
        Ok(_) => tracing::info!("operation without its client done"),
        Err(error) => {
            let error = crate::error::chain(error);
            tracing::warn!(error, "operation without its client done");
        }
    }
}

/// A client that waits for an operation, which is there until the end.
struct Waiting(Option<Arc<Progress>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.leave();
            let so_far = progress.so_far();
            tracing::info!(stage = so_far.stage, age = ?so_far.age, "client gone, operation goes on");
        }
    }
}
