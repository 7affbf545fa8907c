use super::*;
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::namespaces::ContainerPid;
use cringle_domain::plan::Identity;
use cringle_domain::process::{Exit, Outcome, ProcessIdentity, Signal};
use cringle_domain::time::Timestamp;

fn config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".to_owned(), attempt: 1 }),
        image: Some(v1::ImageSpec { image: "busybox".to_owned(), ..v1::ImageSpec::default() }),
        ..v1::ContainerConfig::default()
    }
}

fn spec(config: v1::ContainerConfig) -> Result<ContainerSpec, Refusal> {
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: "abc".to_owned(),
        config: Some(config),
        sandbox_config: None,
    };
    container_spec(request).map(|(_, spec)| spec)
}

fn record(phase: ContainerPhase) -> ContainerRecord {
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let spec = spec(v1::ContainerConfig { labels, log_path: "app/0.log".to_owned(), ..config() });
    ContainerRecord {
        id: ContainerId::from_bytes([0xcd; 32]),
        pod: PodId::from_bytes([0xab; 32]),
        spec: spec.unwrap(),
        origin: cringle_domain::container::Origin::Image,
        image: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
        image_reference: "docker.io/library/busybox@sha256:2".to_owned(),
        image_volumes: Vec::new(),
        layers: Vec::new(),
        identity: Identity { user: 1000, group: 1000, groups: vec![1000, 1234] },
        stop_signal: Signal::TERM,
        resources: cringle_domain::resources::Resources::default(),
        cgroup: "/cringle/x".to_owned(),
        created: Timestamp::from_nanoseconds(5),
        boot: "b".to_owned(),
        phase,
    }
}

fn running() -> ContainerRecord {
    let process = ProcessIdentity { pid: 7, start_time: 8 };
    record(ContainerPhase::Running { process, started: Timestamp::from_nanoseconds(6) })
}

fn exited(outcome: Outcome) -> ContainerRecord {
    let exit = Exit { outcome, at: Timestamp::from_nanoseconds(9) };
    record(ContainerPhase::Exited { started: Some(Timestamp::from_nanoseconds(6)), exit })
}

#[test]
fn a_bare_request_takes_everything_from_the_image() {
    let spec = spec(config()).unwrap();
    assert_eq!(spec.metadata.name, "app");
    assert_eq!(spec.image.reference, "busybox");
    assert!(spec.command.is_empty() && spec.args.is_empty() && spec.environment.is_empty());
    assert_eq!((spec.input, spec.terminal), (Input::Closed, Terminal::Absent));
    assert_eq!(spec.stop_signal, None);
    assert_eq!(spec.resources, cringle_domain::resources::Resources::default());
    assert_eq!(spec.security.pid, ContainerPid::Pod);
}

#[test]
fn a_full_request_is_taken_over() {
    let spec = spec(v1::ContainerConfig {
        command: vec!["sh".to_owned()],
        args: vec!["-c".to_owned()],
        working_dir: "/tmp".to_owned(),
        envs: vec![v1::KeyValue { key: "A".to_owned(), value: vec![0xff] }],
        stdin: true,
        stdin_once: true,
        tty: true,
        stop_signal: v1::Signal::Sigint.into(),
        ..config()
    });
    let spec = spec.unwrap();
    assert_eq!((spec.command, spec.args), (vec!["sh".to_owned()], vec!["-c".to_owned()]));
    assert_eq!(spec.working_dir, "/tmp");
    assert_eq!(spec.environment, [("A".to_owned(), vec![0xff])]);
    assert_eq!((spec.input, spec.terminal), (Input::Once, Terminal::Present));
    assert_eq!(spec.stop_signal.map(Signal::number), Some(2));
}

#[test]
fn a_container_without_options_follows_its_pod() {
    let options = v1::NamespaceOption {
        pid: v1::NamespaceMode::Node.into(),
        ..v1::NamespaceOption::default()
    };
    let context = v1::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..v1::LinuxSandboxSecurityContext::default()
    };
    let linux = v1::LinuxPodSandboxConfig {
        security_context: Some(context),
        ..v1::LinuxPodSandboxConfig::default()
    };
    let pod = v1::PodSandboxConfig { linux: Some(linux), ..v1::PodSandboxConfig::default() };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: "abc".to_owned(),
        config: Some(config()),
        sandbox_config: Some(pod),
    };
    assert_eq!(container_spec(request).unwrap().1.security.pid, ContainerPid::Node);
}

#[test]
fn what_is_missing_or_leads_outside_is_refused() {
    for wrong in [
        v1::ContainerConfig { metadata: None, ..config() },
        v1::ContainerConfig { image: None, ..config() },
        v1::ContainerConfig { image: Some(v1::ImageSpec::default()), ..config() },
        v1::ContainerConfig { log_path: "../0.log".to_owned(), ..config() },
        v1::ContainerConfig { log_path: "/0.log".to_owned(), ..config() },
        v1::ContainerConfig { stop_signal: 99, ..config() },
    ] {
        assert!(matches!(spec(wrong.clone()), Err(Refusal::Invalid { .. })), "{wrong:?}");
    }
}

#[test]
fn a_device_by_its_qualified_name_comes_by_field_and_by_annotation() {
    let device = |name: &str| v1::CdiDevice { name: name.to_owned() };
    let annotation = |value: &str| [("cdi.k8s.io/plugin_x".to_owned(), value.to_owned())].into();
    let both = v1::ContainerConfig {
        cdi_devices: vec![device("v.com/c=1"), device("v.com/c=2")],
        annotations: annotation("v.com/c=2,v.com/c=3"),
        ..config()
    };
    let names = spec(both).unwrap().cdi_devices;
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["v.com/c=1", "v.com/c=2", "v.com/c=3"]);
    for wrong in [
        v1::ContainerConfig { cdi_devices: vec![device("c=1")], ..config() },
        v1::ContainerConfig { annotations: annotation("v.com/c"), ..config() },
        v1::ContainerConfig { annotations: annotation(""), ..config() },
    ] {
        assert!(matches!(spec(wrong.clone()), Err(Refusal::Invalid { .. })), "{wrong:?}");
    }
}

#[test]
fn the_status_tells_the_course_of_a_container() {
    let created = container_status(&record(ContainerPhase::Created), None);
    assert_eq!(created.state(), v1::ContainerState::ContainerCreated);
    assert_eq!((created.created_at, created.started_at, created.finished_at), (5, 0, 0));

    let running = container_status(&running(), Some(Path::new("/logs")));
    assert_eq!(running.state(), v1::ContainerState::ContainerRunning);
    assert_eq!((running.started_at, running.finished_at), (6, 0));
    assert_eq!(running.log_path, "/logs/app/0.log");
    assert_eq!(running.stop_signal(), v1::Signal::Sigterm);
    let user = running.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 1234]));

    let killed = container_status(&exited(Outcome::OutOfMemory), None);
    assert_eq!(killed.state(), v1::ContainerState::ContainerExited);
    assert_eq!((killed.started_at, killed.finished_at, killed.exit_code), (6, 9, 137));
    assert_eq!((killed.reason.as_str(), killed.log_path.as_str()), ("OOMKilled", ""));
    let unseen = container_status(&exited(Outcome::Unseen("gone".to_owned())), None);
    assert_eq!((unseen.exit_code, unseen.message.as_str()), (255, "gone"));
}

#[test]
fn the_image_is_shown_as_the_user_wrote_it() {
    let image = |user_specified: &str| {
        image_to_cri(&ImageRequest {
            reference: "sha256:1".to_owned(),
            user_specified: user_specified.to_owned(),
            annotations: std::collections::BTreeMap::default(),
            runtime_handler: String::new(),
        })
        .image
    };
    assert_eq!(image("busybox"), "busybox");
    assert_eq!(image(""), "sha256:1");
}

#[test]
fn a_filter_wants_all_that_it_names() {
    let passes =
        |filter: v1::ContainerFilter| container_filter(Some(filter)).unwrap().1(&running());
    let nothing = v1::ContainerFilter::default;
    let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
    let state = |state: v1::ContainerState| Some(v1::ContainerStateValue { state: state.into() });
    assert!(container_filter(None).unwrap().1(&running()));
    assert!(passes(v1::ContainerFilter {
        id: "cdcd".to_owned(),
        pod_sandbox_id: "abab".to_owned(),
        state: state(v1::ContainerState::ContainerRunning),
        label_selector: label("web"),
    }));
    let (id, pod_sandbox_id) = ("cd".to_owned(), "ab".to_owned());
    let by_id = container_filter(Some(v1::ContainerFilter { id, pod_sandbox_id, ..nothing() }));
    assert_eq!(by_id.unwrap().0, ("cd".to_owned(), "ab".to_owned()));
    assert!(!passes(v1::ContainerFilter { label_selector: label("db"), ..nothing() }));
    let exited = state(v1::ContainerState::ContainerExited);
    assert!(!passes(v1::ContainerFilter { state: exited, ..nothing() }));
}
