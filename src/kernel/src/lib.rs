//! Linux, one file per facility. The only crate with `unsafe`: functions are thin and synchronous, take and return owned
//! types, and name the call that failed. It knows no pods, containers or images.
#![expect(
    unsafe_code,
    reason = "this crate is where system calls live; every other crate denies it"
)]

pub mod error;

// Processes.
pub mod clone;
pub mod criu;
pub mod inherited;
pub mod memory;
pub mod poll;
pub mod proc;
pub mod process;
pub mod program;
pub mod signal;
pub mod socket;
pub mod terminal;

// Namespaces, mounts, paths.
pub mod idmap;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod path;
pub mod pin;
pub mod uts;

// Limits and security.
pub mod capability;
pub mod cgroup;
pub mod credential;
pub mod device;
pub mod features;
pub mod lsm;
pub mod rlimit;
pub mod schedule;
pub mod seccomp;
pub mod sysctl;

// Network.
pub mod netlink;
pub mod traffic;

#[cfg(test)]
mod testing;
