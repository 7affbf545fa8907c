//! The processor time that the whole machine spends, whoever's it is.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// One unit of `/proc/stat` (proc_stat(5)): USER_HZ is 100 on every architecture that the bench runs on.
const TICK: Duration = Duration::from_millis(10);

/// Time spent in programs, in the kernel and in interrupts since the machine was started.
pub(crate) fn busy() -> Result<Duration> {
    let table = fs::read_to_string("/proc/stat").context("failed to read \"/proc/stat\"")?;
    let line = table.lines().next().context("\"/proc/stat\" is empty")?;
    let times: Vec<u32> =
        line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|place| times.get(*place)).sum::<u32>();
    Ok(TICK * busy)
}
