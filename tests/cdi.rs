//! Devices that vendors describe in files, and the hooks that come with them.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{CdiDevice, ContainerConfig, ContainerState, StatusRequest};
use cringle_tests::client::{code, message};
use cringle_tests::image::Description;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tonic::Code;

/// A program of the host that hooks call.
const SHELL: &str = "/bin/busybox";

/// The two directories of files, the second of the higher rank; the daemon knows them from now on.
async fn directories(stage: &mut Stage) -> Result<[PathBuf; 2]> {
    let directories = ["static", "dynamic"].map(|name| stage.directory().join(name));
    for directory in &directories {
        fs::create_dir_all(directory)?;
    }
    stage.configure(&format!("\n[cdi]\nspec_dirs = {directories:?}\n")).await?;
    stage.cri.pull(BUSYBOX).await?;
    Ok(directories)
}

/// Puts a file in place as vendors do: whole or not at all.
fn put(directory: &Path, name: &str, text: &str) -> Result<()> {
    use std::io::Write as _;
    let draft = directory.join("draft");
    fs::File::create(&draft)?.write_all(text.as_bytes())?;
    Ok(fs::rename(draft, directory.join(name))?)
}

/// A file of one device.
fn describe(device: &str, edits: &Value) -> String {
    json!({"cdiVersion": "1.1.0", "kind": "vendor.example/board",
        "devices": [{"name": device, "containerEdits": edits}]})
    .to_string()
}

fn asking(name: &str, devices: &[&str]) -> ContainerConfig {
    let device = |name: &&str| CdiDevice { name: format!("vendor.example/board={name}") };
    ContainerConfig {
        cdi_devices: devices.iter().map(device).collect(),
        ..container(name, BUSYBOX, &["sleep", "600"])
    }
}

fn hook(moment: &str, script: &str) -> Value {
    json!({"hookName": moment, "path": SHELL, "args": ["sh", "-c", script]})
}

/// What the daemon says of the files.
async fn report(stage: &mut Stage) -> Result<Value> {
    let answer = stage.cri.runtime.status(StatusRequest { verbose: true }).await?.into_inner();
    Ok(serde_json::from_str(answer.info.get("cdi").context("\"cdi\" is told")?)?)
}

#[test]
fn a_container_gets_all_that_its_devices_describe_by_field_and_by_annotation() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, dynamic] = directories(stage).await?;
        let library = stage.directory().join("library");
        fs::create_dir_all(&library)?;
        put(&library, "lib.so", "code")?;
        let all = json!({
            "env": ["BOARD=one", "PATH=/bin:/board"],
            "deviceNodes": [{"path": "/dev/board0", "hostPath": "/dev/zero", "permissions": "r"}],
            "mounts": [{"hostPath": library, "containerPath": "/usr/lib/board", "options": ["ro", "rbind"]}],
            "additionalGids": [4321],
        });
        put(&fixed, "one.json", &describe("one", &all))?;
        // YAML, and made while the daemon runs.
        let two = "cdiVersion: 0.5.0\nkind: vendor.example/board\ndevices:\n- name: two\n  containerEdits:\n    env: [SECOND=2]\n";
        put(&dynamic, "two.yaml", two)?;
        let mut config = asking("main", &["one"]);
        let both = "vendor.example/board=two,vendor.example/board=one".to_owned();
        config.annotations.insert("cdi.k8s.io/plugin_two".to_owned(), both);
        let (pod_id, id) = stage.cri.start_in_pod(&pod("devices"), &config).await?;

        let script = "echo $BOARD $SECOND $PATH; cat /usr/lib/board/lib.so; echo; head -c 3 /dev/board0 | wc -c";
        let output = stage.cri.output(&id, &["sh", "-c", script]).await?;
        ensure!(output == "one 2 /bin:/board\ncode\n3\n", "{output}");
        let written = stage.cri.exec(&id, &["touch", "/usr/lib/board/new"], 20).await?;
        ensure!(written.exit_code != 0, "{written:?}");
        let groups = stage.cri.output(&id, &["grep", "Groups", "/proc/self/status"]).await?;
        ensure!(groups.contains("4321"), "{groups}");
        let first = stage.cri.output(&id, &["cat", "/proc/1/environ"]).await?;
        ensure!(first.matches("BOARD=one").count() == 1, "each device counts once: {first}");
        let shown = stage.cri.container(&id).await?.user.context("a user")?.linux.context("ids")?;
        ensure!(shown.supplemental_groups.contains(&4321), "{shown:?}");

        let report = report(stage).await?;
        ensure!(
            report["devices"] == json!(["vendor.example/board=one", "vendor.example/board=two"]),
            "{report}"
        );
        ensure!(report["errors"] == json!([]), "{report}");
        // The files are for containers to come; this one has what it has.
        fs::remove_file(fixed.join("one.json"))?;
        stage.crash().await?;
        stage.cri.output(&id, &["cat", "/usr/lib/board/lib.so"]).await?;
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn a_created_container_keeps_its_devices_when_the_file_and_the_daemon_are_gone() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, _] = directories(stage).await?;
        put(
            &fixed,
            "one.json",
            &describe("one", &json!({"env": ["BOARD=one"], "additionalGids": [77]})),
        )?;
        let config = pod("kept");
        let pod_id = stage.cri.run_pod(&config).await?;
        let id = stage.cri.create((&pod_id, &config), &asking("main", &["one"])).await?;
        fs::remove_file(fixed.join("one.json"))?;
        stage.crash().await?;
        stage.cri.start(&id).await?;
        let board = stage.cri.output(&id, &["sh", "-c", "echo $BOARD; id -G"]).await?;
        ensure!(board.starts_with("one\n") && board.contains("77"), "{board}");
        let gone = stage.cri.create((&pod_id, &config), &asking("other", &["one"])).await;
        ensure!(code(&gone) == Some(Code::NotFound), "{gone:?}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn a_device_that_can_not_be_given_is_refused_by_name_and_nothing_is_made() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, dynamic] = directories(stage).await?;
        let edits = json!({"env": ["A=b"]});
        put(&fixed, "one.json", &describe("same", &edits))?;
        put(&fixed, "two.json", &describe("same", &edits))?;
        put(&fixed, "bad.json", "{\"cdiVersion\": \"0.5.0\"")?;
        let missing = json!({"deviceNodes": [{"path": "/dev/no-such-board"}]});
        put(&fixed, "missing.json", &describe("missing", &missing))?;
        put(&fixed, "rdt.json", &describe("rdt", &json!({"intelRdt": {"closID": "gold"}})))?;
        let config = pod("refused");
        let pod_id = stage.cri.run_pod(&config).await?;
        for (device, expected, words) in [
            (
                "nope",
                Code::NotFound,
                &["vendor.example/board=nope", "/static", "/dynamic", "bad.json"][..],
            ),
            ("same", Code::FailedPrecondition, &["one.json", "two.json"]),
            ("missing", Code::FailedPrecondition, &["missing.json", "/dev/no-such-board"]),
            ("rdt", Code::Unimplemented, &["rdt.json", "intelRdt"]),
            ("a=b", Code::InvalidArgument, &["vendor.example/board=a=b"]),
        ] {
            let answer = stage.cri.create((&pod_id, &config), &asking("main", &[device])).await;
            ensure!(code(&answer) == Some(expected), "{device}: {answer:?}");
            for word in words {
                ensure!(message(&answer).contains(word), "{device}: {answer:?}");
            }
        }
        ensure!(stage.cri.containers(None).await?.is_empty(), "nothing was made");
        let report = report(stage).await?;
        let errors = report["errors"].as_array().context("errors")?;
        let of = |name: &str| {
            errors
                .iter()
                .find(|error| error["path"].as_str().is_some_and(|path| path.ends_with(name)))
        };
        for name in ["bad.json", "one.json", "two.json"] {
            ensure!(of(name).is_some(), "{name}: {report}");
        }
        ensure!(errors.len() == 3, "{report}");
        // Another directory has the last word, and a file that is mended counts at once.
        put(&dynamic, "over.json", &describe("same", &json!({"env": ["A=over"]})))?;
        put(&fixed, "bad.json", &describe("nope", &edits))?;
        let id = stage.cri.create((&pod_id, &config), &asking("main", &["same", "nope"])).await?;
        stage.cri.start(&id).await?;
        let value = stage.cri.output(&id, &["sh", "-c", "echo $A"]).await?;
        ensure!(value == "b\n", "the later device's: {value}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn devices_are_refused_when_they_are_off_and_so_are_classes() -> Result<()> {
    on_stage(async |stage| {
        stage.configure("\n[cdi]\nenable = false\n").await?;
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("off");
        let pod_id = stage.cri.run_pod(&config).await?;
        let answer = stage.cri.create((&pod_id, &config), &asking("main", &["one"])).await;
        ensure!(code(&answer) == Some(Code::FailedPrecondition), "{answer:?}");
        ensure!(message(&answer).contains("cdi.enable"), "{answer:?}");
        ensure!(report(stage).await? == json!({"enabled": false}), "it says so");
        for key in ["io.kubernetes.cri.rdt-class", "io.kubernetes.cri.blockio-class"] {
            let mut wanting = container("main", BUSYBOX, &["sleep", "600"]);
            wanting.annotations.insert(key.to_owned(), "gold".to_owned());
            let answer = stage.cri.create((&pod_id, &config), &wanting).await;
            ensure!(code(&answer) == Some(Code::Unimplemented), "{answer:?}");
            ensure!(message(&answer).contains("\"gold\""), "{answer:?}");
        }
        stage.cri.take_away(&pod_id).await
    })
}

/// Hooks that note in a directory what they saw. The one inside finds the root as tools do: by the state and the bundle.
fn noting(place: &Path) -> Value {
    let file = |name: &str| place.join(name).display().to_string();
    let note = |moment: &str| format!("{{ cat; echo; {SHELL} env; pwd; }} > {}", file(moment));
    let find = format!(
        "bundle=$({SHELL} sed -n '1s/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/p' {})",
        file("createContainer")
    );
    let make =
        "grep -q '\"path\":\"rootfs\"' $bundle/config.json && echo made > $bundle/rootfs/tmp/made";
    let inside = format!("{}; {find}; {make}", note("createContainer"));
    json!({"hooks": [
        hook("createRuntime", &note("createRuntime")),
        hook("createContainer", &inside),
        hook("poststart", &note("poststart")),
        hook("poststop", &note("poststop")),
    ]})
}

#[test]
fn hooks_of_a_device_run_with_the_state_and_without_the_images_environment() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, _] = directories(stage).await?;
        put(&fixed, "one.json", &describe("one", &noting(stage.directory())))?;
        let evil = json!({"Env": ["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil"], "WorkingDir": "/tmp"});
        let image = stage
            .add_image("test/evil", &Description { config: evil, ..Description::default() })?;
        stage.cri.pull(&image).await?;
        let mut config = asking("main", &["one"]);
        config.image = Some(cringle_tests::client::image(&image));
        config.envs.push(cringle_proto_cri::v1::KeyValue {
            key: "SECRET".to_owned(),
            value: b"x".to_vec(),
        });
        let (pod_id, id) = stage.cri.start_in_pod(&pod("hooks"), &config).await?;
        let made = stage.cri.output(&id, &["cat", "/tmp/made"]).await?;
        ensure!(made == "made\n", "a hook changed the root: {made}");
        let place = stage.directory().to_owned();
        let read = |moment: &str| -> Result<(Value, String)> {
            let text = fs::read_to_string(place.join(moment)).context(moment.to_owned())?;
            let (state, rest) = text.split_once('\n').context("a line for the state")?;
            Ok((serde_json::from_str(state)?, rest.to_owned()))
        };
        for (moment, status) in [
            ("createRuntime", "creating"),
            ("createContainer", "creating"),
            ("poststart", "running"),
        ] {
            let (state, rest) = read(moment)?;
            ensure!(state["status"] == status && state["id"] == id.as_str(), "{moment}: {state}");
            for foreign in ["evil", "SECRET", "PATH=/bin\n"] {
                ensure!(!rest.contains(foreign), "{moment}: {rest}");
            }
        }
        let process = stage.cri.process(&id).await?;
        ensure!(read("poststart")?.0["pid"] == process, "the container's process");
        ensure!(read("createContainer")?.0["pid"] == 1, "as the container sees it");
        ensure!(!place.join("poststop").exists(), "not yet");
        stage.cri.stop(&id, 0).await?;
        stage.cri.remove(&id).await?;
        let (state, _) = read("poststop")?;
        ensure!(state["status"] == "stopped" && state.get("pid").is_none(), "{state}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn a_hook_that_fails_fails_the_start_with_its_last_words() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, _] = directories(stage).await?;
        let config = pod("failing");
        let pod_id = stage.cri.run_pod(&config).await?;
        for moment in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"]
        {
            let stopped = stage.directory().join(format!("stopped-{moment}"));
            let script = "echo 'no such board' >&2; exit 3";
            let mut failing = hook(moment, script);
            if moment == "startContainer" {
                failing =
                    json!({"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", script]});
            }
            let note = hook("poststop", &format!("echo stopped >> {}", stopped.display()));
            put(&fixed, "one.json", &describe("one", &json!({"hooks": [failing, note]})))?;
            let id = stage.cri.create((&pod_id, &config), &asking(moment, &["one"])).await?;
            let answer = stage.cri.start(&id).await;
            ensure!(code(&answer) == Some(Code::FailedPrecondition), "{moment}: {answer:?}");
            for word in [moment, "exited with code 3", "no such board"] {
                ensure!(message(&answer).contains(word), "{moment}: {answer:?}");
            }
            let status = stage.cri.container(&id).await?;
            ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
            ensure!(status.message.contains("no such board"), "{status:?}");
            let told = fs::read_to_string(&stopped)?;
            ensure!(told == "stopped\n", "{moment}: {told}");
            stage.cri.remove(&id).await?;
            ensure!(fs::read_to_string(&stopped)? == told, "{moment}: once");
        }
        stage.cri.take_away(&pod_id).await
    })
}

/// The shim of a container.
fn shim(stage: &Stage, container: &str) -> Result<rustix::process::Pid> {
    let path = stage.daemon.state().join("containers").join(container).join("shim.json");
    let record: Value = serde_json::from_slice(&fs::read(path)?)?;
    let pid = record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(rustix::process::Pid::from_raw).context("the shim's process")
}

#[test]
fn the_last_hook_runs_once_also_when_shim_or_daemon_were_killed() -> Result<()> {
    on_stage(async |stage| {
        let [fixed, _] = directories(stage).await?;
        let stopped = stage.directory().join("stopped");
        let note = hook("poststop", &format!("echo stopped >> {}", stopped.display()));
        put(&fixed, "one.json", &describe("one", &json!({"hooks": [note]})))?;
        let config = pod("last");
        let pod_id = stage.cri.run_pod(&config).await?;
        let count = || fs::read_to_string(&stopped).map_or(0, |text| text.lines().count());

        let id = stage.cri.create((&pod_id, &config), &asking("shim", &["one"])).await?;
        stage.cri.start(&id).await?;
        rustix::process::kill_process(shim(stage, &id)?, rustix::process::Signal::KILL)?;
        wait::until("the hook ran", async || Ok(count() == 1)).await?;
        stage.cri.remove(&id).await?;
        ensure!(count() == 1, "once");

        let id = stage.cri.create((&pod_id, &config), &asking("both", &["one"])).await?;
        stage.cri.start(&id).await?;
        let process = shim(stage, &id)?;
        stage.daemon.kill()?;
        rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
        stage.start_again().await?;
        ensure!(count() == 2, "by the next daemon, before it serves: {}", count());
        stage.cri.remove(&id).await?;
        ensure!(count() == 2, "once");

        let id = stage.cri.create((&pod_id, &config), &asking("never", &["one"])).await?;
        stage.cri.remove(&id).await?;
        ensure!(count() == 2, "one that never was has no end");
        stage.cri.take_away(&pod_id).await
    })
}
