//! The mount table of a container: the mounts that every container has, the pod's files, the image's volumes, and the
//! client's mounts, which take the place of any of them.

use super::ContainerInput;
use crate::mounts::{self, Access, MountRequest, Propagation, Restriction, Restrictions};
use crate::namespaces::{PodUsers, Sharing};
use crate::plan::{Identity, MountSource, PlannedMount, VolumeDirectory};
use crate::refusal::Refusal;
use crate::security::Privilege;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::slice;

/// Mounts, and what they need.
pub(super) struct Mounts {
    pub(super) mounts: Vec<PlannedMount>,
    pub(super) volumes: Vec<VolumeDirectory>,
    /// The widest propagation that the client asks for: the root must not be narrower.
    pub(super) propagation: Propagation,
}

pub(super) fn plan(input: &ContainerInput<'_>, owner: &Identity) -> Result<Mounts, Refusal> {
    let requests =
        input.spec.mounts.iter().map(MountRequest::checked).collect::<Result<Vec<_>, _>>()?;
    refuse_propagation_out(input, &requests)?;
    let taken: HashSet<&Path> =
        requests.iter().map(|request| request.container_path.as_path()).collect();
    let volumes = volumes(input, &taken, owner)?;
    let mut mounts = filesystems(input);
    mounts.extend(files_of_pod(input));
    // A client that mounts /dev or /sys means to bring all that is below it.
    let brought: Vec<&Path> =
        ["/dev", "/sys"].into_iter().map(Path::new).filter(|path| taken.contains(path)).collect();
    mounts.retain(|mount| {
        !taken.contains(mount.target.as_path())
            && !brought.iter().any(|path| mount.target.starts_with(path))
    });
    mounts.extend(volumes.iter().map(|volume| {
        mount(&volume.target, MountSource::Path(volume.directory.clone()), Access::ReadWrite)
    }));
    let propagation = widest(&requests);
    let mut images = input.image_volumes.iter();
    for request in requests {
        mounts.push(of_client(request, input, &mut images)?);
    }
    // Parents first, so that no mount covers another; the order is kept among mounts of the same depth.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(Mounts { mounts, volumes, propagation })
}

fn filesystems(input: &ContainerInput<'_>) -> Vec<PlannedMount> {
    let kernel = match input.spec.security.privilege {
        Privilege::Privileged => Access::ReadWrite,
        Privilege::Ordinary => Access::ReadOnly,
    };
    // The groups of processes are the host's, whatever root of a user namespace may do otherwise.
    let cgroups = match input.pod.namespaces.users {
        PodUsers::Node => kernel,
        PodUsers::Pod(_) => Access::ReadOnly,
    };
    // A sysfs shows the network devices of the namespace it is mounted in. With the host's network the host's own is
    // right, and mounting another would be the same file system anyway.
    let sysfs = match input.pod.namespaces.network {
        Sharing::Pod => MountSource::Sysfs,
        Sharing::Node => MountSource::Path(PathBuf::from("/sys")),
    };
    let shared_memory = MountSource::Path(input.places.shared_memory.clone());
    [
        ("/proc", MountSource::Proc, Access::ReadWrite, Restrictions::ALL),
        ("/dev", MountSource::Dev, Access::ReadWrite, Restrictions::NO_SETUID),
        ("/sys", sysfs, kernel, Restrictions::ALL),
        ("/dev/pts", MountSource::Devpts, Access::ReadWrite, Restrictions::NO_SETUID_NO_PROGRAMS),
        ("/dev/mqueue", MountSource::Mqueue, Access::ReadWrite, Restrictions::ALL),
        ("/dev/shm", shared_memory, Access::ReadWrite, Restrictions::ALL),
        ("/sys/fs/cgroup", MountSource::Cgroup, cgroups, Restrictions::ALL),
    ]
    .into_iter()
    .map(|(target, source, access, restrictions)| PlannedMount {
        restrictions,
        ..mount(Path::new(target), source, access)
    })
    .collect()
}

/// Files that all containers of the pod share; read-only where the root is.
fn files_of_pod<'a>(input: &ContainerInput<'a>) -> impl Iterator<Item = PlannedMount> + use<'a> {
    let places = input.places;
    let access =
        if input.spec.security.readonly_rootfs { Access::ReadOnly } else { Access::ReadWrite };
    [
        ("/etc/hostname", &places.hostname_file),
        ("/etc/resolv.conf", &places.resolv_conf),
        ("/etc/hosts", &places.hosts),
    ]
    .into_iter()
    .map(move |(target, file)| PlannedMount {
        restrictions: Restrictions::ALL,
        ..mount(Path::new(target), MountSource::Path(file.clone()), access)
    })
}

/// The image's volumes that need a directory of their own. On a root that can be written the image's own directory,
/// with its content and owner, serves as well: it lives as long as the container, and that is all an anonymous volume does.
fn volumes(
    input: &ContainerInput<'_>,
    taken: &HashSet<&Path>,
    owner: &Identity,
) -> Result<Vec<VolumeDirectory>, Refusal> {
    let mut targets: Vec<PathBuf> = Vec::new();
    for volume in &input.image.volumes {
        let target = mounts::clean(Path::new(volume))
            .map_err(|error| Refusal::invalid("image.volumes", error.to_string()))?;
        if RESERVED.iter().any(|reserved| target.starts_with(reserved)) || target == Path::new("/")
        {
            return Err(Refusal::invalid(
                "image.volumes",
                format!("{target:?} is where the kernel's file systems are"),
            ));
        }
        if !taken.contains(target.as_path()) && !targets.contains(&target) {
            targets.push(target);
        }
    }
    if !input.spec.security.readonly_rootfs {
        return Ok(vec![]);
    }
    let (user, group) = on_host(input.pod.namespaces.users, owner);
    Ok(targets
        .into_iter()
        .enumerate()
        .map(|(index, target)| VolumeDirectory {
            directory: input.places.volumes.join(index.to_string()),
            target,
            user,
            group,
        })
        .collect())
}

/// Where an image may not have volumes: labels, limits and devices are written there (CVE-2019-16884).
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The host's ids for the owner; it was looked at before that they are mapped.
fn on_host(users: PodUsers, owner: &Identity) -> (u32, u32) {
    let Some(mapping) = users.mapping() else { return (owner.user, owner.group) };
    let user = mapping.users.of_host(owner.user).unwrap_or(mapping.users.first());
    (user, mapping.groups.of_host(owner.group).unwrap_or(mapping.groups.first()))
}

fn of_client(
    request: MountRequest,
    input: &ContainerInput<'_>,
    images: &mut slice::Iter<'_, Vec<PathBuf>>,
) -> Result<PlannedMount, Refusal> {
    let Some(volume) = request.image else {
        return Ok(PlannedMount {
            target: request.container_path,
            source: MountSource::Tree(request.host_path),
            access: request.access,
            propagation: request.propagation,
            restrictions: request.restrictions,
            mapping: request.mapping,
        });
    };
    let layers = images.next().cloned().ok_or_else(|| {
        Refusal::invalid("mounts.image", format!("\"{}\" was not found", volume.image.reference))
    })?;
    Ok(PlannedMount {
        target: request.container_path,
        source: MountSource::Image { layers, sub_path: volume.sub_path },
        access: request.access,
        propagation: Propagation::Private,
        // Programs of it may be run; what they may do is the container's.
        restrictions: (request.restrictions)
            .with(Restriction::NoSetuid)
            .with(Restriction::NoDevices),
        mapping: request.mapping.or(input.pod.namespaces.users.mapping()),
    })
}

/// Mounts of a container with users of its own never reach the host.
fn refuse_propagation_out(
    input: &ContainerInput<'_>,
    requests: &[MountRequest],
) -> Result<(), Refusal> {
    let out = requests.iter().find(|request| request.propagation == Propagation::Bidirectional);
    match (input.pod.namespaces.users, out) {
        (PodUsers::Pod(_), Some(request)) => Err(Refusal::invalid(
            "mounts.propagation",
            format!(
                "{:?} can't be bidirectional in a user namespace of the pod's own",
                request.container_path
            ),
        )),
        (PodUsers::Pod(_), None) | (PodUsers::Node, _) => Ok(()),
    }
}

fn widest(requests: &[MountRequest]) -> Propagation {
    let asks = |propagation| requests.iter().any(|request| request.propagation == propagation);
    if asks(Propagation::Bidirectional) {
        Propagation::Bidirectional
    } else if asks(Propagation::HostToContainer) {
        Propagation::HostToContainer
    } else {
        Propagation::Private
    }
}

fn mount(target: &Path, source: MountSource, access: Access) -> PlannedMount {
    PlannedMount {
        target: target.to_owned(),
        source,
        access,
        propagation: Propagation::Private,
        restrictions: Restrictions::NONE,
        mapping: None,
    }
}

#[cfg(test)]
mod tests;
