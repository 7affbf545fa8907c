//! PID 1 of a pod's shared PID namespace.
//!
//! The engine brings it up like any container's first process: its cgroup, an empty read-only root, no capabilities, no new
//! privileges. Where another would execute its program, it runs the loop here, in a copy of the shim's memory and without
//! becoming traceable again. It reaps what its namespace's processes leave behind; when it ends, they all do.

use crate::engine::RootfsMount;
use cringle_kernel::{poll, signal};
use cringle_proto_shim::{REAPER_ROLE, ROLE_ANNOTATION};
use oci_spec::runtime::Spec;
use rustix::process::WaitOptions;
use std::os::fd::AsFd;

const TERM: i32 = 15;
const CHLD: i32 = 17;

/// Whether the specification is that of a reaper.
pub(crate) fn is_wanted(spec: &Spec) -> bool {
    let role = spec.annotations().as_ref().and_then(|all| all.get(ROLE_ANNOTATION));
    role.is_some_and(|role| role == REAPER_ROLE)
}

/// The root of a reaper: nothing that could be read, written or executed.
pub(crate) fn empty_root() -> RootfsMount {
    let options = ["nosuid", "nodev", "noexec", "size=64k", "mode=755"];
    RootfsMount {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: options.map(str::to_owned).to_vec(),
    }
}

/// Reaps until SIGTERM. Gives the exit code. `begun` is called once it is what others may rely on.
pub(crate) fn run(begun: impl FnOnce()) -> i32 {
    // A name is for people only.
    let _unnamed = rustix::thread::set_name(c"pause");
    // Blocked signals reach PID 1 as well; unblocked it would not get those that it does not handle.
    let Ok(signals) = signal::watch(&[CHLD, TERM]) else { return 1 };
    begun();
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        match signal::next(signals.as_fd()) {
            Ok(Some(TERM)) => return 0,
            Ok(Some(_)) => {}
            Ok(None) => {
                if poll::readable(signals.as_fd(), None).is_err() {
                    return 1;
                }
            }
            Err(_) => return 1,
        }
    }
}
