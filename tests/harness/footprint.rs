//! What a process holds: what a daemon or a shim must have no more of when its work is done.

use anyhow::{Context, Result};
use std::fmt;
use std::fs;

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Children that have ended and were not waited for.
    pub zombies: usize,
    /// Memory of its own in KiB: pages that no file has.
    pub memory: u64,
}

impl Footprint {
    /// Looks at a process.
    pub fn of(process: u32) -> Result<Self> {
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
            threads: fs::read_dir(format!("/proc/{process}/task"))?.count(),
            zombies: zombies(process)?,
            memory: memory(process)?,
        })
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, zombies, memory } = self;
        write!(
            formatter,
            "{descriptors} descriptors, {threads} threads, {zombies} zombies, {memory} KiB"
        )
    }
}

/// The parent of a process.
pub fn parent(process: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, parent) = state(&status).context("a process has a parent")?;
    Ok(parent)
}

/// Anonymous memory of a process in KiB.
pub fn memory(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let size = line.and_then(|line| line.trim().split(' ').next());
    Ok(size.context("a process has memory")?.parse()?)
}

fn zombies(parent: u32) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // What is no process, or ends while we look, is none.
        let status = fs::read_to_string(entry?.path().join("stat")).unwrap_or_default();
        count += usize::from(state(&status) == Some(('Z', parent)));
    }
    Ok(count)
}

/// State and parent. They come after the name, which may have anything in it.
fn state(status: &str) -> Option<(char, u32)> {
    let (_, rest) = status.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
