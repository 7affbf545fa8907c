//! Mounts and devices of a container.

use super::fields::known;
use super::{container, namespaces};
use cringle_domain::mounts::{
    Access, DeviceRequest, ImageVolume, MountRequest, Propagation, Restriction, Restrictions,
};
use cringle_domain::reference::Digest;
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1;

/// A mount of a request.
pub(super) fn mount(mount: v1::Mount) -> Result<MountRequest, Refusal> {
    let mapping =
        namespaces::mapping(&mount.uid_mappings, &mount.gid_mappings, "mounts.uid_mappings")?;
    let image = image_volume(mount.image, mount.image_sub_path)?;
    let propagation = match known(mount.propagation, "mounts.propagation")? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    let access = match (mount.readonly, mount.recursive_read_only) {
        (false, false) => Access::ReadWrite,
        (true, false) => Access::ReadOnly,
        (true, true) => Access::RecursiveReadOnly,
        (false, true) => {
            let problem = format!("{:?} must be readonly as well", mount.container_path);
            return Err(Refusal::invalid("mounts.recursive_read_only", problem));
        }
    };
    MountRequest {
        host_path: mount.host_path.into(),
        container_path: mount.container_path.into(),
        access,
        propagation,
        restrictions: restrictions(&mount.mount_options)?,
        relabel: mount.selinux_relabel,
        mapping,
        image,
    }
    .checked()
}

fn image_volume(
    image: Option<v1::ImageSpec>,
    sub_path: String,
) -> Result<Option<ImageVolume>, Refusal> {
    // A kubelet gives the sub path of every mount here; that of a host's path is in the path already.
    let Some(image) = image.filter(|image| !image.image.is_empty()) else { return Ok(None) };
    let image = container::image(image)?;
    Ok(Some(ImageVolume { image, sub_path: sub_path.into() }))
}

/// Mounts in an answer, each image among them with the one that was found, named as the answer to its pull named it.
pub(super) fn mounts_to_cri(mounts: &[MountRequest], images: &[Digest]) -> Vec<v1::Mount> {
    let mut images = images.iter();
    let shown = mounts.iter().map(|mount| {
        let mut shown = mount_to_cri(mount);
        if let (Some(image), Some(found)) =
            (&mut shown.image, mount.image.as_ref().and_then(|_| images.next()))
        {
            image.image_ref = found.to_string();
        }
        shown
    });
    shown.collect()
}

/// The further mount options: of all that mount(8) knows, those that only take something away.
fn restrictions(options: &[String]) -> Result<Restrictions, Refusal> {
    options.iter().try_fold(Restrictions::NONE, |restrictions, option| {
        let known = Restriction::ALL.into_iter().find(|known| known.word() == option);
        known.map(|known| restrictions.with(known)).ok_or_else(|| {
            let problem = format!("{option:?} is not one of noexec, nodev and nosuid");
            Refusal::invalid("mounts.mount_options", problem)
        })
    })
}

/// A mount in an answer.
fn mount_to_cri(mount: &MountRequest) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.to_string_lossy().into_owned(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.access != Access::ReadWrite,
        selinux_relabel: mount.relabel,
        propagation: propagation.into(),
        recursive_read_only: mount.access == Access::RecursiveReadOnly,
        uid_mappings: mount.mapping.iter().map(|one| namespaces::range_to_cri(one.users)).collect(),
        gid_mappings: mount
            .mapping
            .iter()
            .map(|one| namespaces::range_to_cri(one.groups))
            .collect(),
        image: mount.image.as_ref().map(|volume| container::image_to_cri(&volume.image)),
        image_sub_path: (mount.image.as_ref())
            .map(|volume| volume.sub_path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        mount_options: mount.restrictions.words().map(str::to_owned).collect(),
    }
}

/// A device of a request.
pub(super) fn device(device: v1::Device) -> Result<DeviceRequest, Refusal> {
    DeviceRequest {
        host_path: device.host_path.into(),
        container_path: device.container_path.into(),
        permissions: device.permissions,
    }
    .checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> v1::Mount {
        v1::Mount {
            container_path: "/data".to_owned(),
            host_path: "/srv/data".to_owned(),
            ..v1::Mount::default()
        }
    }

    #[test]
    fn a_mount_comes_back_as_it_was_given() {
        for readonly in [false, true] {
            for propagation in 0..3 {
                for selinux_relabel in [false, true] {
                    let given = v1::Mount { readonly, propagation, selinux_relabel, ..given() };
                    assert_eq!(mount_to_cri(&mount(given.clone()).unwrap()), given);
                }
            }
        }
        let recursive = v1::Mount { readonly: true, recursive_read_only: true, ..given() };
        assert_eq!(mount_to_cri(&mount(recursive.clone()).unwrap()), recursive);
    }

    fn image(name: &str) -> Option<v1::ImageSpec> {
        Some(v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() })
    }

    #[test]
    fn a_mapped_mount_and_an_image_come_back_and_an_image_with_what_was_found() {
        let range = v1::IdMapping { host_id: 1000, container_id: 0, length: 10 };
        let ids = |id| vec![v1::IdMapping { host_id: id, ..range }];
        let mapped = v1::Mount { uid_mappings: ids(1000), gid_mappings: ids(2000), ..given() };
        let volume = v1::Mount {
            image: image("volume"),
            image_sub_path: "etc".to_owned(),
            host_path: String::new(),
            readonly: true,
            ..given()
        };
        let mounts: Vec<_> =
            [volume.clone(), mapped.clone(), volume.clone()].map(|one| mount(one).unwrap()).into();
        let name = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let found = ["1", "2"].map(|digit| name(digit).parse().unwrap());
        let shown = mounts_to_cri(&mounts, &found);
        assert_eq!(shown[1], mapped);
        for (index, name) in [(0, name("1")), (2, name("2"))] {
            let mut expected = volume.clone();
            expected.image.as_mut().unwrap().image_ref = name;
            assert_eq!(shown[index], expected);
        }
    }

    #[test]
    fn recursive_read_only_needs_readonly_and_private_propagation() {
        for wrong in [
            v1::Mount { recursive_read_only: true, ..given() },
            v1::Mount { recursive_read_only: true, readonly: true, propagation: 1, ..given() },
            v1::Mount { recursive_read_only: true, readonly: true, propagation: 2, ..given() },
        ] {
            assert!(matches!(mount(wrong), Err(Refusal::Invalid { .. })));
        }
    }

    #[test]
    fn a_sub_path_of_no_image_is_none() {
        let sub = v1::Mount { image_sub_path: "etc".to_owned(), ..given() };
        assert_eq!(mount_to_cri(&mount(sub).unwrap()), given());
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let range = v1::IdMapping { host_id: 1000, container_id: 0, length: 10 };
        for wrong in [
            v1::Mount { uid_mappings: vec![range], ..given() },
            v1::Mount { uid_mappings: vec![range, range], gid_mappings: vec![range], ..given() },
            v1::Mount { uid_mappings: vec![v1::IdMapping::default()], ..given() },
            v1::Mount { image: image("volume"), ..given() },
            v1::Mount { image: image("volume"), host_path: String::new(), ..given() },
        ] {
            assert!(matches!(mount(wrong), Err(Refusal::Invalid { .. })));
        }
        let unknown = v1::Mount { propagation: 7, ..given() };
        assert!(matches!(mount(unknown), Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn mount_options_take_something_away_and_come_back_in_one_order() {
        let with = |options: &[&str]| v1::Mount {
            mount_options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..given()
        };
        for (asked, shown) in [
            (&["noexec"][..], &["noexec"][..]),
            (&["nodev", "nosuid", "noexec"], &["nosuid", "noexec", "nodev"]),
            (&["nodev", "nodev"], &["nodev"]),
        ] {
            let shown: Vec<_> = shown.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(mount_to_cri(&mount(with(asked)).unwrap()).mount_options, shown);
        }
        for wrong in ["exec", "NOEXEC", "", "rbind", "ro", "noexec,nodev", "size=1"] {
            let refused = mount(with(&["nodev", wrong]));
            assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_device_has_permissions() {
        let given = v1::Device {
            container_path: "/dev/fuse".to_owned(),
            host_path: "/dev/fuse".to_owned(),
            permissions: "wr".to_owned(),
        };
        assert_eq!(device(given.clone()).unwrap().permissions, "rw");
        device(v1::Device { permissions: String::new(), ..given }).unwrap_err();
    }
}
