//! The namespaces of a container: which are new, which are joined, and how a child gets into them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use cringle_kernel::clone::{self, Birth, Born};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::process;
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use std::os::fd::BorrowedFd;

use super::error::{Attempting as _, EngineError, Result};

/// The namespaces, decided.
#[derive(Debug, Default)]
pub(super) struct NamespacePlan {
    /// Those made with the child.
    pub new: Namespaces,
    /// Those that exist, by path.
    pub joined: Vec<(Namespaces, PathBuf)>,
}

/// The existing namespaces, opened.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The PID namespace, which a parent must be in for its child to be in it.
    pub pid: Option<OwnedFd>,
    /// All others, which the child enters itself.
    pub others: Vec<(Namespaces, OwnedFd)>,
}

/// Plans the namespaces.
///
/// # Errors
/// Two of a kind, or a kind this engine can't give.
pub(super) fn plan(linux: &Linux) -> Result<NamespacePlan> {
    let mut plan = NamespacePlan::default();
    let mut seen = Namespaces::NONE;
    for one in linux.namespaces().iter().flatten() {
        let kind = match one.typ() {
            LinuxNamespaceType::Mount => Namespaces::MOUNT,
            LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
            LinuxNamespaceType::Uts => Namespaces::UTS,
            LinuxNamespaceType::Ipc => Namespaces::IPC,
            LinuxNamespaceType::Pid => Namespaces::PID,
            LinuxNamespaceType::Network => Namespaces::NETWORK,
            LinuxNamespaceType::User => {
                return Err(EngineError::Unsupported("user namespace".into()));
            }
            LinuxNamespaceType::Time => {
                return Err(EngineError::Unsupported("time namespace".into()));
            }
        };
        if seen.has(kind) {
            return Err(EngineError::invalid(
                "linux.namespaces",
                format!("{kind:?} is there twice"),
            ));
        }
        seen = seen.with(kind);
        match one.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => plan.new = plan.new.with(kind),
            Some(path) => plan.joined.push((kind, path.clone())),
        }
    }
    if !plan.new.has(Namespaces::MOUNT) {
        let problem = "a container needs a new mount namespace";
        return Err(EngineError::invalid("linux.namespaces", problem));
    }
    Ok(plan)
}

impl NamespacePlan {
    /// Whether the container has such a namespace apart from the host's.
    pub(super) fn has(&self, kind: Namespaces) -> bool {
        self.new.has(kind) || self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Opens those that exist, before anything is made.
    ///
    /// # Errors
    /// One is missing or of another kind.
    pub(super) fn open(&self) -> Result<Joined> {
        let mut joined = Joined::default();
        for (kind, path) in &self.joined {
            let namespace =
                namespace::open(path, *kind).attempting(|| format!("open namespace {path:?}"))?;
            if *kind == Namespaces::PID {
                joined.pid = Some(namespace);
            } else {
                joined.others.push((*kind, namespace));
            }
        }
        Ok(joined)
    }
}

/// Clones a child into a PID namespace that exists, if one is given. The engine's only thread is inside it for as long as that
/// takes, which concerns its children only.
///
/// # Errors
/// The kernel refused.
pub(super) fn child_in(
    pid_namespace: Option<BorrowedFd<'_>>,
    birth: &Birth<'_>,
    life: impl FnOnce() -> i32,
) -> Result<Born> {
    let attempt = || "clone the container's process".to_owned();
    // From its first moment a child may be seen by processes that are not to look into it: it is born hidden.
    process::hide().attempting(attempt)?;
    let Some(target) = pid_namespace else {
        return clone::child(birth, life).attempting(attempt);
    };
    let own = namespace::own(Namespaces::PID).attempting(attempt)?;
    // A pidfd takes the flag as which of its process' namespaces is meant, a namespace as a check.
    namespace::join(target, Namespaces::PID).attempting(attempt)?;
    let born = clone::child(birth, life).attempting(attempt);
    let back = namespace::join(own.as_fd(), Namespaces::PID);
    back.attempting(|| "return to the own PID namespace".to_owned())?;
    born
}

/// Child-side: enters the existing namespaces, then what can only be made from within the cgroup.
///
/// # Errors
/// The kernel refused.
pub(super) fn enter(joined: &Joined, new: Namespaces) -> Result<()> {
    for (kind, namespace) in &joined.others {
        namespace::join(namespace.as_fd(), *kind)
            .attempting(|| format!("join namespace {:?}", kind.file().unwrap_or_default()))?;
    }
    if new.has(Namespaces::CGROUP) {
        namespace::unshare(Namespaces::CGROUP)
            .attempting(|| "make a cgroup namespace".to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<NamespacePlan> {
        plan(&serde_json::from_str(&format!(r#"{{"namespaces":{json}}}"#)).unwrap())
    }

    #[test]
    fn new_and_joined_are_told_apart() {
        let json =
            r#"[{"type":"mount"},{"type":"pid","path":""},{"type":"network","path":"/run/n"}]"#;
        let plan = planned(json).unwrap();
        assert_eq!(plan.new, Namespaces::MOUNT.with(Namespaces::PID));
        assert_eq!(plan.joined, [(Namespaces::NETWORK, PathBuf::from("/run/n"))]);
        assert!(plan.has(Namespaces::NETWORK) && !plan.has(Namespaces::IPC));
    }

    #[test]
    fn what_can_not_be_given_is_refused() {
        for json in [
            r#"[{"type":"mount"},{"type":"user"}]"#,
            r#"[{"type":"mount"},{"type":"time"}]"#,
            r#"[{"type":"mount"},{"type":"mount"}]"#,
            r#"[{"type":"mount","path":"/proc/1/ns/mnt"}]"#,
            r#"[{"type":"pid"}]"#,
        ] {
            assert!(planned(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_path_that_is_no_namespace_is_refused_before_anything_is_made() {
        let json = r#"[{"type":"mount"},{"type":"ipc","path":"/proc/self/ns/net"}]"#;
        planned(json).unwrap().open().unwrap_err();
    }
}
