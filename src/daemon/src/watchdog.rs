//! The service manager's watchdog: it is told that all is well only after a request, made as a client makes it, was answered.
//!
//! The request goes over the socket, is accepted, and passes the server and the lists of pods and containers; nothing else is
//! waited for, no plugin, disk or container, so that a slow network never has the daemon ended.

use cringle_proto_cri::v1;
use cringle_proto_cri::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use sd_notify::NotifyState;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// What begins no id: the lists are gone through, and nothing is answered.
const NO_ID: &str = "watchdog";

/// Why the daemon is not well.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("failed to connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("failed to get an answer")]
    Ask(#[source] Box<tonic::Status>),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Asks in the background, as long as it lives.
#[derive(Debug)]
pub(crate) struct Watchdog(JoinHandle<()>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to ask on this socket, if the service manager wants to be told; three times in the period that it gave.
pub(crate) fn start(socket: &Path) -> Option<Watchdog> {
    let period = sd_notify::watchdog_enabled()?;
    tracing::info!(?period, "the service manager watches");
    Some(Watchdog(tokio::spawn(watch(socket.to_owned(), period / 3))))
}

async fn watch(socket: PathBuf, pause: Duration) {
    loop {
        let asked = tokio::time::timeout(pause, ask(&socket)).await;
        match asked.unwrap_or(Err(ProbeError::TimedOut(pause))) {
            Ok(()) => crate::wire::tell(NotifyState::Watchdog),
            Err(error) => {
                let error = cringle_service::error::chain(&error);
                tracing::warn!(error, "the daemon does not answer itself");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn ask(socket: &Path) -> Result<(), ProbeError> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    // The address is never looked up: the connector knows the socket.
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.map_err(ProbeError::Connect)?;
    let mut client = RuntimeServiceClient::new(channel);
    let refused = |status| ProbeError::Ask(Box::new(status));
    let filter = v1::PodSandboxFilter { id: NO_ID.to_owned(), ..Default::default() };
    let request = v1::ListPodSandboxRequest { filter: Some(filter) };
    client.list_pod_sandbox(request).await.map_err(refused)?;
    let filter = v1::ContainerFilter { id: NO_ID.to_owned(), ..Default::default() };
    let request = v1::ListContainersRequest { filter: Some(filter) };
    client.list_containers(request).await.map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_not_well() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("test.sock");
        assert!(matches!(ask(&socket).await, Err(ProbeError::Connect(_))));
        // Somebody listens, and never answers.
        let _deaf = UnixListener::bind(&socket).unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(50), ask(&socket)).await;
        assert!(!matches!(answer, Ok(Ok(()))), "{answer:?}");
    }
}
