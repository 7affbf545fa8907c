//! Where CRIU works: the host's files as they are, but none that it could write.
//!
//! It reads foreign images as the host's root. Whatever an image may have it open, make or remove by a path of the host does not
//! happen then: in the mount namespace of the child that becomes CRIU all is read-only but the container's own mounts, a
//! directory for the log, and a scratch directory that nobody else sees.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cringle_kernel::mount::{self, Attributes, Change, Depth};
use cringle_kernel::mountinfo;
use cringle_kernel::path::Root;
use rustix::io::Errno;

use super::super::error::{Attempting as _, EngineError, Result};

/// Where CRIU makes directories to mount on.
const SCRATCH: &str = "/tmp";

/// Child-side: makes everything read-only but what is below `stand` and in `work`. Of what is in `needed`, nothing is hidden.
///
/// # Errors
/// The call that failed.
pub(super) fn close(stand: &Path, work: &Path, needed: &[&Path]) -> Result<()> {
    set_apart(work)?;
    if needed.iter().any(|path| path.starts_with(SCRATCH)) {
        set_apart(Path::new(SCRATCH))?;
    } else {
        let attributes = Attributes::NO_SET_ID.with(Attributes::NO_DEVICES);
        let empty = mount::filesystem(c"tmpfs", &[], attributes);
        put(&empty.attempting(|| attempt(SCRATCH.as_ref()))?, Path::new(SCRATCH))?;
    }
    let table = mountinfo::own().attempting(|| "list the host's mounts".to_owned())?;
    let writable =
        |point: &Path| point.starts_with(stand) || point == work || point == Path::new(SCRATCH);
    // Of procfs it writes what it makes of its own processes.
    let others = table.iter().filter(|mount| mount.kind != "proc" && !writable(&mount.point));
    for mount in others {
        let attempt = || format!("make {:?} read-only for CRIU", mount.point);
        let place = match Root::open(&mount.point) {
            Ok(place) => place,
            // Covered by another one, or a file, which nothing is made in.
            Err(error) if is_hidden(error.errno()) => continue,
            Err(source) => return Err(EngineError::Attempt { attempt: attempt(), source }),
        };
        let change = Change { set: Attributes::READ_ONLY, ..Change::default() };
        mount::change(&place, &change, Depth::One).attempting(attempt)?;
    }
    Ok(())
}

fn is_hidden(errno: Option<i32>) -> bool {
    let errno = errno.map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS))
}

/// Makes a directory a mount of its own.
fn set_apart(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_nul| EngineError::invalid("checkpoint", "it has a NUL byte in it"))?;
    let tree = mount::clone_path(&name, Depth::One).attempting(|| attempt(path))?;
    put(&tree, path)
}

fn put(tree: &std::os::fd::OwnedFd, path: &Path) -> Result<()> {
    let place = Root::open(path).attempting(|| attempt(path))?;
    mount::attach(tree, &place).attempting(|| attempt(path))
}

fn attempt(path: &Path) -> String {
    format!("mount {path:?} for CRIU")
}
