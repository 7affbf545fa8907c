//! The mount table as clients change it.

use super::super::tests::{Case, container, pod};
use super::*;
use crate::mounts::ImageVolume;
use crate::namespaces::{IdMapping, IdRange, PodNamespaces, PodUsers};
use crate::spec::PodSpec;

fn request(host: &str, target: &str) -> MountRequest {
    MountRequest {
        host_path: host.into(),
        container_path: target.into(),
        access: Access::ReadWrite,
        propagation: Propagation::Private,
        restrictions: Restrictions::NONE,
        relabel: false,
        mapping: None,
        image: None,
    }
}

fn own_users() -> IdMapping {
    let range = IdRange::new(100_000, 65536).unwrap();
    IdMapping { users: range, groups: range }
}

fn in_own_users(requests: Vec<MountRequest>) -> Case {
    let mut case = with(requests);
    case.pod.namespaces.users = PodUsers::Pod(own_users());
    case
}

fn of_image(target: &str, sub_path: &str) -> MountRequest {
    let image = ImageVolume { image: container().image, sub_path: sub_path.into() };
    MountRequest { access: Access::ReadOnly, image: Some(image), ..request("", target) }
}

#[test]
fn each_image_volume_has_its_own_layers_and_shows_the_pods_ids() {
    let requests =
        vec![of_image("/first", ""), request("/h", "/between"), of_image("/second", "etc")];
    let mut case = in_own_users(requests);
    let layers = |name: &str| vec![PathBuf::from(name), PathBuf::from("/empty")];
    case.image_volumes = vec![layers("/a"), layers("/b")];
    let mounts = planned(&case);
    for (target, name, sub_path) in [("/first", "/a", ""), ("/second", "/b", "etc")] {
        let mount = at(&mounts, target);
        let source = MountSource::Image { layers: layers(name), sub_path: sub_path.into() };
        assert_eq!(mount.source, source);
        assert_eq!((mount.access, mount.mapping), (Access::ReadOnly, Some(own_users())));
        assert!(mount.restrictions.words().eq(["nosuid", "nodev"]), "{mount:?}");
    }
    assert_eq!(at(&mounts, "/between").mapping, None);
    case.image_volumes.pop();
    assert!(plan(&case.input(), &Identity::default()).is_err(), "an image without layers");
}

#[test]
fn with_users_of_its_own_nothing_reaches_the_host() {
    let mapped = MountRequest { mapping: Some(own_users()), ..request("/h", "/m") };
    let mut case = in_own_users(vec![mapped.clone()]);
    case.image.volumes = vec!["/data".to_owned()];
    case.spec.security.readonly_rootfs = true;
    case.spec.security.privilege = Privilege::Privileged;
    let mounts = planned(&case);
    assert_eq!(at(&mounts, "/m").mapping, Some(own_users()));
    assert_eq!(at(&mounts, "/sys/fs/cgroup").access, Access::ReadOnly);
    assert_eq!((mounts.volumes[0].user, mounts.volumes[0].group), (100_007, 100_008));
    let out = MountRequest { propagation: Propagation::Bidirectional, ..mapped };
    assert!(plan(&in_own_users(vec![out]).input(), &Identity::default()).is_err());
}

fn planned(case: &Case) -> Mounts {
    plan(&case.input(), &Identity { user: 7, group: 8, groups: vec![8] }).unwrap()
}

fn with(requests: Vec<MountRequest>) -> Case {
    let mut case = Case::default();
    case.spec.mounts = requests;
    case
}

fn targets(mounts: &Mounts) -> Vec<&str> {
    mounts.mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect()
}

fn at<'a>(mounts: &'a Mounts, target: &str) -> &'a PlannedMount {
    mounts.mounts.iter().find(|mount| mount.target == Path::new(target)).unwrap()
}

#[test]
fn every_container_has_the_usual_mounts_parents_first() {
    let mounts = planned(&Case::default());
    assert_eq!(
        targets(&mounts),
        [
            "/proc",
            "/dev",
            "/sys",
            "/dev/pts",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/etc/hosts",
            "/sys/fs/cgroup",
        ]
    );
    assert_eq!(at(&mounts, "/sys").access, Access::ReadOnly);
    assert_eq!(at(&mounts, "/sys/fs/cgroup").access, Access::ReadOnly);
    assert_eq!(at(&mounts, "/etc/hosts").access, Access::ReadWrite);
    assert_eq!(at(&mounts, "/dev/shm").source, MountSource::Path("/pods/p/shm".into()));
}

#[test]
fn a_privileged_container_may_write_sysfs_and_cgroups() {
    let mounts = planned(&Case::privileged());
    assert_eq!(at(&mounts, "/sys").access, Access::ReadWrite);
    assert_eq!(at(&mounts, "/sys/fs/cgroup").access, Access::ReadWrite);
}

#[test]
fn on_the_nodes_network_sysfs_is_the_nodes() {
    let namespaces = PodNamespaces { network: Sharing::Node, ..PodNamespaces::default() };
    let case = Case { pod: PodSpec { namespaces, ..pod() }, ..Case::default() };
    let mounts = planned(&case);
    assert_eq!(at(&mounts, "/sys").source, MountSource::Path("/sys".into()));
    assert_eq!(at(&mounts, "/sys").access, Access::ReadOnly);
}

#[test]
fn a_mount_of_the_client_takes_the_place_of_a_usual_one() {
    let mounts =
        planned(&with(vec![request("/h/hosts", "/etc/hosts"), request("/h/shm", "/dev//shm/")]));
    assert_eq!(targets(&mounts).iter().filter(|target| **target == "/etc/hosts").count(), 1);
    assert_eq!(at(&mounts, "/etc/hosts").source, MountSource::Tree("/h/hosts".into()));
    assert_eq!(at(&mounts, "/dev/shm").source, MountSource::Tree("/h/shm".into()));
}

#[test]
fn a_client_that_brings_dev_or_sys_brings_all_of_it() {
    for brought in ["/dev", "/sys"] {
        let mounts = planned(&with(vec![request(brought, brought)]));
        let below = targets(&mounts).into_iter().filter(|target| target.starts_with(brought));
        assert_eq!(below.collect::<Vec<_>>(), [brought]);
    }
}

#[test]
fn parents_come_before_children_and_the_order_is_kept_otherwise() {
    let mounts = planned(&with(vec![
        request("/1", "/a/b/c"),
        request("/2", "/z"),
        request("/3", "/a"),
        request("/4", "/a/b"),
        request("/5", "/a"),
    ]));
    let clients: Vec<_> = mounts
        .mounts
        .iter()
        .filter_map(|mount| {
            let MountSource::Tree(path) = &mount.source else { return None };
            path.to_str()
        })
        .collect();
    assert_eq!(clients, ["/2", "/3", "/5", "/4", "/1"]);
}

#[test]
fn the_root_propagates_as_widely_as_the_widest_mount() {
    let propagating = |propagation| MountRequest { propagation, ..request("/h", "/m") };
    for (requests, expected) in [
        (vec![request("/h", "/m")], Propagation::Private),
        (vec![propagating(Propagation::HostToContainer)], Propagation::HostToContainer),
        (
            vec![
                propagating(Propagation::Bidirectional),
                propagating(Propagation::HostToContainer),
            ],
            Propagation::Bidirectional,
        ),
    ] {
        assert_eq!(planned(&with(requests)).propagation, expected);
    }
}

#[test]
fn a_wrong_mount_is_refused_whole() {
    for (host, target) in [("/h", "/proc/self"), ("/h", "relative"), ("relative", "/m"), ("", "/m")]
    {
        let case = with(vec![request("/h", "/good"), request(host, target)]);
        assert!(plan(&case.input(), &Identity::default()).is_err(), "{host} {target}");
    }
}

#[test]
fn volumes_get_directories_where_the_root_is_read_only() {
    let mut case = with(vec![request("/h", "/data/mine")]);
    case.image.volumes =
        ["/data", "/data/mine", "/var/lib/x/", "/data"].map(str::to_owned).to_vec();
    assert!(planned(&case).volumes.is_empty());
    case.spec.security.readonly_rootfs = true;
    let mounts = planned(&case);
    assert_eq!(
        mounts.volumes,
        [("0", "/data"), ("1", "/var/lib/x")].map(|(name, target)| VolumeDirectory {
            directory: Path::new("/containers/c/volumes").join(name),
            target: target.into(),
            user: 7,
            group: 8,
        })
    );
    assert_eq!(at(&mounts, "/data").access, Access::ReadWrite);
    assert_eq!(at(&mounts, "/etc/hosts").access, Access::ReadOnly);
}

#[test]
fn an_image_has_no_volume_over_the_kernels_file_systems() {
    for volume in ["/proc", "/proc/self", "/x/../proc", "/sys/fs", "/dev/shm", "/", "relative", ""]
    {
        let mut case = Case { spec: container(), ..Case::default() };
        case.image.volumes = vec![volume.to_owned()];
        assert!(plan(&case.input(), &Identity::default()).is_err(), "{volume:?}");
    }
}

#[test]
fn a_client_can_withhold_what_files_on_its_mount_can_do() {
    use crate::mounts::Restriction;
    let restrictions = Restrictions::NONE.with(Restriction::NoPrograms);
    let case = with(vec![MountRequest { restrictions, ..request("/h", "/m") }]);
    let mounts = planned(&case).mounts;
    let found = mounts.iter().find(|mount| mount.target == Path::new("/m")).unwrap();
    assert_eq!(found.restrictions.words().collect::<Vec<_>>(), ["noexec"]);
}
