//! Checkpoints of pods: CheckpointPod with the true CRIU. All containers stand still before the first is captured and until
//! the last is, and go on afterwards; the directory has a whole checkpoint or nothing.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{CheckpointPodRequest, ContainerConfig, RestorePodRequest};
use cringle_tests::client::code;
use cringle_tests::criu::{self, frozen};
use cringle_tests::request::{container, pod, with_security};
use cringle_tests::stage::{BUSYBOX, Stage};
use cringle_tests::wait::until;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::{Code, Request};

/// Long enough for everything that is to succeed.
const PATIENCE: Duration = Duration::from_secs(120);

fn sleeper(name: &str) -> ContainerConfig {
    container(name, BUSYBOX, &["sh", "-c", "echo kept > /tmp/kept; while :; do sleep 0.05; done"])
}

/// A pod with two containers that run, and an empty directory.
struct Two {
    pod: String,
    ids: [String; 2],
    output: PathBuf,
}

impl Two {
    async fn run(stage: &mut Stage) -> Result<Self> {
        let config = pod("pod");
        let (pod, one) = stage.run(&config, &sleeper("one")).await?;
        let two = stage.cri.create((&pod, &config), &sleeper("two")).await?;
        stage.cri.start(&two).await?;
        let output = stage.directory().join("output");
        fs::create_dir_all(&output)?;
        Ok(Self { pod, ids: [one, two], output })
    }

    fn request(&self) -> CheckpointPodRequest {
        CheckpointPodRequest {
            pod_sandbox_id: self.pod.clone(),
            output_path: self.output.display().to_string(),
            container_ids: self.ids.to_vec(),
            options: HashMap::new(),
        }
    }

    fn written(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.output)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    /// Nobody stands still, and nothing is left but these files.
    async fn require(&self, stage: &mut Stage, files: &[String]) -> Result<()> {
        for id in &self.ids {
            let process = stage.cri.process(id).await?;
            ensure!(!frozen(process)?, "container {id} stands still");
        }
        let written = self.written()?;
        ensure!(written == files, "in the directory: {written:?}");
        let work = stage.daemon.root().join("checkpoints");
        ensure!(work.read_dir()?.next().is_none(), "something is left of a checkpoint");
        Ok(())
    }
}

async fn checkpoint(
    stage: &Stage,
    request: CheckpointPodRequest,
    patience: Option<Duration>,
) -> Result<()> {
    let mut request = Request::new(request);
    if let Some(patience) = patience {
        request.set_timeout(patience);
    }
    stage.cri.clone().runtime.checkpoint_pod(request).await?;
    Ok(())
}

fn members(archive: &Path) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    let names = archive.entries()?.map(|entry| Ok(entry?.path()?.display().to_string()));
    names.collect()
}

#[test]
fn containers_of_a_pod_are_captured_while_all_of_them_stand_still() -> Result<()> {
    criu::on_stage(async |stage| {
        let two = Two::run(stage).await?;
        let mut processes = Vec::new();
        for id in &two.ids {
            processes.push(stage.cri.process(id).await?);
        }
        // Before each dump it is noted who stands still: the cgroups of the first processes tell.
        let seen = stage.directory().join("seen");
        let cgroups: Vec<_> =
            processes.iter().map(|one| criu::cgroup(*one)).collect::<Result<_>>()?;
        let files: Vec<_> =
            cgroups.iter().map(|one| format!("\"{}/cgroup.events\"", one.display())).collect();
        let lines = format!(
            "case \"$1\" in dump) grep -h frozen {} >> \"{}\";; esac; exec criu \"$@\"",
            files.join(" "),
            seen.display()
        );
        let script = criu::script(stage.directory(), &lines)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;

        checkpoint(stage, two.request(), Some(PATIENCE)).await?;
        let seen = fs::read_to_string(&seen)?;
        ensure!(seen == "frozen 1\n".repeat(4), "two dumps, each with both frozen: {seen}");
        let mut files: Vec<_> = two.ids.iter().map(|id| format!("{id}.tar")).collect();
        files.push("pod.options".to_owned());
        files.sort_unstable();
        two.require(stage, &files).await?;
        let options = fs::read(two.output.join("pod.options"))?;
        let options: serde_json::Value = serde_json::from_slice(&options)?;
        for (name, id) in ["one", "two"].iter().zip(&two.ids) {
            ensure!(options["containers"][name] == id.as_str(), "{options}");
            let names = members(&two.output.join(format!("{id}.tar")))?;
            ensure!(names.iter().any(|name| name == "checkpoint/inventory.img"), "{names:?}");
        }
        for (id, process) in two.ids.iter().zip(processes) {
            ensure!(stage.cri.process(id).await? == process, "it is another process");
            stage.cri.output(id, &["cat", "/tmp/kept"]).await?;
        }
        stage.cri.take_away(&two.pod).await
    })
}

#[test]
fn what_cannot_be_captured_as_asked_is_refused_before_anything_stands_still() -> Result<()> {
    criu::on_stage(async |stage| {
        let two = Two::run(stage).await?;
        let full = stage.directory().join("full");
        fs::create_dir_all(full.join("something"))?;
        let link = stage.directory().join("link");
        std::os::unix::fs::symlink(&two.output, &link)?;
        let other = stage.cri.run_pod(&pod("other")).await?;
        let good = || two.request();
        let [one, _] = &two.ids;
        let twice = vec![one.clone(), one.clone()];
        let cases = [
            (CheckpointPodRequest { pod_sandbox_id: "0123".into(), ..good() }, Code::NotFound),
            (CheckpointPodRequest { output_path: String::new(), ..good() }, Code::InvalidArgument),
            (
                CheckpointPodRequest { output_path: "output".into(), ..good() },
                Code::InvalidArgument,
            ),
            (
                CheckpointPodRequest { output_path: full.display().to_string(), ..good() },
                Code::InvalidArgument,
            ),
            (
                CheckpointPodRequest { output_path: link.display().to_string(), ..good() },
                Code::InvalidArgument,
            ),
            (CheckpointPodRequest { container_ids: vec![], ..good() }, Code::InvalidArgument),
            (CheckpointPodRequest { container_ids: twice, ..good() }, Code::InvalidArgument),
            (CheckpointPodRequest { container_ids: vec!["4567".into()], ..good() }, Code::NotFound),
            (
                CheckpointPodRequest { pod_sandbox_id: other.clone(), ..good() },
                Code::InvalidArgument,
            ),
            (
                CheckpointPodRequest {
                    options: HashMap::from([("leave-running".to_owned(), "false".to_owned())]),
                    ..good()
                },
                Code::InvalidArgument,
            ),
        ];
        for (request, expected) in cases {
            let shown = format!("{request:?}");
            let answer = checkpoint(stage, request, Some(PATIENCE)).await;
            ensure!(code(&answer) == Some(expected), "{shown}: {answer:?}");
        }
        let answer = checkpoint(stage, two.request(), None).await;
        ensure!(code(&answer) == Some(Code::InvalidArgument), "without a deadline: {answer:?}");
        let answer = stage.cri.runtime.restore_pod(RestorePodRequest::default()).await;
        ensure!(answer.is_err_and(|status| status.code() == Code::Unimplemented));
        two.require(stage, &[]).await?;

        stage.cri.stop(one, 0).await?;
        let answer = checkpoint(stage, two.request(), Some(PATIENCE)).await;
        ensure!(code(&answer) == Some(Code::FailedPrecondition), "one has ended: {answer:?}");
        stage.cri.take_away(&other).await?;
        stage.cri.take_away(&two.pod).await
    })
}

#[test]
fn if_one_container_fails_nothing_is_written_and_all_go_on() -> Result<()> {
    criu::on_stage(async |stage| {
        let two = Two::run(stage).await?;
        // The first dump is a true one, the second fails.
        let done = stage.directory().join("done");
        let lines = format!(
            "case \"$1\" in dump) [ -e \"{0}\" ] && exit 7; echo > \"{0}\";; esac; exec criu \"$@\"",
            done.display()
        );
        let script = criu::script(stage.directory(), &lines)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        let answer = checkpoint(stage, two.request(), Some(PATIENCE)).await;
        ensure!(code(&answer) == Some(Code::Internal), "{answer:?}");
        two.require(stage, &[]).await?;

        // One that hangs, and a client that goes.
        let began = stage.directory().join("began");
        let lines = format!(
            "case \"$1\" in dump) echo > \"{}\"; exec sleep 600;; esac; exec criu \"$@\"",
            began.display()
        );
        criu::script(stage.directory(), &lines)?;
        let answer = checkpoint(stage, two.request(), Some(Duration::from_secs(10))).await;
        ensure!(began.exists(), "there was no dump: {answer:?}");
        let code = code(&answer).context("it was answered with success")?;
        ensure!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
        // The client may be the first to know that its time is over.
        criu::made_good(stage).await?;
        two.require(stage, &[]).await?;
        stage.cri.take_away(&two.pod).await
    })
}

#[test]
fn a_daemon_that_dies_before_the_second_dump_leaves_containers_that_go_on() -> Result<()> {
    criu::on_stage(async |stage| {
        let two = Two::run(stage).await?;
        let (done, began) = (stage.directory().join("done"), stage.directory().join("began"));
        let lines = format!(
            "case \"$1\" in dump) if [ -e \"{0}\" ]; then echo > \"{1}\"; while [ -e \"{1}\" ]; do sleep 0.05; done; \
             exit 1; fi; echo > \"{0}\";; esac; exec criu \"$@\"",
            done.display(),
            began.display()
        );
        let script = criu::script(stage.directory(), &lines)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        let (mut cri, mut request) = (stage.cri.clone(), Request::new(two.request()));
        request.set_timeout(PATIENCE);
        let call = tokio::spawn(async move { cri.runtime.checkpoint_pod(request).await });
        until("the second dump begins", async || Ok(began.exists())).await?;
        for id in &two.ids {
            ensure!(frozen(stage.cri.process(id).await?)?, "container {id} runs");
        }
        stage.daemon.kill()?;
        ensure!(call.await?.is_err(), "nobody can have answered");
        fs::remove_file(&began)?;
        stage.start_again().await?;
        criu::made_good(stage).await?;
        two.require(stage, &[]).await?;
        stage.cri.take_away(&two.pod).await
    })
}

#[test]
fn a_terminal_and_hidden_paths_are_no_obstacle() -> Result<()> {
    criu::on_stage(async |stage| {
        let config = pod("pod");
        let terminal = ContainerConfig { tty: true, stdin: true, ..sleeper("terminal") };
        let masked = with_security(sleeper("masked"), |security| {
            security.masked_paths =
                ["/proc/kcore", "/proc/keys", "/proc/acpi"].map(Into::into).into();
            security.readonly_paths = ["/proc/bus", "/proc/sys"].map(Into::into).into();
        });
        let (pod, terminal) = stage.run(&config, &terminal).await?;
        let masked = stage.cri.create((&pod, &config), &masked).await?;
        stage.cri.start(&masked).await?;
        let output = stage.directory().join("output");
        fs::create_dir_all(&output)?;
        let request = CheckpointPodRequest {
            pod_sandbox_id: pod.clone(),
            output_path: output.display().to_string(),
            container_ids: vec![terminal.clone(), masked.clone()],
            options: HashMap::new(),
        };
        checkpoint(stage, request, Some(PATIENCE)).await?;
        for id in [&terminal, &masked] {
            ensure!(output.join(format!("{id}.tar")).exists(), "{id} has no archive");
            stage.cri.output(id, &["cat", "/tmp/kept"]).await?;
        }
        stage.cri.take_away(&pod).await
    })
}
