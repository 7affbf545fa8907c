//! The files that a pod's containers share: resolver settings, host name, hosts.

use crate::{Service, ServiceError};
use cringle_domain::namespaces::{PodUsers, Sharing};
use cringle_domain::plan::PodPlan;
use cringle_domain::planner::{self, HostFiles, PlanSettings, files};
use cringle_domain::pod::PodRecord;
use cringle_domain::spec::PodSpec;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::Path;

/// The largest resolver or hosts file of the host that is copied.
const FILE_LIMIT: u64 = 1 << 20;

/// Plans a pod over what the host has.
pub(super) fn plan(spec: &PodSpec, settings: &PlanSettings) -> Result<PodPlan, ServiceError> {
    let hostname = cringle_kernel::uts::hostname()
        .map_err(|source| ServiceError::kernel("read the host's name", source))?;
    let resolv_conf = copy_of(Path::new("/etc/resolv.conf"))?;
    let host = HostFiles { hostname: &hostname, resolv_conf: &resolv_conf };
    Ok(planner::plan_pod(spec, &host, settings)?)
}

/// Makes the pod's directory and writes what is known before there is a network.
pub(super) fn write(service: &Service, record: &PodRecord) -> Result<(), ServiceError> {
    let directory = service.layout.pod_directory(&record.id);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(|source| ServiceError::file("make", directory.clone(), source))?;
    let users = record.spec.namespaces.users;
    write_new(&directory.join("resolv.conf"), &record.plan.resolv_conf, users)?;
    write_new(&directory.join("hostname"), &files::hostname_file(&record.plan.hostname), users)
}

/// Writes the hosts file, which names the pod's addresses.
pub(super) fn write_hosts(
    service: &Service,
    record: &PodRecord,
    addresses: &[IpAddr],
) -> Result<(), ServiceError> {
    let content = match record.spec.namespaces.network {
        Sharing::Node => copy_of(Path::new("/etc/hosts"))?,
        Sharing::Pod => files::hosts(&record.plan.hostname, addresses),
    };
    let path = service.layout.pod_directory(&record.id).join("hosts");
    write_new(&path, &content, record.spec.namespaces.users)
}

/// The content of a file of the host, up to a limit; one that is not there is empty.
fn copy_of(path: &Path) -> Result<String, ServiceError> {
    let mut content = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(String::from_utf8_lossy(&content).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ServiceError::file("read", path, source)),
    }
}

/// A new file in a directory of our own needs no replacement. It belongs to the pod's root, who may write it.
fn write_new(path: &Path, content: &str, users: PodUsers) -> Result<(), ServiceError> {
    let owner = users.mapping().map(|mapping| (mapping.users.first(), mapping.groups.first()));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            match owner {
                Some((user, group)) => fchown(&file, Some(user), Some(group)),
                None => Ok(()),
            }
        })
        .map_err(|source| ServiceError::file("write", path, source))
}
