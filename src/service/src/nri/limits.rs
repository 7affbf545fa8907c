//! Limits in the words of the interface, and back.

use cringle_domain::refusal::Refusal;
use cringle_domain::resources::Resources;
use cringle_proto_nri::v1alpha1::{
    Field, HugepageLimit, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, OptionalInt64,
    OptionalUInt64,
};

/// A limit that cannot be taken, and what it is called.
pub(super) type Untaken = (Field, Refusal);

/// Limits as plugins are told.
pub(super) fn to_nri(limits: &Resources) -> LinuxResources {
    let bytes = |bytes: Option<u64>| {
        bytes.map(|bytes| OptionalInt64 { value: i64::try_from(bytes).unwrap_or(i64::MAX) })
    };
    let number = |number: Option<u64>| number.map(|value| OptionalUInt64 { value });
    let huge_pages = limits.huge_pages.iter();
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: bytes(limits.memory_limit),
            swap: bytes(limits.memory_and_swap_limit),
            reservation: bytes(limits.memory_reservation),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: number(limits.cpu_shares),
            quota: limits.cpu_quota.map(|value| OptionalInt64 { value }),
            period: number(limits.cpu_period),
            cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
            mems: limits.cpuset_memory_nodes.clone().unwrap_or_default(),
            ..LinuxCpu::default()
        }),
        hugepage_limits: huge_pages
            .map(|(size, limit)| HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: limits.unified.clone(),
        pids: limits.pids_limit.map(|limit| LinuxPids { limit }),
        ..LinuxResources::default()
    }
}

/// Limits as a plugin wants them, to be put in place of `present`. Zero is "not given", and memory that is limited without a
/// word on swap has none of it unless it had some.
///
/// # Errors
/// The first that can't be set here, with its name.
pub(super) fn from_nri(asked: &LinuxResources, present: &Resources) -> Result<Resources, Untaken> {
    refuse_unsupported(asked)?;
    let memory = asked.memory.unwrap_or_default();
    let cpu = asked.cpu.clone().unwrap_or_default();
    let limit = bytes(Field::MemLimit, memory.limit)?;
    let swap = match bytes(Field::MemSwapLimit, memory.swap)? {
        None if present.memory_and_swap_limit.is_none() => limit,
        swap => swap,
    };
    let number = |number: Option<OptionalUInt64>| number.map(|it| it.value).filter(|it| *it != 0);
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let huge_pages = asked.hugepage_limits.iter();
    Ok(Resources {
        cpu_period: number(cpu.period),
        cpu_quota: cpu.quota.map(|quota| quota.value).filter(|quota| *quota != 0),
        cpu_shares: number(cpu.shares),
        memory_limit: limit,
        memory_and_swap_limit: swap,
        oom_score_adjustment: None,
        cpuset_cpus: text(cpu.cpus),
        cpuset_memory_nodes: text(cpu.mems),
        huge_pages: huge_pages.map(|limit| (limit.page_size.clone(), limit.limit)).collect(),
        unified: asked.unified.clone(),
        memory_reservation: bytes(Field::MemReservation, memory.reservation)?,
        pids_limit: asked.pids.map(|pids| pids.limit),
    })
}

fn bytes(field: Field, given: Option<OptionalInt64>) -> Result<Option<u64>, Untaken> {
    match given.map(|given| given.value) {
        // As for a client's: no limit is what a cgroup has from the start.
        None | Some(0 | -1) => Ok(None),
        Some(value) => u64::try_from(value).map(Some).map_err(|_negative| {
            let name = field.as_str_name();
            (field, Refusal::invalid(name, format!("{value} is not a number of bytes")))
        }),
    }
}

/// What there is on other machines or was on older kernels.
fn refuse_unsupported(asked: &LinuxResources) -> Result<(), Untaken> {
    let memory = asked.memory.unwrap_or_default();
    let cpu = asked.cpu.clone().unwrap_or_default();
    let disables = memory.disable_oom_killer.is_some_and(|disable| disable.value);
    let named = |class: &Option<cringle_proto_nri::v1alpha1::OptionalString>| {
        class.as_ref().is_some_and(|class| !class.value.is_empty())
    };
    let found = [
        (Field::MemKernelLimit, memory.kernel.is_some_and(|limit| limit.value > 0)),
        (Field::MemTcpLimit, memory.kernel_tcp.is_some_and(|limit| limit.value > 0)),
        (Field::MemSwappiness, memory.swappiness.is_some()),
        (Field::MemDisableOomKiller, disables),
        (Field::CpuRealtimeRuntime, cpu.realtime_runtime.is_some_and(|time| time.value != 0)),
        (Field::CpuRealtimePeriod, cpu.realtime_period.is_some_and(|time| time.value != 0)),
        (Field::BlockioClass, named(&asked.blockio_class)),
        (Field::RdtClass, named(&asked.rdt_class)),
    ]
    .into_iter()
    .find(|(_, asked)| *asked);
    match found {
        None => Ok(()),
        Some((field, _)) => Err((field, Refusal::Unsupported(field.as_str_name().to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_went() {
        let limits = Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(-1),
            cpu_shares: Some(2),
            memory_limit: Some(1 << 20),
            memory_and_swap_limit: Some(2 << 20),
            oom_score_adjustment: None,
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_memory_nodes: Some("0".to_owned()),
            huge_pages: [("2MB".to_owned(), 4 << 20)].into(),
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            memory_reservation: Some(1 << 19),
            pids_limit: Some(7),
        };
        assert_eq!(from_nri(&to_nri(&limits), &Resources::default()), Ok(limits));
        let nothing = Resources::default();
        assert_eq!(from_nri(&to_nri(&nothing), &nothing), Ok(nothing));
    }

    #[test]
    fn memory_without_a_word_on_swap_has_none_unless_it_had() {
        let limit = Some(OptionalInt64 { value: 5 });
        let memory = LinuxMemory { limit, ..LinuxMemory::default() };
        let asked = LinuxResources { memory: Some(memory), ..LinuxResources::default() };
        let nothing = Resources::default();
        assert_eq!(from_nri(&asked, &nothing).unwrap().memory_and_swap_limit, Some(5));
        let some = Resources { memory_and_swap_limit: Some(9), ..Resources::default() };
        assert_eq!(from_nri(&asked, &some).unwrap().memory_and_swap_limit, None);
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let value = Some(OptionalUInt64 { value: 10 });
        let memory = LinuxMemory { swappiness: value, ..LinuxMemory::default() };
        let asked = LinuxResources { memory: Some(memory), ..LinuxResources::default() };
        let (field, refusal) = from_nri(&asked, &Resources::default()).unwrap_err();
        assert_eq!(field, Field::MemSwappiness);
        assert_eq!(refusal.to_string(), "MemSwappiness is not supported");
    }
}
