//! What becomes of the answers of several plugins.

use super::*;
use cringle_proto_nri::v1alpha1::{
    CdiDevice, Container, Hook, LinuxCpu, LinuxMemory, LinuxResources, Mount, OptionalInt,
    OptionalInt64, OptionalUInt64, UpdateContainerRequest, UpdateContainerResponse,
};

fn creating() -> Creating {
    let mount = |path: &str| Mount { destination: path.to_owned(), ..Mount::default() };
    let container = Container {
        id: "new".to_owned(),
        env: vec!["A=1".to_owned(), "B=2=3".to_owned()],
        args: vec!["sh".to_owned()],
        mounts: vec![mount("/proc"), mount("/data")],
        annotations: [("note".to_owned(), "old".to_owned())].into(),
        linux: Some(LinuxContainer {
            namespaces: vec![namespace("network"), namespace("ipc")],
            ..LinuxContainer::default()
        }),
        ..Container::default()
    };
    Creating::new(CreateContainerRequest { pod: None, container: Some(container) })
}

fn namespace(kind: &str) -> LinuxNamespace {
    LinuxNamespace { r#type: kind.to_owned(), path: String::new() }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

fn adjusted(adjust: ContainerAdjustment) -> CreateContainerResponse {
    CreateContainerResponse { adjust: Some(adjust), ..CreateContainerResponse::default() }
}

fn environment(env: Vec<KeyValue>) -> CreateContainerResponse {
    adjusted(ContainerAdjustment { env, ..ContainerAdjustment::default() })
}

fn linux(linux: LinuxContainerAdjustment) -> CreateContainerResponse {
    adjusted(ContainerAdjustment { linux: Some(linux), ..ContainerAdjustment::default() })
}

fn memory(limit: i64) -> LinuxResources {
    let limit = Some(OptionalInt64 { value: limit });
    let memory = LinuxMemory { limit, ..LinuxMemory::default() };
    LinuxResources { memory: Some(memory), ..LinuxResources::default() }
}

fn shares(shares: u64) -> LinuxResources {
    let shares = Some(OptionalUInt64 { value: shares });
    let cpu = LinuxCpu { shares, ..LinuxCpu::default() };
    LinuxResources { cpu: Some(cpu), ..LinuxResources::default() }
}

fn update(container: &str, resources: LinuxResources) -> ContainerUpdate {
    ContainerUpdate {
        container_id: container.to_owned(),
        linux: Some(cringle_proto_nri::v1alpha1::LinuxContainerUpdate {
            resources: Some(resources),
        }),
        ignore_failure: false,
    }
}

#[test]
fn a_plugin_sees_what_those_before_it_changed() {
    let mut creating = creating();
    creating.take("00-a", environment(vec![variable("-A", ""), variable("C", "4")])).unwrap();
    let args = vec!["other".to_owned()];
    creating
        .take("00-a", adjusted(ContainerAdjustment { args, ..ContainerAdjustment::default() }))
        .unwrap();
    let seen = creating.request.container.clone().unwrap();
    assert_eq!(seen.env, ["B=2=3", "C=4"]);
    assert_eq!(seen.args, ["other"]);
    creating.take("10-b", environment(vec![variable("B", "5")])).unwrap();
    assert_eq!(creating.request.container.as_ref().unwrap().env, ["C=4", "B=5"]);
    let sum = creating.finish().adjustment;
    assert_eq!(sum.env, [variable("-A", ""), variable("C", "4"), variable("B", "5")]);
    assert_eq!(sum.args, ["other"]);
}

#[test]
fn two_plugins_that_set_the_same_are_an_error_that_names_both() {
    let mount = |path: &str| {
        let mount = Mount { destination: path.to_owned(), ..Mount::default() };
        adjusted(ContainerAdjustment { mounts: vec![mount], ..ContainerAdjustment::default() })
    };
    let args = |word: &str| {
        let args = vec![word.to_owned()];
        adjusted(ContainerAdjustment { args, ..ContainerAdjustment::default() })
    };
    let score = |value| {
        let oom_score_adj = Some(OptionalInt { value });
        linux(LinuxContainerAdjustment { oom_score_adj, ..LinuxContainerAdjustment::default() })
    };
    let limits = |resources| {
        let resources = Some(resources);
        linux(LinuxContainerAdjustment { resources, ..LinuxContainerAdjustment::default() })
    };
    let device = |name: &str| {
        let cdi_devices = vec![CdiDevice { name: name.to_owned() }];
        adjusted(ContainerAdjustment { cdi_devices, ..ContainerAdjustment::default() })
    };
    let spaces = |kind: &str| {
        let namespaces = vec![namespace(kind)];
        linux(LinuxContainerAdjustment { namespaces, ..LinuxContainerAdjustment::default() })
    };
    for (first, second, what) in [
        (environment(vec![variable("X", "1")]), environment(vec![variable("X", "1")]), "Env \"X\""),
        (mount("/m"), mount("/m"), "Mounts \"/m\""),
        (args("a"), args("b"), "Args"),
        (score(1), score(2), "OomScoreAdj"),
        (limits(memory(1)), limits(memory(1)), "MemLimit"),
        (device("a/b=c"), device("a/b=c"), "CdiDevices \"a/b=c\""),
        (spaces("-network"), spaces("network"), "Namespace \"network\""),
    ] {
        let mut creating = creating();
        creating.take("00-a", first).unwrap();
        let error = creating.take("10-b", second).unwrap_err().to_string();
        assert_eq!(error, format!("NRI plugins \"00-a\" and \"10-b\" both set {what}"));
    }
    let mut creating = creating();
    creating.take("00-a", limits(memory(1))).unwrap();
    creating.take("10-b", limits(shares(2))).unwrap();
    let sum = creating.finish().adjustment.linux.unwrap().resources.unwrap();
    assert_eq!(sum.memory, memory(1).memory);
    assert_eq!(sum.cpu, shares(2).cpu);
}

#[test]
fn what_a_plugin_takes_away_another_may_set() {
    let mut creating = creating();
    creating.take("00-a", environment(vec![variable("X", "1")])).unwrap();
    creating.take("10-b", environment(vec![variable("-X", ""), variable("X", "2")])).unwrap();
    creating.take("20-c", environment(vec![variable("-X", "")])).unwrap();
    assert!(!creating.request.container.as_ref().unwrap().env.iter().any(|one| one.contains('X')));
    let args = |words: &[&str]| {
        let args = words.iter().map(|word| (*word).to_owned()).collect();
        adjusted(ContainerAdjustment { args, ..ContainerAdjustment::default() })
    };
    creating.take("00-a", args(&["a"])).unwrap();
    creating.take("10-b", args(&["", "b"])).unwrap();
    let annotations = [("-note".to_owned(), String::new())].into();
    creating
        .take("00-a", adjusted(ContainerAdjustment { annotations, ..Default::default() }))
        .unwrap();
    assert!(creating.request.container.as_ref().unwrap().annotations.is_empty());
    let creation = creating.finish();
    assert!(creation.adjustment.env.iter().all(|one| one.key == "-X"), "{creation:?}");
    assert_eq!(creation.adjustment.args, ["b"]);
    assert!(creation.adjustment.annotations.contains_key("-note"));
    assert_eq!(creation.owners.of_entries(Field::Env).count(), 0);
}

#[test]
fn hooks_of_all_are_kept_in_order() {
    let hook = |path: &str| {
        let poststop = vec![Hook { path: path.to_owned(), ..Hook::default() }];
        let hooks = Some(Hooks { poststop, ..Hooks::default() });
        adjusted(ContainerAdjustment { hooks, ..ContainerAdjustment::default() })
    };
    let mut creating = creating();
    creating.take("00-a", hook("/a")).unwrap();
    creating.take("10-b", hook("/b")).unwrap();
    let creation = creating.finish();
    let hooks = creation.adjustment.hooks.unwrap().poststop;
    assert_eq!(hooks.iter().map(|hook| hook.path.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(creation.owners.of(Field::OciHooks), Some("00-a,10-b"));
}

#[test]
fn other_containers_are_updated_once_with_what_all_want_and_the_new_one_is_not() {
    let asked = |update| CreateContainerResponse {
        update: vec![update],
        ..CreateContainerResponse::default()
    };
    let mut creating = creating();
    creating.take("00-a", asked(update("other", memory(1)))).unwrap();
    creating.take("10-b", asked(update("other", shares(2)))).unwrap();
    let conflict = creating.take("20-c", asked(update("other", memory(3))));
    assert!(matches!(conflict, Err(HookError::Conflict { .. })));
    let ignored = ContainerUpdate { ignore_failure: true, ..update("other", memory(3)) };
    creating.take("20-c", asked(ignored)).unwrap();
    let own = creating.take("20-c", asked(update("new", memory(3))));
    assert!(matches!(own, Err(HookError::UpdateOfTheNew { .. })));
    let updates = creating.finish().updates;
    let merged = LinuxResources { cpu: shares(2).cpu, ..memory(1) };
    assert_eq!(updates, [update("other", merged)]);
}

#[test]
fn an_update_is_what_was_asked_for_with_the_changes_of_all() {
    let mut updating = Updating::new(UpdateContainerRequest {
        pod: None,
        container: Some(Container { id: "c".to_owned(), ..Container::default() }),
        linux_resources: Some(memory(1)),
    });
    let asked = |update| UpdateContainerResponse { update: vec![update], evict: Vec::new() };
    updating.take("00-a", asked(update("c", shares(2)))).unwrap();
    updating.take("10-b", asked(update("c", memory(9)))).unwrap();
    updating.take("10-b", asked(update("other", memory(7)))).unwrap();
    updating.take("20-c", asked(update("c", shares(3)))).unwrap_err();
    let update_of_all = updating.finish();
    assert_eq!(update_of_all.resources, LinuxResources { cpu: shares(2).cpu, ..memory(9) });
    assert_eq!(update_of_all.updates, [update("other", memory(7))]);
}
