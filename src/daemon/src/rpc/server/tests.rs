use super::*;
use crate::listen::listen;
use cringle_proto_cri::v1;
use cringle_proto_cri::v1::image_service_client::ImageServiceClient;
use cringle_proto_cri::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Told;
use tonic_health::pb::health_client::HealthClient;

/// Answers Version, panics at RuntimeConfig, and answers Status once it is let.
#[derive(Debug, Clone, Default)]
struct Scripted {
    asked: Arc<Notify>,
    let_go: Arc<Notify>,
}

#[tonic::async_trait]
impl RuntimeService for Scripted {
    async fn version(
        &self,
        _: Request<v1::VersionRequest>,
    ) -> Result<Response<v1::VersionResponse>, Status> {
        Ok(Response::new(v1::VersionResponse::default()))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        panic!("broken invariant")
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        self.asked.notify_one();
        self.let_go.notified().await;
        Ok(Response::new(v1::StatusResponse::default()))
    }
}

#[tonic::async_trait]
impl ImageService for Scripted {}

struct Running {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    script: Scripted,
    order: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

fn start(drain: Duration) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("test.sock");
    let script = Scripted::default();
    let (order, ordered) = oneshot::channel();
    let services =
        Services { runtime: script.clone(), images: script.clone(), latencies: Arc::default() };
    let ordered = async { drop(ordered.await) };
    let task = tokio::spawn(serve(listen(&socket).unwrap(), services, ordered, drain));
    Running { _directory: directory, socket, script, order, task }
}

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn what_nobody_wrote_is_unimplemented_and_a_panic_is_internal() {
    let running = start(Duration::from_secs(5));
    let channel = connect(&running.socket).await;
    let mut runtime = RuntimeServiceClient::new(channel.clone());
    let unknown = runtime.exec(v1::ExecRequest::default()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let mut images = ImageServiceClient::new(channel);
    let unknown = images.list_images(v1::ListImagesRequest::default()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let panicked = runtime.runtime_config(v1::RuntimeConfigRequest {}).await.unwrap_err();
    assert_eq!(panicked.code(), Code::Internal);
    assert!(panicked.message().contains("broken invariant"), "{panicked:?}");
    // The same connection still serves.
    runtime.version(v1::VersionRequest::default()).await.unwrap();
}

#[tokio::test]
async fn the_deadline_of_the_client_is_kept() {
    let running = start(Duration::from_secs(5));
    let mut runtime = RuntimeServiceClient::new(connect(&running.socket).await);
    let mut request = Request::new(v1::StatusRequest::default());
    request.set_timeout(Duration::from_millis(1));
    let late = runtime.status(request).await.unwrap_err();
    // Whichever side notices first.
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
}

#[tokio::test]
async fn what_is_in_flight_ends_before_the_server_does() {
    let running = start(Duration::from_secs(60));
    let channel = connect(&running.socket).await;
    let mut runtime = RuntimeServiceClient::new(channel);
    let in_flight = tokio::spawn(async move { runtime.status(v1::StatusRequest::default()).await });
    running.script.asked.notified().await;
    running.order.send(()).unwrap();
    running.script.let_go.notify_one();
    in_flight.await.unwrap().unwrap();
    running.task.await.unwrap().unwrap();
    tokio::net::UnixStream::connect(&running.socket).await.unwrap_err();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let running = start(Duration::ZERO);
    let channel = connect(&running.socket).await;
    let mut runtime = RuntimeServiceClient::new(channel);
    let in_flight = tokio::spawn(async move { runtime.status(v1::StatusRequest::default()).await });
    running.script.asked.notified().await;
    running.order.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    drop(in_flight);
}

#[tokio::test]
async fn who_watches_its_health_is_told_of_the_end_and_does_not_hold_it_up() {
    // Nobody waits so long.
    let running = start(Duration::from_secs(3600));
    let mut client = HealthClient::new(connect(&running.socket).await);
    for service in ["", "runtime.v1.RuntimeService", "runtime.v1.ImageService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), Told::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);
    let mut watched = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), Told::Serving);
    running.order.send(()).unwrap();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), Told::NotServing);
    assert!(watched.message().await.unwrap().is_none());
    running.task.await.unwrap().unwrap();
}
