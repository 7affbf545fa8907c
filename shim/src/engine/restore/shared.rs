//! What images say of the pod's namespaces: host name, the parameters of System V IPC and message queues, the network.
//!
//! CRIU sets them when it joins these namespaces. They are the pod's, made as its configuration wants them, and other containers
//! of it run. So the images are told, before CRIU reads them, what is so already.

use std::path::Path;

use cringle_kernel::namespace::Namespaces;

use super::super::error::{Attempting as _, EngineError, Result};
use super::super::namespaces::Joined;
use super::wire::Message;

/// Under this name images know a network namespace that is not their container's own.
pub(super) const NETWORK: &str = "extRootNetNS";
/// How the names of these images begin.
const HOST_NAME: &str = "utsns-";
const PARAMETERS: &str = "ipcns-var-";
const NETWORKS: &str = "netns-";
/// The field of a network that has its name.
const NAME: u64 = 8;

/// The field of a parameter in its message, and its file below `/proc/sys`.
const FILES: [(u64, &str); 14] = [
    (1, "kernel/sem"),
    (2, "kernel/msgmax"),
    (3, "kernel/msgmnb"),
    (4, "kernel/msgmni"),
    (5, "kernel/auto_msgmni"),
    (6, "kernel/shmmax"),
    (7, "kernel/shmall"),
    (8, "kernel/shmmni"),
    (9, "kernel/shm_rmid_forced"),
    (10, "fs/mqueue/queues_max"),
    (11, "fs/mqueue/msg_max"),
    (12, "fs/mqueue/msgsize_max"),
    (13, "fs/mqueue/msg_default"),
    (14, "fs/mqueue/msgsize_default"),
];

/// Child-side, in the container's namespaces: makes the images say of them what is so.
///
/// # Errors
/// The images can't be replaced, or the kernel does not tell.
pub(super) fn keep(images: &Path, joined: &Joined) -> Result<()> {
    let is_joined = joined.others.iter().any(|(kind, _)| *kind == Namespaces::NETWORK);
    let fails = |source| EngineError::Read { path: images.to_owned(), source };
    for entry in std::fs::read_dir(images).map_err(fails)? {
        let name = entry.map_err(fails)?.file_name();
        let path = images.join(&name);
        match name.to_str() {
            Some(name) if name.starts_with(HOST_NAME) => replace(&path, host_name())?,
            Some(name) if name.starts_with(PARAMETERS) => replace(&path, parameters()?)?,
            Some(name) if name.starts_with(NETWORKS) && is_joined => replace(&path, network())?,
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn host_name() -> Message {
    let own = rustix::system::uname();
    let mut message = Message::default();
    message.bytes(1, own.nodename().to_bytes());
    message.bytes(2, own.domainname().to_bytes());
    message
}

/// A network is named and no more is said of it: CRIU is given the pod's for it.
fn network() -> Message {
    let mut message = Message::default();
    message.bytes(NAME, NETWORK.as_bytes());
    message
}

/// Whose namespace a parameter is of is decided by who opens its file.
fn parameters() -> Result<Message> {
    let mut message = Message::default();
    for (field, file) in FILES {
        let path = Path::new("/proc/sys").join(file);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // One that went out of use has no effect either.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "0".to_owned(),
            Err(source) => return Err(EngineError::Read { path, source }),
        };
        for value in text.split_whitespace() {
            let odd = || EngineError::Restore(format!("{path:?} has {value:?}"));
            message.number(field, value.parse().map_err(|_odd| odd())?);
        }
    }
    Ok(message)
}

fn replace(path: &Path, message: Message) -> Result<()> {
    let old = std::fs::read(path)
        .map_err(|source| EngineError::Read { path: path.to_owned(), source })?;
    let Some(marks) = old.first_chunk::<8>() else {
        return Err(EngineError::Restore(format!("{path:?} of the checkpoint is too short")));
    };
    let flags = rustix::fs::OFlags::WRONLY
        | rustix::fs::OFlags::TRUNC
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    let attempt = || format!("write {path:?}");
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).attempting(attempt)?;
    let text = message.image(*marks);
    match rustix::io::write(&file, &text).attempting(attempt)? {
        written if written == text.len() => Ok(()),
        _ => Err(EngineError::Restore(format!("{path:?} was not written whole"))),
    }
}
