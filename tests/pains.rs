//! What people complain about in container runtimes, each as a test that fails on it. `tests/README.md` says which
//! complaint is shown where.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{ContainerConfig, ContainerState, Mount, PodSandboxState};
use cringle_tests::footprint::{Footprint, parent};
use cringle_tests::inventory::processes_of;
use cringle_tests::request::{container, pod, with_logs, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage, skip};
use cringle_tests::wait::until;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const MIB: i64 = 1 << 20;

/// A pod with logs and one started container; both ids.
async fn run(stage: &mut Stage, name: &str, main: &ContainerConfig) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    let logs = stage.daemon.pod_logs().join(name);
    fs::create_dir_all(&logs)?;
    let config = with_logs(pod(name), &logs);
    stage.cri.start_in_pod(&config, main).await
}

fn sleeper() -> ContainerConfig {
    container("main", BUSYBOX, &["sleep", "600"])
}

/// The shim of a running container.
async fn shim_of(stage: &mut Stage, container: &str) -> Result<u32> {
    parent(u32::try_from(stage.cri.process(container).await?)?)
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    let process = Pid::from_raw(i32::try_from(process)?).context("a process id")?;
    Ok(kill_process(process, signal)?)
}

// P-01: slow starts. What costs time is what is executed and what is waited for.
#[test]
fn nothing_is_executed_for_a_pod_and_only_shim_and_program_for_a_container() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let record = stage.directory().join("calls");
        let mut tracer = trace_programs(stage, &record).await?;
        let config = pod("pod");
        let pod = stage.cri.run_pod(&config).await?;
        let id = stage.cri.create((&pod, &config), &sleeper()).await?;
        ensure!(programs(&record)?.is_empty(), "{:?}", programs(&record)?);
        stage.cri.start(&id).await?;
        until("the tracer saw the program", async || Ok(programs(&record)?.len() >= 2)).await?;
        stage.cri.take_away(&pod).await?;
        let seen = programs(&record)?;
        ensure!(seen.len() == 2 && seen[0].contains("shim"), "{seen:?}");
        tracer.kill()?;
        tracer.wait()?;
        Ok(())
    })
}

async fn trace_programs(stage: &mut Stage, record: &Path) -> Result<Child> {
    let process = stage.daemon.id()?;
    let child = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=execve,execveat", "-e", "signal=none", "-o"])
        .arg(record)
        .args(["-p", &process.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .context("failed to run \"strace\"")?;
    until("the tracer is attached to every thread", async || {
        let threads =
            fs::read_dir(format!("/proc/{process}/task"))?.collect::<Result<Vec<_>, _>>()?;
        Ok(threads.iter().all(|thread| {
            // A thread that ends while we look needs no tracer.
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        }))
    })
    .await?;
    Ok(child)
}

/// The programs that were executed, one a line.
fn programs(record: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(record)?;
    let executed = |line: &&str| line.contains("exec") && line.ends_with("= 0");
    Ok(text.lines().filter(executed).map(str::to_owned).collect())
}

// P-02: shims that cost megabytes. The benchmark holds the release build to its floor; this is the debug build.
#[test]
fn a_shim_has_one_thread_and_little_memory_of_its_own() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = run(stage, "pod", &sleeper()).await?;
        let shim = Footprint::of(shim_of(stage, &id).await?)?;
        ensure!(shim.threads == 1, "{shim}");
        ensure!(shim.memory < 1024, "{shim}");
        ensure!(shim.descriptors < 24, "{shim}");
        stage.cri.take_away(&pod).await
    })
}

// P-04: pods that never end, because something that should help them to has stopped.
#[test]
fn a_shim_that_stands_still_keeps_no_pod_from_ending_and_holds_up_nobody() -> Result<()> {
    on_stage(async |stage| {
        let (stuck, id) = run(stage, "stuck", &sleeper()).await?;
        let (other, lively) = run(stage, "other", &sleeper()).await?;
        let shim = shim_of(stage, &id).await?;
        signal(shim, Signal::STOP)?;
        let mut cri = stage.cri.clone();
        let pod = stuck.clone();
        let stop = tokio::spawn(async move { cri.stop_pod(&pod).await });
        // None of these waits for the shim, or the test would find the stop done already.
        until("the pod is not ready", async || {
            Ok(stage.cri.pod(&stuck).await?.state() == PodSandboxState::SandboxNotready)
        })
        .await?;
        ensure!(stage.cri.containers(None).await?.len() == 2, "a container is lost");
        ensure!(stage.cri.container(&id).await?.id == id, "it has a status");
        stage.cri.output(&lively, &["echo", "alive"]).await?;
        let (third, _) = run(stage, "third", &sleeper()).await?;
        ensure!(!stop.is_finished(), "others waited for the shim that stands still");
        stop.await??;
        let left = processes_of(&id)?;
        ensure!(left.is_empty(), "{left:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(
            status.exit_code == 137,
            "the true end, though the shim cannot tell it: {status:?}"
        );
        for pod in [stuck, other, third] {
            stage.cri.take_away(&pod).await?;
        }
        Ok(())
    })
}

#[test]
fn a_volume_that_never_answers_holds_up_its_own_container_until_the_pod_is_stopped() -> Result<()> {
    on_stage(async |stage| {
        if !fs::read_to_string("/proc/filesystems")?.contains("\tfuse\n") {
            return skip("the kernel has no FUSE");
        }
        let (other, lively) = run(stage, "other", &sleeper()).await?;
        let place = stage.directory().join("silent");
        let server = mount_silent(&place)?;
        let mut main = sleeper();
        main.mounts.push(Mount {
            container_path: "/data".to_owned(),
            host_path: place.join("data").to_string_lossy().into_owned(),
            ..Mount::default()
        });
        let config = pod("stuck");
        let stuck = stage.cri.run_pod(&config).await?;
        let id = stage.cri.create((&stuck, &config), &main).await?;
        let (mut cri, own) = (stage.cri.clone(), id.clone());
        let start = tokio::spawn(async move { cri.start(&own).await });
        until("the start has a shim", async || Ok(!processes_of(&id)?.is_empty())).await?;
        stage.cri.output(&lively, &["echo", "alive"]).await?;
        let (third, _) = run(stage, "third", &sleeper()).await?;
        ensure!(!start.is_finished(), "the volume answered: {:?}", start.await);
        // The volume is still silent.
        stage.cri.stop_pod(&stuck).await?;
        ensure!(start.await?.is_err(), "started without its volume");
        let left = processes_of(&id)?;
        ensure!(left.is_empty(), "{left:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.message.contains("stopped"), "{status:?}");
        for pod in [stuck, other, third] {
            stage.cri.take_away(&pod).await?;
        }
        drop(server);
        Ok(unmount(&place, UnmountFlags::DETACH)?)
    })
}

/// Mounts a file system whose server never says a word. It ends with the file.
fn mount_silent(place: &Path) -> Result<File> {
    fs::create_dir_all(place)?;
    let server = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
    let options = std::ffi::CString::new(options)?;
    mount("silent", place, "fuse", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(server)
}

// P-12: networks that can't be torn down, addresses that are lost.
#[test]
fn a_pod_ends_and_gives_its_address_back_though_the_networks_configuration_is_gone() -> Result<()> {
    on_stage(async |stage| {
        let pod = stage.cri.run_pod(&pod("pod")).await?;
        let configuration = stage.directory().join("net.d/10-bridge.conflist");
        let kept = stage.directory().join("kept");
        fs::rename(&configuration, &kept)?;
        stage.crash().await?;
        stage.cri.take_away(&pod).await?;
        let leases = cringle_tests::inventory::files(&stage.daemon.leases());
        ensure!(leases.is_empty(), "{leases:?}");
        Ok(fs::rename(kept, configuration)?)
    })
}

#[test]
fn a_pod_ends_and_gives_its_address_back_though_its_network_namespace_is_gone() -> Result<()> {
    on_stage(async |stage| {
        let pod = stage.cri.run_pod(&pod("pod")).await?;
        for pin in fs::read_dir(stage.directory().join("netns"))? {
            let pin = pin?.path();
            unmount(&pin, UnmountFlags::DETACH)?;
            fs::remove_file(pin)?;
        }
        stage.cri.take_away(&pod).await?;
        let leases = cringle_tests::inventory::files(&stage.daemon.leases());
        ensure!(leases.is_empty(), "{leases:?}");
        Ok(())
    })
}

// P-13: "device or resource busy".
#[test]
fn a_container_goes_though_somebody_stands_in_its_files() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = run(stage, "pod", &sleeper()).await?;
        let process = stage.cri.process(&id).await?;
        let inside = File::open(format!("/proc/{process}/root/bin"))?;
        let mut stands = Command::new("sleep")
            .arg("600")
            .current_dir(format!("/proc/{process}/root/etc"))
            .stdout(Stdio::null())
            .spawn()?;
        let gone = stage.cri.take_away(&pod).await;
        stands.kill()?;
        stands.wait()?;
        drop(inside);
        gone
    })
}

// P-14: writers that are held up when the runtime is away, and lines that are lost.
#[test]
fn a_program_that_writes_much_is_not_held_up_while_the_daemon_is_dead() -> Result<()> {
    /// Far more than pipes and sockets hold.
    const LINES: usize = 200_000;
    on_stage(async |stage| {
        let script = format!("while [ ! -e /tmp/go ]; do sleep 0.05; done; seq {LINES}; sleep 600");
        let main = container("main", BUSYBOX, &["sh", "-c", &script]);
        let (pod, id) = run(stage, "pod", &main).await?;
        let log = stage.daemon.pod_logs().join("pod/main.log");
        let process = stage.cri.process(&id).await?;
        stage.daemon.kill()?;
        File::create(format!("/proc/{process}/root/tmp/go"))?;
        let last = format!(" {LINES}\n");
        until("the last line is in the log", async || {
            Ok(fs::read_to_string(&log).unwrap_or_default().ends_with(&last))
        })
        .await?;
        stage.start_again().await?;
        let text = fs::read_to_string(&log)?;
        for (line, number) in text.lines().zip(1_usize..) {
            ensure!(line.ends_with(&format!(" {number}")), "line {number} is \"{line}\"");
        }
        stage.cri.take_away(&pod).await
    })
}

// P-15: starts that wait for one container, and workloads that a restart ends.
#[test]
fn a_daemon_starts_though_a_shim_stands_still_and_ends_nothing_because_of_it() -> Result<()> {
    on_stage(async |stage| {
        let (slow, id) = run(stage, "slow", &sleeper()).await?;
        let (other, lively) = run(stage, "other", &sleeper()).await?;
        let (shim, process) = (shim_of(stage, &id).await?, stage.cri.process(&id).await?);
        signal(shim, Signal::STOP)?;
        stage.crash().await?;
        stage.cri.output(&lively, &["echo", "alive"]).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        signal(shim, Signal::CONT)?;
        stage.cri.output(&id, &["echo", "alive"]).await?;
        ensure!(stage.cri.process(&id).await? == process, "another process");
        // What its shim says now is heard.
        signal(u32::try_from(process)?, Signal::KILL)?;
        let status = stage.cri.ended(&id).await?;
        ensure!(status.exit_code == 137, "{status:?}");
        stage.cri.take_away(&slow).await?;
        stage.cri.take_away(&other).await
    })
}

// P-16: SIGHUP that ends the runtime.
#[test]
fn a_hang_up_does_not_end_the_daemon() -> Result<()> {
    on_stage(async |stage| {
        signal(stage.daemon.id()?, Signal::HUP)?;
        until("the daemon has heard it", async || Ok(stage.daemon.said("SIGHUP") > 0)).await?;
        ensure!(stage.daemon.is_alive()?, "{}", stage.daemon.log_tail());
        let pod = stage.cri.run_pod(&pod("pod")).await?;
        stage.cri.take_away(&pod).await
    })
}

// P-20: who was out of memory.
#[test]
fn each_of_many_that_are_out_of_memory_is_told_so_and_nobody_else() -> Result<()> {
    /// At once, each in a cgroup of its own.
    const EACH: usize = 8;
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("pod");
        let pod = stage.cri.run_pod(&config).await?;
        let mut ids = Vec::new();
        for number in 0..EACH {
            for (kind, script) in [("hungry", HUNGRY), ("killed", "kill -9 $$"), ("fine", ":")] {
                let name = format!("{kind}-{number}");
                let command = ["sh", "-c", &format!("sh -c '{script}'; exit $?")];
                let main = with_memory(container(&name, BUSYBOX, &command), 16 * MIB);
                let id = stage.cri.create((&pod, &config), &main).await?;
                stage.cri.start(&id).await?;
                ids.push((kind, id));
            }
        }
        for (kind, id) in ids {
            let status = stage.cri.ended(&id).await?;
            let expected = match kind {
                "hungry" => (137, "OOMKilled"),
                "killed" => (137, "Error"),
                _ => (0, "Completed"),
            };
            ensure!((status.exit_code, status.reason.as_str()) == expected, "{kind}: {status:?}");
        }
        stage.cri.take_away(&pod).await
    })
}

/// Takes more memory than it may have.
const HUNGRY: &str = "dd if=/dev/zero of=/dev/null bs=64M";

#[test]
fn a_child_that_is_out_of_memory_does_not_end_a_container_that_goes_on() -> Result<()> {
    on_stage(async |stage| {
        let script =
            format!("{HUNGRY}; echo child $?; while [ ! -e /tmp/end ]; do sleep 0.05; done");
        let main = with_memory(container("main", BUSYBOX, &["sh", "-c", &script]), 16 * MIB);
        let (pod, id) = run(stage, "pod", &main).await?;
        let log = stage.daemon.pod_logs().join("pod/main.log");
        until("the child is dead", async || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("child") && !text.contains("child 137") {
                bail!("{text}");
            }
            Ok(text.contains("child 137"))
        })
        .await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        let process = stage.cri.process(&id).await?;
        File::create(format!("/proc/{process}/root/tmp/end"))?;
        let status = stage.cri.ended(&id).await?;
        ensure!(status.exit_code == 0 && status.reason == "Completed", "{status:?}");
        stage.cri.take_away(&pod).await
    })
}
