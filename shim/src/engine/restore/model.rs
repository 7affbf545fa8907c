//! What a container that is restored has to be like: the namespaces and the mounts of the process that prepared them for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cringle_kernel::mountinfo::{self, Mount};

use super::super::error::{Attempting as _, EngineError, Result};
use super::super::mounts::What;
use super::super::namespaces::name_of;
use super::super::plan::Plan;

/// Filesystems that a container has of its own, each made anew.
const OWN: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];
/// Namespaces that processes inherit of who restores them.
const INHERITED: [&str; 5] = ["net", "ipc", "uts", "cgroup", "user"];

/// The model.
#[derive(Debug)]
pub(super) struct Model {
    /// Namespaces, by the name of their file, and what they must be.
    pub(super) namespaces: Vec<(&'static str, OsString)>,
    /// The PID namespace: of the pod; none: one of its own.
    pub(super) processes: Option<OsString>,
    /// The PID namespace that it must not be if it is to be its own.
    pub(super) host_processes: OsString,
    /// What a security module calls it, if there is one.
    pub(super) label: Option<Vec<u8>>,
    mounts: Vec<Shape>,
}

/// A mount, as far as it must be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    point: PathBuf,
    kind: String,
    options: String,
    root: PathBuf,
    /// The very filesystem, unless it is one of the container's own.
    device: Option<(u32, u32)>,
    /// How large it is and the like, if it is one of the container's own.
    filesystem_options: Option<String>,
}

impl Model {
    /// Looks at the process that has prepared everything.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn of(pid: i32, plan: &Plan) -> Result<Self> {
        let stand = &plan.root.stand;
        let table = mountinfo::of(pid).attempting(|| "list the prepared mounts".to_owned())?;
        let mounts = table.iter().filter_map(|mount| {
            let point = Path::new("/").join(mount.point.strip_prefix(stand).ok()?);
            Some(Shape::of(mount, point, plan))
        });
        let joined = plan.namespaces.joined.iter();
        let processes = joined.clone().find(|(kind, _)| kind.file() == Some("pid"));
        Ok(Self {
            namespaces: INHERITED
                .into_iter()
                .map(|kind| Ok((kind, name_of(pid, kind)?)))
                .collect::<Result<_>>()?,
            processes: match processes {
                Some((_, path)) => Some(namespace_at(path)?),
                None if plan.namespaces.has(cringle_kernel::namespace::Namespaces::PID) => None,
                None => Some(name_of(pid, "pid")?),
            },
            host_processes: name_of(pid, "pid")?,
            label: label(pid),
            mounts: mounts.collect(),
        })
    }

    /// Compares the mounts that a process sees.
    ///
    /// # Errors
    /// Which one is missing, too many or different.
    pub(super) fn require_mounts(&self, pid: i32, plan: &Plan) -> Result<()> {
        let table = mountinfo::of(pid).attempting(|| "list the restored mounts".to_owned())?;
        let mut left: Vec<&Shape> = self.mounts.iter().collect();
        for mount in &table {
            let found = Shape::of(mount, mount.point.clone(), plan);
            let Some(place) = left.iter().position(|shape| shape.point == found.point) else {
                let text = format!("its mount at {:?} is not asked for", found.point);
                return Err(EngineError::Restore(text));
            };
            let wanted = left.remove(place);
            if *wanted != found {
                let text =
                    format!("its mount at {:?} is {found} and should be {wanted}", found.point);
                return Err(EngineError::Restore(text));
            }
        }
        match left.first() {
            Some(missing) => {
                let text = format!("it has no mount at {:?}, which is asked for", missing.point);
                Err(EngineError::Restore(text))
            }
            None => Ok(()),
        }
    }
}

impl Shape {
    fn of(mount: &Mount, point: PathBuf, plan: &Plan) -> Self {
        // What lies below is the source's, whatever kind it is of.
        let is_bound = plan.mounts.iter().any(|one| {
            point.starts_with(&one.destination) && matches!(one.what, What::Bind { .. })
        });
        let own = OWN.contains(&mount.kind.as_str()) && !is_bound;
        Self {
            point,
            kind: mount.kind.clone(),
            options: mount.options.clone(),
            root: mount.root.clone(),
            device: (!own).then_some(mount.device),
            filesystem_options: own.then(|| mount.filesystem_options.clone()),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} of {:?}", self.kind, self.options, self.root)?;
        match (&self.device, &self.filesystem_options) {
            (Some((major, minor)), _) => write!(formatter, " on {major}:{minor}"),
            (None, Some(options)) => write!(formatter, " with {options}"),
            (None, None) => Ok(()),
        }
    }
}

/// What a security module calls a process; none if there is no such module.
pub(super) fn label(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/attr/current")).ok()
}

/// A PID namespace by its path, as its name and number.
fn namespace_at(path: &Path) -> Result<OsString> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path)
        .map_err(|source| EngineError::Read { path: path.to_owned(), source })?;
    Ok(format!("pid:[{}]", found.ino()).into())
}
