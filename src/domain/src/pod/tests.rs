use super::*;
use crate::namespaces::PodNamespaces;
use crate::resources::Resources;
use crate::security::PodSecurity;
use crate::spec::PodMetadata;
use std::collections::BTreeMap;

fn at(nanoseconds: u64) -> Timestamp {
    Timestamp::from_nanoseconds(nanoseconds)
}

fn pod(phase: PodPhase) -> PodRecord {
    let metadata =
        PodMetadata { name: "p".into(), namespace: "n".into(), uid: "u".into(), attempt: 0 };
    let spec = PodSpec {
        metadata,
        hostname: String::new(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: None,
        sysctls: BTreeMap::new(),
        namespaces: PodNamespaces::default(),
        security: PodSecurity::default(),
        resources: PodResources::default(),
        runtime_handler: String::new(),
    };
    PodRecord {
        id: PodId::from_bytes([1; 32]),
        spec,
        plan: PodPlan {
            hostname: "p".into(),
            resolv_conf: String::new(),
            sysctls: BTreeMap::new(),
            cgroup_parent: "/c".into(),
        },
        created: at(1),
        boot: "b".into(),
        attachments: Vec::new(),
        resources: PodResources::default(),
        is_being_restored: true,
        phase,
    }
}

fn phases() -> Vec<PodPhase> {
    vec![
        PodPhase::Creating,
        PodPhase::Ready { addresses: Vec::new(), reaper: None },
        PodPhase::NotReady { why: Downfall::Stopped, since: at(2) },
        PodPhase::Removing,
    ]
}

/// Names one of both.
fn resize() -> PodResourcesChange {
    let containers = Some(Resources { memory_limit: Some(1 << 20), ..Resources::default() });
    PodResourcesChange { overhead: None, containers }
}

fn events() -> Vec<PodEvent> {
    vec![
        PodEvent::BroughtUp { addresses: Vec::new(), reaper: None },
        PodEvent::BringUpFailed(at(3)),
        PodEvent::Fell(Downfall::Rebooted, at(3)),
        PodEvent::Resized(Box::new(resize())),
        PodEvent::Restored,
        PodEvent::StopOrdered(at(3)),
        PodEvent::RemoveOrdered,
    ]
}

#[test]
fn an_event_taken_and_said_again_changes_nothing() {
    for phase in phases() {
        for event in events() {
            let Ok(Some(next)) = pod(phase.clone()).apply(event.clone()) else { continue };
            if let Ok(Some(again)) = next.apply(event.clone()) {
                panic!("{phase:?} + 2 * {event:?} = {:?}", again.phase);
            }
        }
    }
}

#[test]
fn removing_is_for_ever() {
    for event in events() {
        assert!(!matches!(pod(PodPhase::Removing).apply(event), Ok(Some(_))));
    }
}

#[test]
fn a_stop_is_success_in_every_phase() {
    for phase in phases() {
        assert!(pod(phase.clone()).apply(PodEvent::StopOrdered(at(3))).is_ok(), "{phase:?}");
    }
}

#[test]
fn a_ready_pod_is_not_removed_before_it_is_stopped() {
    let ready = pod(PodPhase::Ready { addresses: Vec::new(), reaper: None });
    ready.apply(PodEvent::RemoveOrdered).unwrap_err();
}

#[test]
fn only_a_ready_pod_has_been_restored_and_stays_ready() {
    for phase in phases() {
        let restored = pod(phase.clone()).apply(PodEvent::Restored);
        if matches!(phase, PodPhase::Ready { .. }) {
            let restored = restored.unwrap().unwrap();
            assert!(!restored.is_being_restored);
            assert_eq!(restored.phase, phase);
        } else {
            restored.unwrap_err();
        }
    }
}

#[test]
fn only_a_ready_pod_is_resized_and_keeps_what_the_change_does_not_name() {
    for phase in phases() {
        let mut pod = pod(phase.clone());
        pod.resources.overhead.cpu_shares = Some(2);
        let resized = pod.apply(PodEvent::Resized(Box::new(resize())));
        if matches!(phase, PodPhase::Ready { .. }) {
            let resized = resized.unwrap().unwrap();
            assert_eq!(resized.resources.containers.memory_limit, Some(1 << 20));
            assert_eq!(resized.resources.overhead.cpu_shares, Some(2));
            assert_eq!(resized.phase, phase);
        } else {
            resized.unwrap_err();
        }
    }
}

#[test]
fn a_record_that_knows_nothing_of_resources_is_read() {
    let mut written = serde_json::to_value(pod(PodPhase::Creating)).unwrap();
    assert!(written.as_object_mut().unwrap().remove("resources").is_some());
    assert!(written["spec"].as_object_mut().unwrap().remove("resources").is_some());
    let read: PodRecord = serde_json::from_value(written).unwrap();
    assert_eq!(read.resources, PodResources::default());
}
