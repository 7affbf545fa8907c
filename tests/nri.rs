//! Plugins of the Node Resource Interface, on the official library: what they are told and what they change.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest,
    UpdatePodSandboxResourcesRequest,
};
use cringle_tests::client::{code, message};
use cringle_tests::plugin::{Notes, Plugin, program, ready, sleeper};
use cringle_tests::request::{container, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use tonic::Code;

const MIB: i64 = 1 << 20;

async fn limit(stage: &mut Stage, id: &str, bytes: i64) -> Result<()> {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: bytes,
            memory_swap_limit_in_bytes: bytes,
            ..LinuxContainerResources::default()
        }),
        ..UpdateContainerResourcesRequest::default()
    };
    stage.cri.runtime.update_container_resources(request).await?;
    Ok(())
}

async fn limit_pod(stage: &mut Stage, id: &str, bytes: i64) -> Result<()> {
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id.to_owned(),
        resources: Some(LinuxContainerResources {
            memory_limit_in_bytes: bytes,
            ..LinuxContainerResources::default()
        }),
        ..UpdatePodSandboxResourcesRequest::default()
    };
    stage.cri.runtime.update_pod_sandbox_resources(request).await?;
    Ok(())
}

/// The memory limit that the client is shown.
async fn limit_of(stage: &mut Stage, id: &str) -> Result<i64> {
    let resources = stage.cri.container(id).await?.resources.context("resources")?;
    Ok(resources.linux.context("of Linux")?.memory_limit_in_bytes)
}

const ORDER: [&str; 15] = [
    "Configure",
    "Synchronize",
    "RunPodSandbox",
    "CreateContainer",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
    "UpdateContainer",
    "PostUpdateContainer",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

#[test]
fn everything_is_told_in_order_and_as_it_is() -> Result<()> {
    on_stage(async |stage| {
        let plugin = Plugin::start(stage, "10-all", &[]).await?;
        let (pod, pod_config) = ready(stage).await?;
        let mut config = with_memory(sleeper(), 64 * MIB);
        config.labels.insert("part".to_owned(), "one".to_owned());
        config.annotations.insert("note".to_owned(), "kept".to_owned());
        let id = stage.cri.create((&pod, &pod_config), &config).await?;
        stage.cri.start(&id).await?;
        limit(stage, &id, 48 * MIB).await?;
        limit_pod(stage, &pod, 96 * MIB).await?;
        let address = stage.cri.pod(&pod).await?.network.context("a network")?.ip;
        let process = stage.cri.process(&id).await?;
        stage.cri.stop(&id, 0).await?;
        stage.cri.remove(&id).await?;
        stage.cri.stop_pod(&pod).await?;
        stage.cri.stop_pod(&pod).await?;
        stage.cri.remove_pod(&pod).await?;

        let notes = plugin.notes();
        // The plugin notes that it has started whenever it comes to that.
        let calls = notes.calls()?;
        let told: Vec<_> = calls.iter().filter(|name| *name != "started").collect();
        ensure!(told == ORDER, "{calls:?}");
        ensure!(notes.last("Configure")?["runtime"] == "cringle");
        let run = notes.last("RunPodSandbox")?["pod"].take();
        let name = json!([run["id"], run["name"], run["namespace"], run["uid"]]);
        ensure!(name == json!([pod, "pod", "test", "uid-pod"]), "{run}");
        ensure!(run["ips"] == json!([address]), "{run}");
        let namespaces = run["linux"]["namespaces"].as_array().context("namespaces")?;
        ensure!(namespaces.iter().any(|one| one["type"] == "network"), "{run}");
        check_container(notes, &pod, &id)?;
        let started = notes.last("PostStartContainer")?["container"].take();
        ensure!(started["pid"] == process, "{started}");
        ensure!(notes.last("UpdatePodSandbox")?["limit"] == 96 * MIB);
        let resized = notes.last("PostUpdatePodSandbox")?["pod"]["linux"].take();
        let limit = &resized["podResources"]["memory"]["limit"]["value"];
        ensure!(*limit == json!((96 * MIB).to_string()), "{resized}");
        Ok(())
    })
}

/// Whether a container of that test was described as it was at each of its steps.
fn check_container(notes: &Notes, pod: &str, id: &str) -> Result<()> {
    let told = |call: &str| -> Result<Value> { Ok(notes.last(call)?["container"].take()) };
    let limit = |told: &Value| told["linux"]["resources"]["memory"]["limit"]["value"].clone();
    let create = told("CreateContainer")?;
    let name = json!([create["id"], create["podSandboxId"], create["name"]]);
    ensure!(name == json!([id, pod, "main"]), "{create}");
    ensure!(create["args"] == json!(["sleep", "600"]), "{create}");
    ensure!(create["labels"]["part"] == "one" && create["annotations"]["note"] == "kept");
    ensure!(limit(&create) == json!((64 * MIB).to_string()), "{create}");
    let mounts = create["mounts"].as_array().context("mounts")?;
    ensure!(mounts.iter().any(|mount| mount["destination"] == "/proc"), "{create}");
    ensure!(told("StartContainer")?["state"] == "CONTAINER_CREATED");
    ensure!(told("PostStartContainer")?["state"] == "CONTAINER_RUNNING");
    ensure!(notes.last("UpdateContainer")?["limit"] == 48 * MIB);
    let updated = told("PostUpdateContainer")?;
    ensure!(limit(&updated) == json!((48 * MIB).to_string()), "{updated}");
    let stopped = told("StopContainer")?;
    ensure!(stopped["state"] == "CONTAINER_STOPPED" && stopped["exitCode"] == 137, "{stopped}");
    ensure!(stopped["name"] == "main" && stopped["args"] == json!(["sleep", "600"]));
    Ok(())
}

#[test]
fn an_end_by_itself_is_told_without_being_asked_for_and_only_once() -> Result<()> {
    on_stage(async |stage| {
        let plugin = Plugin::start(stage, "10-exits", &[]).await?;
        let (pod, config) = ready(stage).await?;
        let fails = container("main", BUSYBOX, &["sh", "-c", "exit 3"]);
        let id = stage.cri.create((&pod, &config), &fails).await?;
        stage.cri.start(&id).await?;
        let stopped = plugin.notes().heard("StopContainer").await?["container"].take();
        ensure!(stopped["id"] == id && stopped["exitCode"] == 3, "{stopped}");
        let unstarted = container("other", BUSYBOX, &["true"]);
        let other = stage.cri.create((&pod, &config), &unstarted).await?;
        stage.cri.remove(&other).await?;
        stage.cri.take_away(&pod).await?;
        let calls = plugin.notes().calls()?;
        let of = |name: &str| calls.iter().filter(|call| *call == name).count();
        ensure!(of("StopContainer") == 2 && of("RemoveContainer") == 2, "{calls:?}");
        Ok(())
    })
}

/// Something of nearly everything that can be changed.
fn many_changes(shared: &Path) -> Value {
    json!({
        "env": [{"key": "ADDED", "value": "by a plugin"}, {"key": "-GONE"}],
        "mounts": [{"destination": "/shared", "type": "bind", "source": shared, "options": ["rbind", "ro"]}],
        "annotations": {"example.org/x": "y"},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}],
        "linux": {
            "resources": {"memory": {"limit": {"value": 32 * MIB}}, "pids": {"limit": 30}},
            "oomScoreAdj": {"value": 321},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
            "scheduler": {"policy": "SCHED_BATCH", "nice": 7},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"},
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "77"},
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
                         "fileMode": {"value": 0o600}}],
            "seccompPolicy": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": {"value": 13}}]},
        },
    })
}

#[test]
fn what_plugins_change_is_so_in_the_container_and_in_what_clients_are_shown() -> Result<()> {
    on_stage(async |stage| {
        let shared = stage.directory().join("shared");
        std::fs::create_dir_all(shared.join("inner"))?;
        let first = json!({"CreateContainer": {"adjust": many_changes(&shared)}});
        let second = json!({"CreateContainer": {"adjust": {
            "args": ["sh", "-c", "sleep 600; true"],
            "linux": {"resources": {"cpu": {"shares": {"value": 512}}}},
        }}});
        let one = Plugin::behaving(stage, "10-one", &[], &first.to_string()).await?;
        let two = Plugin::behaving(stage, "20-two", &[], &second.to_string()).await?;
        let (pod, config) = ready(stage).await?;
        let mut wanted = with_memory(sleeper(), 64 * MIB);
        for key in ["GONE", "KEPT"] {
            wanted
                .envs
                .push(cringle_proto_cri::v1::KeyValue { key: key.to_owned(), value: "1".into() });
        }
        let id = stage.cri.create((&pod, &config), &wanted).await?;
        let seen = two.notes().last("CreateContainer")?["container"].take();
        ensure!(seen["env"].to_string().contains("ADDED=by a plugin"), "{seen}");
        stage.cri.start(&id).await?;
        let script = "echo $ADDED,$GONE,$KEPT; ls /shared; touch /shared/x 2>/dev/null || echo read-only; \
                      ulimit -n; cat /proc/1/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                      tr '\\0' ' ' </proc/1/cmdline; echo; test -c /dev/fuse && echo device; \
                      mkdir /tmp/x 2>/dev/null || echo confined; \
                      ionice -p 1; cut -d ' ' -f 19,41 /proc/1/stat; head -n 1 /proc/1/numa_maps | cut -d ' ' -f 2";
        let output = stage.cri.output(&id, &["sh", "-c", script]).await?;
        let expected = "by a plugin,,1\ninner\nread-only\n77\n321\n77\nsh -c sleep 600; true \ndevice\nconfined\n\
                        best-effort: prio 6\n7 3\nbind:0\n";
        ensure!(output == expected, "{output}");
        ensure!(limit_of(stage, &id).await? == 32 * MIB);
        let told = one.notes().last("PostStartContainer")?["container"].take();
        ensure!(told["annotations"]["example.org/x"] == "y", "{told}");
        ensure!(told["linux"]["resources"]["pids"]["limit"] == "30", "{told}");
        stage.crash().await?;
        ensure!(limit_of(stage, &id).await? == 32 * MIB, "not after a restart");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn devices_that_plugins_name_are_given_or_refused_with_their_names() -> Result<()> {
    on_stage(async |stage| {
        let directory = stage.directory().join("cdi");
        std::fs::create_dir_all(&directory)?;
        stage.configure(&format!("\n[cdi]\nspec_dirs = [{directory:?}]\n")).await?;
        let file = json!({"cdiVersion": "1.1.0", "kind": "vendor.example/board", "devices": [
            {"name": "one", "containerEdits": {"env": ["BOARD=one"]}}]});
        File::create(directory.join("board.json"))?.write_all(file.to_string().as_bytes())?;
        let wanting = |device: &str| {
            json!({"CreateContainer": {"adjust": {"CDIDevices": [{"name": device}]}}}).to_string()
        };
        let known = wanting("vendor.example/board=one");
        let plugin = Plugin::behaving(stage, "10-boards", &[], &known).await?;
        let (pod, config) = ready(stage).await?;
        let id = stage.cri.create((&pod, &config), &sleeper()).await?;
        stage.cri.start(&id).await?;
        let output = stage.cri.output(&id, &["sh", "-c", "echo $BOARD"]).await?;
        ensure!(output == "one\n", "{output}");
        for (device, expected) in
            [("vendor.example/board=two", Code::NotFound), ("board", Code::InvalidArgument)]
        {
            plugin.notes().behave(&wanting(device))?;
            let other = container("other", BUSYBOX, &["true"]);
            let refused = stage.cri.create((&pod, &config), &other).await;
            ensure!(code(&refused) == Some(expected), "{refused:?}");
            let text = message(&refused);
            ensure!(text.contains("10-boards") && text.contains(device), "{text}");
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_plugin_that_joins_later_or_after_a_restart_is_told_everything() -> Result<()> {
    on_stage(async |stage| {
        let (pod, config) = ready(stage).await?;
        let running = stage.cri.create((&pod, &config), &sleeper()).await?;
        stage.cri.start(&running).await?;
        let created = container("created", BUSYBOX, &["true"]);
        let created = stage.cri.create((&pod, &config), &created).await?;
        let ended = container("ended", BUSYBOX, &["true"]);
        let ended = stage.cri.create((&pod, &config), &ended).await?;
        stage.cri.start(&ended).await?;
        until("it has ended", async || {
            let status = stage.cri.clone().container(&ended).await?;
            Ok(status.state() == ContainerState::ContainerExited)
        })
        .await?;
        let expected = json!({
            running.as_str(): "CONTAINER_RUNNING", created.as_str(): "CONTAINER_CREATED",
        });
        let plugin = Plugin::start(stage, "10-late", &[]).await?;
        let told = plugin.notes().last("Synchronize")?;
        ensure!(told["pods"] == json!([pod]) && told["containers"] == expected, "{told}");

        stage.daemon.kill()?;
        stage.start_again().await?;
        let told = plugin.notes().heard_again("Synchronize", 1).await?;
        ensure!(told["pods"] == json!([pod]) && told["containers"] == expected, "{told}");
        // It goes on as if nothing had been.
        stage.cri.stop(&running, 0).await?;
        let stopped = plugin.notes().heard("StopContainer").await?["container"].take();
        ensure!(stopped["id"] == running, "{stopped}");
        stage.cri.take_away(&pod).await?;
        let ended = plugin.notes().count("StopContainer")?;
        ensure!(ended == 2, "running and created, but not the one that had ended: {ended}");
        ensure!(plugin.notes().count("StopPodSandbox")? == 1);
        Ok(())
    })
}

#[test]
fn no_container_is_lost_to_a_plugin_that_joins_while_it_is_made() -> Result<()> {
    on_stage(async |stage| {
        let (pod, config) = ready(stage).await?;
        let mut late = None;
        let mut made = Vec::new();
        for attempt in 0..12 {
            if attempt == 4 {
                let slow = r#"{"Synchronize": {"sleep": 700}}"#;
                late = Some(Box::pin(Plugin::behaving(stage, "20-late", &[], slow)).await?);
            }
            let mut wanted = sleeper();
            wanted.metadata.get_or_insert_default().attempt = attempt;
            made.push(stage.cri.create((&pod, &config), &wanted).await?);
        }
        let plugin = late.context("the plugin")?;
        let first = plugin.notes().last("Synchronize")?;
        let known = first["containers"].as_object().context("containers")?.clone();
        let told: Vec<Value> = plugin.notes().all()?;
        for id in &made {
            let told = told.iter().any(|note| note["container"]["id"] == json!(id));
            ensure!(known.contains_key(id) || told, "{id} was lost");
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn limits_of_others_are_changed_when_plugins_want_that() -> Result<()> {
    on_stage(async |stage| {
        let mut plugin = Plugin::start(stage, "10-limits", &[]).await?;
        let (pod, config) = ready(stage).await?;
        let first = stage.cri.create((&pod, &config), &with_memory(sleeper(), 64 * MIB)).await?;
        stage.cri.start(&first).await?;
        let change = |id: &str, bytes: i64| json!({"containerId": id, "linux": {"resources": {"memory": {"limit": {"value": bytes}}}}});
        // When another container is made.
        let behaviour = json!({"CreateContainer": {"update": [change(&first, 40 * MIB)]}});
        plugin.notes().behave(&behaviour.to_string())?;
        let second = container("second", BUSYBOX, &["sleep", "600"]);
        let second = stage.cri.create((&pod, &config), &with_memory(second, 64 * MIB)).await?;
        ensure!(limit_of(stage, &first).await? == 40 * MIB);
        let inside = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
        let seen = stage.cri.output(&first, &["sh", "-c", inside]).await?;
        ensure!(seen.trim() == (40 * MIB).to_string(), "{seen}");
        // In place of what the client wants.
        let behaviour = json!({"UpdateContainer": {"update": [change(&first, 44 * MIB)]}});
        plugin.notes().behave(&behaviour.to_string())?;
        limit(stage, &first, 80 * MIB).await?;
        ensure!(limit_of(stage, &first).await? == 44 * MIB);
        // Without being asked.
        let wish = json!({"update": [change(&first, 36 * MIB), change("unknown", MIB)]});
        plugin.notes().heard("started").await?;
        plugin.request(&wish.to_string())?;
        let answered = plugin.notes().heard("unsolicited").await?;
        ensure!(answered["failed"] == json!(["unknown"]), "{answered}");
        ensure!(limit_of(stage, &first).await? == 36 * MIB);
        // When another one ends.
        let behaviour = json!({"StopContainer": {"update": [change(&first, 52 * MIB)]}});
        plugin.notes().behave(&behaviour.to_string())?;
        stage.cri.remove(&second).await?;
        ensure!(limit_of(stage, &first).await? == 52 * MIB);
        plugin.notes().behave("{}")?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn installed_plugins_are_launched_with_their_configuration_and_end_with_the_daemon() -> Result<()> {
    on_stage(async |stage| {
        let directory = stage.directory().join("nri-plugins");
        std::fs::create_dir_all(&directory)?;
        let installed = directory.join("05-installed");
        std::fs::copy(program()?, &installed)?;
        std::io::Write::write_all(
            &mut File::create(directory.join("installed.conf"))?,
            b"colour: blue",
        )?;
        stage.daemon.stop().await?;
        stage.start_again().await?;
        let notes = Notes::beside(&installed);
        let configured = notes.last("Configure")?;
        ensure!(configured["config"] == "colour: blue", "{configured}");
        ensure!(notes.count("Synchronize")? == 1);
        notes
            .behave(r#"{"CreateContainer": {"adjust": {"env": [{"key": "X", "value": "1"}]}}}"#)?;
        let (pod, config) = ready(stage).await?;
        let id = stage.cri.create((&pod, &config), &sleeper()).await?;
        stage.cri.start(&id).await?;
        ensure!(stage.cri.output(&id, &["sh", "-c", "echo $X"]).await? == "1\n");
        stage.cri.take_away(&pod).await?;
        stage.daemon.stop().await?;
        ensure!(!stage.daemon.nri().exists(), "the socket stays");
        std::fs::remove_dir_all(&directory)?;
        stage.start_again().await
    })
}

#[test]
fn a_daemon_leaves_the_socket_to_another_runtime_and_does_without_plugins_if_told_to() -> Result<()>
{
    on_stage(async |stage| {
        let socket = stage.daemon.nri();
        let mode = |path: &Path| -> Result<u32> {
            use std::os::unix::fs::PermissionsExt;
            Ok(path.metadata()?.permissions().mode() & 0o777)
        };
        ensure!(mode(&socket)? == 0o600);
        stage.daemon.stop().await?;
        let other = std::os::unix::net::UnixListener::bind(&socket)?;
        stage.start_again().await?;
        let (pod, _) = ready(stage).await?;
        stage.cri.take_away(&pod).await?;
        stage.daemon.stop().await?;
        ensure!(socket.exists(), "it was the other's");
        drop(other);
        std::fs::remove_file(&socket)?;
        stage.start_again().await?;
        stage.configure("enable = false\n").await?;
        ensure!(!socket.exists());
        Ok(())
    })
}
