use super::*;

const PROCESS: ProcessIdentity = ProcessIdentity { pid: 7, start_time: 70 };

fn at(nanoseconds: u64) -> Timestamp {
    Timestamp::from_nanoseconds(nanoseconds)
}

fn exit(code: u8) -> Exit {
    Exit { outcome: Outcome::Code(code), at: at(9) }
}

fn spec() -> ContainerSpec {
    use crate::spec::{ContainerMetadata, ImageRequest, Input, Terminal};
    ContainerSpec {
        metadata: ContainerMetadata { name: "c".into(), attempt: 0 },
        image: ImageRequest {
            reference: "i".into(),
            user_specified: String::new(),
            annotations: Default::default(),
            runtime_handler: String::new(),
        },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        environment: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        log_path: String::new(),
        input: Input::Closed,
        terminal: Terminal::Absent,
        stop_signal: None,
        resources: Resources::default(),
        security: Default::default(),
    }
}

fn container(phase: ContainerPhase) -> ContainerRecord {
    let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    ContainerRecord {
        id: ContainerId::from_bytes([2; 32]),
        pod: PodId::from_bytes([1; 32]),
        spec: spec(),
        origin: Origin::Image,
        image: digest,
        image_reference: String::new(),
        image_volumes: Vec::new(),
        layers: Vec::new(),
        identity: Identity::default(),
        stop_signal: Signal::TERM,
        resources: Resources::default(),
        cgroup: "/c".into(),
        created: at(1),
        boot: "b".into(),
        phase,
    }
}

fn phases() -> Vec<ContainerPhase> {
    vec![
        ContainerPhase::Creating,
        ContainerPhase::Created,
        ContainerPhase::Running { process: PROCESS, started: at(5) },
        ContainerPhase::Exited { started: Some(at(5)), exit: exit(3) },
        ContainerPhase::Removing,
    ]
}

fn events() -> Vec<ContainerEvent> {
    vec![
        ContainerEvent::Prepared,
        ContainerEvent::Started(PROCESS, at(6)),
        ContainerEvent::StartFailed("no".into(), at(6)),
        ContainerEvent::Exited(exit(4)),
        ContainerEvent::RemoveOrdered,
    ]
}

#[test]
fn no_container_ends_before_it_started_whatever_the_clock_says() {
    let started = at(50);
    let running = container(ContainerPhase::Running { process: PROCESS, started });
    let ended = running.apply(ContainerEvent::Exited(exit(4))).unwrap().unwrap();
    let expected = Exit { at: started, ..exit(4) };
    assert_eq!(ended.phase, ContainerPhase::Exited { started: Some(started), exit: expected });
}

#[test]
fn the_table_is_as_written() {
    // Rows: phases, columns: events; the phase that follows, `=` for nothing to do, `!` for refused.
    let table = [
        ["created", "!", "!", "!", "removing"],
        ["!", "running", "exited", "exited", "removing"],
        ["!", "=", "!", "exited", "!"],
        ["!", "!", "!", "=", "removing"],
        ["!", "!", "!", "!", "="],
    ];
    for (phase, row) in phases().into_iter().zip(table) {
        for (event, expected) in events().into_iter().zip(row) {
            let found = match container(phase.clone()).apply(event.clone()) {
                Ok(Some(next)) => next.phase.name(),
                Ok(None) => "=",
                Err(_) => "!",
            };
            assert_eq!(found, expected, "{phase:?} + {event:?}");
        }
    }
}

#[test]
fn an_event_taken_and_said_again_changes_nothing() {
    for phase in phases() {
        for event in events() {
            let Ok(Some(next)) = container(phase.clone()).apply(event.clone()) else { continue };
            assert!(!matches!(next.apply(event.clone()), Ok(Some(_))), "{phase:?} + 2 * {event:?}");
        }
    }
}

#[test]
fn the_first_exit_seen_is_kept() {
    let exited = container(ContainerPhase::Exited { started: None, exit: exit(3) });
    assert!(exited.apply(ContainerEvent::Exited(exit(4))).unwrap().is_none());
}

#[test]
fn limits_change_only_while_it_can_run() {
    let limits = Resources { cpu_shares: Some(5), ..Resources::default() };
    for phase in phases() {
        let changed = container(phase.clone()).apply(ContainerEvent::Limited(limits.clone()));
        let may = matches!(phase, ContainerPhase::Created | ContainerPhase::Running { .. });
        assert_eq!(changed.is_ok(), may, "{phase:?}");
    }
}
