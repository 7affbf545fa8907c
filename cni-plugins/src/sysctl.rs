//! Network settings below `/proc/sys/net`, of the calling thread's network namespace. Written only when they differ: some
//! of them make the kernel visit every interface.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to set {} to {value}", path.display())]
pub struct SysctlError {
    /// The file.
    pub path: PathBuf,
    /// What should have been written.
    pub value: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// The family of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Makes the setting of that interface so.
///
/// # Errors
/// If there is no such setting or it can't be changed.
pub fn set_interface(
    family: Family,
    interface: &str,
    setting: &str,
    value: &'static str,
) -> Result<(), SysctlError> {
    set(root(family).join("conf").join(interface).join(setting), value)
}

/// As `set_interface`, for a setting that may be missing: an old kernel, or one without IPv6.
///
/// # Errors
/// If the setting is there and can't be changed.
pub fn set_interface_if_present(
    family: Family,
    interface: &str,
    setting: &str,
    value: &'static str,
) -> Result<(), SysctlError> {
    match set_interface(family, interface, setting, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Lets the host pass packets on between its interfaces.
///
/// # Errors
/// If the setting can't be changed.
pub fn enable_forwarding(family: Family) -> Result<(), SysctlError> {
    match family {
        Family::V4 => set(root(family).join("ip_forward"), "1"),
        Family::V6 => set(root(family).join("conf/all/forwarding"), "1"),
    }
}

fn root(family: Family) -> PathBuf {
    match family {
        Family::V4 => "/proc/sys/net/ipv4".into(),
        Family::V6 => "/proc/sys/net/ipv6".into(),
    }
}

fn set(path: PathBuf, value: &'static str) -> Result<(), SysctlError> {
    let outcome = (|| {
        if fs::read(&path)?.trim_ascii() == value.as_bytes() {
            return Ok(());
        }
        OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes())
    })();
    outcome.map_err(|source| SysctlError { path, value, source })
}
