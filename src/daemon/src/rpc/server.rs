//! The gRPC server on the daemon's socket.

use super::instrument::InstrumentLayer;
use super::latency::Latencies;
use crate::listen::connections;
use cringle_proto_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use cringle_proto_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// The largest request: four times what a client takes as an answer.
const LARGEST_REQUEST: usize = 64 << 20;

/// The largest answer. Clients have their own limit, so this one is only against running away.
const LARGEST_ANSWER: usize = 256 << 20;

/// Streams that a client may reset before the connection is ended (CVE-2023-44487).
const PENDING_RESETS: usize = 128;

/// Requests that one connection may have in flight.
const STREAMS: u32 = 1024;

/// Both services of the CRI.
#[derive(Debug)]
pub(crate) struct Services<R, I> {
    /// Pods and containers.
    pub(crate) runtime: R,
    /// Images.
    pub(crate) images: I,
    /// Where latencies are noted.
    pub(crate) latencies: Arc<Latencies>,
}

/// Serves until `ordered` to end; then what is in flight has `drain` to end.
///
/// # Errors
/// If the server cannot go on.
pub(crate) async fn serve<R: RuntimeService, I: ImageService>(
    listener: UnixListener,
    services: Services<R, I>,
    ordered: impl Future<Output = ()>,
    drain: Duration,
) -> Result<(), tonic::transport::Error> {
    let runtime = RuntimeServiceServer::new(services.runtime)
        .max_decoding_message_size(LARGEST_REQUEST)
        .max_encoding_message_size(LARGEST_ANSWER);
    let images = ImageServiceServer::new(services.images)
        .max_decoding_message_size(LARGEST_REQUEST)
        .max_encoding_message_size(LARGEST_ANSWER);
    let (mut health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<RuntimeServiceServer<R>>().await;
    health.set_serving::<ImageServiceServer<I>>().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .layer(InstrumentLayer::new(services.latencies))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .max_concurrent_streams(STREAMS)
        .add_service(runtime)
        .add_service(images)
        .add_service(health_service)
        .serve_with_incoming_shutdown(connections(listener), async {
            // Either way it is time to stop: the sender is only dropped when this future is.
            drop(stopped.await);
        });
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = ordered => {}
    }
    // Those who watch are told, and that there is no more to come, so that nobody waits for them. The empty name is the
    // server as a whole.
    for service in ["", RuntimeServiceServer::<R>::NAME, ImageServiceServer::<I>::NAME] {
        health.set_service_status(service, ServingStatus::NotServing).await;
        health.clear_service_status(service).await;
    }
    if stop.send(()).is_err() {
        tracing::debug!("the server had ended by itself");
    }
    match tokio::time::timeout(drain, server).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            tracing::warn!(?drain, "requests in flight were cut off");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
