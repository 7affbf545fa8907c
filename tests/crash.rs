//! The daemon dies at every step of a pod's life, and at every step of its own recovery: what it says afterwards is true,
//! the client's requests said again get the pod to its end, and nothing is left on the host.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerState, IdMapping, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxState, UserNamespace,
};
use cringle_tests::client::{Cri, code};
use cringle_tests::inventory::{Inventory, processes_in, processes_of};
use cringle_tests::registry::Fault;
use cringle_tests::request::{
    container, in_namespaces, pod, with_logs, with_namespaces, with_port,
};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage, skip};
use cringle_tests::wait::until;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread::JoinHandle;
use std::time::SystemTime;
use tonic::Code;

/// More steps than any scenario has.
const TOO_MANY: u32 = 500;

/// What is asked for, again and again.
struct Scenario {
    pod: PodSandboxConfig,
    container: ContainerConfig,
}

/// Whether the daemon dies in its recovery too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recovery {
    Undisturbed,
    Crashing,
}

#[test]
fn a_crash_at_any_step_of_a_pod_with_a_network_loses_and_leaves_nothing() -> Result<()> {
    on_stage(async |stage| {
        let scenario = with_own_network(stage);
        crash_everywhere(stage, &scenario, Recovery::Undisturbed).await
    })
}

#[test]
fn a_crash_at_any_step_of_a_pod_with_a_reaper_loses_and_leaves_nothing() -> Result<()> {
    on_stage(async |stage| {
        let scenario = with_shared_processes(stage);
        crash_everywhere(stage, &scenario, Recovery::Undisturbed).await
    })
}

#[test]
fn a_crash_at_any_step_of_a_pod_with_users_of_its_own_loses_and_leaves_nothing() -> Result<()> {
    on_stage(async |stage| {
        let scenario = with_users_of_its_own(stage);
        crash_everywhere(stage, &scenario, Recovery::Undisturbed).await
    })
}

#[test]
fn a_crash_at_any_step_of_a_recovery_is_just_another_start() -> Result<()> {
    on_stage(async |stage| {
        let scenario = with_shared_processes(stage);
        crash_everywhere(stage, &scenario, Recovery::Crashing).await
    })
}

#[test]
fn a_crash_while_a_shim_comes_up_leaves_a_container_that_starts_or_runs() -> Result<()> {
    on_stage(async |stage| {
        let scenario = with_own_network(stage);
        stage.cri.pull(BUSYBOX).await?;
        let before = Inventory::take(&stage.daemon.scope())?;
        for file in ["task.sock", "control.sock", "shim.log", "shim.json", "state.json"] {
            let pod = stage.cri.run_pod(&scenario.pod).await?;
            let id = stage.cri.create((&pod, &scenario.pod), &scenario.container).await?;
            let file = stage.daemon.state().join("containers").join(&id).join(file);
            let killer = kill_when_there(stage.daemon.id()?, file.clone())?;
            // Whether the answer came before the end is all the same.
            drop(stage.cri.start(&id).await);
            require_killed(stage.daemon.ended().await?)?;
            ensure!(killer.join().is_ok(), "the watching thread panicked");
            let ended = Box::pin(end_well(stage, &scenario, &before)).await;
            ended.with_context(|| format!("after a crash at \"{}\"", file.display()))?;
        }
        Ok(())
    })
}

/// Kills a process as soon as a file is there, which must come to be.
fn kill_when_there(process: u32, file: PathBuf) -> Result<JoinHandle<()>> {
    let process = i32::try_from(process)?;
    let process = rustix::process::Pid::from_raw(process).context("a process id")?;
    Ok(std::thread::spawn(move || {
        // Asking without a pause: what is made next should not be made any more.
        while !file.exists() && rustix::process::test_kill_process(process).is_ok() {
            std::hint::spin_loop();
        }
        // The daemon that ended by itself fails the test.
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap_or_default();
    }))
}

#[test]
fn a_container_that_has_ended_keeps_no_shim_after_a_crash() -> Result<()> {
    on_stage(async |stage| {
        let main = container("main", BUSYBOX, &["sh", "-c", "exit 7"]);
        let (pod, id) = stage.run(&pod("pod"), &main).await?;
        stage.cri.ended(&id).await?;
        stage.crash().await?;
        let processes = processes_of(&id)?;
        ensure!(processes.is_empty(), "{processes:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.exit_code == 7, "{status:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_pull_that_a_crash_cut_off_is_not_seen_and_can_be_done_again() -> Result<()> {
    on_stage(async |stage| {
        for fault in [Fault::Stalled, Fault::Truncated] {
            let seen = stage.registry.requests().len();
            stage.registry.fail("/blobs/", fault);
            let mut cri = stage.cri.clone();
            let pull = tokio::spawn(async move { cri.pull(BUSYBOX).await });
            let mut requests = Vec::new();
            until("the pull has asked for content", async || {
                requests = stage.registry.requests().split_off(seen);
                Ok(requests.iter().any(|request| request.contains("/blobs/")))
            })
            .await?;
            stage.daemon.kill()?;
            ensure!(pull.await?.is_err(), "a pull without its content succeeded");
            stage.registry.heal();
            stage.start_again().await?;
            ensure!(stage.cri.all_images().await?.is_empty(), "half an image");
            let id = stage.cri.pull(BUSYBOX).await?;
            stage.cri.remove_image(&id).await?;
        }
        Ok(())
    })
}

/// A pod as most are, with a port of the host.
fn with_own_network(stage: &Stage) -> Scenario {
    let script = "trap 'exit 3' TERM; sleep 600 & wait";
    Scenario {
        pod: with_port(with_logs(pod("pod"), &stage.daemon.pod_logs()), 18080, 80),
        container: container("main", BUSYBOX, &["sh", "-c", script]),
    }
}

/// A pod whose containers share a PID namespace, which has a process of its own.
fn with_shared_processes(stage: &Stage) -> Scenario {
    let Scenario { pod, container } = with_own_network(stage);
    let options = NamespaceOption { pid: NamespaceMode::Pod.into(), ..NamespaceOption::default() };
    Scenario {
        pod: with_namespaces(pod, options.clone()),
        container: in_namespaces(container, &options),
    }
}

/// A pod like the last, whose users are not the host's.
fn with_users_of_its_own(stage: &Stage) -> Scenario {
    let Scenario { pod, container } = with_own_network(stage);
    let range = IdMapping { container_id: 0, host_id: 200_000, length: 65_536 };
    let mode = NamespaceMode::Pod.into();
    let users = UserNamespace { mode, uids: vec![range], gids: vec![range] };
    let options = NamespaceOption {
        pid: NamespaceMode::Pod.into(),
        userns_options: Some(users),
        ..NamespaceOption::default()
    };
    Scenario {
        pod: with_namespaces(pod, options.clone()),
        container: in_namespaces(container, &options),
    }
}

async fn crash_everywhere(
    stage: &mut Stage,
    scenario: &Scenario,
    recovery: Recovery,
) -> Result<()> {
    stage.cri.pull(BUSYBOX).await?;
    let before = Inventory::take(&stage.daemon.scope())?;
    let mut recoveries = 0;
    for step in 1..TOO_MANY {
        stage.daemon.arm(step)?;
        let outcome = Box::pin(live(&mut stage.cri, scenario)).await;
        if outcome.is_ok() {
            stage.daemon.disarm()?;
            return told(step - 1, recoveries);
        }
        require_killed(stage.daemon.ended().await?)?;
        stage.daemon.disarm()?;
        if recovery == Recovery::Crashing {
            recoveries += crash_recovery(stage).await?;
        }
        let ended = Box::pin(end_well(stage, scenario, &before)).await;
        ended.with_context(|| format!("after a crash at step {step}"))?;
    }
    bail!("the scenario has no end")
}

/// Starts the daemon after a crash, and sees that all ends as if there had been none.
async fn end_well(stage: &mut Stage, scenario: &Scenario, before: &Inventory) -> Result<()> {
    let crashed = SystemTime::now();
    stage.start_again().await?;
    require_truth(&mut stage.cri, crashed).await?;
    finish(&mut stage.cri, scenario).await?;
    before.again(&stage.daemon.scope()).await
}

/// Says how far it went. A daemon that was built without failpoints never dies.
fn told(steps: u32, recoveries: u32) -> Result<()> {
    use std::io::Write as _;
    if steps == 0 {
        return skip("the daemon was built without failpoints");
    }
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // Straight to the stream, which the test runner does not hide.
    let line = format!("{name}: {steps} steps of the daemon and {recoveries} of its recovery");
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

fn require_killed(status: ExitStatus) -> Result<()> {
    ensure!(status.signal() == Some(9), "the daemon ended with {status}");
    Ok(())
}

/// The whole life of a pod with one container.
async fn live(cri: &mut Cri, scenario: &Scenario) -> Result<()> {
    let pod = cri.run_pod(&scenario.pod).await?;
    let id = cri.create((&pod, &scenario.pod), &scenario.container).await?;
    cri.start(&id).await?;
    cri.output(&id, &["echo", "alive"]).await?;
    cri.stop(&id, 5).await?;
    cri.remove(&id).await?;
    cri.stop_pod(&pod).await?;
    cri.remove_pod(&pod).await
}

/// Kills the starting daemon at its first step, at its second, and so on until it has no so many; answers how often.
async fn crash_recovery(stage: &mut Stage) -> Result<u32> {
    for step in 1..TOO_MANY {
        stage.daemon.arm(step)?;
        let ended = stage.daemon.start_or_end().await?;
        stage.daemon.disarm()?;
        match ended {
            Some(status) => require_killed(status)?,
            None => {
                stage.daemon.kill()?;
                return Ok(step - 1);
            }
        }
    }
    bail!("the recovery has no end")
}

/// What runs is listed as running, and nothing else runs. A container that is ending may do so between two looks.
async fn require_truth(cri: &mut Cri, crashed: SystemTime) -> Result<()> {
    let mut untrue = None;
    let settled = until("what is listed is so", async || {
        untrue = check_truth(cri, crashed).await.err();
        Ok(untrue.is_none())
    });
    match settled.await {
        Ok(()) => Ok(()),
        Err(error) => Err(untrue.unwrap_or(error)),
    }
}

async fn check_truth(cri: &mut Cri, crashed: SystemTime) -> Result<()> {
    let crashed = i64::try_from(crashed.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
    for container in cri.containers(None).await? {
        let processes = processes_in(&container.id)?;
        if container.state() == ContainerState::ContainerRunning {
            let process = u32::try_from(cri.process(&container.id).await?)?;
            ensure!(processes.contains(&process), "running without its process: {container:?}");
            let status = cri.container(&container.id).await?;
            let times = [0, status.created_at, status.started_at, crashed];
            ensure!(times.is_sorted(), "{times:?}: {status:?}");
        } else {
            ensure!(processes.is_empty(), "{processes:?} run: {container:?}");
        }
    }
    for pod in cri.pods().await? {
        let status = cri.pod(&pod.id).await?;
        if status.state() == PodSandboxState::SandboxReady {
            let address = status.network.map(|network| network.ip).unwrap_or_default();
            ensure!(!address.is_empty(), "ready without an address: {pod:?}");
        }
    }
    Ok(())
}

/// What a client does who had no answer: it asks for the same things again, takes what is there, and then takes it away.
async fn finish(cri: &mut Cri, scenario: &Scenario) -> Result<()> {
    let pod = run_again(cri, scenario).await?;
    let id = create_again(cri, &pod, scenario).await?;
    let state = cri.container(&id).await?.state();
    if state == ContainerState::ContainerCreated {
        cri.start(&id).await.context("start")?;
    }
    if state != ContainerState::ContainerExited {
        let alive = cri.output(&id, &["echo", "alive"]).await.context("exec");
        // What ran at the look may have had the signal of a stop before the crash, and end from then on at any moment.
        if let Err(error) = alive {
            ensure!(state == ContainerState::ContainerRunning, "started anew: {error:#}");
            cri.ended(&id).await.context(error)?;
        }
    }
    cri.stop(&id, 5).await.context("stop container")?;
    cri.remove(&id).await.context("remove container")?;
    cri.stop_pod(&pod).await.context("stop pod")?;
    cri.remove_pod(&pod).await.context("remove pod")?;
    let (pods, containers) = (cri.pods().await?, cri.containers(None).await?);
    ensure!(pods.is_empty() && containers.is_empty(), "listed: {pods:?} {containers:?}");
    Ok(())
}

/// The pod, if it was made; a pod that is there and not ready is taken away first, as no container can be made in it.
async fn run_again(cri: &mut Cri, scenario: &Scenario) -> Result<String> {
    let answer = cri.run_pod(&scenario.pod).await;
    if code(&answer) != Some(Code::AlreadyExists) {
        return answer.context("run again");
    }
    let pods = cri.pods().await?;
    let pod = pods.first().context("a pod that exists is listed")?;
    ensure!(pods.len() == 1 && pod.state() == PodSandboxState::SandboxNotready, "{pods:?}");
    cri.take_away(&pod.id).await.context("take away")?;
    cri.run_pod(&scenario.pod).await.context("run anew")
}

async fn create_again(cri: &mut Cri, pod: &str, scenario: &Scenario) -> Result<String> {
    let answer = cri.create((pod, &scenario.pod), &scenario.container).await;
    if code(&answer) != Some(Code::AlreadyExists) {
        return answer.context("create again");
    }
    let containers = cri.containers(None).await?;
    let container = containers.first().context("a container that exists is listed")?;
    ensure!(
        containers.len() == 1 && container.state() != ContainerState::ContainerCreated,
        "{containers:?}"
    );
    Ok(container.id.clone())
}
