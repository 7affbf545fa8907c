//! What daemon and shim hold before and after many requests, most of them with a client or a program that misbehaves.
//! `CRINGLE_LEAK_ROUNDS` multiplies how many; with it the figures are printed.

use crate::footprint::{self, Footprint};
use crate::page;
use crate::stage::Stage;
use crate::wait::until;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// How many clients there are at once.
const TOGETHER: usize = 8;

/// What the daemon's heap and a shim's memory may grow, in KiB: a few hundred bytes for each client.
const SLACK: u64 = 1 << 10;

/// What a daemon with a pod has in memory at most, in KiB, when it has given back what a burst of clients has left behind.
/// Of how it lies in pages more or less stays each time, so what a client leaves is seen by the heap alone.
const LEAN: u64 = 12 << 10;

/// Threads for what blocks: as many more as had work at once. One that is idle for ten seconds ends, but whatever asks for the
/// sum gives each of them work in turn.
const THREADS: usize = 2 * TOGETHER;

/// So many, or as many times more as are wanted.
#[must_use]
pub fn rounds(count: usize) -> usize {
    let factor = std::env::var("CRINGLE_LEAK_ROUNDS").ok().and_then(|text| text.parse().ok());
    count * factor.unwrap_or(1)
}

/// Says figures, if they are wanted.
pub fn tell(what: &str) -> Result<()> {
    if std::env::var_os("CRINGLE_LEAK_ROUNDS").is_some() {
        writeln!(std::io::stderr(), "{what}")?;
    }
    Ok(())
}

/// What there was at one moment of the daemon, of one container's shim, and of the groups of its execs.
#[derive(Debug)]
pub struct Base {
    container: String,
    /// The daemon's process and what it holds.
    pub daemon: (u32, Footprint),
    /// What the daemon has of its heap, in KiB.
    heap: u64,
    /// The shim's.
    pub shim: (u32, Footprint),
    groups: usize,
}

impl Base {
    async fn take(stage: &mut Stage, container: &str) -> Result<Self> {
        let process = u32::try_from(stage.cri.process(container).await?)?;
        let (daemon, shim) = (stage.daemon.id()?, footprint::parent(process)?);
        Ok(Self {
            container: container.to_owned(),
            daemon: (daemon, Footprint::of(daemon)?),
            heap: heap(stage).await?,
            shim: (shim, Footprint::of(shim)?),
            groups: groups(process)?,
        })
    }

    /// The same when all that was killed has left, and free memory was given back.
    pub async fn settled(stage: &mut Stage, container: &str) -> Result<Self> {
        let mut base = Self::take(stage, container).await?;
        until("what was killed has left", async || {
            stage.cri.output(container, &["true"]).await?;
            base = Self::take(stage, container).await?;
            Ok(base.groups == 0 && base.shim.1.zombies == 0 && base.daemon.1.memory < LEAN)
        })
        .await?;
        Ok(base)
    }

    /// Waits until there is no more than this, and of memory hardly more.
    pub async fn reached_again(&self, stage: &mut Stage) -> Result<()> {
        let mut now = None;
        let back = until("daemon and shim have what they had", async || {
            // Groups that could not be removed when their exec ended are removed with the next.
            stage.cri.output(&self.container, &["true"]).await?;
            let seen = now.insert(Self::take(stage, &self.container).await?);
            Ok(seen.fits(self))
        });
        let back = back.await;
        let now = now.context("it was looked at")?;
        let told = format!(
            "daemon: {} -> {}\nits heap: {} -> {} KiB\nshim: {} -> {}\ngroups of execs: {} -> {}",
            self.daemon.1,
            now.daemon.1,
            self.heap,
            now.heap,
            self.shim.1,
            now.shim.1,
            self.groups,
            now.groups
        );
        tell(&told)?;
        back.context(told)
    }

    fn fits(&self, before: &Self) -> bool {
        let (daemon, shim) = (&self.daemon.1, &self.shim.1);
        let (daemon_before, shim_before) = (&before.daemon.1, &before.shim.1);
        daemon.descriptors <= daemon_before.descriptors
            && daemon.zombies <= daemon_before.zombies
            && daemon.threads <= daemon_before.threads + THREADS
            && daemon.memory < LEAN
            && self.heap <= before.heap + SLACK
            && shim.descriptors <= shim_before.descriptors
            && shim.zombies <= shim_before.zombies
            && shim.threads <= shim_before.threads
            && shim.memory <= shim_before.memory + SLACK
            && self.groups <= before.groups
    }
}

/// What the daemon says that it has of its heap, in KiB.
async fn heap(stage: &Stage) -> Result<u64> {
    let bytes = page::value(&stage.daemon.metrics(), "cringle_heap_in_use_bytes").await?;
    // Text of Prometheus is a float; of sizes below 2^53 every byte is exact.
    Ok(format!("{bytes:.0}").parse::<u64>()? >> 10)
}

/// The groups of execs below the cgroup of a process, in all hierarchies.
fn groups(process: u32) -> Result<usize> {
    let mut count = 0;
    for line in std::fs::read_to_string(format!("/proc/{process}/cgroup"))?.lines() {
        let path = line.splitn(3, ':').nth(2).context("a cgroup has a path")?;
        for hierarchy in ["", "unified"] {
            let place: PathBuf =
                [Path::new("/sys/fs/cgroup"), Path::new(hierarchy)].iter().collect();
            let entries = std::fs::read_dir(place.join(path.trim_start_matches('/')));
            let names = entries.into_iter().flatten().filter_map(|entry| entry.ok());
            count += names
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"))
                .count();
        }
    }
    Ok(count)
}

/// Does something so often, some of it at once.
pub async fn many(count: usize, work: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let all = stream::iter(0..count).map(|number| work(number)).buffer_unordered(TOGETHER);
    all.try_collect().await
}
