//! Kernel parameters of the container's namespaces, written through a procfs that nothing can be mounted over.

use std::path::{Path, PathBuf};

use cringle_kernel::path::{Links, Root};
use cringle_kernel::proc;
use rustix::fs::OFlags;

use super::error::{Attempting as _, Result};

/// Child-side, within the container's namespaces: sets kernel parameters.
///
/// # Errors
/// A parameter that is not known, or a value the kernel refused.
pub(super) fn write(sysctls: &[(String, String)]) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let procfs = proc::detached().attempting(|| "open procfs".to_owned())?;
    let root = Root::from_descriptor(procfs);
    let sys =
        root.place(Path::new("sys"), Links::Refuse).attempting(|| "open procfs".to_owned())?;
    let root = Root::from_descriptor(sys);
    for (name, value) in sysctls {
        let attempt = || format!("set sysctl {name:?} to {value:?}");
        let file = root.file(&path(name), OFlags::WRONLY).attempting(attempt)?;
        rustix::io::write(&file, value.as_bytes()).map(drop).attempting(attempt)?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward`, or `net/ipv4/conf/eth0.1/forwarding`: the separator that comes first is the one that separates.
fn path(name: &str) -> PathBuf {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'.') => {
            let swap = |character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            PathBuf::from(name.chars().map(swap).collect::<String>())
        }
        Some(_) | None => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_name_lead_to_the_same_file() {
        for name in ["net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"] {
            assert_eq!(path(name), Path::new("net/ipv4/conf/eth0.1/forwarding"));
        }
    }
}
