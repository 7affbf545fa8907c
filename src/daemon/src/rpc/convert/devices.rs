//! Mounts and devices of a container.

use super::fields::known;
use cringle_domain::mounts::{Access, DeviceRequest, MountRequest, Propagation};
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1;

/// A mount of a request.
pub(super) fn mount(mount: v1::Mount) -> Result<MountRequest, Refusal> {
    if mount.image.as_ref().is_some_and(|image| !image.image.is_empty()) {
        return Err(Refusal::Unsupported("an image as a volume".to_owned()));
    }
    if !mount.image_sub_path.is_empty() {
        return Err(Refusal::invalid("mounts.image_sub_path", "is given without an image"));
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(Refusal::Unsupported("an id-mapped mount".to_owned()));
    }
    if let Some(option) = mount.mount_options.first() {
        return Err(Refusal::Unsupported(format!("the mount option {option:?}")));
    }
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
        relabel: mount.selinux_relabel,
    }
    .checked()
}

/// A mount in an answer.
pub(super) fn mount_to_cri(mount: &MountRequest) -> v1::Mount {
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
        ..v1::Mount::default()
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
    fn what_is_not_offered_is_refused() {
        let image = v1::ImageSpec { image: "volume".to_owned(), ..v1::ImageSpec::default() };
        for wrong in [
            v1::Mount { image: Some(image), ..given() },
            v1::Mount { uid_mappings: vec![v1::IdMapping::default()], ..given() },
            v1::Mount { gid_mappings: vec![v1::IdMapping::default()], ..given() },
            v1::Mount { mount_options: vec!["noexec".to_owned()], ..given() },
        ] {
            assert!(matches!(mount(wrong), Err(Refusal::Unsupported(_))));
        }
        let unknown = v1::Mount { propagation: 7, ..given() };
        assert!(matches!(mount(unknown), Err(Refusal::Invalid { .. })));
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
