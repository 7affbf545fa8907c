//! Limits, each of which is one plugin's.

use super::entries::last_of_each;
use crate::HookError;
use crate::owners::Claimant;
use cringle_proto_nri::v1alpha1::{Field, LinuxCpu, LinuxMemory, LinuxResources};

/// Puts the limits that a plugin asks for in place of those that there are. Rules about devices are nobody's and not touched.
pub(super) fn merge(
    claimant: &mut Claimant<'_>,
    asked: &LinuxResources,
    into: &mut LinuxResources,
) -> Result<(), HookError> {
    if let Some(asked) = &asked.memory {
        merge_memory(claimant, asked, into.memory.get_or_insert_default())?;
    }
    if let Some(asked) = &asked.cpu {
        merge_cpu(claimant, asked, into.cpu.get_or_insert_default())?;
    }
    for limit in &asked.hugepage_limits {
        claimant.claim_entry(Field::HugepageLimits, &limit.page_size)?;
    }
    into.hugepage_limits.extend(asked.hugepage_limits.iter().cloned());
    into.hugepage_limits = last_of_each(std::mem::take(&mut into.hugepage_limits));
    for (file, value) in &asked.unified {
        claimant.claim_entry(Field::CgroupsUnified, file)?;
        drop(into.unified.insert(file.clone(), value.clone()));
    }
    set(claimant, Field::BlockioClass, asked.blockio_class.as_ref(), &mut into.blockio_class)?;
    set(claimant, Field::RdtClass, asked.rdt_class.as_ref(), &mut into.rdt_class)?;
    set(claimant, Field::PidsLimit, asked.pids.as_ref(), &mut into.pids)
}

fn merge_memory(
    claimant: &mut Claimant<'_>,
    asked: &LinuxMemory,
    into: &mut LinuxMemory,
) -> Result<(), HookError> {
    let (oom, hierarchy) = (Field::MemDisableOomKiller, Field::MemUseHierarchy);
    set(claimant, Field::MemLimit, asked.limit.as_ref(), &mut into.limit)?;
    set(claimant, Field::MemReservation, asked.reservation.as_ref(), &mut into.reservation)?;
    set(claimant, Field::MemSwapLimit, asked.swap.as_ref(), &mut into.swap)?;
    set(claimant, Field::MemKernelLimit, asked.kernel.as_ref(), &mut into.kernel)?;
    set(claimant, Field::MemTcpLimit, asked.kernel_tcp.as_ref(), &mut into.kernel_tcp)?;
    set(claimant, Field::MemSwappiness, asked.swappiness.as_ref(), &mut into.swappiness)?;
    set(claimant, oom, asked.disable_oom_killer.as_ref(), &mut into.disable_oom_killer)?;
    set(claimant, hierarchy, asked.use_hierarchy.as_ref(), &mut into.use_hierarchy)
}

fn merge_cpu(
    claimant: &mut Claimant<'_>,
    asked: &LinuxCpu,
    into: &mut LinuxCpu,
) -> Result<(), HookError> {
    let (runtime, period) = (Field::CpuRealtimeRuntime, Field::CpuRealtimePeriod);
    set(claimant, Field::CpuShares, asked.shares.as_ref(), &mut into.shares)?;
    set(claimant, Field::CpuQuota, asked.quota.as_ref(), &mut into.quota)?;
    set(claimant, Field::CpuPeriod, asked.period.as_ref(), &mut into.period)?;
    set(claimant, runtime, asked.realtime_runtime.as_ref(), &mut into.realtime_runtime)?;
    set(claimant, period, asked.realtime_period.as_ref(), &mut into.realtime_period)?;
    set_list(claimant, Field::CpuSetCpUs, &asked.cpus, &mut into.cpus)?;
    set_list(claimant, Field::CpuSetMems, &asked.mems, &mut into.mems)
}

fn set<T: Clone>(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: Option<&T>,
    into: &mut Option<T>,
) -> Result<(), HookError> {
    if let Some(asked) = asked {
        claimant.claim(field)?;
        *into = Some(asked.clone());
    }
    Ok(())
}

/// Lists of processors and memory nodes; empty is "as it is".
fn set_list(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: &str,
    into: &mut String,
) -> Result<(), HookError> {
    if !asked.is_empty() {
        claimant.claim(field)?;
        asked.clone_into(into);
    }
    Ok(())
}
