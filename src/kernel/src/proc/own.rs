//! When processes started, and what the calling one has used and holds, as an operator wants to see it of a daemon.

use super::{after_command, open_files, soft_limits};
use crate::error::{Result, SystemError};
use crate::memory::page_size;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{Duration, SystemTime};

/// The calling process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// Processor time since its start, of all its threads, in user and kernel mode.
    pub cpu: Duration,
    /// When it started, by the wall clock, to a hundredth of a second.
    pub started: SystemTime,
    /// Bytes of address space.
    pub address_space: u64,
    /// Bytes in memory, shared ones among them.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors, the one of the look itself among them.
    pub descriptors: u64,
    /// How many descriptors it may have; none if there is no limit.
    pub descriptor_limit: Option<u64>,
}

/// Reads `/proc/self/stat`, counts `/proc/self/fd` (proc(5)).
///
/// # Errors
/// `/proc` is not there, or not what this kernel's documentation says.
pub fn own() -> Result<Own> {
    let own = std::process::id();
    let fields = parse(&read("/proc/self/stat")?).ok_or_else(|| odd("/proc/self/stat"))?;
    let limits = soft_limits(own.cast_signed())?;
    let limit = limits.iter().find(|(name, _)| name == "max_open_files");
    Ok(Own {
        cpu: ticks(fields.cpu),
        started: wall_clock(fields.started),
        address_space: fields.address_space,
        resident: fields.pages.saturating_mul(page_size() as u64),
        threads: fields.threads,
        descriptors: open_files(own, u64::MAX)?.descriptors,
        descriptor_limit: limit.map(|(_, limit)| *limit),
    })
}

/// The wall-clock time of a process' start ([`super::Stat`]), which is in ticks since boot: what the clock would have said
/// if it had never been set since, rounded down to a tick (a hundredth of a second), never later.
#[must_use]
pub fn wall_clock(start_time: u64) -> SystemTime {
    // In this order: what we are held up between the two looks makes it earlier.
    let now = SystemTime::now();
    let up = clock_gettime(ClockId::Boottime);
    let up = Duration::try_from(up).unwrap_or_default();
    now.checked_sub(up).map_or(now, |booted| booted + ticks(start_time))
}

/// What is used of `/proc/self/stat`: times in ticks, the address space in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    cpu: u64,
    threads: u64,
    started: u64,
    address_space: u64,
    pages: u64,
}

fn parse(text: &str) -> Option<Fields> {
    // What follows the command begins with field 3.
    let mut fields = after_command(text.as_bytes())?.split_ascii_whitespace().skip(14 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, kernel) = (next()?, next()?);
    // 16 to 19 are of waited-for children and priorities, 21 is always zero.
    let threads = fields.nth(20 - 16)?.parse().ok()?;
    let started = fields.nth(22 - 21)?.parse().ok()?;
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Fields { cpu: user + kernel, threads, started, address_space: next()?, pages: next()? })
}

fn ticks(number: u64) -> Duration {
    let second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(number / second)
        + Duration::from_nanos(number % second * (1_000_000_000 / second))
}

fn read(path: &'static str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| SystemError::new("read", path, error))
}

fn odd(path: &'static str) -> SystemError {
    SystemError::new("read", path, io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;

    #[test]
    fn every_field_is_found_whatever_the_command_is_called() {
        let rest = "S 4 5 6 7 8 9 10 11 12 13 1400 15 16 17 18 19 20 21 2200 23000 24 25";
        let known =
            Fields { cpu: 1415, threads: 20, started: 2200, address_space: 23_000, pages: 24 };
        assert_eq!(parse(&format!("12 (a) b (c) {rest}")), Some(known));
        assert_eq!(parse("12 (short) S 3 4"), None);
    }

    #[test]
    fn the_start_of_a_process_is_told_by_the_wall_clock() {
        let before = SystemTime::now();
        let born = crate::clone::child(&crate::clone::Birth::default(), || 0).unwrap();
        let after = SystemTime::now();
        let stat = super::super::stat(born.pid).unwrap();
        crate::process::wait(&born.pidfd).unwrap();
        let started = wall_clock(stat.start_time);
        // A tick is lost by rounding, and as much more as we are held up between two clocks.
        let lost = Duration::from_secs(2);
        assert!(started + lost >= before && started <= after, "{before:?} {started:?} {after:?}");
    }

    #[test]
    fn what_this_process_takes_is_seen() {
        const BLOCK: usize = 64 << 20;
        let before = own().unwrap();
        assert!(before.started <= SystemTime::now(), "{before:?}");
        assert!(before.started.elapsed().unwrap() < Duration::from_secs(24 * 3600), "{before:?}");
        let block = black_box(vec![1_u8; BLOCK]);
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let (end, ended) = mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || ended.recv().unwrap_err());
        while own().unwrap().cpu <= before.cpu {}
        let after = own().unwrap();
        assert!(after.resident >= before.resident + BLOCK as u64 / 2, "{before:?} {after:?}");
        assert!(after.address_space >= before.address_space + BLOCK as u64 / 2, "{after:?}");
        assert!(after.threads >= 2 && after.descriptors >= 4, "{after:?}");
        let limit = crate::rlimit::LimitedResource::from_name("NOFILE").map(crate::rlimit::get);
        let limit = limit.map(|limit| limit.soft).filter(|soft| *soft != u64::MAX);
        assert_eq!(after.descriptor_limit, limit);
        drop((block, file, end));
        waiting.join().unwrap();
    }
}
