//! Mounts and devices, as asked for.

use crate::namespaces::IdMapping;
use crate::refusal::Refusal;
use crate::spec::ImageRequest;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// Mount propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Nothing propagates (rprivate).
    #[default]
    Private,
    /// From the host to the container (rslave).
    HostToContainer,
    /// Both ways (rshared).
    Bidirectional,
}

/// How a mount may be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only; mounts below it keep their own flags.
    ReadOnly,
    /// Read only with everything below it (mount_setattr, Linux 5.12).
    RecursiveReadOnly,
}

/// One thing that files on a mount cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Set-uid programs are ordinary ones (nosuid).
    NoSetuid,
    /// No program is run from it (noexec).
    NoPrograms,
    /// Device nodes open no devices (nodev).
    NoDevices,
}

/// What files on a mount cannot do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Restrictions(u8);

/// An image whose files are a volume, or a part of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// The image.
    pub image: ImageRequest,
    /// Path inside the image, relative and without `..`; empty: all of it.
    pub sub_path: PathBuf,
}

/// One path of the host, or one image, in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Path on the host, absolute; empty for an image.
    pub host_path: PathBuf,
    /// Path in the container, absolute.
    pub container_path: PathBuf,
    /// How it may be written.
    pub access: Access,
    /// Propagation.
    pub propagation: Propagation,
    /// What files on it cannot do, beyond what the host withholds.
    #[serde(default)]
    pub restrictions: Restrictions,
    /// Whether the client asked to relabel it (echoed; nothing is relabelled without SELinux).
    pub relabel: bool,
    /// Which ids it shows instead of those that files have; absent: theirs.
    #[serde(default)]
    pub mapping: Option<IdMapping>,
    /// The image that is mounted, if not a path of the host.
    #[serde(default)]
    pub image: Option<ImageVolume>,
}

/// One device of the host, or all below a directory, in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Path on the host, absolute.
    pub host_path: PathBuf,
    /// Path in the container, absolute.
    pub container_path: PathBuf,
    /// A subset of `rwm`, in that order.
    pub permissions: String,
}

/// Why a path inside a container cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPath {
    /// It does not begin at the root.
    #[error("{0:?} is not absolute")]
    Relative(PathBuf),
    /// It cannot be written down.
    #[error("{0:?} is too long, not UTF-8, or contains a control character")]
    Unprintable(PathBuf),
}

/// An absolute path without `.`, `..` and doubled slashes. Names may still be symbolic links: whoever uses the path
/// resolves it inside its root.
///
/// # Errors
/// When it is relative or cannot be written into a spec.
pub fn clean(path: &Path) -> Result<PathBuf, MalformedPath> {
    let text =
        path.to_str().filter(|text| text.len() < LONGEST_PATH && !text.contains(char::is_control));
    if text.is_none() {
        return Err(MalformedPath::Unprintable(path.to_owned()));
    }
    if !path.is_absolute() {
        return Err(MalformedPath::Relative(path.to_owned()));
    }
    Ok(path.components().fold(PathBuf::from("/"), |mut clean, component| {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => _ = clean.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        clean
    }))
}

/// PATH_MAX of the kernel, the final NUL included.
const LONGEST_PATH: usize = 4096;

/// Single files below /proc that a mount may cover: what a container's own view of the machine is made of.
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

impl Restriction {
    /// All there are, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::NoSetuid, Self::NoPrograms, Self::NoDevices];

    /// Its word in mount(8).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSetuid => "nosuid",
            Self::NoPrograms => "noexec",
            Self::NoDevices => "nodev",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::NoSetuid => 1,
            Self::NoPrograms => 2,
            Self::NoDevices => 4,
        }
    }
}

impl Restrictions {
    /// Nothing is withheld.
    pub const NONE: Self = Self(0);
    /// No set-uid programs.
    pub const NO_SETUID: Self = Self(1);
    /// No set-uid programs, and no program is run from it.
    pub const NO_SETUID_NO_PROGRAMS: Self = Self(3);
    /// No set-uid programs, no programs, no devices.
    pub const ALL: Self = Self(7);

    /// These and one more.
    #[must_use]
    pub fn with(self, restriction: Restriction) -> Self {
        Self(self.0 | restriction.bit())
    }

    /// Whether it is among these.
    #[must_use]
    pub fn has(self, restriction: Restriction) -> bool {
        self.0 & restriction.bit() != 0
    }

    /// Their words in mount(8), in one order whatever order they were given in.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Restriction::ALL.into_iter().filter(move |one| self.has(*one)).map(Restriction::word)
    }
}

impl MountRequest {
    /// The mount with clean paths, if its fields go together.
    ///
    /// # Errors
    /// Invalid, when a path is malformed or covers what keeps the container in, or recursive read-only is asked for together
    /// with propagation.
    pub fn checked(&self) -> Result<Self, Refusal> {
        let container_path = clean(&self.container_path)
            .map_err(|error| Refusal::invalid("mounts.container_path", error.to_string()))?;
        match &self.image {
            Some(volume) => self.check_image(volume, &container_path)?,
            None => {
                if let Err(error) = clean(&self.host_path) {
                    return Err(Refusal::invalid("mounts.host_path", error.to_string()));
                }
            }
        }
        if self.access == Access::RecursiveReadOnly && self.propagation != Propagation::Private {
            return Err(Refusal::invalid(
                "mounts.recursive_read_only",
                format!("{container_path:?} must have private propagation"),
            ));
        }
        check_target(&container_path, &self.host_path)?;
        Ok(Self { container_path, ..self.clone() })
    }
}

impl MountRequest {
    fn check_image(&self, volume: &ImageVolume, target: &Path) -> Result<(), Refusal> {
        let refuse = |field: &str, problem: &str| {
            Err(Refusal::invalid(field, format!("image volume {target:?} {problem}")))
        };
        if !self.host_path.as_os_str().is_empty() {
            return refuse("mounts.host_path", "has a path of the host too");
        }
        if self.access == Access::ReadWrite {
            return refuse("mounts.readonly", "must be readonly");
        }
        if self.propagation != Propagation::Private {
            return refuse("mounts.propagation", "must have private propagation");
        }
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !volume.sub_path.components().all(inside) {
            return refuse("mounts.image_sub_path", "has one that may lead out of the image");
        }
        // Written into a spec, where it is one word.
        let text = volume.sub_path.to_str().unwrap_or("\n");
        if text.len() >= LONGEST_PATH || text.contains(char::is_control) {
            return refuse("mounts.image_sub_path", "has one that is too long or unprintable");
        }
        Ok(())
    }
}

/// Whether something may be mounted there. A mount over procfs would let a file of the client's stand in for one that the
/// kernel reads our writes from.
///
/// # Errors
/// Invalid, when it is the root or in procfs.
pub fn check_target(target: &Path, source: &Path) -> Result<(), Refusal> {
    let refuse = |problem: &str| {
        Err(Refusal::invalid("mounts.container_path", format!("{target:?} {problem}")))
    };
    if target == Path::new("/") {
        return refuse("is the root file system");
    }
    if target == Path::new("/proc") {
        // The host's own procfs is what node agents ask for; anything else there is not a procfs.
        return if source == Path::new("/proc") { Ok(()) } else { refuse("must be a procfs") };
    }
    if target.starts_with("/proc") && !COVERABLE.iter().any(|path| target == Path::new(path)) {
        return refuse("is inside procfs");
    }
    Ok(())
}

impl DeviceRequest {
    /// The device with a clean path and its permissions in the order `rwm`.
    ///
    /// # Errors
    /// Invalid, when a path is malformed or a permission is not one of `r`, `w` and `m`.
    pub fn checked(&self) -> Result<Self, Refusal> {
        let container_path = clean(&self.container_path)
            .map_err(|error| Refusal::invalid("devices.container_path", error.to_string()))?;
        if let Err(error) = clean(&self.host_path) {
            return Err(Refusal::invalid("devices.host_path", error.to_string()));
        }
        let known =
            !self.permissions.is_empty() && self.permissions.chars().all(|c| "rwm".contains(c));
        if !known {
            return Err(Refusal::invalid(
                "devices.permissions",
                format!("{:?} is not made of r, w and m", self.permissions),
            ));
        }
        let permissions = "rwm".chars().filter(|c| self.permissions.contains(*c)).collect();
        Ok(Self { host_path: self.host_path.clone(), container_path, permissions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(host: &str, container: &str) -> MountRequest {
        MountRequest {
            host_path: host.into(),
            container_path: container.into(),
            access: Access::ReadWrite,
            propagation: Propagation::Private,
            restrictions: Restrictions::NONE,
            relabel: false,
            mapping: None,
            image: None,
        }
    }

    fn image_volume(sub_path: &str) -> MountRequest {
        let image = ImageRequest {
            reference: "data".to_owned(),
            user_specified: String::new(),
            annotations: std::collections::BTreeMap::new(),
            runtime_handler: String::new(),
        };
        MountRequest {
            access: Access::ReadOnly,
            image: Some(ImageVolume { image, sub_path: sub_path.into() }),
            ..mount("", "/data")
        }
    }

    #[test]
    fn an_image_volume_is_read_only_and_stays_in_its_image() {
        for sub_path in ["", "etc", "a/b/../c", "./a", "/etc", "../etc", "a\nb"] {
            let allowed = matches!(sub_path, "" | "etc" | "./a");
            assert_eq!(image_volume(sub_path).checked().is_ok(), allowed, "{sub_path:?}");
        }
        let good = image_volume("");
        for wrong in [
            MountRequest { access: Access::ReadWrite, ..good.clone() },
            MountRequest { host_path: "/srv".into(), ..good.clone() },
            MountRequest { propagation: Propagation::HostToContainer, ..good.clone() },
            MountRequest { container_path: "/proc".into(), ..good.clone() },
        ] {
            assert!(wrong.checked().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_path_is_cleaned_within_its_root() {
        for (path, expected) in
            [("/a//b/./c/", "/a/b/c"), ("/../..", "/"), ("/a/../b", "/b"), ("/", "/")]
        {
            assert_eq!(clean(Path::new(path)), Ok(PathBuf::from(expected)), "{path}");
        }
        for path in ["", "a", "./a", "/a\n", "/a\0b"] {
            assert!(clean(Path::new(path)).is_err(), "{path:?}");
        }
        clean(Path::new(&"/a".repeat(2048))).unwrap_err();
    }

    #[test]
    fn nothing_of_the_clients_covers_procfs_or_the_root() {
        for (host, container) in [
            ("/data", "/"),
            ("/data", "/x/.."),
            ("/data", "/proc"),
            ("/data", "/proc/self"),
            ("/data", "/proc/sys"),
            ("/data", "/x/../proc/self/attr"),
            ("/data", "/proc/meminfo/x"),
            ("/data", "data"),
            ("data", "/data"),
        ] {
            assert!(mount(host, container).checked().is_err(), "{host} {container}");
        }
        for (host, container) in [
            ("/data", "/data"),
            ("/proc", "/proc"),
            ("/x", "/proc/meminfo"),
            ("/a/../b", "/c"),
            ("/", "/host"),
        ] {
            assert!(mount(host, container).checked().is_ok(), "{host} {container}");
        }
    }

    #[test]
    fn recursive_read_only_needs_private_propagation() {
        let recursive = MountRequest { access: Access::RecursiveReadOnly, ..mount("/a", "/a") };
        recursive.checked().unwrap();
        for propagation in [Propagation::HostToContainer, Propagation::Bidirectional] {
            assert!(
                MountRequest { propagation, ..recursive.clone() }.checked().is_err(),
                "{propagation:?}"
            );
        }
    }

    #[test]
    fn device_permissions_are_put_in_order() {
        let device = |permissions: &str| DeviceRequest {
            host_path: "/dev/fuse".into(),
            container_path: "/dev/fuse".into(),
            permissions: permissions.to_owned(),
        };
        for (given, ordered) in [("mrw", "rwm"), ("r", "r"), ("wr", "rw"), ("rr", "r")] {
            assert_eq!(device(given).checked().unwrap().permissions, ordered, "{given}");
        }
        for given in ["", "x", "rwx", "R", "r w"] {
            assert!(device(given).checked().is_err(), "{given:?}");
        }
    }
}
