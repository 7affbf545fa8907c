//! Documents as plugins change them.

use super::*;
use cringle_domain::mounts::Access;
use cringle_domain::mounts::Propagation;
use cringle_domain::plan::{
    Identity, NamespaceChoice, PlannedCapabilities, PlannedNamespaces, PlannedSeccomp, ProcessPlan,
};
use cringle_domain::planner::CgroupLayout;
use cringle_domain::process::Signal;
use cringle_domain::security::CapabilitySet;
use cringle_domain::spec::Terminal;
use cringle_proto_nri::v1alpha1::{
    ContainerAdjustment, Hook, Hooks, IoPrioClass, KeyValue, LinuxDevice, LinuxIoPriority,
    LinuxMemory, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxScheduler,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccomp, LinuxSyscall, Mount, MpolFlag,
    MpolMode, OptionalInt, OptionalInt64, OptionalUInt64, PosixRlimit,
};
use oci_spec::runtime::LinuxNamespaceType;
use serde_json::json;

const FACTS: HostFacts = HostFacts {
    capabilities: CapabilitySet::ALL,
    oom_score_adjustment: 0,
    cgroups: CgroupLayout::Unified,
};

fn plan() -> ContainerPlan {
    ContainerPlan {
        process: ProcessPlan {
            args: vec!["sh".to_owned()],
            environment: [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]
                .into_iter()
                .collect(),
            working_directory: "/".into(),
            identity: Identity::default(),
            capabilities: PlannedCapabilities::default(),
            rlimits: Vec::new(),
            no_new_privileges: false,
            oom_score_adjustment: 0,
            terminal: Terminal::Absent,
        },
        rootfs: Access::ReadWrite,
        rootfs_propagation: Propagation::Private,
        namespaces: PlannedNamespaces {
            network: NamespaceChoice::Join("/pins/net".into()),
            ipc: NamespaceChoice::Host,
            uts: NamespaceChoice::Host,
            pid: NamespaceChoice::New,
            users: None,
        },
        mounts: Vec::new(),
        devices: Vec::new(),
        device_rules: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        seccomp: PlannedSeccomp::Unconfined,
        resources: Resources { cpu_shares: Some(512), ..Resources::default() },
        cgroup: "/pod/one".to_owned(),
        stop_signal: Signal::TERM,
        volumes: Vec::new(),
    }
}

/// Plan and document after the change.
fn changed(adjustment: ContainerAdjustment) -> Result<(ContainerPlan, Draft), ServiceError> {
    let mut plan = plan();
    let mut draft = Draft::new(&plan).unwrap();
    let creation = Creation { adjustment, ..Creation::default() };
    apply(&creation, &FACTS, |path| path == "/pod/taken", &mut plan, &mut draft)?;
    Ok((plan, draft))
}

fn of_linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment { linux: Some(linux), ..ContainerAdjustment::default() }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

fn mount(destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        r#type: "bind".to_owned(),
        source: "/srv".to_owned(),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
    }
}

#[test]
fn the_process_is_as_plugins_want_it() {
    let limit = PosixRlimit { r#type: "RLIMIT_NOFILE".to_owned(), soft: 7, hard: 9 };
    let adjustment = ContainerAdjustment {
        env: vec![variable("-A", ""), variable("B", "3"), variable("C", "4")],
        args: vec!["other".to_owned(), "word".to_owned()],
        rlimits: vec![limit],
        annotations: [("example/x".to_owned(), "y".to_owned())].into(),
        ..ContainerAdjustment::default()
    };
    let (_, draft) = changed(adjustment).unwrap();
    let process = draft.spec.process().clone().unwrap();
    assert_eq!(process.env().clone().unwrap(), ["B=3", "C=4"]);
    assert_eq!(process.args().clone().unwrap(), ["other", "word"]);
    let limits = process.rlimits().clone().unwrap();
    assert_eq!((limits[0].soft(), limits[0].hard()), (7, 9));
    assert_eq!(draft.spec.annotations().clone().unwrap()["example/x"], "y");
}

#[test]
fn mounts_come_after_what_they_are_below_and_may_be_taken_away() {
    let wanted = ["/data/deep/er", "/data"].map(|path| mount(path, &["rbind", "rslave"]));
    let adjustment = ContainerAdjustment { mounts: wanted.into(), ..Default::default() };
    let (_, draft) = changed(adjustment).unwrap();
    let mounts = draft.spec.mounts().clone().unwrap();
    let targets: Vec<_> =
        mounts.iter().map(|one| one.destination().display().to_string()).collect();
    assert_eq!(targets, ["/data", "/data/deep/er"]);
    let linux = draft.spec.linux().clone().unwrap();
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("rslave"));
    let adjustment = ContainerAdjustment {
        mounts: vec![mount("-/data", &[]), mount("/other", &[])],
        ..ContainerAdjustment::default()
    };
    let mut plan = plan();
    let mut draft = draft;
    let creation = Creation { adjustment, ..Creation::default() };
    apply(&creation, &FACTS, |_| false, &mut plan, &mut draft).unwrap();
    let mounts = draft.spec.mounts().clone().unwrap();
    let targets: Vec<_> =
        mounts.iter().map(|one| one.destination().display().to_string()).collect();
    assert_eq!(targets, ["/other", "/data/deep/er"]);
}

#[test]
fn limits_are_in_the_plan_and_in_the_document_beside_the_devices() {
    let limit = Some(OptionalInt64 { value: 64 << 20 });
    let device = LinuxDevice {
        path: "/dev/fuse".to_owned(),
        r#type: "c".to_owned(),
        major: 10,
        minor: 229,
        ..LinuxDevice::default()
    };
    let resources = LinuxResources {
        memory: Some(LinuxMemory { limit, ..LinuxMemory::default() }),
        pids: Some(LinuxPids { limit: 5 }),
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..LinuxResources::default()
    };
    let (plan, draft) = changed(of_linux(LinuxContainerAdjustment {
        resources: Some(resources),
        devices: vec![device],
        oom_score_adj: Some(OptionalInt { value: 100 }),
        cgroups_path: "/pod/other".to_owned(),
        ..LinuxContainerAdjustment::default()
    }))
    .unwrap();
    assert_eq!(plan.resources.memory_limit, Some(64 << 20));
    assert_eq!(plan.resources.cpu_shares, Some(512), "what nobody changed stays");
    assert_eq!(
        (plan.resources.pids_limit, plan.resources.oom_score_adjustment),
        (Some(5), Some(100))
    );
    assert_eq!(plan.cgroup, "/pod/other");
    let linux = draft.spec.linux().clone().unwrap();
    assert_eq!(linux.cgroups_path().clone().unwrap(), Path::new("/pod/other"));
    assert_eq!(linux.devices().clone().unwrap()[0].path(), Path::new("/dev/fuse"));
    let resources = linux.resources().clone().unwrap();
    assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
    assert_eq!(resources.pids().unwrap().limit(), 5);
    assert_eq!(resources.unified().clone().unwrap()["memory.high"], "1");
    let rules = resources.devices().clone().unwrap();
    let allowed: Vec<_> = rules.iter().filter(|rule| rule.allow()).collect();
    assert_eq!(allowed.len(), 1, "{rules:?}");
    assert_eq!((allowed[0].major(), allowed[0].minor()), (Some(10), Some(229)));
    assert!(!rules[0].allow(), "all others are denied first");
    let process = draft.spec.process().clone().unwrap();
    assert_eq!(process.oom_score_adj(), Some(100));
}

#[test]
fn namespaces_sysctls_hooks_and_seccomp_are_as_plugins_want_them() {
    let call = LinuxSyscall {
        names: vec!["chmod".to_owned()],
        action: "SCMP_ACT_ERRNO".to_owned(),
        ..LinuxSyscall::default()
    };
    let policy = LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        syscalls: vec![call],
        ..LinuxSeccomp::default()
    };
    let namespace = |kind: &str| LinuxNamespace { r#type: kind.to_owned(), path: String::new() };
    let hook = Hook { path: "/hook".to_owned(), args: vec!["x".to_owned()], ..Hook::default() };
    let adjustment = ContainerAdjustment {
        hooks: Some(Hooks { create_runtime: vec![hook], ..Hooks::default() }),
        ..of_linux(LinuxContainerAdjustment {
            namespaces: vec![namespace("-network"), namespace("ipc")],
            sysctl: [("kernel.shmmax".to_owned(), "1".to_owned())].into(),
            seccomp_policy: Some(policy),
            ..LinuxContainerAdjustment::default()
        })
    };
    let (_, draft) = changed(adjustment).unwrap();
    let linux = draft.spec.linux().clone().unwrap();
    let kinds: Vec<_> = linux.namespaces().clone().unwrap().iter().map(|one| one.typ()).collect();
    assert!(!kinds.contains(&LinuxNamespaceType::Network), "{kinds:?}");
    assert!(kinds.contains(&LinuxNamespaceType::Ipc), "{kinds:?}");
    assert_eq!(linux.sysctl().clone().unwrap()["kernel.shmmax"], "1");
    let hooks = draft.spec.hooks().clone().unwrap().create_runtime().clone().unwrap();
    assert_eq!((hooks[0].path().as_path(), hooks[0].timeout()), (Path::new("/hook"), None));
    let directory = tempfile::tempdir().unwrap();
    draft.write(directory.path()).unwrap();
    let document = bundle::document(directory.path()).unwrap();
    assert_eq!(document["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    assert_eq!(document["hooks"]["createRuntime"][0]["path"], "/hook");
}

fn refused(adjustment: ContainerAdjustment, words: &str) {
    let error = changed(adjustment).unwrap_err();
    assert!(matches!(error, ServiceError::Adjustment { .. }), "{error:?}");
    let text = crate::error::chain(&error);
    assert!(text.contains(words), "{text}");
}

#[test]
fn priorities_and_the_place_of_memory_are_in_the_document() {
    let wishes = LinuxContainerAdjustment {
        io_priority: Some(LinuxIoPriority {
            class: IoPrioClass::IoprioClassBe.into(),
            priority: 6,
        }),
        scheduler: Some(LinuxScheduler {
            policy: LinuxSchedulerPolicy::SchedBatch.into(),
            nice: 7,
            flags: vec![LinuxSchedulerFlag::SchedFlagResetOnFork.into()],
            ..LinuxScheduler::default()
        }),
        memory_policy: Some(LinuxMemoryPolicy {
            mode: MpolMode::MpolBind.into(),
            nodes: "0".to_owned(),
            flags: vec![MpolFlag::MpolFStaticNodes.into()],
        }),
        ..LinuxContainerAdjustment::default()
    };
    let (_, draft) = changed(of_linux(wishes)).unwrap();
    let document = serde_json::to_value(&draft.spec).unwrap();
    let process = &document["process"];
    assert_eq!(process["ioPriority"], json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    assert_eq!(process["scheduler"]["policy"], "SCHED_BATCH");
    assert_eq!(process["scheduler"]["nice"], 7);
    let memory = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    assert_eq!(document["linux"]["memoryPolicy"], memory);
}

#[test]
fn what_is_not_done_here_is_refused() {
    let swappiness = Some(OptionalUInt64 { value: 10 });
    let memory = Some(LinuxMemory { swappiness, ..LinuxMemory::default() });
    let resources = Some(LinuxResources { memory, ..LinuxResources::default() });
    let default_action = "SCMP_ACT_X".to_owned();
    let policy = Some(LinuxSeccomp { default_action, ..LinuxSeccomp::default() });
    let nothing = LinuxContainerAdjustment::default;
    let device = LinuxNetDevice { name: "eth7".to_owned() };
    let net_devices = [("eth0".to_owned(), device)].into();
    let score = Some(OptionalInt { value: 1001 });
    for (linux, words) in [
        (LinuxContainerAdjustment { net_devices, ..nothing() }, "LinuxNetDevices is not supported"),
        (LinuxContainerAdjustment { resources, ..nothing() }, "MemSwappiness is not supported"),
        (LinuxContainerAdjustment { seccomp_policy: policy, ..nothing() }, "SCMP_ACT_X"),
        (LinuxContainerAdjustment { oom_score_adj: score, ..nothing() }, "-1000 to 1000"),
    ] {
        refused(of_linux(linux), words);
    }
}

#[test]
fn what_would_touch_others_is_refused() {
    for path in ["/", "/pod/one/deeper", "/pod/../else", "relative"] {
        let cgroups_path = path.to_owned();
        let linux = LinuxContainerAdjustment { cgroups_path, ..Default::default() };
        refused(of_linux(linux), "not right below the pod's");
    }
    let cgroups_path = "/pod/taken".to_owned();
    let linux = LinuxContainerAdjustment { cgroups_path, ..Default::default() };
    refused(of_linux(linux), "is another one's");
    let namespaces = vec![LinuxNamespace { r#type: "wrong".to_owned(), path: String::new() }];
    let linux = LinuxContainerAdjustment { namespaces, ..Default::default() };
    refused(of_linux(linux), "no kind of namespace");
    for (path, words) in [("/proc/self", "inside procfs"), ("data", "absolute"), ("/", "the root")]
    {
        let mounts = vec![mount(path, &[])];
        refused(ContainerAdjustment { mounts, ..ContainerAdjustment::default() }, words);
    }
    let annotations = [("dev.cringle.role".to_owned(), "reaper".to_owned())].into();
    refused(ContainerAdjustment { annotations, ..Default::default() }, "not for plugins");
}
