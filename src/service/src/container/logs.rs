//! ReopenContainerLog: the kubelet renamed the file, the shim opens a new one.

use crate::{Service, ServiceError};
use std::sync::Arc;

impl Service {
    /// Opens the container's log file anew; it is there when this returns.
    ///
    /// # Errors
    /// If the container does not run (then no file is made), or the file cannot be opened.
    pub async fn reopen_log(self: &Arc<Self>, id: &str) -> Result<(), ServiceError> {
        let container = self.containers.find(id)?;
        let supervisor = self.running_supervisor(&container)?;
        supervisor
            .reopen_log()
            .await
            .map_err(|source| ServiceError::Supervisor { container: id.to_owned(), source })
    }
}
