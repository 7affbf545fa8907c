//! Plugins that come, answer, refuse, fail and go.

use super::*;
use crate::connection::AskError;
use crate::register::CONNECTIONS;
use crate::settings::ValidatorSettings;
use crate::testing::{Character, Host, Reply, answer, call, connect, join, nri, until};
use cringle_proto_nri::v1alpha1::{
    ConfigureRequest, ContainerAdjustment, CreateContainerResponse, Event, FailurePolicy, KeyValue,
    RunPodSandboxRequest, StateChangeEvent, SynchronizeRequest, UpdateContainersRequest,
    ValidateContainerAdjustmentResponse,
};
use tokio::io::AsyncReadExt;

impl Nri {
    /// The names of the plugins, in the order in which they are asked.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all().iter().map(|plugin| plugin.name.to_string()).collect()
    }
}

/// The subscription to CreateContainer alone.
const CREATING: i32 = 1 << (Event::CreateContainer as i32 - 1);

fn named(name: &'static str) -> Character {
    Character { name, ..Character::default() }
}

fn replying(name: &'static str, method: &'static str, reply: Reply) -> Character {
    Character { replies: [(method, reply)].into(), ..named(name) }
}

fn pod() -> PodSandbox {
    PodSandbox { id: "pod".to_owned(), ..PodSandbox::default() }
}

fn container() -> Container {
    Container { id: "new".to_owned(), name: "main".to_owned(), ..Container::default() }
}

fn setting(key: &str) -> CreateContainerResponse {
    let variable = KeyValue { key: key.to_owned(), value: "1".to_owned() };
    let adjust = ContainerAdjustment { env: vec![variable], ..ContainerAdjustment::default() };
    CreateContainerResponse { adjust: Some(adjust), ..CreateContainerResponse::default() }
}

async fn create(nri: &Nri) -> Result<Creation, HookError> {
    Box::pin(nri.create(pod(), container())).await
}

async fn run(nri: &Nri) -> Result<(), HookError> {
    nri.tell(&RunPodSandboxRequest { pod: Some(pod()) }).await
}

#[tokio::test]
async fn plugins_are_configured_synchronised_and_asked_in_the_order_of_their_indexes() {
    let nri = nri(None);
    let host = Arc::new(Host { pods: vec![pod()], ..Host::default() });
    let second =
        join(&nri, &host, replying("20-b", "CreateContainer", answer(&setting("B")))).await;
    let first = join(&nri, &host, replying("10-a", "CreateContainer", answer(&setting("A")))).await;
    assert_eq!(nri.names(), ["10-a", "20-b"]);
    let configured: ConfigureRequest = first.seen().unwrap();
    assert_eq!((configured.runtime_name.as_str(), configured.request_timeout), ("cringle", 2000));
    assert_eq!(first.seen::<SynchronizeRequest>().unwrap().pods, [pod()]);
    run(&nri).await.unwrap();
    let creation = create(&nri).await.unwrap();
    let keys: Vec<_> = creation.adjustment.env.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["A", "B"]);
    let seen: CreateContainerRequest = second.seen().unwrap();
    assert_eq!(seen.container.unwrap().env, ["A=1"], "what the first one changed");
    let calls = ["Configure", "Synchronize", "RunPodSandbox", "CreateContainer"];
    assert_eq!(&first.called()[..4], calls);
    nri.shut_down().await;
    run(&nri).await.unwrap();
}

#[tokio::test]
async fn a_plugin_is_told_what_it_subscribed_to_and_nothing_else() {
    let nri = nri(None);
    let host = Arc::default();
    // Event 1: RunPodSandbox.
    let peer = join(&nri, &host, Character { events: 1, ..named("00-a") }).await;
    run(&nri).await.unwrap();
    create(&nri).await.unwrap();
    nri.stopped(pod(), container()).await.unwrap();
    assert_eq!(peer.called(), ["Configure", "Synchronize", "RunPodSandbox"]);
}

#[tokio::test]
async fn a_refusal_is_the_operations_error_and_the_plugin_stays() {
    let nri = nri(None);
    let host = Arc::default();
    join(&nri, &host, replying("00-a", "RunPodSandbox", Reply::Refuse(2, "not today"))).await;
    let after = join(&nri, &host, named("10-b")).await;
    let error = run(&nri).await.unwrap_err();
    assert_eq!(error.to_string(), "NRI plugin \"00-a\" refused RunPodSandbox");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "not today");
    assert!(!after.called().contains(&"RunPodSandbox".to_owned()));
    assert_eq!(nri.names(), ["00-a", "10-b"]);
}

#[tokio::test]
async fn a_plugin_that_fails_is_dropped_and_the_operation_goes_on() {
    for reply in [Reply::Silence, Reply::Leave, Reply::Babble(vec![0xff; 100])] {
        let nri = nri(None);
        let host = Arc::default();
        join(&nri, &host, replying("00-a", "RunPodSandbox", reply.clone())).await;
        let after = join(&nri, &host, named("10-b")).await;
        run(&nri).await.unwrap();
        assert!(after.called().contains(&"RunPodSandbox".to_owned()), "{reply:?}");
        until("the plugin has left", || nri.names() == ["10-b"]).await;
    }
}

#[tokio::test]
async fn a_plugin_may_want_requests_to_fail_with_it_and_to_stay_after_a_time_out() {
    let strict = FailurePolicy { fail_request: true, keep_connected: true };
    for (reply, stays) in [(Reply::Silence, true), (Reply::Leave, false)] {
        let nri = nri(None);
        let character =
            Character { policy: strict, ..replying("00-a", "RunPodSandbox", reply.clone()) };
        join(&nri, &Arc::default(), character).await;
        let error = run(&nri).await.unwrap_err();
        assert!(matches!(error, HookError::Unanswered { .. }), "{error}");
        if !stays {
            until("the plugin has left", || nri.names().is_empty()).await;
        }
        assert_eq!(nri.has_plugins(), stays, "{reply:?}");
    }
}

#[tokio::test]
async fn an_older_plugin_is_told_by_state_changes() {
    let nri = nri(None);
    let character = replying("00-a", "RunPodSandbox", Reply::Refuse(12, "what is that?"));
    let peer = join(&nri, &Arc::default(), character).await;
    run(&nri).await.unwrap();
    run(&nri).await.unwrap();
    let calls = peer.called();
    assert_eq!(&calls[2..], ["RunPodSandbox", "StateChange", "StateChange"]);
    let change: StateChangeEvent = peer.seen().unwrap();
    assert_eq!((change.event, change.pod), (1, Some(pod())));
}

#[tokio::test]
async fn a_plugin_that_does_not_introduce_itself_does_not_join() {
    let host = Arc::default();
    for (character, wait) in [
        (named("00-"), "a name"),
        (named("xx-a"), "an index"),
        (Character { events: 1 << 20, ..named("00-a") }, "events"),
        (replying("00-a", "Configure", Reply::Refuse(3, "no")), "a refusal"),
        (replying("00-a", "Synchronize", Reply::Leave), "a farewell"),
    ] {
        let nri = nri(None);
        drop(connect(&nri, &host, character));
        let rest = || nri.tasks.lock().unwrap().try_join_next().is_some();
        until(wait, rest).await;
        assert!(!nri.has_plugins(), "{wait}");
    }
}

#[tokio::test]
async fn a_plugin_joins_only_when_no_operation_is_under_way() {
    let nri = nri(None);
    let steady = nri.steady().await;
    let peer = connect(&nri, &Arc::default(), named("00-a"));
    until("it is configured", || peer.called() == ["Configure"]).await;
    // Others still get through, also while it waits.
    drop(nri.steady().await);
    assert!(!nri.has_plugins());
    drop(steady);
    until("it has joined", || nri.has_plugins()).await;
}

#[tokio::test]
async fn what_a_plugin_wants_unasked_is_done_and_what_fails_is_told() {
    let nri = nri(None);
    let host: Arc<Host> = Arc::default();
    let update = |container: &str| ContainerUpdate {
        container_id: container.to_owned(),
        ..ContainerUpdate::default()
    };
    let eviction = ContainerEviction { container_id: "c".to_owned(), reason: "old".to_owned() };
    let wish = UpdateContainersRequest {
        update: vec![update("known"), update("unknown")],
        evict: vec![eviction.clone()],
    };
    let character = replying("00-a", "RunPodSandbox", Reply::Babble(call(3, &wish)));
    join(&nri, &host, character).await;
    // It has no answer for us, but that is not what this is about.
    run(&nri).await.unwrap();
    until("it is done", || !host.evicted.lock().unwrap().is_empty()).await;
    assert_eq!(*host.updated.lock().unwrap(), [update("known"), update("unknown")]);
    assert_eq!(*host.evicted.lock().unwrap(), [eviction]);
}

#[tokio::test]
async fn validators_have_the_last_word_also_when_they_say_nothing() {
    let rejects = ValidateContainerAdjustmentResponse { reject: true, reason: "no".to_owned() };
    for (reply, rejected) in [
        (answer(&rejects), Some("no")),
        (Reply::Leave, Some("it did not answer")),
        (answer(&ValidateContainerAdjustmentResponse::default()), None),
    ] {
        let nri = nri(None);
        let host = Arc::default();
        join(&nri, &host, replying("00-a", "CreateContainer", answer(&setting("A")))).await;
        let judge = join(&nri, &host, replying("99-v", "ValidateContainerAdjustment", reply)).await;
        match (create(&nri).await, rejected) {
            (Err(HookError::Rejected { validator, reason }), Some(expected)) => {
                assert_eq!((validator.as_str(), reason.as_str()), ("99-v", expected));
            }
            (outcome, rejected) => assert_eq!(outcome.is_ok(), rejected.is_none(), "{outcome:?}"),
        }
        let seen: ValidateContainerAdjustmentRequest = judge.seen().unwrap();
        assert_eq!(seen.container, Some(container()), "before all changes");
        assert_eq!(seen.adjust, setting("A").adjust);
        let owners = &seen.owners.unwrap().owners["new"];
        assert_eq!(owners.compound[&6].owners["A"], "00-a");
        assert_eq!(seen.plugins.len(), 2);
    }
}

#[tokio::test]
async fn a_validator_that_leaves_before_it_is_asked_has_not_agreed() {
    for reply in [Reply::Leave, Reply::Silence] {
        let nri = nri(None);
        join(&nri, &Arc::default(), replying("99-v", "CreateContainer", reply)).await;
        let error = create(&nri).await.unwrap_err();
        let HookError::Rejected { validator, .. } = &error else { panic!("{error}") };
        assert_eq!(validator, "99-v");
    }
}

#[tokio::test]
async fn a_required_plugin_that_was_passed_over_has_not_been_asked() {
    let settings =
        ValidatorSettings { required: vec!["a".to_owned()], ..ValidatorSettings::default() };
    let nri = nri(Some(settings));
    let policy = FailurePolicy { keep_connected: true, ..FailurePolicy::default() };
    let silent = replying("00-a", "CreateContainer", Reply::Silence);
    join(&nri, &Arc::default(), Character { policy, events: CREATING, ..silent }).await;
    let error = create(&nri).await.unwrap_err().to_string();
    assert!(error.contains("required plugins are not there: a"), "{error}");
}

#[tokio::test]
async fn a_plugin_that_is_required_and_dead_keeps_containers_from_being_made() {
    let settings =
        ValidatorSettings { required: vec!["a".to_owned()], ..ValidatorSettings::default() };
    let nri = nri(Some(settings));
    assert!(nri.shapes_containers());
    create(&nri).await.unwrap_err();
    join(&nri, &Arc::default(), replying("00-a", "CreateContainer", answer(&setting("A")))).await;
    create(&nri).await.unwrap();
    // One of the name is enough; this one is no validator, whose silence would be a no.
    let silent = replying("10-a", "CreateContainer", Reply::Silence);
    join(&nri, &Arc::default(), Character { events: CREATING, ..silent }).await;
    create(&nri).await.unwrap();
    nri.shut_down().await;
    create(&nri).await.unwrap_err();
}

#[tokio::test]
async fn a_request_larger_than_a_message_fails_and_is_nobodys_fault() {
    let nri = nri(None);
    join(&nri, &Arc::default(), named("00-a")).await;
    let large = PodSandbox { name: "x".repeat(5 << 20), ..pod() };
    let error = nri.tell(&RunPodSandboxRequest { pod: Some(large) }).await.unwrap_err();
    let HookError::Refused { source: AskError::TooLarge(_), .. } = error else {
        panic!("{error}");
    };
    assert!(nri.has_plugins());
}

#[tokio::test]
async fn what_happens_while_a_plugin_is_told_what_there_is_is_told_to_it_afterwards() {
    let nri = nri(None);
    assert!(!nri.has_plugins());
    let quiet = nri.quiet().await;
    assert!(nri.has_plugins(), "who asks now whether there is anything to tell must wait");
    let teller = Arc::clone(&nri);
    let told = tokio::spawn(async move { teller.stopped(pod(), container()).await });
    let peer = connect(&nri, &Arc::default(), named("00-a"));
    until("the plugin has asked to join", || peer.called() == ["Configure"]).await;
    drop(quiet);
    told.await.unwrap().unwrap();
    until("the plugin has joined", || nri.names() == ["00-a"]).await;
    assert!(nri.has_plugins());
    nri.shut_down().await;
    assert!(!nri.has_plugins());
}

#[tokio::test]
async fn a_plugin_that_asks_and_asks_and_reads_no_answer_is_rid_of() {
    let nri = nri(None);
    let flood: Vec<u8> =
        (1..=5000).flat_map(|n| call(2 * n + 1, &UpdateContainersRequest::default())).collect();
    let flooding = replying("00-a", "RunPodSandbox", Reply::Babble(flood));
    join(&nri, &Arc::default(), flooding).await;
    run(&nri).await.unwrap();
    until("the plugin has left", || nri.names().is_empty()).await;
}

#[tokio::test]
async fn more_entries_than_anybody_needs_are_refused_by_name() {
    let nri = nri(None);
    let variables = (0..5000).map(|n| KeyValue { key: format!("V{n}"), value: String::new() });
    let adjust = ContainerAdjustment { env: variables.collect(), ..ContainerAdjustment::default() };
    let many = CreateContainerResponse { adjust: Some(adjust), ..Default::default() };
    join(&nri, &Arc::default(), replying("00-a", "CreateContainer", answer(&many))).await;
    let error = create(&nri).await.unwrap_err().to_string();
    assert!(error.contains("00-a") && error.contains("5000"), "{error}");
}

#[tokio::test]
async fn one_connection_more_than_are_taken_is_turned_away_and_the_others_stay() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("nri.sock");
    let nri = nri(None);
    let runtime: Arc<dyn Runtime> = Arc::<Host>::default();
    nri.start(runtime, Some(tokio::net::UnixListener::bind(&path).unwrap())).await;
    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS {
        taken.push(tokio::net::UnixStream::connect(&path).await.unwrap());
    }
    let mut more = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert_eq!(more.read(&mut [0]).await.unwrap(), 0);
    // None of them has registered, but each has its time for that: without a bound they would go first.
    let open = taken.iter().filter(|one| one.try_read(&mut [0]).is_err()).count();
    assert_eq!(open, CONNECTIONS);
    nri.shut_down().await;
}
