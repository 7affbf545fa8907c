//! The namespaces of a pod: made and pinned by a thread that ends afterwards, so that no thread of the runtime is ever in
//! another namespace; for a pod with users of its own by the shim's entry for that, as only a process of one thread can.

use super::Hold;
use crate::{Service, ServiceError, supervisor};
use cringle_domain::namespaces::{IdMapping, IdRange, Sharing};
use cringle_domain::pod::PodRecord;
use cringle_kernel::error::{Result as KernelResult, SystemError};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::{pin, sysctl, uts};
use cringle_store::holds::Holds;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// What the thread is to do. Everything is decided; it only executes.
#[derive(Debug)]
struct Orders {
    kinds: Namespaces,
    pins: Vec<(Namespaces, PathBuf)>,
    hostname: Option<String>,
    sysctls: Vec<(String, String)>,
}

/// Makes and pins the pod's namespaces, its host name and sysctls in them, and mounts its /dev/shm.
pub(super) async fn make(
    service: &Service,
    record: &PodRecord,
    journal: &Holds<Hold>,
) -> Result<(), ServiceError> {
    let orders = plan(service, record);
    let hold =
        journal.noted().iter().find(|hold| matches!(hold, Hold::Users | Hold::Network | Hold::Ipc));
    if let Some(hold) = hold {
        match record.spec.namespaces.users.mapping() {
            Some(mapping) => {
                let directory = service.layout.pod_directory(&record.id);
                let arguments = arguments(orders, mapping, &directory.join("user"));
                let failed = |source| ServiceError::OwnUsers { pod: record.id.clone(), source };
                let pinned = supervisor::pin(&service.shim, arguments);
                journal.take(hold, pinned).await.map_err(failed)?;
            }
            None => {
                let failed = |source| ServiceError::Namespaces { pod: record.id.clone(), source };
                journal.take(hold, run_on_own_thread(orders)).await.map_err(failed)?;
            }
        }
    }
    if record.spec.namespaces.ipc == Sharing::Pod {
        let shm = service.layout.pod_directory(&record.id).join("shm");
        let users = record.spec.namespaces.users.mapping();
        journal.take(&Hold::Shm, async { mount_shm(&shm, users) }).await?;
    }
    Ok(())
}

fn plan(service: &Service, record: &PodRecord) -> Orders {
    let spec = &record.spec;
    let directory = service.layout.pod_directory(&record.id);
    let mut pins = Vec::new();
    let mut hostname = None;
    if spec.namespaces.network == Sharing::Pod {
        pins.push((Namespaces::NETWORK, service.layout.netns(&record.id)));
        pins.push((Namespaces::UTS, directory.join("uts")));
        hostname = Some(record.plan.hostname.clone());
    }
    if spec.namespaces.ipc == Sharing::Pod {
        pins.push((Namespaces::IPC, directory.join("ipc")));
    }
    let kinds = pins.iter().fold(Namespaces::default(), |kinds, (kind, _)| kinds.with(*kind));
    let sysctls = record.plan.sysctls.clone().into_iter().collect();
    Orders { kinds, pins, hostname, sysctls }
}

/// The same orders for the shim's entry, where all but the user namespace belongs to that.
fn arguments(orders: Orders, mapping: IdMapping, users: &Path) -> Vec<OsString> {
    let range = |range: IdRange| format!("0:{}:{}", range.first(), range.length());
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
    add("--users", range(mapping.users).into());
    add("--groups", range(mapping.groups).into());
    if let Some(hostname) = orders.hostname {
        add("--hostname", hostname.into());
    }
    for (name, value) in orders.sysctls {
        add("--sysctl", format!("{name}={value}").into());
    }
    let pins = [(Namespaces::USER, users.to_owned())].into_iter().chain(orders.pins);
    for (kind, path) in pins {
        let mut pin = OsString::from(format!("{}=", kind.file().unwrap_or_default()));
        pin.push(path);
        add("--pin", pin);
    }
    arguments
}

async fn run_on_own_thread(orders: Orders) -> KernelResult<()> {
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("namespaces".to_owned()).spawn(move || {
        // Nobody to tell if the operation is gone: it tears down what was noted.
        drop(sender.send(execute(&orders)));
    });
    spawned.map_err(|source| SystemError::new("clone", "thread for namespaces", source))?;
    receiver.await.unwrap_or_else(|_gone| {
        let ended = std::io::Error::other("the thread ended without an answer");
        Err(SystemError::new("clone", "thread for namespaces", ended))
    })
}

fn execute(orders: &Orders) -> KernelResult<()> {
    namespace::unshare(orders.kinds)?;
    if let Some(hostname) = &orders.hostname {
        uts::set_hostname(hostname)?;
    }
    for (name, value) in &orders.sysctls {
        sysctl::write(name, value)?;
    }
    orders.pins.iter().try_for_each(|(kind, path)| namespace::pin(*kind, path))
}

/// 64 MiB as everywhere in the field; the pages are charged to the containers that write them.
fn mount_shm(path: &Path, users: Option<IdMapping>) -> Result<(), ServiceError> {
    std::fs::DirBuilder::new()
        .create(path)
        .map_err(|source| ServiceError::file("make", path, source))?;
    let mut options = "mode=1777,size=67108864".to_owned();
    if let Some(IdMapping { users, groups }) = users {
        options.push_str(&format!(",uid={},gid={}", users.first(), groups.first()));
    }
    pin::mount_tmpfs(path, &options)
        .map_err(|source| ServiceError::kernel(format!("mount \"{}\"", path.display()), source))
}
