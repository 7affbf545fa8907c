//! Small disks: file systems of a test's own, in a mount namespace of its own.

use cringle_kernel::namespace::{self, Namespaces};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::path::Path;
use std::process::Command;

/// Runs a test in a mount namespace that ends with it, on one thread: what that starts is in there too.
pub(crate) fn on_own_mounts<T: Send>(test: impl Future<Output = T> + Send) -> T {
    let work = || {
        namespace::unshare(Namespaces::MOUNT).expect("a mount namespace");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("private mounts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test)
    };
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Mounts something, as mount(8) does.
pub(crate) fn mount(kind: &str, options: &str, source: &Path, target: &Path) {
    run(Command::new("mount").args(["-t", kind, "-o", options]).arg(source).arg(target));
}

/// Unmounts it at once, whoever still looks at it.
pub(crate) fn unmount(target: &Path) {
    rustix::mount::unmount(target, UnmountFlags::DETACH).expect("unmounted");
}

/// A disk of so many bytes as a file, with a file system on it.
pub(crate) fn make_ext4(image: &Path, size: u64) {
    std::fs::File::create(image).expect("a file").set_len(size).expect("a length");
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-J", "size=1", "-b", "1024"])
        .arg(image));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
