//! Calls that a client cuts off, and the same call again.

use crate::client::{Cri, code, image};
use crate::daemon::Daemon;
use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, CreateContainerRequest, ExecSyncRequest, LinuxContainerResources,
    PodSandboxConfig, PullImageRequest, RemoveContainerRequest, RemoveImageRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
    StopPodSandboxRequest, UpdateContainerResourcesRequest,
};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Code, Request};

/// What a daemon's log says when a client left before the end of what it had asked for, and when that came to its end.
const GONE: &str = "client gone, operation goes on";
const DONE: &str = "operation without its client done";

/// How long a client that has a deadline waits: not long enough for what hangs, and long enough to get there.
const DEADLINE: Duration = Duration::from_secs(1);
/// The same for one that pulls: the daemon gives the pull up with it.
const PULL_DEADLINE: Duration = Duration::from_secs(5);

/// A call that makes or changes something.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named after the calls and their fields")]
pub enum Call {
    RunPod(PodSandboxConfig),
    StopPod(String),
    RemovePod(String),
    Create { pod: String, config: PodSandboxConfig, container: Box<ContainerConfig> },
    Start(String),
    Stop(String, i64),
    Remove(String),
    Update(String, LinuxContainerResources),
    Exec(String, Vec<String>),
    Pull(String),
    RemoveImage(String),
}

/// How a client cuts a call off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It does not want this answer any more.
    Cancelled,
    /// It is gone, and its connection with it.
    Disconnected,
    /// It said beforehand how long it would wait.
    Deadline,
}

/// All of them.
pub const CUTS: [Cut; 3] = [Cut::Cancelled, Cut::Disconnected, Cut::Deadline];

impl Call {
    fn deadline(&self) -> Duration {
        if matches!(self, Self::Pull(_)) { PULL_DEADLINE } else { DEADLINE }
    }

    /// Makes the call; the id that it is answered with, if its kind is, or what a command wrote.
    pub async fn make(&self, cri: &mut Cri) -> Result<String> {
        Box::pin(self.send(cri, None)).await
    }

    /// Makes the call so many times at once; all must be answered alike.
    pub async fn make_often(&self, cri: &Cri, times: usize) -> Result<String> {
        let calls: Vec<_> = (0..times).map(|_| self.spawn(cri.clone(), None)).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await??);
        }
        answers.dedup();
        let first = answers.pop().context("an answer")?;
        ensure!(answers.is_empty(), "{first} and {answers:?}");
        Ok(first)
    }

    fn spawn(&self, mut cri: Cri, deadline: Option<Duration>) -> JoinHandle<Result<String>> {
        let call = self.clone();
        tokio::spawn(async move { Box::pin(call.send(&mut cri, deadline)).await })
    }

    async fn send(&self, cri: &mut Cri, deadline: Option<Duration>) -> Result<String> {
        let (runtime, images) = (&mut cri.runtime, &mut cri.images);
        match self.clone() {
            Self::RunPod(config) => {
                let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
                let answer = runtime.run_pod_sandbox(within(request, deadline)).await?;
                return Ok(answer.into_inner().pod_sandbox_id);
            }
            Self::Create { pod, config, container } => {
                let (pod_sandbox_id, sandbox_config) = (pod, Some(config));
                let config = Some(*container);
                let request = CreateContainerRequest { pod_sandbox_id, config, sandbox_config };
                let answer = runtime.create_container(within(request, deadline)).await?;
                return Ok(answer.into_inner().container_id);
            }
            Self::Exec(container_id, cmd) => {
                let request = ExecSyncRequest { container_id, cmd, timeout: 0 };
                let answer = runtime.exec_sync(within(request, deadline)).await?.into_inner();
                return Ok(String::from_utf8(answer.stdout)?);
            }
            Self::Pull(reference) => {
                let request =
                    PullImageRequest { image: Some(image(&reference)), ..Default::default() };
                let answer = images.pull_image(within(request, deadline)).await?;
                return Ok(answer.into_inner().image_ref);
            }
            Self::StopPod(pod_sandbox_id) => {
                let request = StopPodSandboxRequest { pod_sandbox_id };
                drop(runtime.stop_pod_sandbox(within(request, deadline)).await?);
            }
            Self::RemovePod(pod_sandbox_id) => {
                let request = RemovePodSandboxRequest { pod_sandbox_id };
                drop(runtime.remove_pod_sandbox(within(request, deadline)).await?);
            }
            Self::Start(container_id) => {
                let request = StartContainerRequest { container_id };
                drop(runtime.start_container(within(request, deadline)).await?);
            }
            Self::Stop(container_id, timeout) => {
                let request = StopContainerRequest { container_id, timeout };
                drop(runtime.stop_container(within(request, deadline)).await?);
            }
            Self::Remove(container_id) => {
                let request = RemoveContainerRequest { container_id };
                drop(runtime.remove_container(within(request, deadline)).await?);
            }
            Self::Update(container_id, resources) => {
                let linux = Some(resources);
                let request =
                    UpdateContainerResourcesRequest { container_id, linux, ..Default::default() };
                drop(runtime.update_container_resources(within(request, deadline)).await?);
            }
            Self::RemoveImage(reference) => {
                let request = RemoveImageRequest { image: Some(image(&reference)) };
                drop(images.remove_image(within(request, deadline)).await?);
            }
        }
        Ok(String::new())
    }
}

fn within<T>(message: T, deadline: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}

/// A call under way, that its client will cut off.
#[derive(Debug)]
pub struct Doomed {
    task: JoinHandle<Result<String>>,
    cut: Cut,
    gone: usize,
    done: usize,
}

impl Doomed {
    /// Begins the call, which must not come to an answer.
    pub async fn begin(daemon: &Daemon, cri: &Cri, call: &Call, cut: Cut) -> Result<Self> {
        let (gone, done) = (daemon.said(GONE), daemon.said(DONE));
        let task = match cut {
            Cut::Cancelled => call.spawn(cri.clone(), None),
            Cut::Disconnected => call.spawn(Cri::connect(&daemon.socket()).await?, None),
            Cut::Deadline => call.spawn(cri.clone(), Some(call.deadline())),
        };
        Ok(Self { task, cut, gone, done })
    }

    /// Waits until something is so while the call is under way. A deadline may pass meanwhile.
    pub async fn until(&self, what: &str, question: impl Fn() -> Result<bool>) -> Result<()> {
        until(what, async || {
            let early = self.task.is_finished() && self.cut != Cut::Deadline;
            ensure!(!early, "the call was answered too early");
            question()
        })
        .await
    }

    /// The client leaves.
    pub async fn cut(&mut self) -> Result<()> {
        if self.cut != Cut::Deadline {
            self.task.abort();
        }
        match (&mut self.task).await {
            Err(ended) if ended.is_cancelled() => Ok(()),
            Err(ended) => Err(ended.into()),
            Ok(Ok(answer)) => bail!("it was answered: {answer:?}"),
            // Whichever side sees first that the time is over.
            Ok(answer) => match code(&answer) {
                Some(Code::DeadlineExceeded | Code::Cancelled) => Ok(()),
                _ => bail!("it was answered: {answer:?}"),
            },
        }
    }

    /// Waits until the daemon knows that the client is gone.
    pub async fn noticed(&self, daemon: &Daemon) -> Result<()> {
        until(
            "the daemon knows that the client is gone",
            async || Ok(daemon.said(GONE) > self.gone),
        )
        .await
    }

    /// Waits until what the client had asked for is done without it.
    pub async fn done(&self, daemon: &Daemon) -> Result<()> {
        until(
            "the operation is done without its client",
            async || Ok(daemon.said(DONE) > self.done),
        )
        .await
    }
}
