//! Traces: what was done for a request is told to a collector as a part of its client's trace.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    CreateContainerRequest, PodSandboxStatusRequest, RunPodSandboxRequest, StartContainerRequest,
    VersionRequest,
};
use cringle_tests::client::Cri;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage, skip};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// The client's trace, and its span in it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one on loopback.
    async fn start() -> Result<(Self, SocketAddr, JoinHandle<()>)> {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async {
            // It ends with the test.
            drop(server.await);
        });
        Ok((collector, address, task))
    }

    /// Every span, and that they are those of the service.
    fn spans(&self) -> Result<Vec<Span>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans = Vec::new();
        for group in kept.iter().flat_map(|request| &request.resource_spans) {
            let resource = group.resource.as_ref().context("spans of something")?;
            let named = resource.attributes.iter().any(|one| {
                one.key == "service.name" && format!("{:?}", one.value).contains("cringle")
            });
            ensure!(named, "{resource:?}");
            spans.extend(group.scope_spans.iter().flat_map(|scope| scope.spans.clone()));
        }
        Ok(spans)
    }
}

/// A request that is a part of the client's trace, which is collected or not.
fn traced<T>(message: T, flags: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let header = format!("00-{TRACE}-{PARENT}-{flags}");
    request.metadata_mut().insert("traceparent", header.parse()?);
    Ok(request)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the daemon is built with traces.
fn has_traces(stage: &Stage) -> Result<bool> {
    let file = stage.directory().join("traces.toml");
    std::io::Write::write_all(
        &mut std::fs::File::create(&file)?,
        b"[tracing]\nendpoint = \"http://127.0.0.1:1\"\n",
    )?;
    let program = stage.daemon.program();
    let output = Command::new(program).args(["config", "check"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() || said.contains("built without traces"), "{said}");
    Ok(output.status.success())
}

/// A pod with a container, and requests of each kind of trace beside it.
async fn requests(cri: &mut Cri) -> Result<String> {
    let config = pod("traced");
    let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let answer = cri.runtime.run_pod_sandbox(traced(request, "01")?).await?;
    let pod_sandbox_id = answer.into_inner().pod_sandbox_id;
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container("main", BUSYBOX, &["sleep", "600"])),
        sandbox_config: Some(config),
    };
    let answer = cri.runtime.create_container(traced(request, "01")?).await?;
    let request = StartContainerRequest { container_id: answer.into_inner().container_id };
    cri.runtime.start_container(traced(request, "01")?).await?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: "none".to_owned(), verbose: false };
    let missing = cri.runtime.pod_sandbox_status(traced(request, "01")?).await;
    ensure!(missing.is_err(), "{missing:?}");
    // Neither is collected: the client does not want it, or says nothing.
    cri.runtime.version(traced(VersionRequest::default(), "00")?).await?;
    cri.runtime.version(VersionRequest::default()).await?;
    Ok(pod_sandbox_id)
}

#[test]
fn what_is_done_for_a_request_is_a_part_of_its_client_s_trace() -> Result<()> {
    on_stage(async |stage| {
        if !has_traces(stage)? {
            return skip("the daemon is built without the feature \"otlp\"");
        }
        let (collector, address, server) = Collector::start().await?;
        stage.configure(&format!("\n[tracing]\nendpoint = \"http://{address}\"\n")).await?;
        stage.cri.pull(BUSYBOX).await?;
        let pod = Box::pin(requests(&mut stage.cri)).await?;
        // Its end sends what was not sent yet.
        stage.daemon.stop().await?;
        server.abort();
        stage.start_again().await?;

        let spans = collector.spans()?;
        let rpc = |method: &str| {
            let name = format!("runtime.v1.RuntimeService/{method}");
            let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
            ensure!(found.len() == 1, "{} spans {name}", found.len());
            let span = found[0];
            ensure!(hex(&span.trace_id) == TRACE, "{span:?}");
            ensure!(hex(&span.parent_span_id) == PARENT, "{span:?}");
            ensure!(span.kind() == SpanKind::Server, "{span:?}");
            Ok(span)
        };
        let stages: [(&str, &[&str]); 3] = [
            ("RunPodSandbox", &["pod_files", "pod_namespaces", "pod_network"]),
            ("CreateContainer", &["container_create"]),
            ("StartContainer", &["container_shim", "container_process"]),
        ];
        for (method, names) in stages {
            let parent = rpc(method)?;
            for name in names {
                let stage = spans.iter().find(|span| span.name == *name).context(*name)?;
                ensure!(stage.parent_span_id == parent.span_id, "{name}: {stage:?}");
                ensure!(stage.trace_id == parent.trace_id, "{name}: {stage:?}");
                let inside = parent.start_time_unix_nano <= stage.start_time_unix_nano
                    && stage.end_time_unix_nano <= parent.end_time_unix_nano;
                ensure!(inside, "{name} is not within {method}: {stage:?} {parent:?}");
            }
        }
        let failed = rpc("PodSandboxStatus")?.status.clone().context("it has a status")?;
        ensure!(failed.message.contains("no pod \"none\""), "{failed:?}");
        let unwanted = spans.iter().find(|span| hex(&span.trace_id) != TRACE);
        ensure!(unwanted.is_none(), "{unwanted:?}");
        ensure!(!spans.iter().any(|span| span.name.ends_with("/Version")), "not wanted");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() -> Result<()> {
    on_stage(async |stage| {
        if !has_traces(stage)? {
            return skip("the daemon is built without the feature \"otlp\"");
        }
        // Nobody listens there, in this network namespace.
        let nowhere = "\n[tracing]\nendpoint = \"http://127.0.0.1:1\"\n";
        stage.configure(&format!("{nowhere}sampling_rate_per_million = 1000000\n")).await?;
        stage.cri.pull(BUSYBOX).await?;
        let pod = Box::pin(requests(&mut stage.cri)).await?;
        stage.cri.take_away(&pod).await?;
        stage.daemon.stop().await?;
        stage.start_again().await
    })
}
