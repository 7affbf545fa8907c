//! Capabilities, privileges and system call filters of a process.

use cringle_kernel::capability::{self, Capability, CapabilitySet, CapabilitySets};
use cringle_kernel::seccomp::Filter;
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};
use std::sync::OnceLock;

use super::error::{Attempting as _, EngineError, Result};

/// Whether the process and its programs may gain privileges by what they execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privileges {
    /// They may.
    MayGrow,
    /// They may not (`no_new_privs`).
    Fixed,
}

impl Privileges {
    /// As the process is specified.
    pub(super) fn of(process: &Process) -> Self {
        match process.no_new_privileges() {
            Some(true) => Self::Fixed,
            Some(false) | None => Self::MayGrow,
        }
    }
}

/// Refuses what this engine does not do about a process: nothing that was asked for is left out silently.
///
/// # Errors
/// The field.
pub(super) fn refuse_unsupported(process: &Process) -> Result<()> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let asked = [
        ("process.apparmorProfile", given(process.apparmor_profile())),
        ("process.selinuxLabel", given(process.selinux_label())),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(EngineError::Unsupported((*field).to_owned())),
        None => Ok(()),
    }
}

/// The capability sets of a process, no larger than what this host can give. None given means none at all.
///
/// # Errors
/// A capability this engine does not know.
pub(super) fn capabilities(asked: Option<&LinuxCapabilities>) -> Result<CapabilitySets> {
    let Some(asked) = asked else { return Ok(CapabilitySets::default()) };
    let sets = CapabilitySets {
        bounding: set(asked.bounding().as_ref())?,
        effective: set(asked.effective().as_ref())?,
        permitted: set(asked.permitted().as_ref())?,
        inheritable: set(asked.inheritable().as_ref())?,
        ambient: set(asked.ambient().as_ref())?,
    };
    Ok(sets.clamped(own_bounding()?))
}

/// Our own bounding set. It takes a system call for each capability to read and is not changed by anybody, so it is read once.
fn own_bounding() -> Result<CapabilitySet> {
    static OWN: OnceLock<CapabilitySet> = OnceLock::new();
    if let Some(&known) = OWN.get() {
        return Ok(known);
    }
    let read = capability::bounding().attempting(|| "read the own capabilities".to_owned())?;
    Ok(*OWN.get_or_init(|| read))
}

fn set(names: Option<&Capabilities>) -> Result<CapabilitySet> {
    let find = |name: String| {
        let unknown =
            || EngineError::invalid("process.capabilities", format!("{name:?} is not known"));
        Capability::from_name(&name).ok_or_else(unknown)
    };
    names.into_iter().flatten().map(|one| find(one.to_string())).collect()
}

/// Child-side: takes on the final capabilities and the filter, after the change of identity.
///
/// # Errors
/// The kernel refused.
pub(super) fn confine(
    privileges: Privileges,
    capabilities: CapabilitySets,
    filter: Option<&Filter>,
) -> Result<()> {
    let load = |filter: &Filter| filter.load().attempting(|| "load the seccomp filter".to_owned());
    let give_up =
        || capabilities.after_identity_change().attempting(|| "set capabilities".to_owned());
    match (privileges, filter) {
        (Privileges::Fixed, filter) => {
            give_up()?;
            rustix::thread::set_no_new_privs(true).attempting(|| "set no_new_privs".to_owned())?;
            filter.map_or(Ok(()), load)
        }
        // Without no_new_privs a filter takes a privilege that the container will mostly not have: it is loaded while we have it
        // still, as late as can be, so that it needs to allow no more than what follows here.
        (Privileges::MayGrow, Some(filter)) => {
            raise().attempting(|| "raise capabilities".to_owned())?;
            load(filter)?;
            give_up()
        }
        (Privileges::MayGrow, None) => give_up(),
    }
}

/// Makes effective what a change of the user left permitted only.
fn raise() -> std::result::Result<(), rustix::io::Errno> {
    let mut sets = rustix::thread::capabilities(None)?;
    if sets.effective == sets.permitted {
        return Ok(());
    }
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets)
}
