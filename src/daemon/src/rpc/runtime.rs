//! RuntimeService: each method converts, calls the service, and converts. What is not written here answers UNIMPLEMENTED.

use super::checkpoint::CheckpointRpc;
use super::convert;
use super::held::Held;
use super::latency::Latencies;
use super::parts::in_parts;
use super::stats::StatsRpc;
use super::status::{failed, network_not_generated, refused};
use super::streaming::StreamingRpc;
use cringle_proto_cri::v1;
use cringle_service::Service;
use cringle_service::supervisor::ExecOutput;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tracing::Span;

/// RuntimeService on top of the use cases.
#[derive(Debug)]
pub(crate) struct RuntimeRpc {
    service: Arc<Service>,
    latencies: Arc<Latencies>,
    /// The daemon's paths, as JSON for tools.
    config: String,
    streaming: StreamingRpc,
    stats: StatsRpc,
    checkpoint: CheckpointRpc,
}

type Answer<T> = Result<Response<T>, Status>;

impl RuntimeRpc {
    /// RuntimeService of these use cases.
    pub(crate) fn new(
        service: Arc<Service>,
        latencies: Arc<Latencies>,
        config: String,
        streaming: StreamingRpc,
    ) -> Self {
        let stats = StatsRpc::new(Arc::clone(&service));
        let checkpoint = CheckpointRpc::new(Arc::clone(&service));
        Self { service, latencies, config, streaming, stats, checkpoint }
    }

    fn condition(ready: Result<(), (String, String)>, kind: &str) -> v1::RuntimeCondition {
        let status = ready.is_ok();
        let (reason, message) = ready.err().unwrap_or_default();
        v1::RuntimeCondition { r#type: kind.to_owned(), status, reason, message }
    }

    fn listed_pods(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, Status> {
        let (id, passes) = convert::pod_filter(filter).map_err(|refusal| refused(&refusal))?;
        let pods = self.service.pods_of(&id).map_err(|error| failed(&error))?;
        Ok(pods.iter().filter(|pod| passes(pod)).map(|pod| convert::pod_item(pod)).collect())
    }

    fn listed_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, Status> {
        let filter = convert::container_filter(filter).map_err(|refusal| refused(&refusal))?;
        let ((id, pod), passes) = filter;
        let containers = self.service.containers_in(&id, &pod).map_err(|error| failed(&error))?;
        let passing = containers.iter().filter(|container| passes(container));
        Ok(passing.map(|container| convert::container_item(container)).collect())
    }

    fn container_status_of(&self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let record = self.service.container(id).map_err(|error| failed(&error))?;
        let pod = self.service.pod(record.pod.as_str()).ok();
        let directory = pod.as_ref().and_then(|pod| pod.spec.log_directory.as_deref());
        Ok(convert::container_status(&record, directory))
    }
}

#[tonic::async_trait]
impl v1::runtime_service_server::RuntimeService for RuntimeRpc {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(v1::VersionResponse {
            // What the kubelet calls the version of its own side; it has never been another.
            version: "0.1.0".to_owned(),
            runtime_name: "cringle".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let network = self.service.network().probe().await;
        let network = network.map_err(|not_ready| (not_ready.reason.to_owned(), not_ready.message));
        let info = if request.into_inner().verbose {
            super::verbose::status(&self.service, &self.latencies, &self.config)
        } else {
            HashMap::new()
        };
        let ready = self.service.can_run();
        let ready = ready.map_err(|lacking| ("KernelLacksFeatures".to_owned(), lacking));
        let restricted_mounts = self.service.can_restrict_mounts().is_ok();
        let handler = |name: &str| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: restricted_mounts,
                user_namespaces: self.service.user_namespaces().is_ok(),
            }),
        };
        Ok(Response::new(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    Self::condition(ready, "RuntimeReady"),
                    Self::condition(network, "NetworkReady"),
                ],
            }),
            info,
            runtime_handlers: vec![handler(""), handler("cringle")],
            features: Some(v1::RuntimeFeatures {
                // Decided by us alone, whatever the kernel.
                supplemental_groups_policy: true,
                // A pod with users of its own and the host's network is refused.
                user_namespaces_host_network: false,
                mount_options: restricted_mounts,
            }),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        let linux =
            v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
        Ok(Response::new(v1::RuntimeConfigResponse { linux: Some(linux) }))
    }

    /// Without a template the addresses of pods are the business of whoever writes the network's configuration; then this
    /// has no effect, as runtimes may have it.
    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|config| config.network_config);
        let ranges = network.map(|network| network.pod_cidr).unwrap_or_default();
        let ranges = convert::pod_ranges(&ranges).map_err(|refusal| refused(&refusal))?;
        if !ranges.is_empty() {
            let done = tokio::task::block_in_place(|| self.service.network().use_ranges(&ranges));
            let done = done.map_err(|error| network_not_generated(&error))?;
            tracing::info!(?ranges, ?done, "address ranges of pods");
        }
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let spec = convert::pod_spec(request.into_inner()).map_err(|refusal| refused(&refusal))?;
        let pod = self.service.run_pod(spec).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: pod.to_string() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        Span::current().record("pod", &id);
        self.service.stop_pod(&id).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        Span::current().record("pod", &id);
        self.service.remove_pod(&id).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        Span::current().record("pod", &request.pod_sandbox_id);
        let moment = self.service.pod_moment(&request.pod_sandbox_id);
        let (record, moment) = moment.map_err(|error| failed(&error))?;
        let info = if request.verbose {
            super::verbose::pod(&self.service, &record)
        } else {
            HashMap::new()
        };
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(convert::pod_status(&record)),
            info,
            containers_statuses: super::events::statuses(&moment),
            timestamp: moment.at.to_wire(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let items = self.listed_pods(request.into_inner().filter)?;
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<BoxStream<v1::StreamPodSandboxesResponse>> {
        let pods = self.listed_pods(request.into_inner().filter)?;
        let message = |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes };
        Ok(Response::new(in_parts(pods, message)))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let (pod, spec) =
            convert::container_spec(request.into_inner()).map_err(|refusal| refused(&refusal))?;
        Span::current().record("pod", &pod);
        let container = self.service.create_container(&pod, spec).await;
        let container_id = container.map_err(|error| failed(&error))?.to_string();
        Ok(Response::new(v1::CreateContainerResponse { container_id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        Span::current().record("container", &id);
        self.service.start_container(&id).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        let grace = convert::seconds(request.timeout).unwrap_or_default();
        let stopped = self.service.stop_container(&request.container_id, grace).await;
        stopped.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        Span::current().record("container", &id);
        self.service.remove_container(&id).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        let status = self.container_status_of(&request.container_id)?;
        let info = if request.verbose {
            let record = self.service.container(&status.id).map_err(|error| failed(&error))?;
            super::verbose::container(&self.service, &record)
        } else {
            HashMap::new()
        };
        Ok(Response::new(v1::ContainerStatusResponse { status: Some(status), info }))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let containers = self.listed_containers(request.into_inner().filter)?;
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<BoxStream<v1::StreamContainersResponse>> {
        let containers = self.listed_containers(request.into_inner().filter)?;
        let message = |containers| v1::StreamContainersResponse { containers };
        Ok(Response::new(in_parts(containers, message)))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        if let Some(resources) = request.linux {
            let limits =
                convert::limits_of_update(resources).map_err(|refusal| refused(&refusal))?;
            let updated = self.service.update_container(&request.container_id, limits).await;
            updated.map_err(|error| failed(&error))?;
        }
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        Span::current().record("pod", &id);
        let change =
            convert::pod_resources_of_update(request).map_err(|refusal| refused(&refusal))?;
        self.service.update_pod(&id, change).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::UpdatePodSandboxResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        Span::current().record("container", &id);
        self.service.reopen_log(&id).await.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<BoxStream<v1::ContainerEventResponse>> {
        Ok(Response::new(super::events::stream(self.service.subscribe())))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        self.streaming.exec(request)
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        self.streaming.attach(request)
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        Span::current().record("pod", &request.pod_sandbox_id);
        self.streaming.port_forward(request)
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        Span::current().record("container", &request.container_id);
        let timeout = convert::seconds(request.timeout).filter(|timeout| *timeout > Duration::ZERO);
        let output = self.service.exec_sync(&request.container_id, request.cmd, timeout).await;
        let ExecOutput { stdout, stderr, exit_code, place } =
            output.map_err(|error| failed(&error))?;
        let mut answer = Response::new(v1::ExecSyncResponse { stdout, stderr, exit_code });
        answer.extensions_mut().insert(Held::new(place));
        Ok(answer)
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        Span::current().record("container", &request.get_ref().container_id);
        self.stats.container(request.into_inner()).await.map(Response::new)
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        self.stats.containers(request.into_inner().filter).await.map(Response::new)
    }

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<BoxStream<v1::StreamContainerStatsResponse>> {
        self.stats.stream_containers(request.into_inner().filter).await.map(Response::new)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        Span::current().record("pod", &request.get_ref().pod_sandbox_id);
        self.stats.pod(request.into_inner()).await.map(Response::new)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        self.stats.pods(request.into_inner().filter).await.map(Response::new)
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<BoxStream<v1::StreamPodSandboxStatsResponse>> {
        self.stats.stream_pods(request.into_inner().filter).await.map(Response::new)
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        self.checkpoint.container(request.into_inner()).await
    }

    async fn checkpoint_pod(
        &self,
        request: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        self.checkpoint.pod(request).await
    }

    async fn restore_pod(
        &self,
        request: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        self.checkpoint.restore(request).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Ok(Response::new(StatsRpc::descriptors()))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        Ok(Response::new(self.stats.metrics().await))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<BoxStream<v1::StreamPodSandboxMetricsResponse>> {
        Ok(Response::new(self.stats.stream_metrics().await))
    }
}
