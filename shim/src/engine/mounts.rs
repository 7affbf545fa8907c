//! The mounts of a specification, in its order: planned from its text, and made inside the container's root.
//!
//! Targets are looked up inside the root and held by descriptor; sources of bind mounts are looked up on the host, once, before
//! this mount namespace stops being a peer of the host's, so that shared mounts stay shared.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cringle_kernel::mount::{self, Attributes, Change, Depth, Parameter, Propagation};
use cringle_kernel::path::{self, Links, Root};
use cringle_kernel::proc;
use oci_spec::runtime::Mount;
use rustix::fs::FileType;

use super::cgroups::{self, CgroupMount};
use super::error::{Attempting as _, EngineError, Result};
use super::idmaps::{Layers, Mappings};
use super::namespaces::UserPlan;
use super::options::{Options, parameter};
use super::rootfs;

/// One mount, decided.
#[derive(Debug)]
pub(super) struct MountPlan {
    /// Where, inside the root; absolute and without "." and "..".
    pub destination: PathBuf,
    /// What.
    pub what: What,
    /// Which ids it shows: a bind mount itself, an overlay in its layers.
    pub mappings: Option<Mappings>,
    /// The part of a filesystem that is mounted, if not all.
    pub sub_path: Option<PathBuf>,
}

/// What is mounted.
#[derive(Debug)]
pub(super) enum What {
    /// A path of the host.
    Bind {
        /// Which path.
        source: CString,
        /// With what is mounted below it, or without.
        depth: Depth,
        /// The changes, each with its reach.
        changes: Vec<(Change, Depth)>,
    },
    /// A filesystem.
    Filesystem {
        /// Its type.
        kind: CString,
        /// Its parameters.
        parameters: Vec<Parameter>,
        /// The mount's attributes.
        attributes: Attributes,
        /// The mount's propagation, if it is not private.
        propagation: Option<Propagation>,
    },
    /// The container's own cgroups.
    Cgroups {
        /// The attributes of each mount.
        attributes: Attributes,
    },
}

/// What below `/proc` may be covered: files that tell about resources, which tools present in another way.
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Plans all mounts. `bundle` is what relative sources are relative to; owners are those inside the user namespace.
///
/// # Errors
/// A mount that makes no sense or is not supported.
pub(super) fn plan(
    mounts: &[Mount],
    bundle: &Path,
    users: Option<&UserPlan>,
) -> Result<Vec<MountPlan>> {
    let mut plans = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let mut plan = plan_one(mount, &field, bundle)?;
        if let (What::Filesystem { parameters, .. }, Some(users)) = (&mut plan.what, users) {
            map_owner(parameters, users, &field)?;
        }
        plans.push(plan);
    }
    Ok(plans)
}

fn plan_one(mount: &Mount, field: &str, bundle: &Path) -> Result<MountPlan> {
    let (users, groups) = (mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref());
    let mappings = Mappings::of_spec(users, groups, &format!("{field}.uidMappings"))?;
    let destination = destination(mount.destination(), field)?;
    let words = mount.options().as_deref().unwrap_or_default();
    let mut options = Options::parse(words, field)?;
    let sub_path = options.sub_path.take();
    let kind = mount.typ().as_deref().unwrap_or_default();
    let what = if options.bind.is_some() || matches!(kind, "bind" | "rbind") {
        if sub_path.is_some() {
            return Err(EngineError::Unsupported(format!("a part of bind mount {field}")));
        }
        plan_bind(mount, &options, kind, field, bundle)?
    } else if matches!(kind, "cgroup" | "cgroup2") {
        What::Cgroups { attributes: options.top.set }
    } else {
        plan_filesystem(mount, options, field)?
    };
    let can_map = kind == "overlay" || matches!(what, What::Bind { .. });
    if mappings.is_some() && !can_map {
        return Err(EngineError::Unsupported(format!("an id map for {field} of type {kind:?}")));
    }
    Ok(MountPlan { destination, what, mappings, sub_path })
}

/// Owners that the words name are those inside; who mounts is outside.
fn map_owner(parameters: &mut [Parameter], users: &UserPlan, field: &str) -> Result<()> {
    for parameter in parameters {
        let map = match parameter.key.to_bytes() {
            b"uid" => Mappings::user_outside,
            b"gid" => Mappings::group_outside,
            _ => continue,
        };
        let id = parameter.value.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
        let outside = id.and_then(|id| map(&users.mappings, id)).ok_or_else(|| {
            let problem = format!("{:?} is not in the user namespace", parameter.value);
            EngineError::invalid(field, problem)
        })?;
        let word = format!("{}={outside}", parameter.key.to_string_lossy());
        *parameter = super::options::parameter(&word, field)?;
    }
    Ok(())
}

fn destination(path: &Path, field: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            // What the shell's ".." means with links on the way is nobody's guess here.
            Component::ParentDir => {
                return Err(EngineError::invalid(
                    format!("{field}.destination"),
                    "it has \"..\" in it",
                ));
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(EngineError::invalid(format!("{field}.destination"), "it is the root itself"));
    }
    Ok(clean)
}

fn plan_bind(
    mount: &Mount,
    options: &Options,
    kind: &str,
    field: &str,
    bundle: &Path,
) -> Result<What> {
    if let Some(unknown) = options.parameters.first() {
        let text = format!("option {:?} of bind mount {field}", unknown.key);
        return Err(EngineError::Unsupported(text));
    }
    let Some(source) = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty())
    else {
        return Err(EngineError::invalid(format!("{field}.source"), "a bind mount needs one"));
    };
    let source = CString::new(bundle.join(source).as_os_str().as_bytes()).map_err(|_nul| {
        EngineError::invalid(format!("{field}.source"), "it has a NUL byte in it")
    })?;
    let depth = match options.bind {
        Some(depth) => depth,
        None if kind == "rbind" => Depth::Tree,
        None => Depth::One,
    };
    let (propagation, reach) = match options.propagation {
        Some(asked) => asked,
        None => (Propagation::Private, Depth::Tree),
    };
    let mut tree = options.tree;
    let mut top = options.top;
    match reach {
        Depth::Tree => tree.propagation = Some(propagation),
        Depth::One => top.propagation = Some(propagation),
    }
    let changes = [(tree, Depth::Tree), (top, Depth::One)];
    let changes = changes.into_iter().filter(|(change, _)| !change.is_empty()).collect();
    Ok(What::Bind { source, depth, changes })
}

fn plan_filesystem(mount: &Mount, options: Options, field: &str) -> Result<What> {
    let Some(kind) = mount.typ().as_deref().filter(|kind| !kind.is_empty() && *kind != "none")
    else {
        return Err(EngineError::invalid(format!("{field}.type"), "it is missing"));
    };
    let kind = CString::new(kind)
        .map_err(|_nul| EngineError::invalid(format!("{field}.type"), "it has a NUL byte in it"))?;
    let mut parameters = Vec::with_capacity(options.parameters.len() + 1);
    for parameter in options.parameters {
        match (parameter.key.to_bytes(), &parameter.value) {
            (b"lowerdir", Some(list)) if kind.to_bytes() == b"overlay" => {
                rootfs::lower_directories(&list.to_string_lossy(), &mut parameters)?;
            }
            (_, _) => parameters.push(parameter),
        }
    }
    if let Some(source) = mount.source() {
        let word = format!("source={}", source.display());
        parameters.insert(0, parameter(&word, field)?);
        if source.starts_with("/dev") && options.top.set.has(Attributes::READ_ONLY) {
            // A filesystem on a device is not even to replay its journal.
            parameters.push(parameter("ro", field)?);
        }
    }
    Ok(What::Filesystem {
        kind,
        parameters,
        attributes: options.top.set.with(options.tree.set),
        propagation: options.propagation.map(|(propagation, _)| propagation),
    })
}

/// Child-side: clones the sources of all bind mounts, in their order.
///
/// # Errors
/// A source that is not there.
pub(super) fn open_sources(plans: &[MountPlan]) -> Result<Vec<Option<OwnedFd>>> {
    let open = |plan: &MountPlan| match &plan.what {
        What::Bind { source, depth, .. } => mount::clone_path(source, *depth)
            .attempting(|| format!("open mount source {source:?}"))
            .map(Some),
        What::Filesystem { .. } | What::Cgroups { .. } => Ok(None),
    };
    plans.iter().map(open).collect()
}

/// Child-side: makes one mount. `source` is what `open_sources` opened for it.
///
/// # Errors
/// The call that failed, and for which mount.
pub(super) fn make<'a>(
    plan: &'a MountPlan,
    source: Option<OwnedFd>,
    root: &Root,
    (cgroups, layers): (&[CgroupMount], &mut Layers<'a>),
) -> Result<()> {
    let attempt = || format!("mount {:?}", plan.destination);
    match &plan.what {
        What::Bind { changes, depth, .. } => {
            let Some(tree) = source else { return Ok(()) };
            if let Some(mappings) = &plan.mappings {
                layers.maps().apply(mappings, &tree, *depth)?;
            }
            for (change, depth) in changes {
                mount::change(&tree, change, *depth).attempting(attempt)?;
            }
            bind(&tree, plan, root)
        }
        What::Filesystem { kind, parameters, attributes, propagation } => {
            if let Some(mappings) = &plan.mappings {
                rootfs::map_layers(parameters, mappings, layers)?;
            }
            let tree = mount::filesystem(kind, parameters, *attributes).attempting(attempt)?;
            if let Some(part) = &plan.sub_path {
                return bind(&part_of(tree, part, plan)?, plan, root);
            }
            if let Some(propagation) = *propagation {
                let change = Change { propagation: Some(propagation), ..Change::default() };
                mount::change(&tree, &change, Depth::One).attempting(attempt)?;
            }
            // Whoever has procfs and sysfs where links point masks nothing.
            let links = match kind.to_bytes() {
                b"proc" | b"sysfs" => Links::Refuse,
                _ => Links::Follow,
            };
            let target = root.directory(&plan.destination, links).attempting(|| match links {
                Links::Refuse => format!(
                    "mount {kind:?} at {:?}, which is to be a directory and no link",
                    plan.destination
                ),
                Links::Follow => attempt(),
            })?;
            if kind.to_bytes() != b"proc" {
                refuse_below_proc(&plan.destination, &target)?;
            }
            mount::attach(&tree, &target).attempting(attempt)
        }
        What::Cgroups { attributes } => {
            let target = root.directory(&plan.destination, Links::Follow).attempting(attempt)?;
            refuse_below_proc(&plan.destination, &target)?;
            cgroups::mount(cgroups, *attributes, &target)
        }
    }
}

/// A path inside a filesystem as a tree of its own. To be cloned the whole must be attached somewhere in this mount
/// namespace: over its root, where no path leads to it, and only meanwhile. What stays there would be left of the old root when
/// the container's root takes its place.
fn part_of(whole: OwnedFd, part: &Path, plan: &MountPlan) -> Result<OwnedFd> {
    let attempt = || format!("mount {part:?} of an image at {:?}", plan.destination);
    let here = Root::open(Path::new("/")).attempting(attempt)?;
    mount::attach(&whole, &here).attempting(attempt)?;
    let place = Root::from_descriptor(whole).place(part, Links::Follow).attempting(attempt)?;
    let tree = mount::clone_descriptor(&place, Depth::One).attempting(attempt)?;
    mount::detach(c"/").attempting(attempt)?;
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::change(&tree, &private, Depth::One).attempting(attempt)?;
    Ok(tree)
}

fn bind(tree: &OwnedFd, plan: &MountPlan, root: &Root) -> Result<()> {
    let attempt = || format!("mount {:?}", plan.destination);
    let target = if path::kind(tree).attempting(attempt)? == FileType::Directory {
        root.directory(&plan.destination, Links::Follow).attempting(attempt)?
    } else {
        root.file_or_existing(&plan.destination).attempting(attempt)?
    };
    if !(plan.destination == Path::new("/proc") && proc::is_procfs(tree).attempting(attempt)?) {
        refuse_below_proc(&plan.destination, &target)?;
    }
    mount::attach(tree, &target).attempting(attempt)
}

/// Nothing may cover procfs, which our own writes and the container's masks rely on. The target tells, not its name: links lead
/// there too.
fn refuse_below_proc(destination: &Path, target: &OwnedFd) -> Result<()> {
    let attempt = || format!("mount {destination:?}");
    let below =
        destination == Path::new("/proc") || proc::is_procfs(target.as_fd()).attempting(attempt)?;
    let coverable = COVERABLE.iter().any(|path| destination == Path::new(path));
    if below && !coverable {
        let source = path::mismatch("move_mount", "onto procfs".to_owned());
        return Err(EngineError::Attempt { attempt: attempt(), source });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Result<MountPlan> {
        let mount: Mount = serde_json::from_str(json).unwrap();
        Ok(plan(&[mount], Path::new("/bundle"), None)?.remove(0))
    }

    #[test]
    fn a_bind_mount_is_private_unless_it_says_otherwise() {
        let plan =
            one(r#"{"destination":"/a/./b","source":"data","options":["rbind","ro"]}"#).unwrap();
        assert_eq!(plan.destination, Path::new("/a/b"));
        let What::Bind { source, depth, changes } = plan.what else { panic!("no bind mount") };
        assert_eq!((source.as_c_str(), depth), (c"/bundle/data", Depth::Tree));
        let tree = Change { propagation: Some(Propagation::Private), ..Change::default() };
        let top = Change { set: Attributes::READ_ONLY, ..Change::default() };
        assert_eq!(changes, [(tree, Depth::Tree), (top, Depth::One)]);
    }

    #[test]
    fn recursive_read_only_and_its_propagation_are_one_change() {
        let json = r#"{"destination":"/a","source":"/s","type":"bind","options":["rbind","rro","rslave"]}"#;
        let What::Bind { changes, .. } = one(json).unwrap().what else { panic!("no bind mount") };
        let tree = Change {
            set: Attributes::READ_ONLY,
            clear: Attributes::NONE,
            propagation: Some(Propagation::Slave),
        };
        assert_eq!(changes, [(tree, Depth::Tree)]);
    }

    #[test]
    fn destinations_that_could_mean_something_else_are_refused() {
        for path in ["/", "/a/../b", "..", "."] {
            let json = format!(r#"{{"destination":{path:?},"source":"/s","options":["bind"]}}"#);
            assert!(one(&json).is_err(), "{path}");
        }
    }

    #[test]
    fn a_bind_mount_with_options_for_a_filesystem_or_without_source_is_refused() {
        one(r#"{"destination":"/a","source":"/s","options":["bind","mode=700"]}"#).unwrap_err();
        one(r#"{"destination":"/a","options":["bind"]}"#).unwrap_err();
        one(r#"{"destination":"/a","source":"x"}"#).unwrap_err();
    }
}
