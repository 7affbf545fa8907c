use super::*;
use cringle_domain::id::PodId;
use cringle_domain::namespaces::{PodPid, Sharing};
use cringle_domain::plan::PodPlan;
use cringle_domain::pod::Downfall;
use cringle_domain::resources::PodResources;
use cringle_domain::security::{Privilege, Seccomp};
use cringle_domain::time::Timestamp;

fn config() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".to_owned(),
            uid: "u".to_owned(),
            namespace: "default".to_owned(),
            attempt: 2,
        }),
        ..v1::PodSandboxConfig::default()
    }
}

fn spec(config: v1::PodSandboxConfig) -> Result<PodSpec, Refusal> {
    pod_spec(v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() })
}

fn record(phase: PodPhase) -> PodRecord {
    let labels = [("app".to_owned(), "web".to_owned())].into();
    PodRecord {
        id: PodId::from_bytes([0xab; 32]),
        spec: spec(v1::PodSandboxConfig { labels, ..config() }).unwrap(),
        plan: PodPlan {
            hostname: "web".to_owned(),
            resolv_conf: String::new(),
            sysctls: BTreeMap::new(),
            cgroup_parent: "/cringle".to_owned(),
        },
        created: Timestamp::from_nanoseconds(7),
        boot: "b".to_owned(),
        attachments: Vec::new(),
        resources: PodResources::default(),
        is_being_restored: false,
        phase,
    }
}

fn ready() -> PodRecord {
    let addresses = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    record(PodPhase::Ready { addresses, reaper: None })
}

fn stopped() -> PodRecord {
    let since = Timestamp::from_nanoseconds(9);
    record(PodPhase::NotReady { why: Downfall::Stopped, since })
}

#[test]
fn a_bare_request_is_a_pod_of_its_own_namespaces() {
    let spec = spec(config()).unwrap();
    assert_eq!((spec.metadata.name.as_str(), spec.metadata.attempt), ("web", 2));
    assert_eq!(spec.namespaces.network, Sharing::Pod);
    assert_eq!(spec.namespaces.pid, PodPid::Pod);
    assert_eq!(spec.dns, None);
    assert_eq!(spec.log_directory, None);
    assert_eq!(spec.cgroup_parent, None);
    assert_eq!(spec.security.privilege, Privilege::Ordinary);
    assert_eq!(spec.security.seccomp, Seccomp::Unset);
}

#[test]
fn a_full_request_is_taken_over() {
    let given = v1::PodSandboxConfig {
        hostname: "host".to_owned(),
        log_directory: "/var/log/pods/x".to_owned(),
        dns_config: Some(v1::DnsConfig::default()),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/pod1".to_owned(),
            sysctls: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                privileged: true,
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..config()
    };
    let spec = spec(given).unwrap();
    assert_eq!(spec.hostname, "host");
    assert_eq!(spec.log_directory, Some("/var/log/pods/x".into()));
    assert_eq!(spec.dns, Some(DnsConfig::default()));
    assert_eq!(spec.annotations["a"], "b");
    assert_eq!(spec.cgroup_parent.as_deref(), Some("/kubepods/pod1"));
    assert_eq!(spec.sysctls["kernel.shm_rmid_forced"], "1");
    assert_eq!(spec.security.privilege, Privilege::Privileged);
}

#[test]
fn only_mappings_with_a_host_port_are_published() {
    let mapping = |host_port, container_port, host_ip: &str| v1::PortMapping {
        protocol: 1,
        host_port,
        container_port,
        host_ip: host_ip.to_owned(),
    };
    let mapped = |mappings| {
        spec(v1::PodSandboxConfig { port_mappings: mappings, ..config() })
            .map(|spec| spec.port_mappings)
    };
    let found = mapped(vec![mapping(0, 80, ""), mapping(8080, 80, "::1")]).unwrap();
    let expected = PortMapping {
        protocol: Protocol::Udp,
        host_port: 8080,
        container_port: 80,
        host_address: Some("::1".parse().unwrap()),
    };
    assert_eq!(found, [expected]);
    for wrong in
        [mapping(-1, 80, ""), mapping(8080, 0, ""), mapping(65536, 80, ""), mapping(1, 1, "x")]
    {
        assert!(mapped(vec![wrong.clone()]).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_missing_or_malformed_is_refused_by_name() {
    let field = |result: Result<PodSpec, Refusal>| match result {
        Err(Refusal::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let empty = v1::RunPodSandboxRequest::default();
    assert_eq!(field(pod_spec(empty)), "config");
    let unnamed = v1::PodSandboxConfig { metadata: None, ..config() };
    assert_eq!(field(spec(unnamed)), "config.metadata");
    let logs = v1::PodSandboxConfig { log_directory: "logs".to_owned(), ..config() };
    assert_eq!(field(spec(logs)), "config.log_directory");
    let linux = v1::LinuxPodSandboxConfig {
        cgroup_parent: "/a/../b".to_owned(),
        ..v1::LinuxPodSandboxConfig::default()
    };
    let parent = v1::PodSandboxConfig { linux: Some(linux), ..config() };
    assert_eq!(field(spec(parent)), "linux.cgroup_parent");
}

#[test]
fn the_status_shows_the_first_address_and_the_others_apart() {
    let status = pod_status(&ready());
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.created_at, 7);
    let network = status.network.unwrap();
    assert_eq!(network.ip, "10.0.0.2");
    assert_eq!(network.additional_ips, [v1::PodIp { ip: "fd00::2".to_owned() }]);
    let network = pod_status(&stopped()).network.unwrap();
    assert_eq!(network, v1::PodSandboxNetworkStatus::default());
}

#[test]
fn a_filter_wants_all_that_it_names() {
    let passes = |filter: v1::PodSandboxFilter, record: &PodRecord| {
        pod_filter(Some(filter)).unwrap().1(record)
    };
    let nothing = v1::PodSandboxFilter::default;
    let state = |state: v1::PodSandboxState| Some(v1::PodSandboxStateValue { state: state.into() });
    let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
    assert!(pod_filter(None).unwrap().1(&ready()));
    let by_id = pod_filter(Some(v1::PodSandboxFilter { id: "abab".to_owned(), ..nothing() }));
    assert_eq!(by_id.unwrap().0, "abab");
    let is_ready = state(v1::PodSandboxState::SandboxReady);
    assert!(passes(v1::PodSandboxFilter { state: is_ready, ..nothing() }, &ready()));
    assert!(!passes(v1::PodSandboxFilter { state: is_ready, ..nothing() }, &stopped()));
    assert!(passes(v1::PodSandboxFilter { label_selector: label("web"), ..nothing() }, &ready()));
    assert!(!passes(v1::PodSandboxFilter { label_selector: label("db"), ..nothing() }, &ready()));
    let unknown = Some(v1::PodSandboxStateValue { state: 9 });
    let refused = pod_filter(Some(v1::PodSandboxFilter { state: unknown, ..nothing() })).err();
    assert!(matches!(refused, Some(Refusal::Invalid { .. })));
}
