//! Linux security modules: which ones are in force.

use std::fs;

/// Whether AppArmor confines programs on this host.
#[must_use]
pub fn is_apparmor_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y")
}

/// Whether SELinux labels matter on this host: its file system is mounted and a policy is loaded. Without a policy
/// everything has the initial label.
#[must_use]
pub fn is_selinux_enabled() -> bool {
    /// `SELINUX_MAGIC` of linux/magic.h.
    const MAGIC: u64 = 0xf97c_ff8c;
    let is_mounted = rustix::fs::statfs("/sys/fs/selinux")
        .is_ok_and(|file_system| u64::try_from(file_system.f_type) == Ok(MAGIC));
    is_mounted && label().is_some_and(|label| label != "kernel")
}

/// The calling thread's label.
fn label() -> Option<String> {
    let text = fs::read_to_string("/proc/thread-self/attr/current").ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned()).filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_module_is_in_force_that_the_kernel_does_not_list() {
        // Only where the kernel shows its list can it be compared.
        let Ok(list) = fs::read_to_string("/sys/kernel/security/lsm") else { return };
        assert!(!is_apparmor_enabled() || list.contains("apparmor"));
        assert!(!is_selinux_enabled() || list.contains("selinux"));
    }
}
