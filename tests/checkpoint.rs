//! Checkpoints: CheckpointContainer with the true CRIU. What was running goes on, whatever becomes of the attempt, and what
//! is written is whole or not there.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{CheckpointContainerRequest, ContainerState, RestorePodRequest};
use cringle_tests::captured::{count, counter, goes_on, names};
use cringle_tests::client::{code, message};
use cringle_tests::criu::{self, frozen};
use cringle_tests::request::{container, pod, with_logs};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::Code;

async fn checkpoint(stage: &Stage, id: &str, location: &Path, timeout: i64) -> Result<()> {
    let request = CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: location.display().to_string(),
        timeout,
    };
    stage.cri.clone().runtime.checkpoint_container(request).await?;
    Ok(())
}

/// The files of an archive with their content, by name.
fn unpack(archive: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    read(File::open(archive)?)
}

fn read(archive: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(entry.path()?.display().to_string(), content);
    }
    Ok(files)
}

fn document(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<Value> {
    let content = files.get(name).with_context(|| format!("the archive has {name}"))?;
    Ok(serde_json::from_slice(content)?)
}

/// A directory for archives, and the place of one in it.
fn place(stage: &Stage) -> Result<(PathBuf, PathBuf)> {
    let directory = stage.directory().join("checkpoints");
    fs::create_dir_all(&directory)?;
    Ok((directory.clone(), directory.join("checkpoint-x.tar")))
}

/// Nothing is left of a checkpoint but these files.
fn require_only(stage: &Stage, directory: &Path, files: &[&str]) -> Result<()> {
    let own = names(&stage.daemon.root().join("checkpoints"))?;
    ensure!(own.is_empty(), "left of a checkpoint: {own:?}");
    let found = names(directory)?;
    ensure!(found == files, "in the directory: {found:?}");
    Ok(())
}

#[test]
fn a_running_container_is_archived_and_goes_on() -> Result<()> {
    criu::on_stage(async |stage| {
        let config = with_logs(pod("pod"), &stage.daemon.pod_logs());
        let (pod, id) = stage.run(&config, &counter("main")).await?;
        let process = stage.cri.process(&id).await?;
        let before = count(stage, &id).await?;
        let (directory, archive) = place(stage)?;
        // Somebody works in it meanwhile, who is not part of it.
        let mut other = stage.cri.clone();
        let session = id.clone();
        let visit = tokio::spawn(async move {
            other.output(&session, &["sh", "-c", "sleep 3; echo done"]).await
        });
        checkpoint(stage, &id, &archive, 0).await?;
        require_only(stage, &directory, &["checkpoint-x.tar"])?;
        ensure!(visit.await?? == "done\n", "the visitor was disturbed");
        let mode = archive.metadata()?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "{mode:o}");

        let files = unpack(&archive)?;
        let config = document(&files, "config.dump")?;
        ensure!(config["id"] == id.as_str() && config["name"] == "main", "{config}");
        ensure!(config["rootfsImage"] == BUSYBOX, "{config}");
        let spec = document(&files, "spec.dump")?;
        let annotations = &spec["annotations"];
        ensure!(annotations["io.kubernetes.cri.container-name"] == "main", "{annotations}");
        ensure!(annotations["io.kubernetes.cri.sandbox-id"] == pod.as_str(), "{annotations}");
        ensure!(spec["process"]["args"][0] == "sh", "{}", spec["process"]);
        ensure!(document(&files, "status")?["Pid"] == process);
        for name in ["checkpoint/inventory.img", "checkpoint/pstree.img", "dump.log", "stats-dump"]
        {
            ensure!(files.contains_key(name), "{name} is missing: {:?}", files.keys());
        }
        let streams = document(&files, "checkpoint/descriptors.json")?;
        ensure!(streams[1].as_str().is_some_and(|to| to.starts_with("pipe:[")), "{streams}");
        let gone = document(&files, "deleted.files")?;
        ensure!(gone == serde_json::json!(["/www/index.html"]), "{gone}");
        let changes = read(files["rootfs-diff.tar"].as_slice())?;
        ensure!(changes.get("tmp/kept").is_some_and(|text| text == b"kept\n"), "{changes:?}");
        ensure!(!changes.keys().any(|name| name.starts_with("etc/hos")), "{:?}", changes.keys());
        let then: u64 = String::from_utf8(changes["tmp/count"].clone())?.trim().parse()?;
        ensure!(then >= before, "it was at {before}, and is archived at {then}");

        goes_on(stage, &id, then).await?;
        ensure!(stage.cri.process(&id).await? == process, "it is another process");
        let log = fs::read_to_string(stage.daemon.pod_logs().join("main.log"))?;
        ensure!(log.contains(&format!(" F {then}\n")), "a line is missing");
        // Once more to the same place, which is replaced.
        let first = fs::read(&archive)?;
        checkpoint(stage, &id, &archive, 60).await?;
        ensure!(fs::read(&archive)? != first, "the archive is the old one");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn what_does_not_run_or_has_no_place_is_refused() -> Result<()> {
    criu::on_stage(async |stage| {
        let config = pod("pod");
        let (pod, id) = stage.run(&config, &counter("main")).await?;
        let created = stage.cri.create((&pod, &config), &counter("created")).await?;
        let (directory, archive) = place(stage)?;
        for (id, location, timeout, expected) in [
            ("0123456789abcdef", archive.as_path(), 0, Code::NotFound),
            (&created, &archive, 0, Code::FailedPrecondition),
            (&id, Path::new(""), 0, Code::InvalidArgument),
            (&id, Path::new("checkpoint.tar"), 0, Code::InvalidArgument),
            (&id, &directory, 0, Code::InvalidArgument),
            (&id, &directory.join("none/x.tar"), 0, Code::InvalidArgument),
            (&id, &archive, -1, Code::InvalidArgument),
        ] {
            let answer = checkpoint(stage, id, location, timeout).await;
            ensure!(code(&answer) == Some(expected), "{location:?}: {answer:?}");
        }
        stage.cri.stop(&id, 0).await?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::FailedPrecondition), "{answer:?}");
        require_only(stage, &directory, &[])?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn without_a_fit_criu_it_says_what_is_missing() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("pod"), &counter("main")).await?;
        let (directory, archive) = place(stage)?;
        let old = criu::script(stage.directory(), "echo Version: 3.17.1")?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", old.display())).await?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::Unimplemented), "{answer:?}");
        let text = message(&answer);
        ensure!(text.contains("CRIU 4.1 or later") && text.contains("is version 3.17.1"), "{text}");

        fs::remove_file(&old)?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::Unimplemented), "{answer:?}");

        stage.configure("level = \"none\"\n").await?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::Unimplemented), "{answer:?}");
        ensure!(message(&answer).contains("checkpoint.level"), "{answer:?}");
        let request = RestorePodRequest::default();
        let answer = stage.cri.runtime.restore_pod(request).await;
        ensure!(answer.as_ref().is_err_and(|status| status.code() == Code::Unimplemented));
        require_only(stage, &directory, &[])?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_dump_that_fails_or_takes_too_long_leaves_nothing_and_the_container_goes_on() -> Result<()> {
    criu::on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("pod"), &counter("main")).await?;
        let (directory, archive) = place(stage)?;
        File::create(&archive)?.write_all(b"an older one")?;
        // A dump of a process that is not there, with everything else as it should be.
        let fails = "case \"$1\" in dump) shift; set -- dump \"$@\" --tree 2147483647;; esac; exec criu \"$@\"";
        let script = criu::script(stage.directory(), fails)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        let before = count(stage, &id).await?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::Internal), "{answer:?}");
        ensure!(message(&answer).contains("criu ended with exit status: 1"), "{answer:?}");
        require_only(stage, &directory, &["checkpoint-x.tar"])?;
        goes_on(stage, &id, before).await?;

        let hangs = "case \"$1\" in dump) exec sleep 600;; esac; exec criu \"$@\"";
        criu::script(stage.directory(), hangs)?;
        let answer = checkpoint(stage, &id, &archive, 1).await;
        ensure!(code(&answer) == Some(Code::DeadlineExceeded), "{answer:?}");
        require_only(stage, &directory, &["checkpoint-x.tar"])?;
        let after = count(stage, &id).await?;
        goes_on(stage, &id, after).await?;
        let kept = fs::read_to_string(&archive)?;
        ensure!(kept == "an older one", "the older archive is gone");
        ensure!(stage.cri.container(&id).await?.state() == ContainerState::ContainerRunning);
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_killed_criu_leaves_a_container_whose_connections_go_on() -> Result<()> {
    criu::on_stage(async |stage| {
        let script = "(nc -l -p 9000 -e cat &); sleep 1; \
                      while :; do echo x; sleep 0.05; done | nc 127.0.0.1 9000 > /tmp/back";
        let (pod, id) =
            stage.run(&pod("pod"), &container("main", BUSYBOX, &["sh", "-c", script])).await?;
        let back = async |stage: &Stage| -> Result<u64> {
            let done = stage.cri.clone().exec(&id, &["wc", "-c", "/tmp/back"], 20).await?;
            let text = String::from_utf8(done.stdout)?;
            Ok(text.split_whitespace().next().unwrap_or("0").parse()?)
        };
        until("something comes back", async || Ok(back(stage).await? > 0)).await?;
        let (directory, archive) = place(stage)?;
        checkpoint(stage, &id, &archive, 0).await?;
        let then = back(stage).await?;
        until("more comes back", async || Ok(back(stage).await? > then)).await?;
        fs::remove_file(&archive)?;

        // CRIU calls it when all is dumped, and has the processes in its hands still.
        let killer = criu::script(
            stage.directory(),
            "[ \"$CRTOOLS_SCRIPT_ACTION\" = post-dump ] && kill -9 $PPID; exit 0",
        )?;
        let action = killer.with_file_name("action");
        fs::rename(&killer, &action)?;
        let lines = format!(
            "[ \"$1\" = dump ] && exec criu \"$@\" --action-script \"{}\"; exec criu \"$@\"",
            action.display()
        );
        let script = criu::script(stage.directory(), &lines)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        ensure!(code(&answer) == Some(Code::Internal), "{answer:?}");
        ensure!(message(&answer).contains("signal: 9"), "{answer:?}");
        require_only(stage, &directory, &[])?;
        let then = back(stage).await?;
        until("more comes back", async || Ok(back(stage).await? > then)).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_daemon_that_dies_in_a_dump_leaves_a_container_that_goes_on_and_no_files() -> Result<()> {
    criu::on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("pod"), &counter("main")).await?;
        let process = stage.cri.process(&id).await?;
        let (directory, archive) = place(stage)?;
        let began = stage.directory().join("began");
        let waits = format!(
            "case \"$1\" in dump) echo > \"{0}\"; while [ -e \"{0}\" ]; do sleep 0.05; done;; esac; exec criu \"$@\"",
            began.display()
        );
        let script = criu::script(stage.directory(), &waits)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        for orphan in ["goes on", "hangs"] {
            let (cri, id_of, at) = (stage.cri.clone(), id.clone(), archive.clone());
            let call = tokio::spawn(async move {
                let mut cri = cri;
                let location = at.display().to_string();
                let request =
                    CheckpointContainerRequest { container_id: id_of, location, timeout: 0 };
                cri.runtime.checkpoint_container(request).await
            });
            until("the dump begins", async || Ok(began.exists())).await?;
            ensure!(frozen(process)?, "the container runs during the dump");
            stage.daemon.kill()?;
            ensure!(call.await?.is_err(), "nobody can have answered");
            ensure!(frozen(process)?, "somebody thawed it");
            if orphan == "goes on" {
                fs::remove_file(&began)?;
            }
            stage.start_again().await?;
            criu::made_good(stage).await?;
            require_only(stage, &directory, &[])?;
            ensure!(!frozen(process)?, "the container stands still after {orphan}");
            let after = count(stage, &id).await?;
            goes_on(stage, &id, after).await?;
            ensure!(stage.cri.process(&id).await? == process, "it is another process");
            drop(fs::remove_file(&began));
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_stop_cuts_a_checkpoint_short_and_keeps_its_grace_and_an_exec_waits_for_either() -> Result<()> {
    criu::on_stage(async |stage| {
        let orderly = "trap 'sleep 0.5; exit 5' TERM; while :; do sleep 0.05; done";
        let (pod, id) =
            stage.run(&pod("pod"), &container("main", BUSYBOX, &["sh", "-c", orderly])).await?;
        let process = stage.cri.process(&id).await?;
        let (directory, archive) = place(stage)?;
        let hangs = "case \"$1\" in dump) exec sleep 600;; esac; exec criu \"$@\"";
        let script = criu::script(stage.directory(), hangs)?;
        stage.configure(&format!("\n[checkpoint]\ncriu = \"{}\"\n", script.display())).await?;
        let begin = async |stage: &Stage, timeout: i64| -> Result<_> {
            let (mut cri, id) = (stage.cri.clone(), id.clone());
            let location = archive.display().to_string();
            let request = CheckpointContainerRequest { container_id: id, location, timeout };
            let begun =
                tokio::spawn(async move { cri.runtime.checkpoint_container(request).await });
            until("it stands still", async || frozen(process)).await?;
            Ok(begun)
        };

        // What is executed meanwhile begins when the container goes on, or has its time-out.
        let checkpoint = begin(stage, 8).await?;
        let late = stage.cri.clone().exec(&id, &["true"], 1).await.map(drop);
        ensure!(code(&late) == Some(Code::DeadlineExceeded), "{late:?}");
        ensure!(stage.cri.output(&id, &["echo", "after"]).await? == "after\n");
        ensure!(checkpoint.await?.is_err_and(|status| status.code() == Code::DeadlineExceeded));

        let checkpoint = begin(stage, 600).await?;
        stage.cri.stop(&id, 60).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.exit_code == 5, "it had no time to end in order: {status:?}");
        let cut = checkpoint.await?;
        ensure!(
            cut.as_ref().is_err_and(|status| status.code() == Code::FailedPrecondition),
            "{cut:?}"
        );
        require_only(stage, &directory, &[])?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn an_archive_leaves_room_for_others_on_the_disk() -> Result<()> {
    criu::on_stage(async |stage| {
        let (pod, id) = stage.run(&pod("pod"), &counter("main")).await?;
        let (directory, archive) = place(stage)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&directory)
            .status()?;
        ensure!(mounted.success(), "mount: {mounted}");
        // Three megabytes are left, which would do, but are not for archives.
        File::create(directory.join("full"))?.write_all(&vec![1; 61 << 20])?;
        let answer = checkpoint(stage, &id, &archive, 0).await;
        let left = require_only(stage, &directory, &["full"]);
        fs::remove_file(directory.join("full"))?;
        let room = checkpoint(stage, &id, &archive, 0).await;
        let unmounted = Command::new("umount").arg(&directory).status()?;
        ensure!(unmounted.success(), "umount: {unmounted}");
        let said = message(&answer);
        ensure!(said.contains("no space left for checkpoints: 3072 KiB are free"), "{answer:?}");
        ensure!(code(&answer) == Some(Code::ResourceExhausted), "{answer:?}");
        left?;
        room?;
        stage.cri.take_away(&pod).await
    })
}
