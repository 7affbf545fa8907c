//! Planned mounts as `mounts` of the spec.

use super::BundleError;
use cringle_domain::mounts::{Access, Propagation};
use cringle_domain::plan::{MountSource, PlannedMount};
use oci_spec::runtime::{Mount, MountBuilder};

pub(super) fn of(mounts: &[PlannedMount]) -> Result<Vec<Mount>, BundleError> {
    mounts.iter().map(one).collect()
}

fn one(mount: &PlannedMount) -> Result<Mount, BundleError> {
    let (kind, source, own) = kind(&mount.source);
    let words = own.iter().map(|word| (*word).to_owned()).chain(of_image(&mount.source));
    let rest = (mount.restrictions.words())
        .chain(access(mount.access).iter().copied())
        .chain(propagation(mount).iter().copied());
    let mut built = MountBuilder::default()
        .destination(mount.target.clone())
        .typ(kind)
        .source(source)
        .options(words.chain(rest.map(str::to_owned)).collect::<Vec<_>>())
        .build()?;
    if let Some(mapping) = mount.mapping {
        built.set_uid_mappings(Some(vec![super::linux::id_range(mapping.users)?]));
        built.set_gid_mappings(Some(vec![super::linux::id_range(mapping.groups)?]));
    }
    Ok(built)
}

/// The layers of an image, and the part of it that is meant, by the word of mount(8).
fn of_image(source: &MountSource) -> Vec<String> {
    let MountSource::Image { layers, sub_path } = source else { return Vec::new() };
    let layers: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
    let mut words = vec![format!("lowerdir={}", layers.join(":"))];
    if !sub_path.as_os_str().is_empty() {
        words.push(format!("X-mount.subdir={}", sub_path.display()));
    }
    words
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
        MountSource::Image { .. } => ("overlay", "overlay".as_ref(), &[]),
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
            | MountSource::Mqueue
            | MountSource::Image { .. },
            _,
        ) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cringle_domain::mounts::Restrictions;

    #[test]
    fn an_image_is_an_overlay_of_its_layers_or_a_part_of_that() {
        let image = |sub_path: &str| PlannedMount {
            target: "/t".into(),
            source: MountSource::Image {
                layers: vec!["/a".into(), "/b".into()],
                sub_path: sub_path.into(),
            },
            access: Access::ReadOnly,
            propagation: Propagation::Private,
            restrictions: Restrictions::NO_SETUID,
            mapping: None,
        };
        for (sub_path, words) in [
            ("", "lowerdir=/a:/b nosuid ro"),
            ("etc/x", "lowerdir=/a:/b X-mount.subdir=etc/x nosuid ro"),
        ] {
            let mount = one(&image(sub_path)).unwrap();
            assert_eq!(mount.typ().as_deref(), Some("overlay"));
            assert_eq!(mount.options().clone().unwrap().join(" "), words);
        }
    }

    #[test]
    fn each_kind_of_mount_has_its_words() {
        let mount = |source, access, propagation, restrictions| PlannedMount {
            target: "/t".into(),
            source,
            access,
            propagation,
            restrictions,
            mapping: None,
        };
        let tree = || MountSource::Tree("/h".into());
        let (private, none) = (Propagation::Private, Restrictions::NONE);
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
                    Restrictions::ALL,
                ),
                "bind",
                "bind nosuid noexec nodev rw rprivate",
            ),
            (
                mount(MountSource::Sysfs, Access::ReadOnly, private, Restrictions::ALL),
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
