//! When a process runs, when its input and output does, and on which nodes its memory is, as the specification says.

use super::error::{Attempting, EngineError, Result};
use cringle_kernel::schedule::{self, IoClass, LAST_NODE, LOWEST_IO_PRIORITY, Nodes, Scheduling};
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};

/// What a process has of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Priorities {
    io: Option<(IoClass, u8)>,
    scheduling: Option<Scheduling>,
}

impl Priorities {
    /// As a process is to have them.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub(super) fn of(process: &Process) -> Result<Self> {
        Ok(Self {
            io: process.io_priority().as_ref().map(io).transpose()?,
            scheduling: process.scheduler().as_ref().map(scheduling).transpose()?,
        })
    }

    /// Child-side, while it has all privileges.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn take_on(&self) -> Result<()> {
        if let Some((class, priority)) = self.io {
            schedule::set_io_priority(class, priority)
                .attempting(|| "set the priority of input and output".to_owned())?;
        }
        if let Some(scheduling) = &self.scheduling {
            schedule::set_scheduling(scheduling).attempting(|| "set the scheduler".to_owned())?;
        }
        Ok(())
    }
}

fn io(asked: &LinuxIOPriority) -> Result<(IoClass, u8)> {
    let class = match asked.class() {
        IOPriorityClass::IoprioClassRt => IoClass::RealTime,
        IOPriorityClass::IoprioClassBe => IoClass::BestEffort,
        IOPriorityClass::IoprioClassIdle => IoClass::Idle,
    };
    let priority = u8::try_from(asked.priority());
    let priority = priority.ok().filter(|priority| *priority <= LOWEST_IO_PRIORITY);
    let problem = || format!("{} is not in 0 to {LOWEST_IO_PRIORITY}", asked.priority());
    let priority =
        priority.ok_or_else(|| EngineError::invalid("process.ioPriority.priority", problem()))?;
    Ok((class, priority))
}

fn scheduling(asked: &Scheduler) -> Result<Scheduling> {
    // The kernel has no number 4.
    let policy = match asked.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
        LinuxSchedulerPolicy::SchedIso => {
            let problem = "Linux has no scheduler SCHED_ISO";
            return Err(EngineError::invalid("process.scheduler.policy", problem));
        }
    };
    let priority = asked.priority().unwrap_or(0);
    let problem = |_negative| {
        EngineError::invalid("process.scheduler.priority", format!("{priority} is negative"))
    };
    Ok(Scheduling {
        policy,
        flags: asked.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: asked.nice().unwrap_or(0),
        priority: u32::try_from(priority).map_err(problem)?,
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
    })
}

/// `SCHED_FLAG_*` of `linux/sched.h`.
fn flag(flag: &LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// On which nodes the memory of all processes of a container is.
#[derive(Debug)]
pub(super) struct MemoryPolicy {
    mode_and_flags: u32,
    nodes: Nodes,
}

impl MemoryPolicy {
    /// The policy of a specification, if it has one.
    ///
    /// # Errors
    /// Its nodes are none.
    pub(super) fn of(linux: &Linux) -> Result<Option<Self>> {
        linux.memory_policy().as_ref().map(policy).transpose()
    }

    /// Child-side.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn take_on(&self) -> Result<()> {
        schedule::set_memory_policy(self.mode_and_flags, &self.nodes)
            .attempting(|| "set the memory policy".to_owned())
    }
}

fn policy(asked: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    // `MPOL_*` of `linux/mempolicy.h`.
    let mode = match asked.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = asked.flags().iter().flatten().map(|flag| match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    });
    let text = asked.nodes().as_deref().unwrap_or_default();
    let problem = || format!("{text:?} is no list of nodes up to {LAST_NODE}");
    let nodes = Nodes::parse(text)
        .ok_or_else(|| EngineError::invalid("linux.memoryPolicy.nodes", problem()))?;
    Ok(MemoryPolicy { mode_and_flags: flags.fold(mode, |all, one| all | one), nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(process: &str) -> Result<Priorities> {
        let json = format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["sh"],{process}}}"#);
        Priorities::of(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn priorities_are_as_the_kernel_has_them() {
        let found = of(r#""ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":7},
               "scheduler":{"policy":"SCHED_RR","priority":5,"flags":["SCHED_RESET_ON_FORK"]}"#)
        .unwrap();
        assert_eq!(found.io, Some((IoClass::Idle, 7)));
        let expected = Scheduling { policy: 2, priority: 5, flags: 1, ..Scheduling::default() };
        assert_eq!(found.scheduling, Some(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        for (process, field) in [
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#, "ioPriority.priority"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":-1}"#, "ioPriority.priority"),
            (r#""scheduler":{"policy":"SCHED_ISO"}"#, "scheduler.policy"),
            (r#""scheduler":{"policy":"SCHED_FIFO","priority":-1}"#, "scheduler.priority"),
        ] {
            let error = of(process).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_memory_policy_is_a_mode_with_flags_and_a_list_of_nodes() {
        let of = |json: &str| policy(&serde_json::from_str(json).unwrap());
        let found =
            of(r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!(found.mode_and_flags, 0x8002);
        assert_eq!(Some(found.nodes), Nodes::parse("0-1"));
        let error = of(r#"{"mode":"MPOL_BIND","nodes":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("linux.memoryPolicy.nodes"), "{error}");
    }
}
