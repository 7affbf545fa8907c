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
        // Whatever came with the pods and is not their containers: shims, monitors, pause processes.
        let own = processes()?;
        let own = own.iter().filter(|id| !before.contains(id) && !workloads.contains(id));
        let sum: u64 = own.filter_map(|id| pss(*id)).sum();
        helpers.push(sum / PODS as u64);
        clear(target).await?;
    }
    table.memory(&format!("PSS of the daemon, {PODS} pods"), &daemons);
    table.memory(&format!("PSS of shim and pause of one pod, {PODS} pods"), &helpers);
    Ok(())
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
