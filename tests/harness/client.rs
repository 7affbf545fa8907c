//! A CRI client on a Unix socket: one short function for each call that tests make often, and the generated clients for
//! the rest.

use anyhow::{Context, Result};
use cringle_proto_cri::v1::image_service_client::ImageServiceClient;
use cringle_proto_cri::v1::runtime_service_client::RuntimeServiceClient;
use cringle_proto_cri::v1::{
    Container, ContainerStatusRequest, Image, ImageStatusRequest, PodSandbox,
    PodSandboxStatusRequest,
};
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerFilter, ContainerStats, ContainerStatus, CreateContainerRequest,
    ExecSyncRequest, ExecSyncResponse, ImageSpec, ListContainerStatsRequest, ListContainersRequest,
    ListImagesRequest, ListPodSandboxRequest, PodSandboxConfig, PodSandboxStatus, PullImageRequest,
    RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

const MESSAGE_LIMIT: usize = 64 << 20;

/// Both services of one runtime.
#[derive(Debug, Clone)]
pub struct Cri {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
}

impl Cri {
    /// Connects to a socket.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let channel = channel(socket).await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_LIMIT),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT),
        })
    }

    /// Runs a pod; its id.
    pub async fn run_pod(&mut self, config: &PodSandboxConfig) -> Result<String> {
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        // Boxed, like the next one: the request is large, and tests nest these calls.
        let answer = Box::pin(self.runtime.run_pod_sandbox(request)).await?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// Stops a pod.
    pub async fn stop_pod(&mut self, pod: &str) -> Result<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.runtime.stop_pod_sandbox(request).await?;
        Ok(())
    }

    /// Removes a pod.
    pub async fn remove_pod(&mut self, pod: &str) -> Result<()> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.runtime.remove_pod_sandbox(request).await?;
        Ok(())
    }

    /// Runs a pod with one started container of an image that is there; both ids.
    pub async fn start_in_pod(
        &mut self,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<(String, String)> {
        let pod_id = self.run_pod(pod).await?;
        let id = self.create((&pod_id, pod), container).await?;
        self.start(&id).await?;
        Ok((pod_id, id))
    }

    /// Stops and removes a pod with all its containers.
    pub async fn take_away(&mut self, pod: &str) -> Result<()> {
        self.stop_pod(pod).await?;
        self.remove_pod(pod).await
    }

    /// A pod's status.
    pub async fn pod(&mut self, pod: &str) -> Result<PodSandboxStatus> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: false };
        let answer = self.runtime.pod_sandbox_status(request).await?.into_inner();
        answer.status.context("the answer has a status")
    }

    /// All pods.
    pub async fn pods(&mut self) -> Result<Vec<PodSandbox>> {
        let request = ListPodSandboxRequest { filter: None };
        Ok(self.runtime.list_pod_sandbox(request).await?.into_inner().items)
    }

    /// Creates a container in a pod; its id.
    pub async fn create(
        &mut self,
        pod: (&str, &PodSandboxConfig),
        config: &ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.0.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.1.clone()),
        };
        let answer = Box::pin(self.runtime.create_container(request)).await?;
        Ok(answer.into_inner().container_id)
    }

    /// Starts a container.
    pub async fn start(&mut self, container: &str) -> Result<()> {
        let request = StartContainerRequest { container_id: container.to_owned() };
        self.runtime.start_container(request).await?;
        Ok(())
    }

    /// Stops a container, with seconds to end by itself.
    pub async fn stop(&mut self, container: &str, timeout: i64) -> Result<()> {
        let request = StopContainerRequest { container_id: container.to_owned(), timeout };
        self.runtime.stop_container(request).await?;
        Ok(())
    }

    /// Removes a container.
    pub async fn remove(&mut self, container: &str) -> Result<()> {
        let request = RemoveContainerRequest { container_id: container.to_owned() };
        self.runtime.remove_container(request).await?;
        Ok(())
    }

    /// A container's status.
    pub async fn container(&mut self, container: &str) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let answer = self.runtime.container_status(request).await?.into_inner();
        answer.status.context("the answer has a status")
    }

    /// A container's process, from the verbose status.
    pub async fn process(&mut self, container: &str) -> Result<i64> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let answer = self.runtime.container_status(request).await?.into_inner();
        let info = answer.info.get("info").context("the verbose status has \"info\"")?;
        let document: serde_json::Value = serde_json::from_str(info)?;
        document["pid"].as_i64().context("the verbose status has a process id")
    }

    /// Containers that a filter lets through.
    pub async fn containers(&mut self, filter: Option<ContainerFilter>) -> Result<Vec<Container>> {
        let request = ListContainersRequest { filter };
        Ok(self.runtime.list_containers(request).await?.into_inner().containers)
    }

    /// What all running containers use.
    pub async fn stats(&mut self) -> Result<Vec<ContainerStats>> {
        let request = ListContainerStatsRequest { filter: None };
        Ok(self.runtime.list_container_stats(request).await?.into_inner().stats)
    }

    /// Runs a command in a container, with seconds to end (0: any).
    pub async fn exec(
        &mut self,
        container: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// Standard output of a command that must succeed in a container.
    pub async fn output(&mut self, container: &str, command: &[&str]) -> Result<String> {
        let done = self.exec(container, command, 20).await?;
        let stdout = String::from_utf8(done.stdout)?;
        anyhow::ensure!(
            done.exit_code == 0,
            "{command:?} ended with {}: {stdout}{}",
            done.exit_code,
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(stdout)
    }

    /// Pulls an image; its id.
    pub async fn pull(&mut self, reference: &str) -> Result<String> {
        let request =
            PullImageRequest { image: Some(image(reference)), ..PullImageRequest::default() };
        Ok(self.images.pull_image(request).await?.into_inner().image_ref)
    }

    /// An image by any of its names, if it is there.
    pub async fn image(&mut self, reference: &str) -> Result<Option<Image>> {
        let request = ImageStatusRequest { image: Some(image(reference)), verbose: false };
        Ok(self.images.image_status(request).await?.into_inner().image)
    }

    /// All images.
    pub async fn all_images(&mut self) -> Result<Vec<Image>> {
        let request = ListImagesRequest { filter: None };
        Ok(self.images.list_images(request).await?.into_inner().images)
    }

    /// Removes an image by any of its names.
    pub async fn remove_image(&mut self, reference: &str) -> Result<()> {
        self.images.remove_image(RemoveImageRequest { image: Some(image(reference)) }).await?;
        Ok(())
    }

    /// Removes all pods and all images.
    pub async fn remove_all(&mut self) -> Result<()> {
        for pod in self.pods().await? {
            self.take_away(&pod.id).await?;
        }
        for image in self.all_images().await? {
            self.remove_image(&image.id).await?;
        }
        Ok(())
    }
}

/// A connection to a socket.
pub async fn channel(socket: &Path) -> Result<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is of no use to a Unix socket, but the type wants one.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("failed to connect to \"{}\"", socket.display()))
}

/// An ExecSync on a connection of its own whose answer waits: its bytes come only as fast as the stream is read.
pub async fn unread_exec(
    socket: &Path,
    container: &str,
    command: &[&str],
) -> Result<Streaming<ExecSyncResponse>> {
    let request = ExecSyncRequest {
        container_id: container.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout: 0,
    };
    let mut client = Grpc::new(channel(socket).await?).max_decoding_message_size(MESSAGE_LIMIT);
    client.ready().await?;
    let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/ExecSync");
    // On the wire an answer is a stream of one message.
    let answer = client.server_streaming(Request::new(request), path, ProstCodec::default());
    Ok(answer.await?.into_inner())
}

/// A reference as requests have it.
#[must_use]
pub fn image(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned(), ..ImageSpec::default() }
}

/// The code that a call was refused with.
#[must_use]
pub fn code<T>(answer: &Result<T>) -> Option<Code> {
    let error = answer.as_ref().err()?;
    error.downcast_ref::<Status>().map(Status::code)
}

/// What a call was refused with, as text.
#[must_use]
pub fn message<T>(answer: &Result<T>) -> String {
    let status = answer.as_ref().err().and_then(|error| error.downcast_ref::<Status>());
    status.map(|status| status.message().to_owned()).unwrap_or_default()
}
