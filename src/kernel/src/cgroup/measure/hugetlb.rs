//! Huge pages of a cgroup, by size. Kernels count them only where the controller is mounted.

use super::super::layout::{Controller, Version};
use super::super::{Cgroup, CgroupError, is_gone};
use super::text::number;
use std::fs;

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// The size as the kernel names it: `2MB`.
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// The most bytes that were in use; v2 doesn't keep it.
    pub peak: Option<u64>,
}

impl Cgroup {
    /// Huge pages in use by it and below; none without the controller.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn huge_pages(&self) -> Result<Vec<HugePages>, CgroupError> {
        let Some(home) = self.home(Controller::Hugetlb) else { return Ok(Vec::new()) };
        let suffix = match home.version {
            Version::V1 => ".usage_in_bytes",
            Version::V2 => ".current",
        };
        let entries = match fs::read_dir(&home.path) {
            Ok(entries) => entries,
            Err(source) if is_gone(&source) => return Ok(Vec::new()),
            Err(source) => return Err(CgroupError::Read { file: home.path.clone(), source }),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut sizes: Vec<String> = names.filter_map(|name| size_of(&name, suffix)).collect();
        sizes.sort_unstable();
        let file =
            |size: &str, rest: &str| number(&home.path.join(format!("hugetlb.{size}{rest}")));
        let pages = sizes.into_iter().map(|size| {
            let usage = file(&size, suffix)?.unwrap_or(0);
            let peak = match home.version {
                Version::V1 => file(&size, ".max_usage_in_bytes")?,
                Version::V2 => None,
            };
            Ok(HugePages { size, usage, peak })
        });
        pages.collect()
    }
}

/// The size in the name of a file that counts pages; the `rsvd` files count reservations.
fn size_of(name: &str, suffix: &str) -> Option<String> {
    let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
    (!size.contains('.')).then(|| size.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_in_the_name_and_reservations_are_left_out() {
        assert_eq!(size_of("hugetlb.2MB.usage_in_bytes", ".usage_in_bytes").unwrap(), "2MB");
        assert_eq!(size_of("hugetlb.1GB.current", ".current").unwrap(), "1GB");
        assert_eq!(size_of("hugetlb.2MB.rsvd.usage_in_bytes", ".usage_in_bytes"), None);
        assert_eq!(size_of("cgroup.procs", ".current"), None);
    }
}
