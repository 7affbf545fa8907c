//! A client is cut off at every step of what it asked for, and asks again: meanwhile, afterwards, after the daemon was
//! killed, or for something else under the same name. What it asked for is done once and whole, and nothing is left.
//!
//! The steps are those of the failpoints: every write of a record and every thing that is taken or given back. The ways
//! to be cut off take turns.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerState, LinuxContainerResources, PodSandboxState,
};
use cringle_tests::client::{code, message};
use cringle_tests::cut::{CUTS, Call, Cut, Doomed};
use cringle_tests::inventory::{Inventory, processes_in};
use cringle_tests::limit;
use cringle_tests::request::{container, pod, with_logs, with_memory, with_port};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage, skip};
use cringle_tests::wait::until;
use tonic::Code;

/// How many ask at once.
const MANY: usize = 64;
const MIB: i64 = 1 << 20;

/// What is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Create,
    Start,
    Update,
    Stop,
    Remove,
    StopPod,
    RemovePod,
}

/// When the same is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Many times at once, while the first goes on.
    Meanwhile,
    /// When the first is done.
    Afterwards,
    /// The daemon was killed meanwhile.
    AfterRestart,
    /// Something else of the same name is asked for, too early and too late.
    Otherwise,
}

macro_rules! cut_at_every_step {
    ($($name:ident: $verb:ident $again:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            at_every_step(Verb::$verb, Again::$again)
        }
    )*};
}

cut_at_every_step! {
    a_pod_that_is_being_run_is_joined_by_many: Run Meanwhile;
    a_pod_that_was_run_for_nobody_is_given_to_who_asks_again: Run Afterwards;
    a_pod_whose_run_was_killed_is_run_or_given_after_the_restart: Run AfterRestart;
    another_pod_of_a_name_that_is_being_run_is_refused_with_stage_and_age: Run Otherwise;
    a_container_that_is_being_created_is_joined_by_many: Create Meanwhile;
    a_container_that_was_created_for_nobody_is_given_to_who_asks_again: Create Afterwards;
    a_container_whose_creation_was_killed_is_created_or_given_after_the_restart: Create AfterRestart;
    another_container_of_a_name_that_is_being_created_is_refused: Create Otherwise;
    a_start_is_joined_by_many_and_starts_once: Start Meanwhile;
    a_start_that_nobody_heard_of_is_told_to_who_asks_again: Start Afterwards;
    a_start_that_was_killed_is_made_or_told_after_the_restart: Start AfterRestart;
    an_update_that_hangs_is_made_once_more_for_many: Update Meanwhile;
    an_update_that_nobody_heard_of_can_be_said_again: Update Afterwards;
    an_update_that_was_killed_can_be_said_again_after_the_restart: Update AfterRestart;
    a_stop_is_joined_by_many: Stop Meanwhile;
    a_stop_that_nobody_heard_of_can_be_said_again: Stop Afterwards;
    a_stop_that_was_killed_ends_after_the_restart: Stop AfterRestart;
    a_removal_is_joined_by_many: Remove Meanwhile;
    a_removal_that_nobody_heard_of_can_be_said_again: Remove Afterwards;
    a_removal_that_was_killed_ends_after_the_restart: Remove AfterRestart;
    a_stop_of_a_pod_is_joined_by_many: StopPod Meanwhile;
    a_stop_of_a_pod_that_nobody_heard_of_can_be_said_again: StopPod Afterwards;
    a_stop_of_a_pod_that_was_killed_ends_after_the_restart: StopPod AfterRestart;
    a_removal_of_a_pod_is_joined_by_many: RemovePod Meanwhile;
    a_removal_of_a_pod_that_nobody_heard_of_can_be_said_again: RemovePod Afterwards;
    a_removal_of_a_pod_that_was_killed_ends_after_the_restart: RemovePod AfterRestart;
}

fn at_every_step(verb: Verb, again: Again) -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let before = Inventory::take(&stage.daemon.scope())?;
        let call = set(stage, verb).await?;
        stage.daemon.count()?;
        call.make(&mut stage.cri).await?;
        let steps = stage.daemon.counted()?;
        clear(stage, &before).await?;
        if steps == 0 {
            return skip("the daemon was built without failpoints");
        }
        for step in 1..=steps {
            let tried = Box::pin(at_step(stage, verb, again, step)).await;
            tried.with_context(|| format!("{verb:?} at step {step} of {steps}"))?;
            let cleared = clear(stage, &before).await;
            cleared.with_context(|| format!("{verb:?} at step {step} of {steps}, at the end"))?;
        }
        told(steps)
    })
}

async fn at_step(stage: &mut Stage, verb: Verb, again: Again, step: u32) -> Result<()> {
    let call = set(stage, verb).await?;
    let cut = CUTS[usize::try_from(step)? % CUTS.len()];
    let hung = stage.daemon.hang(step)?;
    let mut doomed = Doomed::begin(&stage.daemon, &stage.cri, &call, cut).await?;
    doomed.until("the step is reached", || Ok(hung.exists())).await?;
    let restart = again == Again::AfterRestart;
    if again == Again::Otherwise {
        refused_with_stage(stage, &call).await?;
    }
    doomed.cut().await.with_context(|| format!("{cut:?}"))?;
    if restart {
        stage.daemon.kill()?;
        stage.daemon.disarm()?;
        stage.start_again().await?;
    } else {
        doomed.noticed(&stage.daemon).await?;
    }
    let answer = match again {
        Again::Meanwhile => {
            let (cri, call) = (stage.cri.clone(), call.clone());
            let many = tokio::spawn(async move { call.make_often(&cri, MANY).await });
            // So that they are sent before the first goes on.
            tokio::task::yield_now().await;
            stage.daemon.disarm()?;
            many.await??
        }
        Again::Afterwards => {
            stage.daemon.disarm()?;
            doomed.done(&stage.daemon).await?;
            check(stage, verb, &call, None).await.context("before it is asked for again")?;
            call.make(&mut stage.cri).await?
        }
        Again::AfterRestart => call.make(&mut stage.cri).await?,
        Again::Otherwise => {
            stage.daemon.disarm()?;
            doomed.done(&stage.daemon).await?;
            return refused_as_existing(stage, &call).await;
        }
    };
    check(stage, verb, &call, Some(&answer)).await
}

/// Brings everything to where the verb can be called.
async fn set(stage: &mut Stage, verb: Verb) -> Result<Call> {
    let config = with_port(with_logs(pod("pod"), &stage.daemon.pod_logs()), 18080, 80);
    if verb == Verb::Run {
        return Ok(Call::RunPod(config));
    }
    let pod = stage.cri.run_pod(&config).await?;
    if verb == Verb::Create {
        let container = Box::new(main());
        return Ok(Call::Create { pod, config, container });
    }
    let id = stage.cri.create((&pod, &config), &main()).await?;
    if verb == Verb::Start {
        return Ok(Call::Start(id));
    }
    let log = stage.daemon.pod_logs().join("main.log");
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    stage.cri.start(&id).await?;
    until("the program catches the signal", async || {
        Ok(std::fs::read_to_string(&log)?.contains("ready"))
    })
    .await?;
    Ok(match verb {
        Verb::Update => {
            let memory_limit_in_bytes = 64 * MIB;
            let limits = LinuxContainerResources {
                memory_limit_in_bytes,
                ..LinuxContainerResources::default()
            };
            Call::Update(id, limits)
        }
        Verb::Stop => Call::Stop(id, 60),
        Verb::Remove => Call::Remove(id),
        Verb::StopPod => Call::StopPod(pod),
        Verb::RemovePod => Call::RemovePod(pod),
        Verb::Run | Verb::Create | Verb::Start => bail!("set above"),
    })
}

fn main() -> ContainerConfig {
    let script = "trap 'exit 3' TERM; echo ready; sleep 600 & wait";
    with_memory(container("main", BUSYBOX, &["sh", "-c", script]), 128 * MIB)
}

/// Sees that the call was made once and whole; with what it was answered with, if it was.
async fn check(stage: &mut Stage, verb: Verb, call: &Call, answer: Option<&str>) -> Result<()> {
    let pods = stage.cri.pods().await?;
    let containers = stage.cri.containers(None).await?;
    let standing = usize::from(verb != Verb::RemovePod);
    ensure!(pods.len() == standing, "{pods:?}");
    let standing = usize::from(!matches!(verb, Verb::Run | Verb::Remove | Verb::RemovePod));
    ensure!(containers.len() == standing, "{containers:?}");
    for pod in pods {
        let status = stage.cri.pod(&pod.id).await?;
        let ready = verb != Verb::StopPod;
        ensure!(ready == (status.state() == PodSandboxState::SandboxReady), "{status:?}");
        let address = status.network.map(|network| network.ip).unwrap_or_default();
        ensure!(ready != address.is_empty(), "ready: {ready}, address: \"{address}\"");
        ensure!(verb != Verb::Run || answer.is_none_or(|answer| answer == pod.id), "{answer:?}");
    }
    for container in containers {
        let is_answer = answer.is_none_or(|answer| answer == container.id);
        ensure!(verb != Verb::Create || is_answer, "{answer:?}");
        check_container(stage, verb, call, &container.id).await?;
    }
    Ok(())
}

async fn check_container(stage: &mut Stage, verb: Verb, call: &Call, id: &str) -> Result<()> {
    let status = stage.cri.container(id).await?;
    let state = match verb {
        Verb::Create => ContainerState::ContainerCreated,
        Verb::Stop | Verb::StopPod => ContainerState::ContainerExited,
        Verb::Run | Verb::Start | Verb::Update | Verb::Remove | Verb::RemovePod => {
            ContainerState::ContainerRunning
        }
    };
    ensure!(status.state() == state, "{status:?}");
    if state != ContainerState::ContainerRunning {
        let inside = processes_in(id)?;
        ensure!(inside.is_empty(), "{inside:?} run");
    }
    if verb == Verb::Stop {
        ensure!(status.exit_code == 3, "{status:?}");
    }
    if verb == Verb::Start {
        // One shell and one program that sleeps, however often it was asked for.
        let mut inside = Vec::new();
        until("the program runs", async || {
            inside = processes_in(id)?;
            Ok(inside.len() >= 2)
        })
        .await?;
        let first = u32::try_from(stage.cri.process(id).await?)?;
        ensure!(inside.len() == 2 && inside.contains(&first), "{inside:?} and {first}");
    }
    if let Call::Update(_, wanted) = call {
        let linux = status.resources.and_then(|resources| resources.linux);
        let limit = linux.map(|linux| linux.memory_limit_in_bytes);
        ensure!(limit == Some(wanted.memory_limit_in_bytes), "{limit:?}");
        let seen = limit::memory(stage.cri.process(id).await?)?;
        ensure!(seen == wanted.memory_limit_in_bytes, "{seen}");
    }
    Ok(())
}

/// The same name with something else in it.
fn other(call: &Call) -> Result<Call> {
    let mut other = call.clone();
    let annotations = if let Call::RunPod(config) = &mut other {
        &mut config.annotations
    } else if let Call::Create { container, .. } = &mut other {
        &mut container.annotations
    } else {
        bail!("{call:?} has no content");
    };
    annotations.insert("other".to_owned(), "content".to_owned());
    Ok(other)
}

/// While the first is under way, a client is told so, and how far it is.
async fn refused_with_stage(stage: &mut Stage, call: &Call) -> Result<()> {
    let refused = other(call)?.make(&mut stage.cri).await;
    ensure!(code(&refused) == Some(Code::Aborted), "{refused:?}");
    let text = message(&refused);
    let stages = ["begin", "pod_", "container_", "undo"];
    let named = stages.iter().any(|stage| text.contains(&format!("at stage \"{stage}")));
    ensure!(named && text.contains(" s, "), "{text}");
    Ok(())
}

/// Afterwards the name is taken by what can be seen, and free as soon as that is removed.
async fn refused_as_existing(stage: &mut Stage, call: &Call) -> Result<()> {
    let refused = other(call)?.make(&mut stage.cri).await;
    ensure!(code(&refused) == Some(Code::AlreadyExists), "{refused:?}");
    let id = call.make(&mut stage.cri).await?;
    ensure!(message(&refused).contains(&id), "{refused:?} does not name {id}");
    if matches!(call, Call::RunPod(_)) {
        stage.cri.take_away(&id).await?;
    } else {
        stage.cri.remove(&id).await?;
    }
    let another = other(call)?.make(&mut stage.cri).await?;
    ensure!(another != id, "a removed {id} came back");
    Ok(())
}

/// Takes everything away and sees that nothing is left.
async fn clear(stage: &mut Stage, before: &Inventory) -> Result<()> {
    for pod in stage.cri.pods().await? {
        stage.cri.take_away(&pod.id).await?;
    }
    before.again(&stage.daemon.scope()).await
}

/// Says at how many steps it was tried, straight to the stream, which the test runner does not hide.
fn told(steps: u32) -> Result<()> {
    use std::io::Write as _;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    Ok(writeln!(std::io::stderr(), "{name}: cut off at {steps} steps")?)
}

/// A pod with a created container that runs a command; both ids. None if the daemon was built without failpoints.
async fn created(stage: &mut Stage, command: &[&str]) -> Result<Option<(String, String)>> {
    stage.cri.pull(BUSYBOX).await?;
    let config = pod("pod");
    stage.daemon.count()?;
    let pod = stage.cri.run_pod(&config).await?;
    if stage.daemon.counted()? == 0 {
        stage.cri.take_away(&pod).await?;
        return Ok(None);
    }
    let main = container("main", BUSYBOX, command);
    let id = stage.cri.create((&pod, &config), &main).await?;
    Ok(Some((pod, id)))
}

#[test]
fn a_start_of_what_ended_meanwhile_is_told_once_to_who_had_no_answer() -> Result<()> {
    on_stage(async |stage| {
        let Some((pod, id)) = created(stage, &["true"]).await? else {
            return skip("the daemon was built without failpoints");
        };
        let call = Call::Start(id.clone());
        let hung = stage.daemon.hang(1)?;
        let mut doomed = Doomed::begin(&stage.daemon, &stage.cri, &call, Cut::Cancelled).await?;
        doomed.until("the step is reached", || Ok(hung.exists())).await?;
        doomed.cut().await?;
        doomed.noticed(&stage.daemon).await?;
        stage.daemon.disarm()?;
        doomed.done(&stage.daemon).await?;
        let mut cri = stage.cri.clone();
        until("the program has ended", async || {
            Ok(cri.container(&id).await?.state() == ContainerState::ContainerExited)
        })
        .await?;
        call.make(&mut stage.cri).await.context("who had no answer")?;
        let again = call.make(&mut stage.cri).await;
        ensure!(code(&again) == Some(Code::FailedPrecondition), "{again:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_start_that_failed_is_told_again_with_its_reason() -> Result<()> {
    on_stage(async |stage| {
        let Some((pod, id)) = created(stage, &["/nope"]).await? else {
            return skip("the daemon was built without failpoints");
        };
        for _ in 0..2 {
            let answer = stage.cri.start(&id).await;
            ensure!(code(&answer) == Some(Code::FailedPrecondition), "{answer:?}");
            ensure!(message(&answer).contains("/nope"), "{answer:?}");
            stage.crash().await?;
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn of_many_stops_at_once_the_shortest_grace_counts_for_all() -> Result<()> {
    on_stage(async |stage| {
        // As first process of its namespace it does not hear the stop signal.
        let Some((pod, id)) = created(stage, &["sleep", "600"]).await? else {
            return skip("the daemon was built without failpoints");
        };
        stage.cri.start(&id).await?;
        let mut stops = Vec::new();
        for number in 0..MANY {
            let grace = if number == MANY / 2 { 1 } else { 6000 };
            let (mut cri, call) = (stage.cri.clone(), Call::Stop(id.clone(), grace));
            stops.push(tokio::spawn(async move { call.make(&mut cri).await }));
        }
        for stop in stops {
            stop.await??;
        }
        let status = stage.cri.container(&id).await?;
        ensure!(status.exit_code == 137, "{status:?}");
        stage.cri.take_away(&pod).await
    })
}
