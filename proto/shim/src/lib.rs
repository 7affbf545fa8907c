//! What the daemon and the shim say to each other.
//!
//! Two sockets, both in the container's bundle. [`TASK_SOCKET`] speaks containerd's Task service (version 3) over ttrpc;
//! its types are re-exported here. [`CONTROL_SOCKET`] speaks the messages of [`control`]: what Task has no words for.
//! [`record`] has the files that the shim leaves behind, for a daemon that was not there when things happened.
//!
//! Only types: no logic lives here, so that both sides can be read against one page.

pub mod control;
pub mod record;

pub use containerd_shim_protos as containerd;
pub use containerd_shim_protos::api as task;
pub use containerd_shim_protos::shim_async::{Task, TaskClient, create_task};

/// Name of the ttrpc socket in the bundle.
pub const TASK_SOCKET: &str = "task.sock";
/// The environment that a shim is spawned with. The C library's allocator keeps some freed blocks of each size at hand, on
/// which no other call gives memory back; scattered over all that a container's start has used, they hold 70 kB of pages.
pub const ENVIRONMENT: [(&str, &str); 1] = [("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")];
/// Name of our own socket in the bundle.
pub const CONTROL_SOCKET: &str = "control.sock";
/// What `stdout` of a Task `Create` starts with if the shim shall write CRI log lines to the path that follows.
pub const CRI_LOG_SCHEME: &str = "cri-log://";
/// What `stdout` or `stderr` starts with if plain bytes shall be appended to the file that follows.
pub const FILE_SCHEME: &str = "file://";
/// What `stdin` of a Task `Create` says if the container's input is a pipe that the shim keeps open.
pub const KEPT_INPUT: &str = "cri-input://kept";
/// What `stdout` or `stderr` says if the container's output is read by the shim and goes to whoever is attached, to no log.
pub const KEPT_OUTPUT: &str = "cri-output://kept";
/// The annotation in `config.json` that gives a bundle a special role.
pub const ROLE_ANNOTATION: &str = "dev.cringle.role";
/// The role of PID 1 in a pod's shared PID namespace.
pub const REAPER_ROLE: &str = "reaper";
