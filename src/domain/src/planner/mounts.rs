//! The mount table of a container: the mounts that every container has, the pod's files, the image's volumes, and the
//! client's mounts, which take the place of any of them.

use super::ContainerInput;
use crate::mounts::{self, Access, MountRequest, Propagation};
use crate::namespaces::Sharing;
use crate::plan::{Identity, MountSource, PlannedMount, Restrictions, VolumeDirectory};
use crate::refusal::Refusal;
use crate::security::Privilege;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

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
    mounts.extend(requests.into_iter().map(of_client));
    // Parents first, so that no mount covers another; the order is kept among mounts of the same depth.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(Mounts { mounts, volumes, propagation })
}

fn filesystems(input: &ContainerInput<'_>) -> Vec<PlannedMount> {
    let kernel = match input.spec.security.privilege {
        Privilege::Privileged => Access::ReadWrite,
        Privilege::Ordinary => Access::ReadOnly,
    };
    // A sysfs shows the network devices of the namespace it is mounted in. With the host's network the host's own is
    // right, and mounting another would be the same file system anyway.
    let sysfs = match input.pod.namespaces.network {
        Sharing::Pod => MountSource::Sysfs,
        Sharing::Node => MountSource::Path(PathBuf::from("/sys")),
    };
    let shared_memory = MountSource::Path(input.places.shared_memory.clone());
    [
        ("/proc", MountSource::Proc, Access::ReadWrite, Restrictions::All),
        ("/dev", MountSource::Dev, Access::ReadWrite, Restrictions::NoSetuid),
        ("/sys", sysfs, kernel, Restrictions::All),
        ("/dev/pts", MountSource::Devpts, Access::ReadWrite, Restrictions::NoSetuidNoPrograms),
        ("/dev/mqueue", MountSource::Mqueue, Access::ReadWrite, Restrictions::All),
        ("/dev/shm", shared_memory, Access::ReadWrite, Restrictions::All),
        ("/sys/fs/cgroup", MountSource::Cgroup, kernel, Restrictions::All),
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
        restrictions: Restrictions::All,
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
    Ok(targets
        .into_iter()
        .enumerate()
        .map(|(index, target)| VolumeDirectory {
            directory: input.places.volumes.join(index.to_string()),
            target,
            user: owner.user,
            group: owner.group,
        })
        .collect())
}

/// Where an image may not have volumes: labels, limits and devices are written there (CVE-2019-16884).
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

fn of_client(request: MountRequest) -> PlannedMount {
    PlannedMount {
        target: request.container_path,
        source: MountSource::Tree(request.host_path),
        access: request.access,
        propagation: request.propagation,
        restrictions: Restrictions::None,
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
        restrictions: Restrictions::None,
    }
}

#[cfg(test)]
mod tests;
