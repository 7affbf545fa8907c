//! Limits. On the wire zero means "not given"; inside, what is not given is absent.

use super::fields::{sorted, unsorted};
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::{PodResources, PodResourcesChange, Resources};
use cringle_proto_cri::v1;

/// The limits that an update changes.
pub(in crate::rpc) fn limits_of_update(
    resources: v1::LinuxContainerResources,
) -> Result<Resources, Refusal> {
    limits(resources, ZeroScore::Absent)
}

/// What a whole pod may use, as an update changes it. An absent message changes nothing.
pub(in crate::rpc) fn pod_resources_of_update(
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<PodResourcesChange, Refusal> {
    Ok(PodResourcesChange {
        overhead: request.overhead.map(|given| of_pod(given, "overhead")).transpose()?,
        containers: request.resources.map(|given| of_pod(given, "resources")).transpose()?,
    })
}

/// What a whole pod may use, as a request for one says.
pub(super) fn pod_resources(
    overhead: Option<v1::LinuxContainerResources>,
    containers: Option<v1::LinuxContainerResources>,
) -> Result<PodResources, Refusal> {
    Ok(PodResources {
        overhead: of_pod(overhead.unwrap_or_default(), "linux.overhead")?,
        containers: of_pod(containers.unwrap_or_default(), "linux.resources")?,
    })
}

/// The limits of a pod. It may be said to have no limit of memory, as a cgroup's file says it.
fn of_pod(mut given: v1::LinuxContainerResources, message: &str) -> Result<Resources, Refusal> {
    if given.memory_limit_in_bytes == -1 {
        given.memory_limit_in_bytes = 0;
    }
    limits(given, ZeroScore::Absent).map_err(|refusal| match refusal {
        Refusal::Invalid { field, problem } => {
            let name = field.strip_prefix(PREFIX).unwrap_or(&field);
            Refusal::invalid(format!("{message}.{name}"), problem)
        }
        Refusal::Unsupported(_) | Refusal::WrongState(_) => refusal,
    })
}

/// What a zero OOM score means: it is also a legal score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroScore {
    /// The score is zero: a container that is made gets what is asked for, not what the daemon has.
    Given,
    /// The score stays as it is: an update names what changes.
    Absent,
}

/// The limits of a request.
pub(super) fn limits(
    resources: v1::LinuxContainerResources,
    zero_score: ZeroScore,
) -> Result<Resources, Refusal> {
    let score = match (resources.oom_score_adj, zero_score) {
        (0, ZeroScore::Absent) => None,
        (score, _) => Some(i16::try_from(score).map_err(|_out_of_range| {
            Refusal::invalid(field("oom_score_adj"), format!("{score} is not in -1000 to 1000"))
        })?),
    };
    let limits = Resources {
        cpu_period: unsigned(resources.cpu_period, "cpu_period")?,
        cpu_quota: (resources.cpu_quota != 0).then_some(resources.cpu_quota),
        cpu_shares: unsigned(resources.cpu_shares, "cpu_shares")?,
        memory_limit: unsigned(resources.memory_limit_in_bytes, "memory_limit_in_bytes")?,
        memory_and_swap_limit: match resources.memory_swap_limit_in_bytes {
            // No limit, which is what a cgroup has from the start.
            -1 => None,
            limit => unsigned(limit, "memory_swap_limit_in_bytes")?,
        },
        oom_score_adjustment: score,
        cpuset_cpus: Some(resources.cpuset_cpus).filter(|list| !list.is_empty()),
        cpuset_memory_nodes: Some(resources.cpuset_mems).filter(|list| !list.is_empty()),
        huge_pages: resources
            .hugepage_limits
            .into_iter()
            .map(|limit| (limit.page_size, limit.limit))
            .collect(),
        unified: sorted(resources.unified),
        ..Resources::default()
    };
    limits.check()?;
    Ok(limits)
}

/// Limits in an answer.
pub(super) fn to_cri(resources: &Resources) -> v1::LinuxContainerResources {
    let signed =
        |number: Option<u64>| number.map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX));
    v1::LinuxContainerResources {
        cpu_period: signed(resources.cpu_period),
        cpu_quota: resources.cpu_quota.unwrap_or_default(),
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: signed(resources.memory_limit),
        oom_score_adj: resources.oom_score_adjustment.map_or(0, i64::from),
        cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: resources.cpuset_memory_nodes.clone().unwrap_or_default(),
        hugepage_limits: resources
            .huge_pages
            .iter()
            .map(|(size, limit)| v1::HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: unsorted(&resources.unified),
        memory_swap_limit_in_bytes: signed(resources.memory_and_swap_limit),
    }
}

fn unsigned(number: i64, name: &str) -> Result<Option<u64>, Refusal> {
    match u64::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Refusal::invalid(field(name), format!("{number} is negative"))),
    }
}

/// Where the limits of a container are in its request.
const PREFIX: &str = "linux.resources.";

fn field(name: &str) -> String {
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 1 << 20,
            oom_score_adj: -5,
            cpuset_cpus: "0-1".to_owned(),
            cpuset_mems: "0".to_owned(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".to_owned(), limit: 0 }],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            memory_swap_limit_in_bytes: 2 << 20,
        }
    }

    #[test]
    fn limits_come_back_as_they_were_given() {
        assert_eq!(to_cri(&limits(some(), ZeroScore::Given).unwrap()), some());
    }

    #[test]
    fn zero_is_not_given() {
        let nothing = v1::LinuxContainerResources::default;
        assert_eq!(limits(nothing(), ZeroScore::Absent), Ok(Resources::default()));
        assert_eq!(limits(nothing(), ZeroScore::Given).unwrap().oom_score_adjustment, Some(0));
    }

    #[test]
    fn negative_numbers_are_refused_but_where_they_mean_no_limit() {
        let nothing = v1::LinuxContainerResources::default;
        for wrong in [
            v1::LinuxContainerResources { cpu_period: -1, ..nothing() },
            v1::LinuxContainerResources { cpu_shares: -1, ..nothing() },
            v1::LinuxContainerResources { memory_limit_in_bytes: -1, ..nothing() },
            v1::LinuxContainerResources { memory_swap_limit_in_bytes: -2, ..nothing() },
            v1::LinuxContainerResources { oom_score_adj: 100_000, ..nothing() },
        ] {
            assert!(limits(wrong.clone(), ZeroScore::Absent).is_err(), "{wrong:?}");
        }
        let unlimited = v1::LinuxContainerResources {
            cpu_quota: -1,
            memory_swap_limit_in_bytes: -1,
            ..nothing()
        };
        let limits = limits(unlimited, ZeroScore::Absent).unwrap();
        assert_eq!((limits.cpu_quota, limits.memory_and_swap_limit), (Some(-1), None));
    }

    #[test]
    fn a_pod_s_limits_are_named_by_their_own_message_and_may_be_none() {
        let wrong = v1::LinuxContainerResources { cpu_period: -1, ..Default::default() };
        let update = |overhead, resources| {
            let request = v1::UpdatePodSandboxResourcesRequest {
                overhead,
                resources,
                ..v1::UpdatePodSandboxResourcesRequest::default()
            };
            pod_resources_of_update(request)
        };
        let refusal = update(Some(wrong.clone()), None).unwrap_err().to_string();
        assert!(refusal.starts_with("overhead.cpu_period:"), "{refusal}");
        let refusal = pod_resources(None, Some(wrong)).unwrap_err().to_string();
        assert!(refusal.starts_with("linux.resources.cpu_period:"), "{refusal}");
        let unlimited =
            v1::LinuxContainerResources { memory_limit_in_bytes: -1, ..Default::default() };
        let change = update(None, Some(unlimited)).unwrap();
        assert_eq!(change.overhead, None);
        assert_eq!(change.containers, Some(Resources::default()));
    }
}
