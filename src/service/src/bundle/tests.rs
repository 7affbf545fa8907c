//! Documents as a shim would read them.

use super::*;
use cringle_domain::mounts::{Access, Propagation, Restrictions};
use cringle_domain::plan::{
    DeviceKind, DeviceRule, Identity, MountSource, NamespaceChoice, PlannedCapabilities,
    PlannedDevice, PlannedMount, PlannedNamespaces, PlannedSeccomp, ProcessPlan, ResourceLimit,
};
use cringle_domain::process::Signal;
use cringle_domain::security::CapabilitySet;
use cringle_domain::spec::Terminal;
use oci_spec::runtime::{Capability, LinuxNamespaceType};

fn plan() -> ContainerPlan {
    let capabilities = CapabilitySet::from_names(["KILL", "NET_ADMIN"]).unwrap();
    ContainerPlan {
        process: ProcessPlan {
            args: vec!["sh".to_owned(), "-c".to_owned()],
            environment: [("A".to_owned(), "b=c".to_owned())].into_iter().collect(),
            working_directory: "/app".into(),
            identity: Identity { user: 1000, group: 5, groups: vec![5, 7] },
            capabilities: PlannedCapabilities {
                bounding: capabilities,
                effective: capabilities,
                permitted: capabilities,
                ..PlannedCapabilities::default()
            },
            rlimits: vec![ResourceLimit { name: "NOFILE".to_owned(), soft: 1, hard: 2 }],
            no_new_privileges: true,
            oom_score_adjustment: -5,
            terminal: Terminal::Present,
        },
        rootfs: Access::ReadOnly,
        rootfs_propagation: Propagation::Bidirectional,
        namespaces: PlannedNamespaces {
            network: NamespaceChoice::Join("/pins/net".into()),
            ipc: NamespaceChoice::Host,
            uts: NamespaceChoice::Host,
            pid: NamespaceChoice::New,
            users: None,
        },
        mounts: vec![PlannedMount {
            target: "/data".into(),
            source: MountSource::Tree("/h".into()),
            access: Access::ReadOnly,
            propagation: Propagation::Private,
            restrictions: Restrictions::NONE,
            mapping: None,
        }],
        devices: vec![PlannedDevice {
            path: "/dev/fuse".into(),
            kind: DeviceKind::Character,
            major: 10,
            minor: 229,
            mode: 0o600,
            user: 1,
            group: 2,
        }],
        device_rules: vec![fuse_rule()],
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        seccomp: PlannedSeccomp::RuntimeDefault,
        resources: Resources {
            cpu_shares: Some(512),
            memory_limit: Some(1 << 20),
            ..Resources::default()
        },
        cgroup: "/p/c".to_owned(),
        stop_signal: Signal::TERM,
        volumes: vec![],
    }
}

fn fuse_rule() -> DeviceRule {
    DeviceRule {
        kind: Some(DeviceKind::Character),
        major: Some(10),
        minor: Some(229),
        access: "rw".to_owned(),
    }
}

fn written(plan: &ContainerPlan) -> (tempfile::TempDir, Spec) {
    let directory = tempfile::tempdir().unwrap();
    Draft::new(plan).unwrap().write(directory.path()).unwrap();
    let spec = Spec::load(directory.path().join(CONFIG)).unwrap();
    (directory, spec)
}

#[test]
fn the_process_is_as_planned() {
    let (_directory, spec) = written(&plan());
    let process = spec.process().clone().unwrap();
    assert_eq!(process.args().clone().unwrap(), ["sh", "-c"]);
    assert_eq!(process.env().clone().unwrap(), ["A=b=c"]);
    assert_eq!(process.cwd(), Path::new("/app"));
    assert_eq!((process.user().uid(), process.user().gid()), (1000, 5));
    assert_eq!(process.user().additional_gids().clone().unwrap(), [5, 7]);
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(process.oom_score_adj(), Some(-5));
    assert_eq!(process.terminal(), Some(true));
    let capabilities = process.capabilities().clone().unwrap();
    let expected: std::collections::HashSet<_> = [Capability::Kill, Capability::NetAdmin].into();
    assert_eq!(capabilities.bounding().clone().unwrap(), expected);
    assert!(capabilities.inheritable().clone().unwrap().is_empty());
    assert!(capabilities.ambient().clone().unwrap().is_empty());
}

#[test]
fn the_container_is_as_planned() {
    let (_directory, spec) = written(&plan());
    assert_eq!(spec.root().clone().unwrap().readonly(), Some(true));
    assert_eq!(spec.mounts().clone().unwrap().len(), 1);
    assert!(spec.hostname().is_none() && spec.annotations().is_none() && spec.hooks().is_none());
    let linux = spec.linux().clone().unwrap();
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/p/c")));
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("rshared"));
    assert_eq!(linux.masked_paths().clone().unwrap(), ["/proc/kcore"]);
    assert_eq!(linux.readonly_paths().clone().unwrap(), ["/proc/sys"]);
    assert_eq!(linux.devices().clone().unwrap()[0].minor(), 229);
    assert!(linux.seccomp().clone().unwrap().syscalls().clone().unwrap().len() > 3);
    let namespaces: Vec<_> = linux
        .namespaces()
        .iter()
        .flatten()
        .map(|namespace| (namespace.typ(), namespace.path().clone()))
        .collect();
    assert_eq!(
        namespaces,
        [
            (LinuxNamespaceType::Mount, None),
            (LinuxNamespaceType::Cgroup, None),
            (LinuxNamespaceType::Network, Some("/pins/net".into())),
            (LinuxNamespaceType::Pid, None),
        ]
    );
    let resources = linux.resources().clone().unwrap();
    assert_eq!(resources.cpu().clone().unwrap().shares(), Some(512));
    assert_eq!(resources.memory().unwrap().limit(), Some(1 << 20));
    let rules = resources.devices().clone().unwrap();
    assert_eq!(rules.iter().map(|rule| rule.allow()).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn nothing_is_hidden_or_confined_that_is_not_planned() {
    let mut plain = plan();
    plain.seccomp = PlannedSeccomp::Unconfined;
    plain.masked_paths.clear();
    plain.readonly_paths.clear();
    plain.rootfs_propagation = Propagation::Private;
    plain.resources = Resources::default();
    let (_directory, spec) = written(&plain);
    let linux = spec.linux().clone().unwrap();
    assert!(linux.seccomp().is_none() && linux.rootfs_propagation().is_none());
    assert!(linux.masked_paths().clone().unwrap_or_default().is_empty());
    assert!(linux.readonly_paths().clone().unwrap_or_default().is_empty());
    let resources = linux.resources().clone().unwrap();
    assert!(resources.cpu().is_none() && resources.memory().is_none());
}

#[test]
fn a_later_program_runs_as_the_first_one_does() {
    let (directory, spec) = written(&plan());
    let written = first_process(directory.path()).unwrap();
    let process = exec_process(directory.path(), &written, vec!["ls".to_owned()]).unwrap();
    let first = spec.process().clone().unwrap();
    assert_eq!(process.args().clone().unwrap(), ["ls"]);
    assert_eq!(process.terminal(), Some(false));
    assert_eq!(process.user(), first.user());
    assert_eq!(process.capabilities(), first.capabilities());
    assert_eq!(process.env(), first.env());
    for command in [vec![], vec!["a\0b".to_owned()]] {
        let refused = exec_process(directory.path(), &written, command);
        assert!(matches!(refused, Err(BundleError::Refused(_))));
    }
}

#[test]
fn new_limits_replace_the_old_ones_and_leave_the_rest() {
    let (directory, before) = written(&plan());
    let limits = Resources { memory_limit: Some(2 << 20), ..Resources::default() };
    rewrite_resources(directory.path(), &limits).unwrap();
    let mut after = Spec::load(directory.path().join(CONFIG)).unwrap();
    let resources = after.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!(resources.memory().unwrap().limit(), Some(2 << 20));
    assert!(resources.cpu().is_none());
    let old = before.linux().as_ref().unwrap().resources().clone();
    assert_eq!(resources.devices(), old.as_ref().unwrap().devices());
    after.linux_mut().as_mut().unwrap().set_resources(old);
    assert_eq!(after, before);
}

#[test]
fn a_bundle_is_never_written_over() {
    let (directory, _spec) = written(&plan());
    let draft = Draft::new(&plan()).unwrap();
    assert!(matches!(draft.write(directory.path()), Err(BundleError::File { .. })));
}

#[test]
fn what_is_changed_in_a_draft_is_in_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let mut draft = Draft::new(&plan()).unwrap();
    assert_eq!(draft.identity(), plan().process.identity);
    let mut process = draft.spec.process().clone().unwrap();
    let mut user = process.user().clone();
    user.set_additional_gids(Some(vec![9, 7]));
    process.set_user(user);
    draft.spec.set_process(Some(process));
    draft.spec.linux_mut().as_mut().unwrap().set_masked_paths(None);
    draft.spec.set_hooks(Some(oci_spec::runtime::Hooks::default()));
    assert_eq!(draft.identity().groups, [7, 9]);
    draft.write(directory.path()).unwrap();
    let spec = Spec::load(directory.path().join(CONFIG)).unwrap();
    let linux = spec.linux().clone().unwrap();
    assert!(linux.masked_paths().clone().unwrap_or_default().is_empty());
    assert!(linux.seccomp().is_some(), "the profile stays");
    assert!(directory.path().join(ROOTFS).is_dir(), "hooks find the root beside the document");
    let groups = spec.process().as_ref().unwrap().user().additional_gids().clone();
    assert_eq!(groups, Some(vec![9, 7]));
}

#[test]
fn the_reaper_has_a_pid_namespace_and_no_powers() {
    let spec = reaper_spec(&PodId::from_bytes([1; 32]), "/p/r", None).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    let spec: Spec = serde_json::from_str(&text).unwrap();
    assert_eq!(spec.annotations().clone().unwrap()[ROLE_ANNOTATION], REAPER_ROLE);
    let kinds: Vec<_> = spec
        .linux()
        .as_ref()
        .unwrap()
        .namespaces()
        .iter()
        .flatten()
        .map(|namespace| namespace.typ())
        .collect();
    assert!(kinds.contains(&LinuxNamespaceType::Pid));
    let process = spec.process().clone().unwrap();
    assert!(process.capabilities().clone().unwrap().bounding().clone().unwrap().is_empty());
    assert_eq!(process.no_new_privileges(), Some(true));
}
