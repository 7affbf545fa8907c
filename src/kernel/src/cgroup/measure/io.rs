//! Input and output of a cgroup, device by device.

use super::super::layout::{Controller, Version};
use super::super::{Cgroup, CgroupError};
use super::text;
use std::collections::BTreeMap;
use std::path::Path;

/// What was read from and written to one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Cgroup {
    /// Input and output of it and below, by device; none without the controller, or if nothing was read or written.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn device_io(&self) -> Result<Vec<DeviceIo>, CgroupError> {
        let v1 = self.home(Controller::Blkio).filter(|home| home.version == Version::V1);
        let (home, read): (_, fn(&Path) -> _) = match (v1, self.home(Controller::Io)) {
            (Some(home), _) => (home, legacy),
            (None, Some(home)) => (home, unified),
            (None, None) => return Ok(Vec::new()),
        };
        read(&home.path)
    }
}

fn legacy(directory: &Path) -> Result<Vec<DeviceIo>, CgroupError> {
    let file = |name: &str| {
        let content = text::read(&directory.join(name))?;
        Ok::<_, CgroupError>(content.unwrap_or_default())
    };
    let bytes = file("blkio.throttle.io_service_bytes_recursive")?;
    let requests = file("blkio.throttle.io_serviced_recursive")?;
    Ok(parse_legacy(&bytes, &requests))
}

/// Lines `8:0 Read 4096`.
fn parse_legacy(bytes: &str, requests: &str) -> Vec<DeviceIo> {
    let mut devices = BTreeMap::new();
    let mut note = |text: &str, fields: fn(&mut DeviceIo) -> (&mut u64, &mut u64)| {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(device) = words.next().and_then(numbers) else { continue };
            let (kind, value) = (words.next(), words.next().and_then(|word| word.parse().ok()));
            let entry = devices.entry(device).or_insert_with(|| empty(device));
            let (read, written) = fields(entry);
            match (kind, value) {
                (Some("Read"), Some(value)) => *read = value,
                (Some("Write"), Some(value)) => *written = value,
                _ => {}
            }
        }
    };
    note(bytes, |io| (&mut io.read_bytes, &mut io.written_bytes));
    note(requests, |io| (&mut io.reads, &mut io.writes));
    devices.into_values().collect()
}

fn unified(directory: &Path) -> Result<Vec<DeviceIo>, CgroupError> {
    let content = text::read(&directory.join("io.stat"))?.unwrap_or_default();
    Ok(content.lines().filter_map(parse_unified).collect())
}

/// A line `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn parse_unified(line: &str) -> Option<DeviceIo> {
    let mut words = line.split_whitespace();
    let mut io = empty(words.next().and_then(numbers)?);
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match key {
            "rbytes" => io.read_bytes = value,
            "wbytes" => io.written_bytes = value,
            "rios" => io.reads = value,
            "wios" => io.writes = value,
            _ => {}
        }
    }
    Some(io)
}

fn numbers(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn empty((major, minor): (u32, u32)) -> DeviceIo {
    DeviceIo { major, minor, ..DeviceIo::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same() {
        let bytes = "8:0 Read 4096\n8:0 Write 512\n8:0 Sync 1\n8:0 Total 4609\nTotal 4609\n";
        let requests = "8:0 Read 2\n8:0 Write 1\nTotal 3\n";
        let expected = DeviceIo {
            major: 8,
            minor: 0,
            reads: 2,
            writes: 1,
            read_bytes: 4096,
            written_bytes: 512,
        };
        assert_eq!(parse_legacy(bytes, requests), [expected]);
        let line = "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0";
        assert_eq!(parse_unified(line), Some(expected));
        assert_eq!(parse_legacy("Total 0\n", ""), []);
    }
}
