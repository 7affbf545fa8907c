//! What this kernel can do, found out by asking it: each probe is a call that a kernel with the feature answers
//! differently from one without, and that changes nothing.

use crate::error::{Result, SystemError};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::io;

/// Something that not every kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    /// Paths resolved inside a root: openat2(2), Linux 5.6.
    OpenInRoot,
    /// A child born in its cgroup: clone3(2) with CLONE_INTO_CGROUP, Linux 5.7.
    CloneIntoCgroup,
    /// Mounts by descriptor: fsopen(2), open_tree(2) and move_mount(2), Linux 5.2.
    MountApi,
    /// Properties of whole mount trees, and id-mapped mounts: mount_setattr(2), Linux 5.12.
    MountAttributes,
    /// Processes by descriptor: pidfd_open(2) and pidfd_send_signal(2), Linux 5.3.
    Pidfd,
    /// Descriptors closed by range: close_range(2), Linux 5.9.
    CloseRange,
    /// System call filters, with the verdicts "log" and "kill the process", Linux 4.14.
    Seccomp,
    /// Filters without the speculation mitigation, Linux 4.17.
    SeccompAllowSpeculation,
    /// Landlock(7), Linux 5.13.
    Landlock,
}

impl Feature {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::OpenInRoot,
        Self::CloneIntoCgroup,
        Self::MountApi,
        Self::MountAttributes,
        Self::Pidfd,
        Self::CloseRange,
        Self::Seccomp,
        Self::SeccompAllowSpeculation,
        Self::Landlock,
    ];

    /// What it is called in logs and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenInRoot => "openat2",
            Self::CloneIntoCgroup => "clone-into-cgroup",
            Self::MountApi => "mount-api",
            Self::MountAttributes => "mount-setattr",
            Self::Pidfd => "pidfd",
            Self::CloseRange => "close-range",
            Self::Seccomp => "seccomp",
            Self::SeccompAllowSpeculation => "seccomp-spec-allow",
            Self::Landlock => "landlock",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    fn is_there(self) -> bool {
        match self {
            Self::OpenInRoot => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let root = ResolveFlags::IN_ROOT;
                rustix::fs::openat2(CWD, "/", flags, Mode::empty(), root).is_ok()
            }
            Self::CloneIntoCgroup => can_clone_into_cgroup(),
            // Without the call the answer is "no such call"; with it, the bad address or descriptor is found fault with.
            Self::MountApi => {
                answers(libc::SYS_fsopen, [0; 5], libc::EFAULT)
                    && answers(libc::SYS_move_mount, [NOTHING, 0, NOTHING, 0, 0], libc::EFAULT)
            }
            Self::MountAttributes => {
                answers(libc::SYS_mount_setattr, [NOTHING, 0, 0, 0, 0], libc::EINVAL)
            }
            Self::Pidfd => {
                answers(libc::SYS_pidfd_open, [0; 5], libc::EINVAL)
                    && answers(libc::SYS_pidfd_send_signal, [NOTHING, 0, 0, 0, 0], libc::EBADF)
            }
            // The range ends before it begins.
            Self::CloseRange => answers(libc::SYS_close_range, [1, 0, 0, 0, 0], libc::EINVAL),
            Self::Seccomp => has_verdict(&0x7ffc_0000) && has_verdict(&0x8000_0000),
            Self::SeccompAllowSpeculation => {
                const SET_MODE_FILTER: libc::c_long = 1;
                const SPEC_ALLOW: libc::c_long = 4;
                answers(libc::SYS_seccomp, [SET_MODE_FILTER, SPEC_ALLOW, 0, 0, 0], libc::EFAULT)
            }
            Self::Landlock => {
                const VERSION: libc::c_long = 1;
                // SAFETY: no address is passed; the call returns the interface's version.
                unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) > 0 }
            }
        }
    }
}

/// No descriptor.
const NOTHING: libc::c_long = -1;

/// What this kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    bits: u32,
    kernel: (u32, u32),
    release: String,
}

impl Features {
    /// Asks the kernel; some microseconds, but once is enough.
    ///
    /// # Errors
    /// If the kernel's release is no version.
    pub fn probe() -> Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let kernel = version(&release).ok_or_else(|| {
            let problem = io::Error::other("no version number in it");
            SystemError::new("uname", format!("\"{release}\""), problem)
        })?;
        let there = Feature::ALL.iter().filter(|feature| feature.is_there());
        let bits = there.fold(0, |bits, feature| bits | feature.bit());
        Ok(Self { bits, kernel, release })
    }

    /// Whether the kernel can do this.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        self.bits & feature.bit() != 0
    }

    /// What it can't do.
    pub fn missing(&self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(|feature| !self.has(*feature))
    }

    /// The kernel's major and minor version.
    #[must_use]
    pub const fn kernel(&self) -> (u32, u32) {
        self.kernel
    }

    /// The kernel's release, as uname(2) tells it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Whether an overlay can be told to skip syncing (`volatile`), which mount options can't be asked about.
    #[must_use]
    pub fn has_volatile_overlay(&self) -> bool {
        self.kernel >= (5, 10)
    }

    /// Whether mounts can be made below a tree that is attached nowhere.
    #[must_use]
    pub fn has_mounts_on_detached_trees(&self) -> bool {
        self.kernel >= (6, 15)
    }
}

/// `6.18.5-amd64` is (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether the call fails with that error.
fn answers(call: libc::c_long, arguments: [libc::c_long; 5], errno: i32) -> bool {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers pass no address but null, and nothing that the call could act on.
    let answer = unsafe { libc::syscall(call, a, b, c, d, e) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(errno)
}

/// Whether filters may return this verdict.
fn has_verdict(verdict: &u32) -> bool {
    const GET_ACTION_AVAIL: libc::c_long = 2;
    let address = std::ptr::from_ref(verdict);
    // SAFETY: the call only reads the number, which outlives it.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, address) == 0 }
}

/// The flag is known if the descriptor is what the kernel finds fault with. No process is made either way.
fn can_clone_into_cgroup() -> bool {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    const NO_DESCRIPTOR: u64 = 0x3fff_ffff;
    let mut request = [0_u64; 11];
    request[0] = CLONE_INTO_CGROUP;
    request[10] = NO_DESCRIPTOR;
    // SAFETY: `request` is a whole `struct clone_args`, which the call only reads; it fails for want of the cgroup.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, request.as_ptr(), size_of_val(&request)) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_can_do_what_its_version_promises() {
        let features = Features::probe().unwrap();
        if features.kernel() >= (5, 13) {
            let missing: Vec<_> = features
                .missing()
                // Depends on how the kernel was built and booted.
                .filter(|feature| *feature != Feature::Landlock)
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    }

    #[test]
    fn a_call_that_does_not_exist_is_missing() {
        assert!(!answers(9999, [0; 5], libc::EFAULT));
        assert!(!has_verdict(&0x1234_0000));
    }

    #[test]
    fn the_version_is_at_the_front_of_the_release() {
        for (release, expected) in [
            ("6.18.5", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.10-rc1", Some((5, 10))),
            ("x.y", None),
            ("6", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn every_feature_has_its_own_bit_and_name() {
        let bits = Feature::ALL.iter().fold(0, |bits, feature| bits | feature.bit());
        assert_eq!(bits.count_ones(), 9);
        assert!(Feature::ALL.iter().all(|feature| !feature.name().is_empty()));
    }
}
