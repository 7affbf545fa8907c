//! Rows about memory: what a daemon and what each pod's own processes hold, by proportional set size.

use crate::fleet::{clear, populate};
use crate::options::Options;
use crate::table::Table;
use crate::target::Target;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;

/// Pods that run while memory is read.
const PODS: usize = 50;

/// Measures every runtime by itself.
pub(crate) async fn measure(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    let (mut daemons, mut helpers) = (Vec::new(), Vec::new());
    for target in targets {
        let before = processes()?;
        let containers = populate(options, target, PODS).await?;
        let mut workloads = HashSet::new();
        for id in containers {
            workloads.insert(u32::try_from(target.cri.process(&id).await?)?);
        }
        daemons.push(pss(target.daemon).context("the daemon runs")?);
        let came: HashSet<u32> = processes()?.difference(&before).copied().collect();
        let sum: u64 = attendants(&came, &workloads).into_iter().filter_map(pss).sum();
        helpers.push(sum / PODS as u64);
        clear(target).await?;
    }
    table.memory(&format!("PSS of the daemon, {PODS} pods"), &daemons);
    table.memory(&format!("PSS of shim and pause of one pod, {PODS} pods"), &helpers);
    Ok(())
}

/// Of the processes that came with the pods those that serve them: shims and monitors, which are in the runtime's network
/// namespace, and their children that are no container, such as a pause process. Others on this machine are neither.
fn attendants(came: &HashSet<u32>, workloads: &HashSet<u32>) -> Vec<u32> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let network = |id: u32| fs::read_link(format!("/proc/{id}/ns/net")).ok();
    let shims: HashSet<u32> =
        came.iter().copied().filter(|id| here.is_some() && network(*id) == here).collect();
    let served = |id: &u32| parent(*id).is_some_and(|parent| shims.contains(&parent));
    let others = came.iter().copied().filter(|id| served(id) && !workloads.contains(id));
    shims.iter().copied().chain(others.filter(|id| !shims.contains(id))).collect()
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn processes() -> Result<HashSet<u32>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// In KiB; none if the process has ended.
fn pss(process: u32) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
