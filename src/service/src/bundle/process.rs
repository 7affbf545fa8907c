//! A planned process as `process` of the spec.

use super::BundleError;
use cringle_domain::plan::{PlannedCapabilities, ProcessPlan, ResourceLimit};
use cringle_domain::refusal::Refusal;
use cringle_domain::security::CapabilitySet;
use cringle_domain::spec::Terminal;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, UserBuilder,
};
use std::str::FromStr;

pub(super) fn of(plan: &ProcessPlan) -> Result<Process, BundleError> {
    let identity = &plan.identity;
    let user = UserBuilder::default()
        .uid(identity.user)
        .gid(identity.group)
        .additional_gids(identity.groups.clone())
        .build()?;
    let rlimits = plan.rlimits.iter().map(rlimit).collect::<Result<Vec<_>, _>>()?;
    Ok(ProcessBuilder::default()
        .terminal(plan.terminal == Terminal::Present)
        .user(user)
        .args(plan.args.clone())
        .env(plan.environment.entries().collect::<Vec<_>>())
        .cwd(plan.working_directory.clone())
        .capabilities(capabilities(&plan.capabilities)?)
        .rlimits(rlimits)
        .no_new_privileges(plan.no_new_privileges)
        .oom_score_adj(i32::from(plan.oom_score_adjustment))
        .build()?)
}

/// A process that can do nothing.
pub(super) fn of_reaper() -> Result<Process, BundleError> {
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().build()?)
        .args(vec!["pause".to_owned()])
        .env(Vec::new())
        .cwd("/")
        .capabilities(capabilities(&PlannedCapabilities::default())?)
        .no_new_privileges(true)
        .build()?;
    process.set_rlimits(None);
    Ok(process)
}

fn capabilities(planned: &PlannedCapabilities) -> Result<LinuxCapabilities, BundleError> {
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(set(planned.bounding))
        .effective(set(planned.effective))
        .permitted(set(planned.permitted))
        .inheritable(set(planned.inheritable))
        .ambient(set(planned.ambient))
        .build()?)
}

/// Both sides know the same 41 names; a test compares them.
fn set(capabilities: CapabilitySet) -> Capabilities {
    capabilities.names().filter_map(|name| Capability::from_str(name).ok()).collect()
}

fn rlimit(limit: &ResourceLimit) -> Result<PosixRlimit, BundleError> {
    let kind =
        PosixRlimitType::from_str(&format!("RLIMIT_{}", limit.name)).map_err(|_unknown| {
            Refusal::invalid("rlimits", format!("\"{}\" is not a resource limit", limit.name))
        })?;
    Ok(PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_its_name_in_the_spec() {
        assert_eq!(set(CapabilitySet::ALL).len(), 41);
        for name in CapabilitySet::ALL.names() {
            assert_eq!(Capability::from_str(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn the_numbers_of_capabilities_are_those_of_the_kernel_crate() {
        for capability in cringle_kernel::capability::Capability::ALL {
            let bit = CapabilitySet::from_bits(1 << capability.number());
            let names: Vec<_> = bit.names().collect();
            assert_eq!(names, [capability.name().trim_start_matches("CAP_")]);
        }
    }
}
