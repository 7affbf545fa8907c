//! The files of a cgroup as text: four system calls each, for a scrape reads hundreds of them.

use super::super::{CgroupError, is_gone};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// More than most of these files have.
const PAGE: usize = 4096;

/// The content of a file; none if it isn't there, or the kernel keeps no such count.
pub(super) fn read(file: &Path) -> Result<Option<String>, CgroupError> {
    let failed =
        |errno: Errno| CgroupError::Read { file: file.to_path_buf(), source: errno.into() };
    let opened = match rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(opened) => opened,
        Err(errno) if is_absent(errno) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let mut content = Vec::with_capacity(PAGE);
    loop {
        match rustix::io::read(&opened, spare_capacity(&mut content)) {
            Ok(0) => break,
            Ok(_) => content.reserve(PAGE / 4),
            Err(Errno::INTR) => {}
            Err(errno) if is_absent(errno) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

/// `EOPNOTSUPP` is what a pressure file answers where pressure is switched off.
fn is_absent(errno: Errno) -> bool {
    is_gone(&errno.into()) || errno == Errno::OPNOTSUPP
}

/// A file that is one number; none if it isn't there, or says `max`.
pub(in crate::cgroup) fn number(file: &Path) -> Result<Option<u64>, CgroupError> {
    Ok(read(file)?.and_then(|text| text.trim().parse().ok()))
}

/// A file of lines `key value`.
pub(super) struct Keyed(String);

impl Keyed {
    /// The file; none if it isn't there.
    pub(super) fn read(file: &Path) -> Result<Option<Self>, CgroupError> {
        Ok(read(file)?.map(Self))
    }

    /// The value of that key; 0 if it isn't there, as counters that a kernel lacks have counted nothing.
    pub(super) fn value(&self, key: &str) -> u64 {
        let line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(line).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let stat = Keyed("total_rss 7\nrss_huge 5\nrss 3\n".to_owned());
        assert_eq!(stat.value("rss"), 3);
        assert_eq!(stat.value("total_rss"), 7);
        assert_eq!(stat.value("cache"), 0);
    }

    #[test]
    fn a_file_is_read_to_its_end_and_a_missing_one_is_none() {
        let table = std::fs::read_to_string("/proc/self/limits").unwrap();
        let first = |text: &str| text.lines().next().map(str::to_owned);
        assert_eq!(first(&read(Path::new("/proc/self/limits")).unwrap().unwrap()), first(&table));
        assert_eq!(read(Path::new("/proc/self/no-such-file")).unwrap(), None);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("large");
        let large = "7 ".repeat(PAGE);
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), large.as_bytes())
            .unwrap();
        assert_eq!(read(&file).unwrap(), Some(large));
    }
}
