//! Limits that this machine and this daemon can set.

use super::{CgroupLayout, HostFacts};
use crate::refusal::Refusal;
use crate::resources::Resources;
use crate::security::CapabilitySet;

/// The limits asked for, if they can be set here.
///
/// # Errors
/// A limit is out of bounds, or this machine does not have it.
pub fn plan(asked: &Resources, facts: &HostFacts) -> Result<Resources, Refusal> {
    asked.check()?;
    if facts.cgroups == CgroupLayout::Legacy && !asked.unified.is_empty() {
        return Err(Refusal::invalid(
            "linux.resources.unified",
            "this machine's controllers are not in the v2 hierarchy",
        ));
    }
    Ok(asked.clone())
}

/// The score asked for, or 0 so that no container inherits the daemon's protection; not below the daemon's own score
/// where that cannot be lowered.
pub(super) fn oom_score(asked: &Resources, facts: &HostFacts) -> i16 {
    let score = asked.oom_score_adjustment.unwrap_or(0);
    let may_lower = facts.capabilities.contains(CapabilitySet::SYS_RESOURCE);
    if may_lower { score } else { score.max(facts.oom_score_adjustment) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: HostFacts = HostFacts {
        capabilities: CapabilitySet::ALL,
        oom_score_adjustment: -999,
        cgroups: CgroupLayout::Legacy,
    };

    #[test]
    fn a_score_is_lowered_only_as_far_as_the_daemon_can() {
        let weak =
            HostFacts { capabilities: CapabilitySet::EMPTY, oom_score_adjustment: 0, ..FACTS };
        for (asked, facts, score) in [
            (Some(-998), &FACTS, -998),
            (Some(1000), &FACTS, 1000),
            (None, &FACTS, 0),
            (Some(-998), &weak, 0),
            (Some(5), &weak, 5),
            (None, &weak, 0),
        ] {
            let resources = Resources { oom_score_adjustment: asked, ..Resources::default() };
            assert_eq!(oom_score(&resources, facts), score, "{asked:?} {facts:?}");
        }
    }

    #[test]
    fn unified_values_need_the_v2_hierarchy() {
        let unified = [("memory.high".to_owned(), "1".to_owned())].into();
        let resources = Resources { unified, ..Resources::default() };
        plan(&resources, &FACTS).unwrap_err();
        let modern = HostFacts { cgroups: CgroupLayout::Unified, ..FACTS };
        assert_eq!(plan(&resources, &modern), Ok(resources));
    }
}
