//! The root filesystem: what it is made of, where it stands while mounts are put into it, and how it becomes the root.

use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cringle_kernel::mount::{self, Attributes, Change, Depth, Parameter, Propagation};
use cringle_kernel::path::{Links, Root};
use oci_spec::runtime::Spec;

use super::error::{Attempting as _, EngineError, Result};
use super::idmaps::{Layers, Mappings};
use super::options::{Options, parameter};
use super::{Bundle, RootfsMount};

/// The root, decided.
#[derive(Debug)]
pub(super) struct RootPlan {
    what: What,
    /// Which ids it shows: a bind mount itself, an overlay in its lower layers.
    pub mappings: Option<Mappings>,
    /// A directory of the host to stand on, seen by this container's mount namespace only.
    pub stand: PathBuf,
    /// What the container may do with it.
    pub access: Access,
    /// The propagation of the root mount in the end.
    propagation: Option<(Propagation, Depth)>,
}

/// Whether a container may write to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It may.
    Write,
    /// It may only read.
    Read,
}

#[derive(Debug)]
enum What {
    Bind { source: CString, change: Change },
    Filesystem { kind: CString, parameters: Vec<Parameter>, attributes: Attributes },
}

/// Plans the root.
///
/// # Errors
/// There is none, or it is described in a way that is not supported.
pub(super) fn plan(bundle: &Bundle) -> Result<RootPlan> {
    let root = bundle.spec.root().as_ref();
    let Some(path) = root.map(|root| bundle.path.join(root.path())) else {
        return Err(EngineError::invalid("root", "it is missing"));
    };
    let read_only = root.and_then(oci_spec::runtime::Root::readonly).unwrap_or_default();
    let (what, mappings) = match bundle.rootfs.as_slice() {
        [] => (bind(&path, Change::default())?, None),
        [mount] => from_mount(mount)?,
        [..] => {
            let text = format!("a root of {} mounts", bundle.rootfs.len());
            return Err(EngineError::Unsupported(text));
        }
    };
    // An absent or odd `root.path` is no reason to fail as long as something is mounted: the bundle itself can be stood on.
    let stand = if path.is_dir() { path } else { bundle.path.clone() };
    Ok(RootPlan {
        what,
        mappings,
        stand,
        access: if read_only { Access::Read } else { Access::Write },
        propagation: propagation(&bundle.spec)?,
    })
}

fn from_mount(mount: &RootfsMount) -> Result<(What, Option<Mappings>)> {
    const FIELD: &str = "rootfs";
    let mut words = mount.options.clone();
    let mappings = Mappings::of_words(&mut words, FIELD)?;
    if mount.kind == "bind" || mount.options.iter().any(|word| word == "rbind" || word == "bind") {
        let options = Options::parse(&words, FIELD)?;
        let mut change = options.top;
        change.set = change.set.with(options.tree.set);
        return Ok((bind(Path::new(&mount.source), change)?, mappings));
    }
    if mappings.is_some() && mount.kind != "overlay" {
        return Err(EngineError::Unsupported(format!("an id map for a root of {:?}", mount.kind)));
    }
    let (layers, rest): (Vec<_>, Vec<_>) =
        words.into_iter().partition(|word| word.starts_with("lowerdir="));
    let options = Options::parse(&rest, FIELD)?;
    let mut parameters = Vec::with_capacity(options.parameters.len() + 8);
    if !mount.source.is_empty() {
        parameters.push(parameter(&format!("source={}", mount.source), FIELD)?);
    }
    for list in &layers {
        lower_directories(list.strip_prefix("lowerdir=").unwrap_or_default(), &mut parameters)?;
    }
    parameters.extend(options.parameters);
    let kind = CString::new(mount.kind.as_str())
        .map_err(|_nul| EngineError::invalid("rootfs.type", "it has a NUL byte in it"))?;
    let what = What::Filesystem { kind, parameters, attributes: options.top.set };
    Ok((what, mappings))
}

/// One parameter for each layer: their number and length is not bound by a page then. A list with escapes goes as it is.
pub(super) fn lower_directories(list: &str, parameters: &mut Vec<Parameter>) -> Result<()> {
    if list.contains('\\') || list.contains("::") {
        parameters.push(parameter(&format!("lowerdir={list}"), "rootfs")?);
        return Ok(());
    }
    for layer in list.split(':') {
        parameters.push(parameter(&format!("lowerdir+={layer}"), "rootfs")?);
    }
    Ok(())
}

fn bind(path: &Path, change: Change) -> Result<What> {
    let source = CString::new(path.as_os_str().as_bytes())
        .map_err(|_nul| EngineError::invalid("root.path", "it has a NUL byte in it"))?;
    Ok(What::Bind { source, change })
}

fn propagation(spec: &Spec) -> Result<Option<(Propagation, Depth)>> {
    let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(None) };
    let options = Options::parse(&[word.to_owned()], "linux.rootfsPropagation")?;
    match options.propagation {
        None => Err(EngineError::invalid("linux.rootfsPropagation", format!("{word:?} is none"))),
        asked => Ok(asked),
    }
}

/// Child-side: stands the root on the host, in this mount namespace only, which must be a slave of the host's after this: what is
/// cloned from the host's mounts before stays their peer. `before` runs at that moment.
///
/// # Errors
/// The call that failed.
pub(super) fn raise<'a, T>(
    plan: &'a RootPlan,
    layers: &mut Layers<'a>,
    before: impl FnOnce() -> Result<T>,
) -> Result<(Root, T)> {
    let attempt = || "mount the root filesystem".to_owned();
    let bound = match &plan.what {
        What::Bind { source, .. } => {
            Some(mount::clone_path(source, Depth::Tree).attempting(attempt)?)
        }
        What::Filesystem { .. } => None,
    };
    let prepared = before()?;
    mount::propagate(c"/", Propagation::Slave, Depth::Tree).attempting(attempt)?;
    let tree = match (&plan.what, bound) {
        (What::Bind { change, .. }, Some(tree)) => {
            if let Some(mappings) = &plan.mappings {
                layers.maps().apply(mappings, &tree, Depth::Tree)?;
            }
            let wanted = match plan.propagation {
                Some((propagation @ (Propagation::Slave | Propagation::Private), _)) => propagation,
                Some((Propagation::Shared | Propagation::Unbindable, _)) | None => {
                    Propagation::Private
                }
            };
            let propagation = Change { propagation: Some(wanted), ..Change::default() };
            mount::change(&tree, &propagation, Depth::Tree).attempting(attempt)?;
            if !change.is_empty() {
                mount::change(&tree, change, Depth::One).attempting(attempt)?;
            }
            tree
        }
        (What::Filesystem { kind, parameters, attributes }, _) => {
            if let Some(mappings) = &plan.mappings {
                map_layers(parameters, mappings, layers)?;
            }
            mount::filesystem(kind, parameters, *attributes).attempting(attempt)?
        }
        (What::Bind { .. }, None) => return Err(EngineError::Unsupported(attempt())),
    };
    let stand = Root::open(&plan.stand).attempting(attempt)?;
    mount::attach(&tree, &stand).attempting(attempt)?;
    Ok((Root::from_descriptor(tree), prepared))
}

/// Child-side: lets the lower layers of an overlay show ids by a map.
///
/// # Errors
/// A layer's filesystem can't, or the list of layers is one that was passed on as it is.
pub(super) fn map_layers<'a>(
    parameters: &'a [Parameter],
    mappings: &'a Mappings,
    layers: &mut Layers<'a>,
) -> Result<()> {
    for parameter in parameters {
        match (parameter.key.to_bytes(), &parameter.value) {
            (b"lowerdir+", Some(layer)) => layers.map(layer, mappings)?,
            (b"lowerdir", _) => {
                let text = "an id map with a list of layers that has escapes";
                return Err(EngineError::Unsupported(text.to_owned()));
            }
            (_, _) => {}
        }
    }
    Ok(())
}

/// Child-side: makes the directory the program starts in, if it is missing; as the container would follow the links in it.
///
/// # Errors
/// Something on the way is no directory.
pub(super) fn make_working_directory(root: &Root, path: &Path) -> Result<()> {
    let made = root.directory(path, Links::Follow);
    made.map(drop).attempting(|| format!("make working directory {path:?}"))
}

/// Child-side: makes the root the root, once everything is mounted in it.
///
/// # Errors
/// The call that failed.
pub(super) fn enter(plan: &RootPlan, root: &Root) -> Result<()> {
    let attempt = || "enter the root filesystem".to_owned();
    close(plan, root)?;
    mount::pivot(root.as_fd()).attempting(attempt)?;
    match plan.propagation {
        // A mount that is shared can't be pivoted to, so this comes last.
        Some((propagation @ (Propagation::Shared | Propagation::Unbindable), depth)) => {
            mount::propagate(c"/", propagation, depth).attempting(attempt)
        }
        Some((Propagation::Slave | Propagation::Private, _)) | None => Ok(()),
    }
}

/// Child-side: makes the root read-only if it is to be, once everything is mounted in it.
///
/// # Errors
/// The call that failed.
pub(super) fn close(plan: &RootPlan, root: &Root) -> Result<()> {
    if plan.access == Access::Write {
        return Ok(());
    }
    let change = Change { set: Attributes::READ_ONLY, ..Change::default() };
    mount::change(root.as_fd(), &change, Depth::One)
        .attempting(|| "make the root filesystem read-only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(options: &[&str]) -> What {
        let options = options.iter().map(|&word| word.to_owned()).collect();
        from_mount(&RootfsMount { kind: "overlay".into(), source: "overlay".into(), options })
            .unwrap()
            .0
    }

    fn texts(what: &What) -> Vec<String> {
        let What::Filesystem { parameters, .. } = what else { panic!("no filesystem") };
        let text = |one: &Parameter| match &one.value {
            Some(value) => format!("{}={}", one.key.to_str().unwrap(), value.to_str().unwrap()),
            None => one.key.to_str().unwrap().to_owned(),
        };
        parameters.iter().map(text).collect()
    }

    #[test]
    fn each_layer_is_a_parameter_and_the_order_is_kept() {
        let what = overlay(&["upperdir=/u", "lowerdir=/a:/b:/c", "workdir=/w", "volatile"]);
        assert_eq!(
            texts(&what),
            [
                "source=overlay",
                "lowerdir+=/a",
                "lowerdir+=/b",
                "lowerdir+=/c",
                "upperdir=/u",
                "workdir=/w",
                "volatile"
            ]
        );
    }

    #[test]
    fn a_list_of_layers_with_escapes_goes_to_the_kernel_as_it_is() {
        let what = overlay(&[r"lowerdir=/a\:b:/c"]);
        assert_eq!(texts(&what), ["source=overlay", r"lowerdir=/a\:b:/c"]);
    }
}
