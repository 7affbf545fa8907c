//! Stats and metrics: what pods and containers use.

use super::convert;
use super::parts::in_parts;
use super::status::{failed, refused};
use cringle_proto_cri::v1;
use cringle_service::Service;
use cringle_service::metrics::DESCRIPTORS;
use std::path::Path;
use std::sync::Arc;
use tonic::Status;
use tonic::codegen::BoxStream;

/// The part of RuntimeService that measures.
#[derive(Debug)]
pub(super) struct StatsRpc {
    service: Arc<Service>,
    /// Where writable layers lie.
    layers: String,
}

impl StatsRpc {
    /// This part on top of the use cases.
    pub(super) fn new(service: Arc<Service>) -> Self {
        let layers = text_of(&service.layers_directory());
        Self { service, layers }
    }

    /// ContainerStats.
    pub(super) async fn container(
        &self,
        request: v1::ContainerStatsRequest,
    ) -> Result<v1::ContainerStatsResponse, Status> {
        let stats = self.service.container_stats(&request.container_id).await;
        let stats = stats.map_err(|error| failed(&error))?;
        let stats = Some(convert::container_stats(&stats, &self.layers));
        Ok(v1::ContainerStatsResponse { stats })
    }

    /// ListContainerStats.
    pub(super) async fn containers(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<v1::ListContainerStatsResponse, Status> {
        Ok(v1::ListContainerStatsResponse { stats: self.listed(filter).await? })
    }

    /// StreamContainerStats.
    pub(super) async fn stream_containers(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<BoxStream<v1::StreamContainerStatsResponse>, Status> {
        let message = |container_stats| v1::StreamContainerStatsResponse { container_stats };
        Ok(in_parts(self.listed(filter).await?, message))
    }

    /// PodSandboxStats.
    pub(super) async fn pod(
        &self,
        request: v1::PodSandboxStatsRequest,
    ) -> Result<v1::PodSandboxStatsResponse, Status> {
        let stats = self.service.pod_stats(&request.pod_sandbox_id).await;
        let stats = stats.map_err(|error| failed(&error))?;
        let stats = Some(convert::pod_stats(&stats, &self.layers));
        Ok(v1::PodSandboxStatsResponse { stats })
    }

    /// ListPodSandboxStats.
    pub(super) async fn pods(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<v1::ListPodSandboxStatsResponse, Status> {
        Ok(v1::ListPodSandboxStatsResponse { stats: self.listed_pods(filter).await? })
    }

    /// StreamPodSandboxStats.
    pub(super) async fn stream_pods(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<BoxStream<v1::StreamPodSandboxStatsResponse>, Status> {
        let message = |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        Ok(in_parts(self.listed_pods(filter).await?, message))
    }

    /// ListMetricDescriptors.
    pub(super) fn descriptors() -> v1::ListMetricDescriptorsResponse {
        let descriptors = DESCRIPTORS.iter().map(|one| convert::metric_descriptor(one)).collect();
        v1::ListMetricDescriptorsResponse { descriptors }
    }

    /// ListPodSandboxMetrics.
    pub(super) async fn metrics(&self) -> v1::ListPodSandboxMetricsResponse {
        v1::ListPodSandboxMetricsResponse { pod_metrics: self.listed_metrics().await }
    }

    /// StreamPodSandboxMetrics.
    pub(super) async fn stream_metrics(&self) -> BoxStream<v1::StreamPodSandboxMetricsResponse> {
        let message =
            |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        in_parts(self.listed_metrics().await, message)
    }

    async fn listed(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, Status> {
        let filter = filter.map(|filter| v1::ContainerFilter {
            id: filter.id,
            state: None,
            pod_sandbox_id: filter.pod_sandbox_id,
            label_selector: filter.label_selector,
        });
        let filter = convert::container_filter(filter).map_err(|refusal| refused(&refusal))?;
        let ((id, pod), passes) = filter;
        let mut listed = self.service.containers_in(&id, &pod).map_err(|error| failed(&error))?;
        listed.retain(|record| passes(record));
        let stats = self.service.containers_stats(&listed).await;
        Ok(stats.iter().map(|stats| convert::container_stats(stats, &self.layers)).collect())
    }

    async fn listed_pods(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let filter = filter.map(|filter| v1::PodSandboxFilter {
            id: filter.id,
            state: None,
            label_selector: filter.label_selector,
        });
        let (id, passes) = convert::pod_filter(filter).map_err(|refusal| refused(&refusal))?;
        let mut listed = self.service.pods_of(&id).map_err(|error| failed(&error))?;
        listed.retain(|record| passes(record));
        let stats = self.service.pods_stats(&listed).await;
        Ok(stats.iter().map(|stats| convert::pod_stats(stats, &self.layers)).collect())
    }

    async fn listed_metrics(&self) -> Vec<v1::PodSandboxMetrics> {
        self.service.metrics().await.into_iter().map(convert::pod_metrics).collect()
    }
}

/// What the wire has for a path.
fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
