//! Pods made of checkpoints: RestorePod with the true CRIU. What counted goes on counting in a container that is like any
//! other, and of a pod that cannot be made nothing is left.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    Capability, ContainerConfig, ContainerState, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, RestorePodRequest,
};
use cringle_tests::captured::{
    Captured, ON, captured, count, counter, goes_on, logged, names, one, require_nothing, restore,
};
use cringle_tests::client::{code, message};
use cringle_tests::criu;
use cringle_tests::request::{
    container, in_namespaces, namespaces, pod, with_namespaces, with_security,
};
use cringle_tests::stage::{Stage, skip};
use cringle_tests::wait::until;
use std::collections::HashMap;
use std::fs;
use std::time::Duration;
use tonic::Code;

#[test]
fn a_restored_container_goes_on_where_it_was() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let mut request = captured.request(stage)?;
        // What the pod is like is not for an image to say.
        let linux = request.config.as_mut().and_then(|config| config.linux.as_mut());
        let sysctl = ("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
        linux.context("a pod on Linux")?.sysctls.extend([sysctl]);
        let (pod, id) = one(restore(stage, request.clone()).await?)?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerCreated, "{status:?}");
        ensure!(one(restore(stage, request.clone()).await?)? == (pod.clone(), id.clone()));
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        ensure!(stage.cri.output(&id, &["cat", "/tmp/kept"]).await? == "kept\n");
        stage.cri.output(&id, &["sh", "-c", "test ! -e /www/index.html"]).await?;
        ensure!(stage.cri.output(&id, &["cat", "/etc/hostname"]).await? == "new\n");
        ensure!(stage.cri.output(&id, &["hostname"]).await? == "new\n");
        let forced = stage.cri.output(&id, &["cat", "/proc/sys/kernel/shm_rmid_forced"]).await?;
        ensure!(forced == "1\n", "{forced}");
        let log = stage.daemon.pod_logs().join("new/main.log");
        until("the log has lines", async || Ok(!logged(&log)?.is_empty())).await?;
        let numbers = logged(&stage.daemon.pod_logs().join("new/main.log"))?;
        ensure!(numbers.first().is_some_and(|first| *first >= captured.counts[0]), "{numbers:?}");
        ensure!(numbers.is_sorted(), "{numbers:?}");

        let answer = restore(stage, request).await;
        ensure!(code(&answer) == Some(Code::AlreadyExists), "it was started: {answer:?}");
        ensure!(names(&stage.daemon.root().join("restores"))?.is_empty());
        let process = stage.cri.process(&id).await?;
        let path = |process: &str, kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            ensure!(path(&process.to_string(), kind)? != path("self", kind)?, "host's {kind}");
        }
        let inside = stage.cri.output(&id, &["readlink", "/proc/self/ns/net"]).await?;
        ensure!(inside.trim() == path(&process.to_string(), "net")?.display().to_string());
        // Its clocks are its own, and what is executed in it goes by the same.
        let time = path(&process.to_string(), "time")?;
        ensure!(time != path("self", "time")?, "CRIU made no time namespace");
        let inside = stage.cri.output(&id, &["readlink", "/proc/self/ns/time"]).await?;
        ensure!(inside.trim() == time.display().to_string(), "{inside}");
        stage.cri.stop(&id, 10).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.exit_code == 7, "{status:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn all_containers_of_a_pod_come_back_and_live_on_without_the_daemon() -> Result<()> {
    criu::on_stage(async |stage| {
        stage.configure(ON).await?;
        let two = vec![counter("one"), counter("two")];
        let captured = Captured::take(stage, two).await?;
        let restored = restore(stage, captured.request(stage)?).await?;
        let told: Vec<_> =
            restored.restored_containers.iter().map(|one| one.name.as_str()).collect();
        ensure!(told == ["one", "two"], "{restored:?}");
        let ids: Vec<_> =
            restored.restored_containers.iter().map(|one| one.container_id.clone()).collect();
        // What waits to be started is there after the end of the daemon, and so is what runs.
        stage.crash().await?;
        for (id, count) in ids.iter().zip(&captured.counts) {
            stage.cri.start(id).await?;
            goes_on(stage, id, *count).await?;
        }
        stage.crash().await?;
        for id in &ids {
            let now = count(stage, id).await?;
            goes_on(stage, id, now).await?;
            let stats = stage.cri.stats().await?;
            let own = stats
                .iter()
                .find(|one| one.attributes.as_ref().is_some_and(|attributes| attributes.id == *id));
            ensure!(own.is_some_and(|one| one.memory.is_some()), "{stats:?}");
        }
        stage.cri.stop(&ids[0], 10).await?;
        ensure!(stage.cri.container(&ids[0]).await?.exit_code == 7);
        stage.cri.take_away(&restored.pod_sandbox_id).await
    })
}

/// Runs a container in a pod of these settings, makes another pod of its checkpoint, and sees it go on and end there.
async fn require_comes_back(
    stage: &mut Stage,
    namespaces: NamespaceOption,
    container: ContainerConfig,
) -> Result<()> {
    let security = container.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let privileged = security.is_some_and(|security| security.privileged);
    let shape = |config: PodSandboxConfig| {
        let mut config = with_namespaces(config, namespaces.clone());
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = privileged;
        config
    };
    let container = in_namespaces(container, &namespaces);
    let captured = Captured::take_in(stage, shape(pod("old")), vec![container]).await?;
    let mut request = captured.request(stage)?;
    request.config = request.config.map(shape);
    let (pod, id) = one(restore(stage, request).await?)?;
    let name = &captured.containers[0].log_path;
    stage.cri.start(&id).await.with_context(|| name.clone())?;
    goes_on(stage, &id, captured.counts[0] + 1).await?;
    stage.cri.stop(&id, 10).await?;
    ensure!(stage.cri.container(&id).await?.exit_code == 7);
    stage.cri.take_away(&pod).await?;
    Ok(fs::remove_dir_all(captured.directory)?)
}

#[test]
fn containers_of_all_kinds_come_back() -> Result<()> {
    criu::on_stage(async |stage| {
        stage.configure(ON).await?;
        let volume = stage.directory().join("volume");
        fs::create_dir_all(volume.join("below"))?;
        // As the kubelet has most of them.
        let mut common = with_security(counter("common"), |security| {
            security.masked_paths =
                ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
                    .map(Into::into)
                    .into();
            security.readonly_paths =
                ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"].map(Into::into).into();
        });
        for (path, readonly) in [("/data", false), ("/settings", true)] {
            common.mounts.push(Mount {
                container_path: path.into(),
                host_path: volume.display().to_string(),
                readonly,
                ..Mount::default()
            });
        }
        require_comes_back(stage, namespaces(), common).await?;
        let weak = with_security(counter("weak"), |security| {
            // Of another user's processes CRIU asks the limits, for which hosts in containers lack a capability.
            security.no_new_privs = true;
            security.capabilities =
                Some(Capability { drop_capabilities: vec!["ALL".into()], ..Capability::default() });
        });
        require_comes_back(stage, namespaces(), weak).await?;
        let strong = with_security(counter("strong"), |security| security.privileged = true);
        require_comes_back(stage, namespaces(), strong).await?;
        let mut listening = counter("listening");
        listening.stdin = true;
        require_comes_back(stage, namespaces(), listening).await?;
        let node = NamespaceMode::Node;
        let host = NamespaceOption { network: node.into(), ipc: node.into(), ..namespaces() };
        require_comes_back(stage, host, counter("host")).await?;
        let shared = NamespaceOption { pid: NamespaceMode::Pod.into(), ..namespaces() };
        require_comes_back(stage, shared, counter("shared")).await
    })
}

#[test]
fn a_request_that_does_not_fit_the_checkpoint_makes_nothing() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = Captured::take(stage, vec![counter("main")]).await?;
        let good = captured.request(stage)?;
        let answer = restore(stage, good.clone()).await;
        ensure!(code(&answer) == Some(Code::Unimplemented), "{answer:?}");
        ensure!(message(&answer).contains("checkpoint_restore"), "{answer:?}");
        stage.configure(ON).await?;

        let link = stage.directory().join("link");
        std::os::unix::fs::symlink(&captured.directory, &link)?;
        let at = |path: &str| RestorePodRequest { checkpoint_path: path.into(), ..good.clone() };
        let of = |containers: Vec<ContainerConfig>| RestorePodRequest {
            container_configs: containers,
            ..good.clone()
        };
        let mut terminal = counter("main");
        terminal.tty = true;
        let option = HashMap::from([("x".to_owned(), "y".to_owned())]);
        for (request, expected, word) in [
            (at(""), Code::InvalidArgument, "checkpoint_path"),
            (at("checkpoint"), Code::InvalidArgument, "\"checkpoint\""),
            (at("/nonexistent/x"), Code::InvalidArgument, "/nonexistent/x"),
            (at(&link.display().to_string()), Code::InvalidArgument, "without links"),
            (at(&captured.archive().display().to_string()), Code::InvalidArgument, "directory"),
            (of(vec![]), Code::InvalidArgument, "container_configs"),
            (of(vec![counter("other")]), Code::InvalidArgument, "no container \"other\""),
            (of(vec![counter("main"), counter("more")]), Code::InvalidArgument, "\"more\""),
            (of(vec![counter("main"), counter("main")]), Code::InvalidArgument, "twice"),
            (of(vec![terminal]), Code::Unimplemented, "terminal"),
            (
                of(vec![container("main", "registry.example/none:1", &["sh"])]),
                Code::NotFound,
                "registry.example/none:1",
            ),
            (
                RestorePodRequest { options: option, ..good.clone() },
                Code::InvalidArgument,
                "options",
            ),
            (
                RestorePodRequest { runtime_handler: "other".into(), ..good.clone() },
                Code::InvalidArgument,
                "runtime_handler",
            ),
        ] {
            let answer = restore(stage, request).await;
            ensure!(code(&answer) == Some(expected), "{word}: {answer:?}");
            ensure!(message(&answer).contains(word), "{word}: {answer:?}");
        }
        require_nothing(stage).await
    })
}

#[test]
fn if_criu_fails_the_container_has_ended_and_says_why() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let request = captured.request(stage)?;
        // Images that are not whole.
        captured.rewrite(|name, content| {
            if name.starts_with("checkpoint/core-") {
                content.truncate(content.len() / 2);
            }
            Ok(())
        })?;
        captured.require_not_started(stage, request.clone(), "criu ended with code 1").await?;

        // One that is killed when it has made processes, and one that hangs until the pod is stopped.
        let killed =
            "sleep 600 & case \"$1\" in restore) kill -9 $$;; esac; kill $!; exec criu \"$@\"";
        let script = criu::script(stage.directory(), killed)?;
        stage.configure(&format!("criu = \"{}\"\n", script.display())).await?;
        captured.require_not_started(stage, request.clone(), "criu ended by signal 9").await?;

        criu::script(
            stage.directory(),
            "case \"$1\" in restore) exec sleep 600;; esac; exec criu \"$@\"",
        )?;
        let (pod, id) = one(restore(stage, request).await?)?;
        let mut cri = stage.cri.clone();
        let starting = tokio::spawn(async move { cri.start(&id).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(!starting.is_finished(), "it did not wait for CRIU");
        stage.cri.stop_pod(&pod).await?;
        ensure!(starting.await?.is_err(), "it was started");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_daemon_that_dies_while_criu_works_leaves_a_container_that_can_be_started() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let script = criu::script(
            stage.directory(),
            "case \"$1\" in restore) exec sleep 600;; esac; exec criu \"$@\"",
        )?;
        stage.configure(&format!("criu = \"{}\"\n", script.display())).await?;
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        let (mut cri, started) = (stage.cri.clone(), id.clone());
        let starting = tokio::spawn(async move { cri.start(&started).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.daemon.kill()?;
        ensure!(starting.await?.is_err(), "nobody can have answered");
        criu::script(stage.directory(), "exec criu \"$@\"")?;
        stage.start_again().await?;
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_daemon_that_dies_at_any_step_leaves_the_whole_pod_or_nothing() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let request = captured.request(stage)?;
        for step in 1.. {
            stage.daemon.arm(step)?;
            let answer = restore(stage, request.clone()).await;
            if let Ok(restored) = answer {
                stage.daemon.disarm()?;
                let (pod, id) = one(restored)?;
                if step == 1 {
                    stage.cri.take_away(&pod).await?;
                    return skip("the daemon was built without failpoints");
                }
                // As if it had died before all of the archive was there.
                let taken = stage.daemon.root().join("restores").join(&id);
                fs::remove_file(taken.join("restore.json"))?;
                let answer = stage.cri.start(&id).await;
                ensure!(message(&answer).contains("is not there"), "{answer:?}");
                return stage.cri.take_away(&pod).await;
            }
            stage.daemon.ended().await?;
            stage.daemon.disarm()?;
            stage.start_again().await?;
            let after = || format!("after step {step}");
            let found = stage.cri.pods().await?;
            if found.is_empty() {
                require_nothing(stage).await.with_context(after)?;
            }
            // Who had no answer asks again.
            let (pod, id) = one(restore(stage, request.clone()).await.with_context(after)?)?;
            let is_same = found.iter().all(|found| found.id == pod);
            ensure!(is_same, "the pod found after step {step} is another one");
            stage.cri.start(&id).await.with_context(after)?;
            stage.cri.take_away(&pod).await?;
            require_nothing(stage).await.with_context(after)?;
        }
        Ok(())
    })
}
