//! Capabilities, seccomp, and paths hidden: what *privileged* expands to, and what everyone else gets.

use super::PlanSettings;
use crate::mounts;
use crate::plan::{PlannedCapabilities, PlannedSeccomp};
use crate::refusal::Refusal;
use crate::security::{CapabilityRequest, CapabilitySet, ContainerSecurity, Privilege, Seccomp};
use std::path::PathBuf;

/// What a container has if nobody asks: enough to set up as root and step down. No NET_RAW (spoofing), no MKNOD, no
/// SYS_CHROOT; ports below 1024 and ping come by sysctl.
pub(super) fn default_capabilities() -> CapabilitySet {
    const NAMES: [&str; 9] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "KILL",
    ];
    CapabilitySet::from_names(NAMES).unwrap_or_default()
}

/// The five sets, none wider than the daemon's own. Inheritable and ambient are empty but for what is asked to be ambient
/// (CVE-2022-24769).
pub(super) fn capabilities(
    security: &ContainerSecurity,
    settings: &PlanSettings,
    own: CapabilitySet,
) -> PlannedCapabilities {
    let request = &security.capabilities;
    let ambient = ambient(request).intersection(own);
    let granted = match security.privilege {
        Privilege::Privileged => own,
        Privilege::Ordinary => granted(request, settings.default_capabilities),
    };
    let all = granted.union(ambient).intersection(own);
    PlannedCapabilities {
        bounding: all,
        effective: all,
        permitted: all,
        inheritable: ambient,
        ambient,
    }
}

/// `ALL` in either list comes first, then the single names; a name in both lists is dropped.
fn granted(request: &CapabilityRequest, default: CapabilitySet) -> CapabilitySet {
    let base = match (request.add.all, request.drop.all) {
        (_, true) => CapabilitySet::EMPTY,
        (true, false) => CapabilitySet::ALL,
        (false, false) => default,
    };
    base.union(request.add.named).without(request.drop.named)
}

fn ambient(request: &CapabilityRequest) -> CapabilitySet {
    let base = if request.add_ambient.all { CapabilitySet::ALL } else { CapabilitySet::EMPTY };
    base.union(request.add_ambient.named).without(request.drop.named)
}

/// A privileged container has no profile; one whose client said nothing has the operator's.
pub(super) fn seccomp(
    security: &ContainerSecurity,
    settings: &PlanSettings,
) -> Result<PlannedSeccomp, Refusal> {
    if security.privilege == Privilege::Privileged {
        return Ok(PlannedSeccomp::Unconfined);
    }
    let asked = match &security.seccomp {
        Seccomp::Unset => &settings.unset_seccomp,
        asked @ (Seccomp::Unconfined | Seccomp::RuntimeDefault | Seccomp::Localhost(_)) => asked,
    };
    match asked {
        Seccomp::Unset | Seccomp::Unconfined => Ok(PlannedSeccomp::Unconfined),
        Seccomp::RuntimeDefault => Ok(PlannedSeccomp::RuntimeDefault),
        Seccomp::Localhost(path) => match mounts::clean(path) {
            Ok(_) => Ok(PlannedSeccomp::Localhost(path.clone())),
            Err(error) => Err(Refusal::invalid(
                "linux.security_context.seccomp.localhost_ref",
                error.to_string(),
            )),
        },
    }
}

/// Paths hidden and made read-only.
pub(super) struct HiddenPaths {
    pub(super) masked: Vec<PathBuf>,
    pub(super) readonly: Vec<PathBuf>,
}

/// Exactly the client's lists; nothing is hidden from a privileged container.
pub(super) fn hidden_paths(security: &ContainerSecurity) -> Result<HiddenPaths, Refusal> {
    let checked = |field: &str, paths: &[PathBuf]| {
        let clean = paths.iter().map(|path| mounts::clean(path));
        clean.collect::<Result<Vec<_>, _>>().map_err(|error| {
            Refusal::invalid(format!("linux.security_context.{field}"), error.to_string())
        })
    };
    let masked = checked("masked_paths", &security.masked_paths)?;
    let readonly = checked("readonly_paths", &security.readonly_paths)?;
    Ok(match security.privilege {
        Privilege::Privileged => HiddenPaths { masked: vec![], readonly: vec![] },
        Privilege::Ordinary => HiddenPaths { masked, readonly },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::CapabilityList;

    fn set(names: &str) -> CapabilitySet {
        CapabilitySet::from_names(names.split_whitespace()).unwrap()
    }

    fn asked(add: &str, drop: &str, add_ambient: &str) -> ContainerSecurity {
        let list = |names: &str| CapabilityList::from_names(names.split_whitespace()).unwrap();
        let capabilities =
            CapabilityRequest { add: list(add), drop: list(drop), add_ambient: list(add_ambient) };
        ContainerSecurity { capabilities, ..ContainerSecurity::default() }
    }

    const DEFAULT: &str =
        "CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL";

    #[test]
    fn a_container_has_the_golden_capability_sets() {
        let own = CapabilitySet::ALL.without(CapabilitySet::SYS_RESOURCE);
        let settings = PlanSettings::default();
        for (add, drop, ambient, bounding) in [
            ("", "", "", set(DEFAULT)),
            ("NET_ADMIN", "", "", set(DEFAULT).union(set("NET_ADMIN"))),
            ("", "KILL", "", set(DEFAULT).without(set("KILL"))),
            ("", "NET_RAW", "", set(DEFAULT)),
            ("NET_ADMIN", "ALL", "", set("NET_ADMIN")),
            ("ALL", "", "", own),
            ("ALL", "NET_ADMIN", "", own.without(set("NET_ADMIN"))),
            ("ALL KILL", "ALL", "", set("KILL")),
            ("KILL", "KILL", "", set(DEFAULT).without(set("KILL"))),
            ("", "ALL", "", CapabilitySet::EMPTY),
            ("SYS_RESOURCE", "", "", set(DEFAULT)),
            ("", "ALL", "NET_RAW", set("NET_RAW")),
            ("", "", "SYS_RESOURCE", set(DEFAULT)),
        ] {
            let sets = capabilities(&asked(add, drop, ambient), &settings, own);
            let inherited = set(ambient).intersection(own);
            let case = format!("+{add} -{drop} ^{ambient}");
            assert_eq!(sets.bounding, bounding, "{case}");
            assert_eq!(sets.effective, bounding, "{case}");
            assert_eq!(sets.permitted, bounding, "{case}");
            assert_eq!(sets.inheritable, inherited, "{case}");
            assert_eq!(sets.ambient, inherited, "{case}");
        }
    }

    #[test]
    fn a_privileged_container_has_what_the_daemon_has_and_inherits_nothing() {
        let own = set("NET_ADMIN SYS_ADMIN");
        let security =
            ContainerSecurity { privilege: Privilege::Privileged, ..asked("", "ALL", "") };
        let sets = capabilities(&security, &PlanSettings::default(), own);
        assert_eq!((sets.bounding, sets.effective, sets.permitted), (own, own, own));
        assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
    }

    #[test]
    fn the_profile_is_the_clients_else_the_operators_and_none_for_privileged() {
        let localhost = Seccomp::Localhost("/profiles/x.json".into());
        let hardened =
            PlanSettings { unset_seccomp: Seccomp::RuntimeDefault, ..PlanSettings::default() };
        let open = PlanSettings::default();
        let planned = |privilege, profile: &Seccomp, settings: &PlanSettings| {
            let security = ContainerSecurity {
                privilege,
                seccomp: profile.clone(),
                ..ContainerSecurity::default()
            };
            seccomp(&security, settings)
        };
        let plain = Privilege::Ordinary;
        assert_eq!(planned(plain, &Seccomp::Unset, &open), Ok(PlannedSeccomp::Unconfined));
        assert_eq!(planned(plain, &Seccomp::Unset, &hardened), Ok(PlannedSeccomp::RuntimeDefault));
        assert_eq!(planned(plain, &Seccomp::Unconfined, &hardened), Ok(PlannedSeccomp::Unconfined));
        assert_eq!(
            planned(plain, &Seccomp::RuntimeDefault, &open),
            Ok(PlannedSeccomp::RuntimeDefault)
        );
        assert_eq!(
            planned(plain, &localhost, &open),
            Ok(PlannedSeccomp::Localhost("/profiles/x.json".into()))
        );
        assert_eq!(
            planned(Privilege::Privileged, &localhost, &open),
            Ok(PlannedSeccomp::Unconfined)
        );
        for path in ["", "x.json", "/x\n"] {
            assert!(planned(plain, &Seccomp::Localhost(path.into()), &open).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_clients_lists_are_kept_exactly_and_dropped_for_privileged() {
        let masked_paths = vec![PathBuf::from("/proc/kcore"), PathBuf::from("/bin/ls")];
        let readonly_paths = vec![PathBuf::from("/proc/sys")];
        let plain =
            ContainerSecurity { masked_paths, readonly_paths, ..ContainerSecurity::default() };
        let hidden = hidden_paths(&plain).unwrap();
        assert_eq!(hidden.masked, plain.masked_paths);
        assert_eq!(hidden.readonly, plain.readonly_paths);
        let privileged = ContainerSecurity { privilege: Privilege::Privileged, ..plain };
        let hidden = hidden_paths(&privileged).unwrap();
        assert!(hidden.masked.is_empty() && hidden.readonly.is_empty());
        let relative =
            ContainerSecurity { masked_paths: vec!["proc".into()], ..ContainerSecurity::default() };
        assert!(hidden_paths(&relative).is_err());
    }
}
