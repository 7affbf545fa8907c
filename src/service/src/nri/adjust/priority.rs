//! When a container runs, when its input and output does, and on which nodes its memory is.

use super::{Unmet, linux_of, process_of};
use cringle_proto_nri::v1alpha1::{
    self as nri, Field, IoPrioClass, LinuxContainerAdjustment, MpolFlag, MpolMode,
};
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriorityBuilder, LinuxMemoryPolicy, LinuxSchedulerFlag, Scheduler, Spec,
};
use std::str::FromStr;

pub(super) fn apply(wishes: &LinuxContainerAdjustment, spec: &mut Spec) -> Result<(), Unmet> {
    if let Some(wish) = &wishes.io_priority {
        io(wish, spec)?;
    }
    if let Some(wish) = &wishes.scheduler {
        schedule(wish, spec)?;
    }
    if let Some(wish) = &wishes.memory_policy {
        place_memory(wish, spec)?;
    }
    Ok(())
}

/// Without a class it is taken away.
fn io(wish: &nri::LinuxIoPriority, spec: &mut Spec) -> Result<(), Unmet> {
    let invalid = |problem: String| Unmet::invalid(Field::IoPriority, "", problem);
    if wish.class() == IoPrioClass::IoprioClassNone {
        process_of(spec).set_io_priority(None);
        return Ok(());
    }
    let class: IOPriorityClass = named(wish.class().as_str_name()).map_err(invalid)?;
    let priority = LinuxIOPriorityBuilder::default().class(class).priority(wish.priority);
    let priority = priority.build().map_err(|error| invalid(error.to_string()))?;
    process_of(spec).set_io_priority(Some(priority));
    Ok(())
}

/// Without a policy it is taken away.
fn schedule(wish: &nri::LinuxScheduler, spec: &mut Spec) -> Result<(), Unmet> {
    let invalid = |problem: String| Unmet::invalid(Field::LinuxSched, "", problem);
    if wish.policy() == nri::LinuxSchedulerPolicy::SchedNone {
        process_of(spec).set_scheduler(None);
        return Ok(());
    }
    let mut scheduler = Scheduler::default();
    scheduler
        .set_policy(named(wish.policy().as_str_name()).map_err(invalid)?)
        .set_nice(Some(wish.nice))
        .set_priority(Some(wish.priority))
        .set_flags(Some(wish.flags().map(flag).collect()))
        .set_runtime(Some(wish.runtime))
        .set_deadline(Some(wish.deadline))
        .set_period(Some(wish.period));
    process_of(spec).set_scheduler(Some(scheduler));
    Ok(())
}

fn flag(flag: nri::LinuxSchedulerFlag) -> LinuxSchedulerFlag {
    use nri::LinuxSchedulerFlag as Wish;
    match flag {
        Wish::SchedFlagResetOnFork => LinuxSchedulerFlag::SchedResetOnFork,
        Wish::SchedFlagReclaim => LinuxSchedulerFlag::SchedFlagReclaim,
        Wish::SchedFlagDlOverrun => LinuxSchedulerFlag::SchedFlagDLOverrun,
        Wish::SchedFlagKeepPolicy => LinuxSchedulerFlag::SchedFlagKeepPolicy,
        Wish::SchedFlagKeepParams => LinuxSchedulerFlag::SchedFlagKeepParams,
        Wish::SchedFlagUtilClampMin => LinuxSchedulerFlag::SchedFlagUtilClampMin,
        Wish::SchedFlagUtilClampMax => LinuxSchedulerFlag::SchedFlagUtilClampMax,
    }
}

fn place_memory(wish: &nri::LinuxMemoryPolicy, spec: &mut Spec) -> Result<(), Unmet> {
    let invalid = |problem: String| Unmet::invalid(Field::MemoryPolicy, "", problem);
    let flags = wish.flags().map(|flag: MpolFlag| named(flag.as_str_name()));
    let mode: MpolMode = wish.mode();
    let mut policy = LinuxMemoryPolicy::default();
    policy
        .set_mode(named(mode.as_str_name()).map_err(invalid)?)
        .set_nodes(Some(wish.nodes.clone()))
        .set_flags(Some(flags.collect::<Result<_, _>>().map_err(invalid)?));
    linux_of(spec).set_memory_policy(Some(policy));
    Ok(())
}

/// What the runtime specification has under a name; both have those of the kernel.
fn named<T: FromStr>(name: &str) -> Result<T, String> {
    name.parse().map_err(|_unknown| format!("\"{name}\" is not known"))
}
