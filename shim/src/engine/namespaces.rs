//! The namespaces of a container: which are new, which are joined, and how a child gets into them.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use cringle_kernel::clone::{self, Birth, Born};
use cringle_kernel::credential;
use cringle_kernel::idmap;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::process;
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use std::os::fd::BorrowedFd;

use super::error::{Attempting as _, EngineError, Result};
use super::idmaps::Mappings;

/// The namespaces, decided.
#[derive(Debug, Default)]
pub(super) struct NamespacePlan {
    /// Those made with the child.
    pub new: Namespaces,
    /// Those that exist, by path.
    pub joined: Vec<(Namespaces, PathBuf)>,
    /// The user namespace, if it is not the host's. All others belong to it but those of mounts, made after it is entered,
    /// and of processes.
    pub users: Option<UserPlan>,
}

/// A user namespace.
#[derive(Debug, Clone)]
pub(super) struct UserPlan {
    /// Where it is; none: it is made.
    pub path: Option<PathBuf>,
    /// Its maps.
    pub mappings: Mappings,
    /// Its root user and group outside.
    pub root: (u32, u32),
}

/// What belongs to a user namespace from the moment it is made.
const OWNED: Namespaces = Namespaces::NETWORK.with(Namespaces::IPC).with(Namespaces::UTS);

/// The existing namespaces, opened.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The PID namespace, which a parent must be in for its child to be in it.
    pub pid: Option<OwnedFd>,
    /// The user namespace, which the child enters when all is prepared.
    pub users: Option<OwnedFd>,
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
            LinuxNamespaceType::User => Namespaces::USER,
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
        if kind == Namespaces::USER {
            continue;
        }
        match one.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => plan.new = plan.new.with(kind),
            Some(path) => plan.joined.push((kind, path.clone())),
        }
    }
    if !plan.new.has(Namespaces::MOUNT) {
        let problem = "a container needs a new mount namespace";
        return Err(EngineError::invalid("linux.namespaces", problem));
    }
    plan.users = users(linux)?;
    if plan.users.as_ref().is_some_and(|users| users.path.is_some())
        && OWNED.without(plan.new) != OWNED
    {
        let text = "a new network, ipc or uts namespace in a user namespace that exists";
        return Err(EngineError::Unsupported(text.to_owned()));
    }
    Ok(plan)
}

/// Plans the user namespace.
///
/// # Errors
/// Maps without a namespace, a namespace without maps, or without a root.
pub(super) fn users(linux: &Linux) -> Result<Option<UserPlan>> {
    const FIELD: &str = "linux.uidMappings";
    let mut all = linux.namespaces().iter().flatten();
    let namespace = all.find(|one| one.typ() == LinuxNamespaceType::User);
    let (users, groups) = (linux.uid_mappings().as_ref(), linux.gid_mappings().as_ref());
    let (namespace, mappings) = match (namespace, Mappings::of_spec(users, groups, FIELD)?) {
        (None, None) => return Ok(None),
        (Some(namespace), Some(mappings)) => (namespace, mappings),
        (None, Some(_)) => return Err(EngineError::invalid(FIELD, "there is no user namespace")),
        (Some(_), None) => {
            let problem = "a user namespace needs maps, also one that exists";
            return Err(EngineError::invalid(FIELD, problem));
        }
    };
    let root = mappings.user_outside(0).zip(mappings.group_outside(0));
    let root = root.ok_or_else(|| EngineError::invalid(FIELD, "id 0 is not mapped"))?;
    let path = namespace.path().clone().filter(|path| !path.as_os_str().is_empty());
    Ok(Some(UserPlan { path, mappings, root }))
}

impl NamespacePlan {
    /// Whether the container has such a namespace apart from the host's.
    pub(super) fn has(&self, kind: Namespaces) -> bool {
        if kind == Namespaces::USER {
            return self.users.is_some();
        }
        self.new.has(kind) || self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Those that the child is born with.
    pub(super) fn born(&self) -> Namespaces {
        let later = Namespaces::CGROUP;
        let new = self.new.without(later);
        if self.users.is_some() { new.without(OWNED) } else { new }
    }

    /// Opens those that exist, before anything of the container is made; a user namespace that does not is made here, with
    /// what belongs to it.
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
        let Some(UserPlan { path, mappings, .. }) = &self.users else { return Ok(joined) };
        if let Some(path) = path {
            let opened = namespace::open(path, Namespaces::USER);
            joined.users = Some(opened.attempting(|| format!("open namespace {path:?}"))?);
            return Ok(joined);
        }
        let kinds = OWNED.without(OWNED.without(self.new));
        let made = idmap::make(kinds, &mappings.users, &mappings.groups, || Ok(()));
        for (kind, namespace) in made.attempting(|| "make the user namespace".to_owned())? {
            if kind == Namespaces::USER {
                joined.users = Some(namespace);
            } else {
                joined.others.push((kind, namespace));
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
    // With a user namespace it is made after that.
    if joined.users.is_none() && new.has(Namespaces::CGROUP) {
        namespace::unshare(Namespaces::CGROUP)
            .attempting(|| "make a cgroup namespace".to_owned())?;
    }
    Ok(())
}

/// Child-side, when all is prepared: enters the user namespace as its root, and makes a mount namespace that belongs to it.
/// What is mounted then is there as one whole, whose parts the container's root can't take away.
///
/// # Errors
/// The kernel refused.
pub(super) fn enter_users(users: BorrowedFd<'_>, new: Namespaces) -> Result<()> {
    let attempt = || "enter the user namespace".to_owned();
    namespace::join(users, Namespaces::USER).attempting(attempt)?;
    credential::become_user(0, 0, &[]).attempting(attempt)?;
    let own = Namespaces::MOUNT.with(Namespaces::CGROUP);
    namespace::unshare(own.without(own.without(new))).attempting(attempt)
}

/// A namespace of a process, as its name and number.
///
/// # Errors
/// The process is gone, or the kernel has no such namespaces.
pub(super) fn name_of(pid: i32, kind: &str) -> Result<OsString> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let target = std::fs::read_link(&path)
        .map_err(|source| EngineError::Read { path: path.into(), source })?;
    Ok(target.into_os_string())
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
            r#"[{"type":"mount"}],"uidMappings":[{"containerID":0,"hostID":7,"size":1}]"#,
            r#"[{"type":"mount"},{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":7,"size":1}]"#,
            r#"[{"type":"mount"},{"type":"time"}]"#,
            r#"[{"type":"mount"},{"type":"mount"}]"#,
            r#"[{"type":"mount","path":"/proc/1/ns/mnt"}]"#,
            r#"[{"type":"pid"}]"#,
        ] {
            assert!(planned(json).is_err(), "{json}");
        }
    }

    const MAPS: &str = r#","uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
        "gidMappings":[{"containerID":0,"hostID":2000,"size":10}]"#;

    #[test]
    fn what_belongs_to_a_user_namespace_is_made_with_it() {
        let json = r#"[{"type":"mount"},{"type":"pid"},{"type":"uts"},{"type":"user"}]"#;
        let plan = planned(&format!("{json}{MAPS}")).unwrap();
        assert_eq!(plan.users.as_ref().unwrap().root, (1000, 2000));
        assert_eq!(plan.born(), Namespaces::MOUNT.with(Namespaces::PID));
        let joined = plan.open().unwrap();
        assert!(joined.users.is_some());
        assert!(matches!(joined.others.as_slice(), [(Namespaces::UTS, _)]));
    }

    #[test]
    fn a_user_namespace_without_root_or_with_others_that_are_not_its_own_is_refused() {
        let rootless = MAPS.replace("\"containerID\":0", "\"containerID\":1");
        planned(&format!(r#"[{{"type":"mount"}},{{"type":"user"}}]{rootless}"#)).unwrap_err();
        let json = r#"[{"type":"mount"},{"type":"ipc"},{"type":"user","path":"/proc/1/ns/user"}]"#;
        planned(&format!("{json}{MAPS}")).unwrap_err();
    }

    #[test]
    fn a_path_that_is_no_namespace_is_refused_before_anything_is_made() {
        let json = r#"[{"type":"mount"},{"type":"ipc","path":"/proc/self/ns/net"}]"#;
        planned(json).unwrap().open().unwrap_err();
    }
}
