//! Pods: life cycle, namespaces, what their containers see of them.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    NamespaceMode, NamespaceOption, PodSandboxState, RunPodSandboxRequest,
};
use cringle_tests::client::{self, Cri, code};
use cringle_tests::request::{container, in_namespaces, namespaces, pod, with_namespaces};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use tonic::Code;

#[test]
fn a_pod_is_ready_then_not_ready_then_gone() -> Result<()> {
    on_stage(async |stage| {
        let config = pod("life");
        let id = stage.cri.run_pod(&config).await?;
        let status = stage.cri.pod(&id).await?;
        ensure!(status.state() == PodSandboxState::SandboxReady, "{status:?}");
        ensure!(status.metadata == config.metadata, "{status:?}");
        let listed = stage.cri.pods().await?;
        ensure!(listed.len() == 1 && listed[0].id == id, "{listed:?}");

        stage.cri.stop_pod(&id).await?;
        let status = stage.cri.pod(&id).await?;
        ensure!(status.state() == PodSandboxState::SandboxNotready, "{status:?}");

        stage.cri.remove_pod(&id).await?;
        let gone = stage.cri.pod(&id).await;
        ensure!(code(&gone) == Some(Code::NotFound), "{gone:?}");
        ensure!(stage.cri.pods().await?.is_empty(), "a removed pod is listed");
        Ok(())
    })
}

#[test]
fn stopping_and_removing_again_or_what_never_was_is_success() -> Result<()> {
    on_stage(async |stage| {
        let id = stage.cri.run_pod(&pod("twice")).await?;
        for _ in 0..2 {
            stage.cri.stop_pod(&id).await?;
        }
        for _ in 0..2 {
            stage.cri.remove_pod(&id).await?;
        }
        let unknown = "0123456789abcdef".repeat(4);
        stage.cri.stop_pod(&unknown).await?;
        stage.cri.remove_pod(&unknown).await
    })
}

#[test]
fn a_second_pod_of_a_name_is_refused_until_the_first_is_removed() -> Result<()> {
    on_stage(async |stage| {
        let config = pod("name");
        let first = stage.cri.run_pod(&config).await?;
        let mut other = config.clone();
        other.labels.insert("other".to_owned(), "spec".to_owned());
        let second = stage.cri.run_pod(&other).await;
        ensure!(code(&second) == Some(Code::AlreadyExists), "{second:?}");
        stage.cri.take_away(&first).await?;
        let third = stage.cri.run_pod(&other).await?;
        stage.cri.take_away(&third).await
    })
}

#[test]
fn clients_that_keep_their_connections_keep_nobody_out() -> Result<()> {
    on_stage(async |stage| {
        let socket = stage.daemon.socket();
        let mut kept = Vec::new();
        for _ in 0..300 {
            let mut client = Cri::connect(&socket).await?;
            client.pods().await?;
            kept.push(client);
        }
        let pod = stage.cri.run_pod(&pod("pod")).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_pod_has_no_process_of_its_own() -> Result<()> {
    on_stage(async |stage| {
        let before = descendants(stage)?;
        let id = stage.cri.run_pod(&pod("bare")).await?;
        let after = descendants(stage)?;
        ensure!(before == after, "before: {before:?}, after: {after:?}");
        stage.cri.take_away(&id).await
    })
}

/// Processes that work for this stage's daemon.
fn descendants(stage: &Stage) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let place = stage.directory().to_string_lossy().into_owned();
    for entry in std::fs::read_dir("/proc")? {
        let command = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains(&place) {
            found.push(command);
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn containers_see_the_pods_hostname_names_and_shared_memory() -> Result<()> {
    on_stage(async |stage| {
        let mut config = pod("seen");
        config.hostname = "ship".to_owned();
        config.dns_config = Some(cringle_proto_cri::v1::DnsConfig {
            servers: vec!["10.9.8.7".to_owned()],
            searches: vec!["harbour.example".to_owned()],
            options: vec!["ndots:4".to_owned()],
        });
        let (id, first) =
            stage.run(&config, &container("first", BUSYBOX, &["sleep", "600"])).await?;
        let second = stage
            .cri
            .create((&id, &config), &container("second", BUSYBOX, &["sleep", "600"]))
            .await?;
        stage.cri.start(&second).await?;

        let hostname = stage.cri.output(&first, &["hostname"]).await?;
        ensure!(hostname == "ship\n", "{hostname:?}");
        let names = stage.cri.output(&first, &["cat", "/etc/resolv.conf"]).await?;
        for line in ["nameserver 10.9.8.7", "search harbour.example", "options ndots:4"] {
            ensure!(names.lines().any(|seen| seen == line), "{line} is not in {names:?}");
        }
        stage.cri.output(&first, &["sh", "-c", "echo shared > /dev/shm/word"]).await?;
        let word = stage.cri.output(&second, &["cat", "/dev/shm/word"]).await?;
        ensure!(word == "shared\n", "{word:?}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn sysctls_are_set_in_the_pods_namespaces_alone() -> Result<()> {
    on_stage(async |stage| {
        let mut config = pod("sysctl");
        let sysctls = &mut config.linux.get_or_insert_default().sysctls;
        sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
        sysctls.insert("net.ipv4.ip_local_port_range".to_owned(), "20000 20100".to_owned());
        let host = std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced")?;
        let (id, main) = stage.run(&config, &container("main", BUSYBOX, &["sleep", "600"])).await?;
        let forced = stage.cri.output(&main, &["cat", "/proc/sys/kernel/shm_rmid_forced"]).await?;
        ensure!(forced == "1\n", "{forced:?}");
        let range =
            stage.cri.output(&main, &["cat", "/proc/sys/net/ipv4/ip_local_port_range"]).await?;
        ensure!(range.split_whitespace().eq(["20000", "20100"]), "{range:?}");
        ensure!(std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced")? == host, "the host's");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn a_shared_pid_namespace_has_the_reaper_as_first_process() -> Result<()> {
    on_stage(async |stage| {
        let shared = NamespaceOption { pid: NamespaceMode::Pod.into(), ..namespaces() };
        let config = with_namespaces(pod("shared"), shared.clone());
        let share = |config| in_namespaces(config, &shared);
        let (id, first) =
            stage.run(&config, &share(container("first", BUSYBOX, &["sleep", "601"]))).await?;
        let second = share(container("second", BUSYBOX, &["sleep", "602"]));
        let second = stage.cri.create((&id, &config), &second).await?;
        stage.cri.start(&second).await?;
        let seen = stage.cri.output(&second, &["ps", "-o", "pid,args"]).await?;
        ensure!(seen.contains("sleep 601") && seen.contains("sleep 602"), "{seen}");
        let own = stage.cri.output(&first, &["sh", "-c", "echo $$"]).await?;
        ensure!(own.trim() != "1", "the first process is a container's");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn host_namespaces_are_those_of_the_daemon() -> Result<()> {
    on_stage(async |stage| {
        let host = i32::from(NamespaceMode::Node);
        let options = NamespaceOption { network: host, pid: host, ipc: host, ..namespaces() };
        let config = with_namespaces(pod("host"), options.clone());
        let main = in_namespaces(container("main", BUSYBOX, &["sleep", "600"]), &options);
        let (id, main) = stage.run(&config, &main).await?;
        for kind in ["net", "pid", "ipc"] {
            let link = format!("/proc/self/ns/{kind}");
            let inside = stage.cri.output(&main, &["readlink", &link]).await?;
            let outside = std::fs::read_link(format!("/proc/{}/ns/{kind}", stage.daemon.id()?))?;
            ensure!(inside.trim() == outside.to_string_lossy(), "{kind}: {inside}");
        }
        stage.cri.take_away(&id).await
    })
}

#[test]
fn what_a_pod_may_not_ask_for_is_refused_and_leaves_nothing() -> Result<()> {
    on_stage(async |stage| {
        let mut nameless = pod("refused");
        nameless.metadata = None;
        let answer = stage.cri.run_pod(&nameless).await;
        ensure!(code(&answer) == Some(Code::InvalidArgument), "{answer:?}");

        let request = RunPodSandboxRequest {
            config: Some(pod("refused")),
            runtime_handler: "no-such-handler".to_owned(),
        };
        let status = stage.cri.runtime.run_pod_sandbox(request).await;
        let status = status.err().context("an unknown runtime handler is refused")?;
        ensure!(status.message().contains("no-such-handler"), "{status:?}");

        let mut sysctl = pod("refused");
        let sysctls = &mut sysctl.linux.get_or_insert_default().sysctls;
        sysctls.insert("kernel.no_such_key".to_owned(), "1".to_owned());
        let answer = stage.cri.run_pod(&sysctl).await;
        ensure!(answer.is_err(), "an unknown sysctl was set");
        ensure!(!client::message(&answer).is_empty(), "{answer:?}");
        ensure!(stage.cri.pods().await?.is_empty(), "a refused pod is listed");
        Ok(())
    })
}
