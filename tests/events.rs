//! GetContainerEvents: what happens to pods and containers, in order, with the statuses of the moment.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{
    ContainerEventResponse, ContainerEventType, ContainerState, ContainerStatus, GetEventsRequest,
    PodSandboxConfig, PodSandboxState, PodSandboxStatusRequest, PodSandboxStatusResponse,
    StatusRequest,
};
use cringle_tests::client::Cri;
use cringle_tests::request::{container, pod, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
    ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
};

type Events = Streaming<ContainerEventResponse>;

async fn subscribe(stage: &Stage) -> Result<Events> {
    Ok(stage.cri.clone().runtime.get_container_events(GetEventsRequest {}).await?.into_inner())
}

async fn next(events: &mut Events) -> Result<ContainerEventResponse> {
    let event = timeout(wait::DEADLINE, events.message()).await.context("an event comes")??;
    event.context("the stream goes on")
}

async fn status(stage: &Stage, pod: &str) -> Result<PodSandboxStatusResponse> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: false };
    Ok(stage.cri.clone().runtime.pod_sandbox_status(request).await?.into_inner())
}

async fn subscribers(stage: &Stage) -> Result<u64> {
    let request = StatusRequest { verbose: true };
    let info = stage.cri.clone().runtime.status(request).await?.into_inner().info;
    let text = info.get("events").context("the verbose status tells of events")?;
    let document: serde_json::Value = serde_json::from_str(text)?;
    document["subscribers"].as_u64().context("and of their subscribers")
}

/// What a reader of events knows: the containers of each pod, and how each stands.
#[derive(Debug, Default)]
struct Known {
    pods: BTreeMap<String, BTreeMap<String, ContainerState>>,
    last: i64,
}

impl Known {
    /// Takes an event to what is known; its statuses must say just that, no earlier and no later.
    fn take(&mut self, event: &ContainerEventResponse) -> Result<()> {
        ensure!(event.created_at > self.last, "time goes on: {event:?}");
        self.last = event.created_at;
        let sandbox = event.pod_sandbox_status.as_ref().context("the pod's status is there")?;
        newest_first(&event.containers_statuses)?;
        let told: BTreeMap<String, ContainerState> =
            event.containers_statuses.iter().map(|one| (one.id.clone(), one.state())).collect();
        if event.container_id == sandbox.id {
            return self.take_of_pod(event, sandbox.state(), &told);
        }
        let known = self.pods.get_mut(&sandbox.id).context("the pod was created before")?;
        let state = match event.container_event_type() {
            Created => ContainerState::ContainerCreated,
            Started => ContainerState::ContainerRunning,
            Stopped | Deleted => ContainerState::ContainerExited,
        };
        known.insert(event.container_id.clone(), state);
        ensure!(*known == told, "{known:?} is known: {event:?}");
        if event.container_event_type() == Deleted {
            known.remove(&event.container_id);
        }
        Ok(())
    }

    fn take_of_pod(
        &mut self,
        event: &ContainerEventResponse,
        state: PodSandboxState,
        told: &BTreeMap<String, ContainerState>,
    ) -> Result<()> {
        let known = self.pods.entry(event.container_id.clone()).or_default();
        ensure!(known == told, "{known:?} is known: {event:?}");
        let ready = matches!(event.container_event_type(), Created | Started);
        ensure!(ready == (state == PodSandboxState::SandboxReady), "{event:?}");
        if event.container_event_type() == Deleted {
            self.pods.remove(&event.container_id);
        }
        Ok(())
    }
}

/// Of the containers of one name a kubelet takes the first for the one that counts.
fn newest_first(statuses: &[ContainerStatus]) -> Result<()> {
    let created: Vec<i64> = statuses.iter().map(|one| one.created_at).collect();
    ensure!(created.is_sorted_by(|one, other| one >= other), "{created:?}");
    Ok(())
}

#[test]
fn all_attempts_of_a_container_are_told_newest_first() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("attempts");
        let pod_id = stage.cri.run_pod(&config).await?;
        let mut events = subscribe(stage).await?;
        // So many that their order by id, which is random, is not this one by chance.
        for attempt in 0..6 {
            let mut attempted = container("again", BUSYBOX, &["true"]);
            attempted.metadata.as_mut().context("a name")?.attempt = attempt;
            let id = stage.cri.create((&pod_id, &config), &attempted).await?;
            let event = next(&mut events).await?;
            ensure!(event.containers_statuses[0].id == id, "{event:?}");
            newest_first(&event.containers_statuses)?;
        }
        let told = status(stage, &pod_id).await?.containers_statuses;
        ensure!(told.len() == 6, "{told:?}");
        newest_first(&told)?;
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn a_pods_life_is_told_in_order_with_the_statuses_of_each_moment() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut events = subscribe(stage).await?;
        let config = pod("told");
        let command = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
        let (pod, id) =
            stage.cri.start_in_pod(&config, &container("told", BUSYBOX, &command)).await?;
        let before = status(stage, &pod).await?;
        stage.cri.stop(&id, 0).await?;
        let after = status(stage, &pod).await?;
        stage.cri.remove(&id).await?;
        stage.cri.take_away(&pod).await?;

        let mut known = Known::default();
        let mut told = Vec::new();
        let mut stopped = 0;
        for _ in 0..8 {
            let event = next(&mut events).await?;
            known.take(&event)?;
            if event.container_event_type() == Stopped && event.container_id == id {
                ensure!(event.containers_statuses[0].exit_code == 137, "{event:?}");
                stopped = event.created_at;
            }
            let sandbox = event.pod_sandbox_status.clone().context("it has a status")?;
            ensure!(sandbox.metadata == config.metadata, "{event:?}");
            told.push((event.container_id.clone(), event.container_event_type()));
        }
        let of = |id: &String, kind| (id.clone(), kind);
        let expected = [
            of(&pod, Created),
            of(&pod, Started),
            of(&id, Created),
            of(&id, Started),
            of(&id, Stopped),
            of(&id, Deleted),
            of(&pod, Stopped),
            of(&pod, Deleted),
        ];
        ensure!(told == expected, "{told:?}");

        // A status is at one place in the same order.
        ensure!(before.timestamp < stopped && stopped < after.timestamp, "{before:?} {after:?}");
        let states = [&before, &after].map(|answer| answer.containers_statuses[0].state());
        let expected = [ContainerState::ContainerRunning, ContainerState::ContainerExited];
        ensure!(states == expected, "{states:?}");
        Ok(())
    })
}

#[test]
fn a_container_that_ends_by_itself_is_told_with_its_reason() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("ends");
        let pod_id = stage.cri.run_pod(&config).await?;
        let mut events = subscribe(stage).await?;
        let eater = ["sh", "-c", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"];
        let eater = with_memory(container("eater", BUSYBOX, &eater), 15 << 20);
        for (config_of_one, code, reason) in [
            (container("fails", BUSYBOX, &["sh", "-c", "exit 7"]), 7, "Error"),
            (eater, 137, "OOMKilled"),
            (container("absent", BUSYBOX, &["/no/such/program"]), 128, "StartError"),
        ] {
            let id = stage.cri.create((&pod_id, &config), &config_of_one).await?;
            let started = stage.cri.start(&id).await;
            ensure!(started.is_ok() == (reason != "StartError"), "{started:?}");
            let event = loop {
                let event = next(&mut events).await?;
                if event.container_event_type() == Stopped {
                    break event;
                }
            };
            ensure!(event.container_id == id, "{event:?}");
            let found = event.containers_statuses.iter().find(|one| one.id == id);
            let found = found.context("it is among the statuses")?;
            ensure!(found.exit_code == code && found.reason == reason, "{found:?}");
            ensure!(found.finished_at <= event.created_at, "{event:?}");
        }
        stage.cri.take_away(&pod_id).await
    })
}

/// One pod with two containers, from beginning to end.
async fn live(stage: &Stage, name: &str) -> Result<()> {
    let mut cri = stage.cri.clone();
    let config = pod(name);
    let first = container("first", BUSYBOX, &["sleep", "600"]);
    let (pod, _) = Box::pin(cri.start_in_pod(&config, &first)).await?;
    let second = container("second", BUSYBOX, &["true"]);
    let id = cri.create((&pod, &config), &second).await?;
    cri.start(&id).await?;
    Box::pin(cri.take_away(&pod)).await
}

#[test]
fn many_pods_at_once_are_told_to_every_subscriber_alike_and_nothing_is_lost() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut subscriptions = Vec::new();
        for _ in 0..3 {
            subscriptions.push(subscribe(stage).await?);
        }
        let names: Vec<String> = (0..6).map(|number| format!("many{number}")).collect();
        let lives = names.iter().map(|name| live(stage, name));
        for outcome in join_all(lives).await {
            outcome?;
        }
        let mut stories = Vec::new();
        for events in &mut subscriptions {
            let mut known = Known::default();
            let mut story = Vec::new();
            while story.len() < names.len() * 12 {
                let event = next(events).await?;
                known.take(&event).with_context(|| format!("after {story:?}"))?;
                story.push((event.created_at, event.container_id, event.container_event_type));
            }
            ensure!(known.pods.is_empty(), "{known:?}");
            stories.push(story);
        }
        ensure!(stories[0] == stories[1] && stories[1] == stories[2], "{stories:?}");
        Ok(())
    })
}

/// Makes containers and removes them; two events each.
async fn churn(stage: &Stage, pod: (&str, &PodSandboxConfig), count: usize) -> Result<()> {
    let made = stream::iter(0..count).map(async |number| {
        let mut cri = stage.cri.clone();
        let config = container(&format!("one{number}"), BUSYBOX, &["true"]);
        let id = cri.create(pod, &config).await?;
        cri.remove(&id).await
    });
    made.buffer_unordered(8).try_collect().await
}

#[test]
fn a_reader_that_stands_still_is_cut_off_with_an_error_and_the_others_get_everything() -> Result<()>
{
    // More than may wait for a reader, and with statuses so large that the connection takes few of them.
    const PAIRS: usize = 1100;
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut config = pod("slow");
        config.annotations.insert("long".to_owned(), "x".repeat(16 << 10));
        let pod_id = stage.cri.run_pod(&config).await?;
        let mut slow = Cri::connect(&stage.daemon.socket()).await?;
        let mut slow = slow.runtime.get_container_events(GetEventsRequest {}).await?.into_inner();
        let mut quick = subscribe(stage).await?;
        let reading = async {
            let mut last = 0;
            for _ in 0..2 * PAIRS {
                let event = next(&mut quick).await?;
                ensure!(event.created_at > last, "out of order: {event:?}");
                last = event.created_at;
            }
            Ok(())
        };
        tokio::try_join!(churn(stage, (&pod_id, &config), PAIRS), reading)?;
        let mut got = 0;
        let refused = loop {
            match timeout(wait::DEADLINE, slow.message()).await.context("the stream ends")? {
                Ok(event) => ensure!(event.is_some(), "it ended as if nothing were lost"),
                Err(status) => break status,
            }
            got += 1;
        };
        ensure!(refused.code() == Code::ResourceExhausted && got < 2 * PAIRS, "{refused:?}");
        stage.cri.stop_pod(&pod_id).await?;
        ensure!(next(&mut quick).await?.container_id == pod_id, "the others go on");
        stage.cri.remove_pod(&pod_id).await
    })
}

#[test]
fn a_client_that_leaves_is_forgotten_and_the_end_of_the_daemon_ends_the_stream() -> Result<()> {
    on_stage(async |stage| {
        let mut events = subscribe(stage).await?;
        let leaving = subscribe(stage).await?;
        ensure!(subscribers(stage).await? == 2, "both are there");
        drop(leaving);
        wait::until("the one that left is forgotten", async || Ok(subscribers(stage).await? == 1))
            .await?;

        stage.daemon.stop().await?;
        match timeout(wait::DEADLINE, events.message()).await.context("the stream ends")? {
            Err(status) if status.code() == Code::Unavailable => {}
            other => bail!("{other:?}"),
        }
        stage.start_again().await
    })
}

/// Has the container of a process end, if it looks for this file.
fn end(process: i64) -> Result<()> {
    std::fs::File::create(format!("/proc/{process}/root/tmp/end"))?;
    Ok(())
}

#[test]
fn what_ends_while_the_daemon_is_dead_is_in_the_status_and_what_ends_later_is_told() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let config = pod("dead");
        let script = "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9";
        let waiting = container("waiting", BUSYBOX, &["sh", "-c", script]);
        let (pod, id) = stage.cri.start_in_pod(&config, &waiting).await?;
        let other = container("other", BUSYBOX, &["sh", "-c", script]);
        let other = stage.cri.create((&pod, &config), &other).await?;
        stage.cri.start(&other).await?;
        let process = stage.cri.process(&id).await?;
        stage.daemon.kill()?;
        end(process)?;
        let place = format!("/proc/{process}");
        wait::until("it has ended", async || Ok(!std::path::Path::new(&place).exists())).await?;
        stage.start_again().await?;

        let mut events = subscribe(stage).await?;
        wait::until("the end is known", async || {
            let found = status(stage, &pod).await?.containers_statuses;
            let one = found.iter().find(|one| one.id == id).context("it is there")?;
            Ok(one.state() == ContainerState::ContainerExited && one.exit_code == 9)
        })
        .await?;
        // Not by an exec, which the end that it orders may cut short.
        end(stage.cri.process(&other).await?)?;
        // The first end may be told as well: it may have been noticed after the subscription.
        let event = loop {
            let event = next(&mut events).await?;
            if event.container_id == other {
                break event;
            }
        };
        ensure!(event.container_event_type() == Stopped, "{event:?}");
        let codes = event.containers_statuses.iter().map(|one| one.exit_code);
        ensure!(codes.clone().count() == 2 && codes.clone().all(|code| code == 9), "{event:?}");
        stage.cri.take_away(&pod).await
    })
}
