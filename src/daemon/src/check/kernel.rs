//! What the kernel can do, each asked of it.

use super::finding::{Area, Finding};
use cringle_kernel::features::{Feature, Features};
use cringle_kernel::lsm;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_service::abilities::NEEDED;
use rustix::fs::StatVfsMountFlags;

/// Where parameters of the kernel and of pods are set.
const PARAMETERS: &str = "/proc/sys";

pub(super) fn check() -> Vec<Finding> {
    let mut findings = match Features::probe() {
        Ok(features) => Feature::ALL.iter().map(|one| call(*one, &features)).collect(),
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            vec![Finding::failure(Area::Kernel, "calls", error, "run it on Linux")]
        }
    };
    let kinds = [
        ("mount", Namespaces::MOUNT),
        ("network", Namespaces::NETWORK),
        ("ipc", Namespaces::IPC),
        ("uts", Namespaces::UTS),
        ("pid", Namespaces::PID),
        ("cgroup", Namespaces::CGROUP),
    ];
    findings.extend(kinds.map(|(name, kind)| namespace(name, kind)));
    findings.push(parameters());
    findings.extend(security_modules());
    findings
}

fn call(feature: Feature, features: &Features) -> Finding {
    let name = feature.name();
    if features.has(feature) {
        return Finding::fine(Area::Kernel, name, "there");
    }
    let detail = format!("not in kernel {}", features.release());
    let (since, without) = need(feature);
    let hint = format!("use Linux {since} or newer: {without}");
    if NEEDED.contains(&feature) {
        Finding::failure(Area::Kernel, name, detail, hint)
    } else {
        Finding::warning(Area::Kernel, name, detail, hint)
    }
}

/// Since which version it is there, and what there is not without it.
fn need(feature: Feature) -> (&'static str, &'static str) {
    match feature {
        Feature::OpenInRoot => ("5.6", "no path of an image can be looked up safely"),
        Feature::CloneIntoCgroup => ("5.7", "a container is moved into its cgroup when it runs"),
        Feature::MountApi => ("5.2", "no container can be made"),
        Feature::MountAttributes => (
            "5.12",
            "no container can be made, no image unpacked, no mount be read-only as a whole",
        ),
        Feature::Pidfd => ("5.3", "no process can be told from a later one of its number"),
        Feature::CloseRange => ("5.9", "no container can be made"),
        Feature::Seccomp => {
            ("4.14 with CONFIG_SECCOMP_FILTER", "containers with a seccomp profile are refused")
        }
        Feature::SeccompAllowSpeculation => ("4.17", "programs with a seccomp profile are slower"),
        Feature::Landlock => {
            ("5.13 with Landlock among its security modules", "unpacking has one fence less")
        }
    }
}

fn namespace(name: &str, kind: Namespaces) -> Finding {
    let subject = format!("{name} namespace");
    match apart(move || namespace::unshare(kind).map_err(|error| error.source.to_string())) {
        Ok(()) => Finding::fine(Area::Kernel, subject, "can be made"),
        Err(error) => {
            let hint = "needs root, and a kernel that was built with namespaces";
            Finding::failure(Area::Kernel, subject, error, hint)
        }
    }
}

/// Runs on a thread made for it, which takes with it the namespaces that it entered.
pub(super) fn apart<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::Builder::new().name("check".to_owned()).spawn(body);
    let thread = thread.map_err(|error| error.to_string())?;
    thread.join().unwrap_or_else(|_panic| Err("internal error: the check panicked".to_owned()))
}

fn parameters() -> Finding {
    let hint = "mount it writable: pods' parameters and the host's forwarding are set there";
    match rustix::fs::statvfs(PARAMETERS) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Finding::failure(Area::Kernel, PARAMETERS, "read-only", hint)
        }
        Ok(_) => Finding::fine(Area::Kernel, PARAMETERS, "writable"),
        Err(error) => Finding::failure(Area::Kernel, PARAMETERS, error, hint),
    }
}

fn security_modules() -> impl Iterator<Item = Finding> {
    let found = [
        (
            lsm::is_selinux_enabled(),
            "SELinux",
            "containers get no labels: those that ask for one are refused",
        ),
        (
            lsm::is_apparmor_enabled(),
            "AppArmor",
            "containers get no profile: those that ask for one are refused",
        ),
    ];
    found
        .into_iter()
        .filter(|(is_on, _, _)| *is_on)
        .map(|(_, name, hint)| Finding::warning(Area::Kernel, name, "in force", hint))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_thread_that_panics_is_a_failure_of_its_check() {
        let outcome = apart(|| -> Result<(), String> { panic!("as the test wants") });
        assert!(outcome.unwrap_err().contains("panicked"));
    }

    #[test]
    fn each_call_is_judged_by_what_the_kernel_answers() {
        let features = Features::probe().unwrap();
        for feature in Feature::ALL {
            let expected = match (features.has(*feature), NEEDED.contains(feature)) {
                (true, _) => Verdict::Ok,
                (false, true) => Verdict::Failed,
                (false, false) => Verdict::Warning,
            };
            assert_eq!(call(*feature, &features).verdict, expected, "{feature:?}");
        }
    }
}
