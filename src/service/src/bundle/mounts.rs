//! Planned mounts as `mounts` of the spec.

use super::BundleError;
use cringle_domain::mounts::{Access, Propagation};
use cringle_domain::plan::{MountSource, PlannedMount, Restrictions};
use oci_spec::runtime::{Mount, MountBuilder};

pub(super) fn of(mounts: &[PlannedMount]) -> Result<Vec<Mount>, BundleError> {
    mounts.iter().map(one).collect()
}

fn one(mount: &PlannedMount) -> Result<Mount, BundleError> {
    let (kind, source, own) = kind(&mount.source);
    let words = own
        .iter()
        .chain(restrictions(mount.restrictions))
        .chain(access(mount.access))
        .chain(propagation(mount));
    Ok(MountBuilder::default()
        .destination(mount.target.clone())
        .typ(kind)
        .source(source)
        .options(words.map(|word| (*word).to_owned()).collect::<Vec<_>>())
        .build()?)
}

/// Type, source, and the options that only this kind has.
fn kind(source: &MountSource) -> (&'static str, &std::path::Path, &'static [&'static str]) {
    match source {
        MountSource::Tree(path) => ("bind", path, &["rbind"]),
        MountSource::Path(path) => ("bind", path, &["bind"]),
        MountSource::Proc => ("proc", "proc".as_ref(), &[]),
        MountSource::Sysfs => ("sysfs", "sysfs".as_ref(), &[]),
        MountSource::Cgroup => ("cgroup", "cgroup".as_ref(), &["relatime"]),
        MountSource::Dev => {
            ("tmpfs", "tmpfs".as_ref(), &["strictatime", "mode=755", "size=65536k"])
        }
        // Group 5 is tty in every distribution; its members may write to terminals.
        MountSource::Devpts => {
            ("devpts", "devpts".as_ref(), &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])
        }
        MountSource::Mqueue => ("mqueue", "mqueue".as_ref(), &[]),
    }
}

fn restrictions(restrictions: Restrictions) -> &'static [&'static str] {
    match restrictions {
        Restrictions::None => &[],
        Restrictions::NoSetuid => &["nosuid"],
        Restrictions::NoSetuidNoPrograms => &["nosuid", "noexec"],
        Restrictions::All => &["nosuid", "noexec", "nodev"],
    }
}

fn access(access: Access) -> &'static [&'static str] {
    match access {
        Access::ReadWrite => &["rw"],
        Access::ReadOnly => &["ro"],
        Access::RecursiveReadOnly => &["rro"],
    }
}

/// Only what comes from the host has somewhere to propagate to.
fn propagation(mount: &PlannedMount) -> &'static [&'static str] {
    match (&mount.source, mount.propagation) {
        (MountSource::Tree(_) | MountSource::Path(_), Propagation::Private) => &["rprivate"],
        (MountSource::Tree(_) | MountSource::Path(_), Propagation::HostToContainer) => &["rslave"],
        (MountSource::Tree(_) | MountSource::Path(_), Propagation::Bidirectional) => &["rshared"],
        (
            MountSource::Proc
            | MountSource::Sysfs
            | MountSource::Cgroup
            | MountSource::Dev
            | MountSource::Devpts
            | MountSource::Mqueue,
            _,
        ) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_mount_has_its_words() {
        let mount = |source, access, propagation, restrictions| PlannedMount {
            target: "/t".into(),
            source,
            access,
            propagation,
            restrictions,
        };
        let tree = || MountSource::Tree("/h".into());
        let (private, none) = (Propagation::Private, Restrictions::None);
        for (planned, kind, words) in [
            (mount(tree(), Access::ReadWrite, private, none), "bind", "rbind rw rprivate"),
            (
                mount(tree(), Access::ReadOnly, Propagation::HostToContainer, none),
                "bind",
                "rbind ro rslave",
            ),
            (
                mount(tree(), Access::ReadWrite, Propagation::Bidirectional, none),
                "bind",
                "rbind rw rshared",
            ),
            (mount(tree(), Access::RecursiveReadOnly, private, none), "bind", "rbind rro rprivate"),
            (
                mount(
                    MountSource::Path("/h".into()),
                    Access::ReadWrite,
                    private,
                    Restrictions::All,
                ),
                "bind",
                "bind nosuid noexec nodev rw rprivate",
            ),
            (
                mount(MountSource::Sysfs, Access::ReadOnly, private, Restrictions::All),
                "sysfs",
                "nosuid noexec nodev ro",
            ),
        ] {
            let mount = one(&planned).unwrap();
            assert_eq!(mount.typ().as_deref(), Some(kind), "{planned:?}");
            assert_eq!(mount.options().clone().unwrap().join(" "), words, "{planned:?}");
        }
    }
}
