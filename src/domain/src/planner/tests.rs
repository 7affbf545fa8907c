//! Whole plans, and the samples that the steps' tests start from.

use super::*;
use crate::mounts::Propagation;
use crate::namespaces::{ContainerPid, PodNamespaces, PodPid, PodUsers, Sharing};
use crate::plan::{NamespaceChoice, PlannedSeccomp};
use crate::resources::{PodResources, Resources};
use crate::security::{ContainerSecurity, PodSecurity};
use crate::spec::{ContainerMetadata, ImageRequest, Input, PodMetadata, Terminal};
use std::collections::BTreeMap;

pub(super) fn pod() -> PodSpec {
    PodSpec {
        metadata: PodMetadata {
            name: "web-0".to_owned(),
            namespace: "default".to_owned(),
            uid: "1".to_owned(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: None,
        dns: None,
        port_mappings: vec![],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: None,
        sysctls: BTreeMap::new(),
        namespaces: PodNamespaces {
            network: Sharing::Pod,
            ipc: Sharing::Pod,
            pid: PodPid::Container,
            users: PodUsers::Node,
        },
        security: PodSecurity::default(),
        resources: PodResources::default(),
        runtime_handler: String::new(),
    }
}

pub(super) fn container() -> ContainerSpec {
    ContainerSpec {
        metadata: ContainerMetadata { name: "web".to_owned(), attempt: 0 },
        image: ImageRequest {
            reference: "busybox".to_owned(),
            user_specified: String::new(),
            annotations: BTreeMap::new(),
            runtime_handler: String::new(),
        },
        command: vec!["sh".to_owned()],
        args: vec![],
        working_dir: String::new(),
        environment: vec![],
        mounts: vec![],
        devices: vec![],
        cdi_devices: vec![],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: String::new(),
        input: Input::Closed,
        terminal: Terminal::Absent,
        stop_signal: None,
        resources: Resources::default(),
        security: ContainerSecurity::default(),
    }
}

pub(super) fn image() -> ImageConfig {
    ImageConfig::default()
}

pub(super) fn places() -> Places {
    Places {
        network: Some("/pins/net".into()),
        ipc: Some("/pins/ipc".into()),
        uts: Some("/pins/uts".into()),
        users: Some("/pins/user".into()),
        pid: Some("/pins/pid".into()),
        hostname: "web-0".to_owned(),
        hostname_file: "/pods/p/hostname".into(),
        resolv_conf: "/pods/p/resolv.conf".into(),
        hosts: "/pods/p/hosts".into(),
        shared_memory: "/pods/p/shm".into(),
        cgroup: "/cringle/c".to_owned(),
        volumes: "/containers/c/volumes".into(),
    }
}

/// Everything that an input borrows.
pub(super) struct Case {
    pub(super) pod: PodSpec,
    pub(super) spec: ContainerSpec,
    pub(super) image: ImageConfig,
    pub(super) facts: HostFacts,
    pub(super) settings: PlanSettings,
    pub(super) places: Places,
    pub(super) requested_devices: Vec<Vec<HostDevice>>,
    pub(super) image_volumes: Vec<Vec<PathBuf>>,
    pub(super) host_devices: Vec<HostDevice>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            pod: pod(),
            spec: container(),
            image: image(),
            facts: HostFacts {
                capabilities: CapabilitySet::ALL,
                oom_score_adjustment: 0,
                cgroups: CgroupLayout::Legacy,
            },
            settings: PlanSettings::default(),
            places: places(),
            requested_devices: vec![],
            image_volumes: vec![],
            host_devices: vec![],
        }
    }
}

impl Case {
    pub(super) fn privileged() -> Self {
        let mut case = Self::default();
        case.pod.security.privilege = Privilege::Privileged;
        case.spec.security.privilege = Privilege::Privileged;
        case
    }

    pub(super) fn input(&self) -> ContainerInput<'_> {
        ContainerInput {
            pod: &self.pod,
            spec: &self.spec,
            image: &self.image,
            accounts: Accounts::default(),
            facts: &self.facts,
            settings: &self.settings,
            places: &self.places,
            requested_devices: &self.requested_devices,
            image_volumes: &self.image_volumes,
            host_devices: &self.host_devices,
        }
    }
}

#[test]
fn a_plain_container_gets_a_plain_plan() {
    let plan = plan_container(&Case::default().input()).unwrap();
    assert_eq!(plan.process.args, ["sh"]);
    assert_eq!(plan.process.identity.groups, [0]);
    assert_eq!(plan.rootfs, Access::ReadWrite);
    assert_eq!(plan.rootfs_propagation, Propagation::Private);
    assert_eq!(plan.namespaces.pid, NamespaceChoice::New);
    assert_eq!(plan.seccomp, PlannedSeccomp::Unconfined);
    assert_eq!(plan.stop_signal, Signal::TERM);
    assert_eq!(plan.cgroup, "/cringle/c");
}

#[test]
fn a_plan_survives_its_record() {
    let plan = plan_container(&Case::privileged().input()).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<ContainerPlan>(&text).unwrap(), plan);
}

#[test]
fn a_privileged_container_needs_a_privileged_pod() {
    let mut case = Case::privileged();
    plan_container(&case.input()).unwrap();
    case.pod.security.privilege = Privilege::Ordinary;
    plan_container(&case.input()).unwrap_err();
    case.pod.security.privilege = Privilege::Privileged;
    case.spec.security.privilege = Privilege::Ordinary;
    plan_container(&case.input()).unwrap();
}

#[test]
fn the_stop_signal_is_the_requests_else_the_images() {
    let quit = Signal::parse("SIGQUIT").unwrap();
    for (asked, of_image, expected) in [
        (None, "", Some(Signal::TERM)),
        (None, "SIGQUIT", Some(quit)),
        (None, "3", Some(quit)),
        (Some(Signal::KILL), "SIGQUIT", Some(Signal::KILL)),
        (None, "SIGNONSENSE", None),
    ] {
        let mut case = Case::default();
        case.spec.stop_signal = asked;
        case.image.stop_signal = of_image.to_owned();
        let planned = plan_container(&case.input()).ok().map(|plan| plan.stop_signal);
        assert_eq!(planned, expected, "{asked:?} {of_image}");
    }
}

#[test]
fn an_unresolved_target_is_refused() {
    let mut case = Case::default();
    case.spec.security.pid = ContainerPid::Target("abc".to_owned());
    plan_container(&case.input()).unwrap_err();
}
