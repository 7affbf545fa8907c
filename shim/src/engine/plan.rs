//! Everything about a container decided from its specification, before anything is taken from the host. What can be wrong with a
//! specification is found here; what follows leaves no choices.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cringle_kernel::cgroup::Limits;
use cringle_kernel::namespace::Namespaces;
use cringle_kernel::sysctl::{self, Owner};
use oci_spec::runtime::{Linux, Spec};

use super::bounds::Bounds;
use super::devices::{self, DevicePlan};
use super::error::{EngineError, Result};
use super::hooks::{self, Hooks};
use super::idmaps::Mappings;
use super::mounts::{self, MountPlan};
use super::namespaces::{self, NamespacePlan};
use super::process::{self, ProcessPlan, Role};
use super::rootfs::{self, RootPlan};
use super::{Bundle, limits};

/// A container, decided.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its namespaces.
    pub namespaces: NamespacePlan,
    /// Its root filesystem.
    pub root: RootPlan,
    /// What is mounted in it.
    pub mounts: Vec<MountPlan>,
    /// Its devices.
    pub devices: DevicePlan,
    /// What it may not see.
    pub masked: Vec<PathBuf>,
    /// What it may not write.
    pub read_only: Vec<PathBuf>,
    /// Kernel parameters of its namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Its host name, if one is to be set.
    pub host_name: Option<String>,
    /// Its domain name, if one is to be set.
    pub domain_name: Option<String>,
    /// What binds all its processes.
    pub bounds: Arc<Bounds>,
    /// Its first process.
    pub process: ProcessPlan,
    /// The name of its cgroup.
    pub cgroup: String,
    /// Its limits.
    pub limits: Limits,
    /// What others want to run in its life.
    pub hooks: Arc<Hooks>,
    /// When those of the creation must have ended.
    pub hooks_end: Instant,
}

/// Where the cgroup of a container goes whose specification does not say.
const DEFAULT_PARENT: &str = "/cringle";

impl Plan {
    /// The id maps that its mounts need.
    pub(super) fn mappings(&self) -> Vec<&Mappings> {
        let of_mounts = self.mounts.iter().filter_map(|one| one.mappings.as_ref());
        self.root.mappings.iter().chain(of_mounts).collect()
    }

    /// The user outside that its first process is.
    ///
    /// # Errors
    /// There is none: the user namespace does not map it.
    pub(super) fn owner(&self) -> Result<u32> {
        process::owner(self.process.user, self.namespaces.users.as_ref())
    }

    /// Decides everything.
    ///
    /// # Errors
    /// What makes no sense or is not supported.
    pub(super) fn new(bundle: &Bundle) -> Result<Self> {
        let spec = &bundle.spec;
        refuse_unsupported(spec)?;
        let Some(linux) = spec.linux() else {
            return Err(EngineError::invalid("linux", "it is missing"));
        };
        let Some(process) = spec.process() else {
            return Err(EngineError::invalid("process", "it is missing"));
        };
        let bounds = Bounds::of(spec)?;
        let namespaces = namespaces::plan(linux)?;
        let sysctls = sysctls(linux, &namespaces)?;
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (host_name, domain_name) = (named(spec.hostname()), named(spec.domainname()));
        if (host_name.is_some() || domain_name.is_some()) && !namespaces.has(Namespaces::UTS) {
            return Err(EngineError::invalid(
                "hostname",
                "it would be the host's: there is no uts namespace",
            ));
        }
        Ok(Self {
            root: rootfs::plan(bundle)?,
            mounts: mounts::plan(
                spec.mounts().as_deref().unwrap_or_default(),
                &bundle.path,
                namespaces.users.as_ref(),
            )?,
            devices: devices::plan(spec)?,
            masked: paths(linux.masked_paths().as_deref()),
            read_only: paths(linux.readonly_paths().as_deref()),
            sysctls,
            host_name,
            domain_name,
            process: init(process, spec, &bounds)?,
            cgroup: cgroup_name(linux, &bundle.path)?,
            limits: limits::initial(linux.resources().as_ref())?,
            hooks: Arc::new(hooks::plan(bundle)?),
            hooks_end: hooks::end_of_all(),
            namespaces,
            bounds,
        })
    }
}

fn paths(paths: Option<&[String]>) -> Vec<PathBuf> {
    paths.unwrap_or_default().iter().map(PathBuf::from).collect()
}

/// Kernel parameters are of a namespace, or of the host; the host's are not ours to set.
fn sysctls(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<(String, String)>> {
    let mut sysctls = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let needed = match sysctl::owner(name) {
            Some(Owner::Network) => Namespaces::NETWORK,
            Some(Owner::Ipc) => Namespaces::IPC,
            Some(Owner::Uts) => Namespaces::UTS,
            None => {
                let problem = format!("{name:?} belongs to no namespace");
                return Err(EngineError::invalid("linux.sysctl", problem));
            }
        };
        if !namespaces.has(needed) {
            let problem =
                format!("{name:?} would be the host's: the container has no such namespace");
            return Err(EngineError::invalid("linux.sysctl", problem));
        }
        sysctls.push((name.clone(), value.clone()));
    }
    Ok(sysctls)
}

fn cgroup_name(linux: &Linux, bundle: &Path) -> Result<String> {
    let Some(path) = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty())
    else {
        let name = bundle.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        return Ok(format!("{DEFAULT_PARENT}/{name}"));
    };
    let text = path.to_string_lossy();
    if text.split(':').count() == 3 && !text.starts_with('/') {
        return Err(EngineError::Unsupported(format!("cgroup {text:?} of systemd")));
    }
    Ok(if path.is_absolute() { text.into_owned() } else { format!("{DEFAULT_PARENT}/{text}") })
}

/// Nothing that was asked for is left out silently.
fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let asked = [
        ("linux.mountLabel", linux.mount_label().as_ref().is_some_and(|label| !label.is_empty())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.timeOffsets", linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty())),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|map| !map.is_empty())),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(EngineError::Unsupported((*field).to_owned())),
        None => Ok(()),
    }
}

/// The first process: a program, or the reaper of a PID namespace.
fn init(
    process: &oci_spec::runtime::Process,
    spec: &Spec,
    bounds: &Arc<Bounds>,
) -> Result<ProcessPlan> {
    let mut plan = process::plan(process, bounds)?;
    if crate::reaper::is_wanted(spec) {
        plan.role = Role::Reaper;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(linux: &str, rest: &str) -> Result<Plan> {
        let json = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},
                "process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["sh"]}},
                "linux":{{"namespaces":[{{"type":"mount"}},{{"type":"ipc"}}]{linux}}}{rest}}}"#
        );
        let spec = serde_json::from_str(&json).unwrap();
        let (path, id) = ("/bundles/one".into(), "one".to_owned());
        Plan::new(&Bundle { path, id, spec, rootfs: Vec::new(), restore: None })
    }

    #[test]
    fn what_is_not_done_is_refused_and_never_left_out() {
        for (linux, rest, word) in [
            (r#","mountLabel":"x""#, "", "linux.mountLabel not supported"),
            (r#","intelRdt":{}"#, "", "linux.intelRdt not supported"),
            (r#","cgroupsPath":"a.slice:b:c""#, "", "of systemd not supported"),
        ] {
            let error = planned(linux, rest).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        planned("", r#","hooks":{}"#).unwrap();
    }

    #[test]
    fn a_kernel_parameter_of_the_host_is_refused() {
        planned(r#","sysctl":{"kernel.shmmax":"1"}"#, "").unwrap();
        for name in ["net.ipv4.ip_forward", "kernel.core_pattern", "kernel.shmmax/../core_pattern"]
        {
            planned(&format!(r#","sysctl":{{"{name}":"1"}}"#), "").unwrap_err();
        }
        planned("", r#","hostname":"x""#).unwrap_err();
    }

    #[test]
    fn a_cgroup_has_a_name_even_if_nobody_gave_it_one() {
        assert_eq!(planned("", "").unwrap().cgroup, "/cringle/one");
        assert_eq!(planned(r#","cgroupsPath":"x/y""#, "").unwrap().cgroup, "/cringle/x/y");
        assert_eq!(planned(r#","cgroupsPath":"/x/y""#, "").unwrap().cgroup, "/x/y");
    }
}
