//! The container's cgroups: made, limited, shown inside, and given back.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use cringle_kernel::mount::{self, Attributes, Change, Depth};
use cringle_kernel::path::{Links, Root};
use rustix::fs::Mode;

use super::error::{Attempting as _, Result};

/// One cgroup hierarchy as the container shall see it: its own cgroup as the root.
#[derive(Debug)]
pub(super) struct CgroupMount {
    /// The name of the mount point below `/sys/fs/cgroup`; the unified hierarchy alone has none.
    pub name: Option<String>,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The container's directory in it.
    pub directory: CString,
}

/// Child-side: mounts the container's own cgroups at a target.
///
/// # Errors
/// The call that failed.
pub(super) fn mount(
    mounts: &[CgroupMount],
    attributes: Attributes,
    target: &OwnedFd,
) -> Result<()> {
    let attempt = || "mount cgroups".to_owned();
    let change = Change {
        set: attributes,
        propagation: Some(mount::Propagation::Private),
        ..Change::default()
    };
    if let [CgroupMount { name: None, directory, .. }] = mounts {
        let tree = mount::clone_path(directory, Depth::One).attempting(attempt)?;
        mount::change(&tree, &change, Depth::One).attempting(attempt)?;
        return mount::attach(&tree, target).attempting(attempt);
    }
    let writable = attributes.without(Attributes::READ_ONLY);
    let words =
        ["source=cgroup", "mode=755"].map(|word| super::options::parameter(word, "cgroup mount"));
    let parameters = words.into_iter().collect::<Result<Vec<_>>>()?;
    let top = mount::filesystem(c"tmpfs", &parameters, writable).attempting(attempt)?;
    mount::attach(&top, target).attempting(attempt)?;
    let root = Root::from_descriptor(top);
    for one in mounts {
        let Some(name) = &one.name else { continue };
        rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o755)).attempting(attempt)?;
        let place = root.place(name.as_ref(), Links::Refuse).attempting(attempt)?;
        let tree = mount::clone_path(&one.directory, Depth::One).attempting(attempt)?;
        mount::change(&tree, &change, Depth::One).attempting(attempt)?;
        mount::attach(&tree, &place).attempting(attempt)?;
        for alias in &one.aliases {
            rustix::fs::symlinkat(name, &root, alias).attempting(attempt)?;
        }
    }
    let sealed = Change { set: attributes, ..Change::default() };
    mount::change(&root, &sealed, Depth::One).attempting(attempt)
}
