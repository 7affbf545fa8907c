//! Checkpoints of pods of counters, and pods that are made of them.

use crate::client::message;
use crate::request::{container, pod, with_logs};
use crate::stage::{BUSYBOX, Stage};
use crate::wait::until;
use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    CheckpointPodRequest, ContainerConfig, ContainerState, PodSandboxConfig, RestorePodRequest,
    RestorePodResponse,
};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Request;

/// Long enough for everything that is to succeed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is added to the configuration for it.
pub const ON: &str = "\n[checkpoint]\nlevel = \"checkpoint_restore\"\n";

/// A program that counts in memory, into a file and aloud, after it made a file and removed one of the image's. It ends with
/// a code of its own when it is told to.
pub fn counter(name: &str) -> ContainerConfig {
    let script = "echo kept > /tmp/kept; rm /www/index.html; trap 'exit 7' TERM; i=0; \
                  while :; do i=$((i+1)); echo $i; echo $i > /tmp/next; mv /tmp/next /tmp/count; sleep 0.05; done";
    container(name, BUSYBOX, &["sh", "-c", script])
}

/// How far a counter is, which must have begun.
pub async fn count(stage: &Stage, id: &str) -> Result<u64> {
    let mut told = None;
    until("the container counts", async || {
        let done = stage.cri.clone().exec(id, &["cat", "/tmp/count"], 20).await?;
        told = String::from_utf8(done.stdout)?.trim().parse().ok();
        Ok(told.is_some())
    })
    .await?;
    told.context("a number")
}

/// A checkpoint of a pod that is gone, and what was asked for when it was run.
#[derive(Debug)]
pub struct Captured {
    /// Where it is.
    pub directory: PathBuf,
    /// The containers that it is of.
    pub ids: Vec<String>,
    /// What they were asked to be.
    pub containers: Vec<ContainerConfig>,
    /// How far each was before.
    pub counts: Vec<u64>,
}

impl Captured {
    /// Runs a pod, captures it and removes it.
    pub async fn take(stage: &mut Stage, containers: Vec<ContainerConfig>) -> Result<Self> {
        Self::take_in(stage, pod("old"), containers).await
    }

    /// The same with a pod of this configuration.
    pub async fn take_in(
        stage: &mut Stage,
        config: PodSandboxConfig,
        containers: Vec<ContainerConfig>,
    ) -> Result<Self> {
        let config = with_logs(config, &stage.daemon.pod_logs().join("old"));
        fs::create_dir_all(&config.log_directory)?;
        stage.cri.pull(BUSYBOX).await?;
        let pod = stage.cri.run_pod(&config).await?;
        let mut ids = Vec::new();
        for one in &containers {
            let id = stage.cri.create((&pod, &config), one).await?;
            stage.cri.start(&id).await?;
            ids.push(id);
        }
        let mut counts = Vec::new();
        for id in &ids {
            counts.push(count(stage, id).await?);
        }
        let directory = stage.directory().join("checkpoint");
        fs::create_dir_all(&directory)?;
        let mut request = Request::new(CheckpointPodRequest {
            pod_sandbox_id: pod.clone(),
            output_path: directory.display().to_string(),
            container_ids: ids.clone(),
            options: HashMap::new(),
        });
        request.set_timeout(PATIENCE);
        stage.cri.clone().runtime.checkpoint_pod(request).await?;
        stage.cri.take_away(&pod).await?;
        Ok(Self { directory, ids, containers, counts })
    }

    /// A request for a pod like that, with a name and logs of its own.
    pub fn request(&self, stage: &Stage) -> Result<RestorePodRequest> {
        let logs = stage.daemon.pod_logs().join("new");
        fs::create_dir_all(&logs)?;
        Ok(RestorePodRequest {
            checkpoint_path: self.directory.display().to_string(),
            config: Some(with_logs(pod("new"), &logs)),
            container_configs: self.containers.clone(),
            ..RestorePodRequest::default()
        })
    }

    /// The archive of the first container.
    pub fn archive(&self) -> PathBuf {
        self.directory.join(format!("{}.tar", self.ids[0]))
    }

    /// Puts another archive in the place of the first container's: its members as `change` makes them.
    pub fn rewrite(&self, change: impl Fn(&str, &mut Vec<u8>) -> Result<()>) -> Result<()> {
        let mut archive = tar::Archive::new(File::open(self.archive())?);
        let mut members = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let name = entry.path()?.display().to_string();
            change(&name, &mut content)?;
            let mut header = entry.header().clone();
            header.set_size(u64::try_from(content.len())?);
            members.push((header, name, content));
        }
        let mut builder = tar::Builder::new(File::create(self.archive())?);
        for (mut header, name, content) in members {
            builder.append_data(&mut header, name, content.as_slice())?;
        }
        Ok(builder.finish()?)
    }

    /// The same for a JSON document in it.
    pub fn rewrite_document(&self, name: &str, change: impl Fn(&mut Value)) -> Result<()> {
        self.rewrite(|member, content| {
            if member == name {
                let mut document = serde_json::from_slice(content)?;
                change(&mut document);
                *content = serde_json::to_vec(&document)?;
            }
            Ok(())
        })
    }

    /// Makes a pod of it with one container, which does not start for a reason that has this word. Nothing is left of it.
    pub async fn require_not_started(
        &self,
        stage: &mut Stage,
        request: RestorePodRequest,
        word: &str,
    ) -> Result<()> {
        let (pod, id) = one(restore(stage, request).await?)?;
        let answer = stage.cri.start(&id).await;
        ensure!(message(&answer).contains(word), "{answer:?}");
        ensure!(message(&answer).contains(&id), "{answer:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.message.contains(word), "{status:?}");
        ensure!(names(&stage.daemon.root().join("restores"))?.is_empty());
        stage.cri.take_away(&pod).await
    }
}

/// The pod and its only container.
pub fn one(restored: RestorePodResponse) -> Result<(String, String)> {
    match restored.restored_containers.as_slice() {
        [one] => Ok((restored.pod_sandbox_id, one.container_id.clone())),
        other => anyhow::bail!("containers: {other:?}"),
    }
}

/// What is in a directory.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Takes a checkpoint with one counter, and says that pods may be made of it.
pub async fn captured(stage: &mut Stage) -> Result<Captured> {
    stage.configure(ON).await?;
    Captured::take(stage, vec![counter("main")]).await
}

/// Nothing is left of a pod that was not made.
pub async fn require_nothing(stage: &mut Stage) -> Result<()> {
    ensure!(stage.cri.pods().await?.is_empty(), "a pod was left");
    ensure!(stage.cri.containers(None).await?.is_empty(), "a container was left");
    ensure!(names(&stage.daemon.root().join("restores"))?.is_empty());
    Ok(())
}

/// Waits until a restored counter is further than it was.
pub async fn goes_on(stage: &Stage, id: &str, from: u64) -> Result<()> {
    until("the container goes on counting", async || Ok(count(stage, id).await? > from)).await
}

/// Makes a pod of a checkpoint.
pub async fn restore(stage: &Stage, request: RestorePodRequest) -> Result<RestorePodResponse> {
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE);
    Ok(stage.cri.clone().runtime.restore_pod(request).await?.into_inner())
}

/// The numbers in a log.
pub fn logged(path: &Path) -> Result<Vec<u64>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect())
}
