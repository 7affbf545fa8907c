//! Security contexts of pods and containers.

use super::fields::{absolute, id, known};
use super::namespaces;
use cringle_domain::refusal::Refusal;
use cringle_domain::security::{
    CapabilityRequest, ContainerSecurity, GroupsPolicy, PodSecurity, Privilege, Seccomp,
    UserRequest,
};
use cringle_proto_cri::v1;
use cringle_proto_cri::v1::security_profile::ProfileType;
use std::path::PathBuf;

/// The security context of a pod. What only concerns a process of the pod's own is checked and then not needed: a pod has
/// none but a reaper without rights.
pub(super) fn pod(context: v1::LinuxSandboxSecurityContext) -> Result<PodSecurity, Refusal> {
    refuse_selinux(context.selinux_options.as_ref())?;
    let privilege = privilege(context.privileged);
    refuse_apparmor(context.apparmor.as_ref(), "", privilege)?;
    let user = context.run_as_user.map(|user| id(user.value, &field("run_as_user"))).transpose()?;
    if let Some(group) = context.run_as_group {
        id(group.value, &field("run_as_group"))?;
        if user.is_none() {
            return Err(Refusal::invalid(field("run_as_group"), "is given without run_as_user"));
        }
    }
    groups(&context.supplemental_groups)?;
    groups_policy(context.supplemental_groups_policy)?;
    Ok(PodSecurity { privilege, seccomp: seccomp(context.seccomp, &context.seccomp_profile_path)? })
}

/// The security context of a container; `pod` are the namespace options of its pod.
pub(super) fn container(
    context: v1::LinuxContainerSecurityContext,
    pod: Option<&v1::NamespaceOption>,
) -> Result<ContainerSecurity, Refusal> {
    refuse_selinux(context.selinux_options.as_ref())?;
    let privilege = privilege(context.privileged);
    refuse_apparmor(context.apparmor.as_ref(), &context.apparmor_profile, privilege)?;
    let capabilities = context.capabilities.unwrap_or_default();
    let user = user(context.run_as_user.as_ref(), context.run_as_username)?;
    let group = context.run_as_group.map(|group| id(group.value, &field("run_as_group")));
    let group = group.transpose()?;
    if group.is_some() && user == UserRequest::Image {
        let problem = "is given without run_as_user or run_as_username";
        return Err(Refusal::invalid(field("run_as_group"), problem));
    }
    Ok(ContainerSecurity {
        privilege,
        capabilities: CapabilityRequest::from_names(
            &capabilities.add_capabilities,
            &capabilities.drop_capabilities,
            &capabilities.add_ambient_capabilities,
        )?,
        pid: namespaces::container_pid(context.namespace_options.as_ref(), pod)?,
        users: namespaces::container_users(context.namespace_options.as_ref())?,
        user,
        group,
        supplemental_groups: groups(&context.supplemental_groups)?,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        readonly_rootfs: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        masked_paths: absolute(context.masked_paths, &field("masked_paths"))?,
        readonly_paths: absolute(context.readonly_paths, &field("readonly_paths"))?,
        seccomp: seccomp(context.seccomp, &context.seccomp_profile_path)?,
    })
}

fn field(name: &str) -> String {
    format!("linux.security_context.{name}")
}

fn privilege(privileged: bool) -> Privilege {
    if privileged { Privilege::Privileged } else { Privilege::Ordinary }
}

fn user(number: Option<&v1::Int64Value>, name: String) -> Result<UserRequest, Refusal> {
    match (number, name.is_empty()) {
        (None, true) => Ok(UserRequest::Image),
        (None, false) => Ok(UserRequest::Name(name)),
        (Some(number), true) => id(number.value, &field("run_as_user")).map(UserRequest::Id),
        (Some(_), false) => {
            Err(Refusal::invalid(field("run_as_username"), "is given together with run_as_user"))
        }
    }
}

fn groups(groups: &[i64]) -> Result<Vec<u32>, Refusal> {
    groups.iter().map(|group| id(*group, &field("supplemental_groups"))).collect()
}

fn groups_policy(number: i32) -> Result<GroupsPolicy, Refusal> {
    match known(number, &field("supplemental_groups_policy"))? {
        v1::SupplementalGroupsPolicy::Merge => Ok(GroupsPolicy::Merge),
        v1::SupplementalGroupsPolicy::Strict => Ok(GroupsPolicy::Strict),
    }
}

/// The seccomp profile: the field, or its older form, which is only read without the field.
fn seccomp(profile: Option<v1::SecurityProfile>, older: &str) -> Result<Seccomp, Refusal> {
    let Some(profile) = profile else { return older_seccomp(older) };
    match known(profile.profile_type, &field("seccomp.profile_type"))? {
        ProfileType::RuntimeDefault => Ok(Seccomp::RuntimeDefault),
        ProfileType::Unconfined => Ok(Seccomp::Unconfined),
        ProfileType::Localhost => localhost(&profile.localhost_ref, "seccomp.localhost_ref"),
    }
}

fn older_seccomp(text: &str) -> Result<Seccomp, Refusal> {
    match text {
        "" => Ok(Seccomp::Unset),
        "unconfined" => Ok(Seccomp::Unconfined),
        "runtime/default" | "docker/default" => Ok(Seccomp::RuntimeDefault),
        _ => match text.strip_prefix("localhost/") {
            Some(path) => localhost(path, "seccomp_profile_path"),
            None => Err(Refusal::invalid(
                field("seccomp_profile_path"),
                format!("{text:?} is no profile"),
            )),
        },
    }
}

fn localhost(path: &str, name: &str) -> Result<Seccomp, Refusal> {
    if path.starts_with('/') {
        return Ok(Seccomp::Localhost(PathBuf::from(path)));
    }
    Err(Refusal::invalid(field(name), format!("{path:?} is not an absolute path")))
}

/// A label that nobody would enforce is refused. An empty one asks for nothing.
fn refuse_selinux(options: Option<&v1::SeLinuxOption>) -> Result<(), Refusal> {
    match options {
        Some(options) if *options != v1::SeLinuxOption::default() => {
            Err(Refusal::Unsupported("an SELinux label".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

/// A profile of the node's that nobody would enforce is refused. The default one may be absent, and a privileged container
/// has none anyway (F-081).
fn refuse_apparmor(
    profile: Option<&v1::SecurityProfile>,
    older: &str,
    privilege: Privilege,
) -> Result<(), Refusal> {
    let is_own = match profile {
        Some(profile) => match known(profile.profile_type, &field("apparmor.profile_type"))? {
            ProfileType::Localhost => true,
            ProfileType::RuntimeDefault | ProfileType::Unconfined => false,
        },
        None => !matches!(older, "" | "runtime/default" | "unconfined"),
    };
    if is_own && privilege == Privilege::Ordinary {
        return Err(Refusal::Unsupported("an AppArmor profile of the node".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(context: v1::LinuxContainerSecurityContext) -> Result<ContainerSecurity, Refusal> {
        container(context, None)
    }

    fn profile(profile_type: ProfileType, reference: &str) -> v1::SecurityProfile {
        v1::SecurityProfile {
            profile_type: profile_type.into(),
            localhost_ref: reference.to_owned(),
        }
    }

    #[test]
    fn an_empty_profile_is_the_default_one_and_none_is_left_to_the_setting() {
        assert_eq!(seccomp(None, ""), Ok(Seccomp::Unset));
        assert_eq!(seccomp(Some(v1::SecurityProfile::default()), ""), Ok(Seccomp::RuntimeDefault));
        let unconfined = profile(ProfileType::Unconfined, "");
        assert_eq!(seccomp(Some(unconfined), "runtime/default"), Ok(Seccomp::Unconfined));
        let own = profile(ProfileType::Localhost, "/a.json");
        assert_eq!(seccomp(Some(own), ""), Ok(Seccomp::Localhost("/a.json".into())));
        seccomp(Some(profile(ProfileType::Localhost, "a.json")), "").unwrap_err();
    }

    #[test]
    fn the_older_form_of_a_profile_still_works() {
        for (text, expected) in [
            ("unconfined", Seccomp::Unconfined),
            ("runtime/default", Seccomp::RuntimeDefault),
            ("docker/default", Seccomp::RuntimeDefault),
            ("localhost//a.json", Seccomp::Localhost("/a.json".into())),
        ] {
            assert_eq!(seccomp(None, text), Ok(expected), "{text}");
        }
        seccomp(None, "localhost/a.json").unwrap_err();
        seccomp(None, "other").unwrap_err();
    }

    #[test]
    fn a_user_is_a_number_or_a_name_and_a_group_needs_one() {
        let nothing = v1::LinuxContainerSecurityContext::default;
        let number = |value| Some(v1::Int64Value { value });
        let by_number = converted(v1::LinuxContainerSecurityContext {
            run_as_user: number(0),
            run_as_group: number(7),
            ..nothing()
        });
        let by_number = by_number.unwrap();
        assert_eq!((by_number.user, by_number.group), (UserRequest::Id(0), Some(7)));
        let by_name =
            v1::LinuxContainerSecurityContext { run_as_username: "www".to_owned(), ..nothing() };
        assert_eq!(converted(by_name.clone()).unwrap().user, UserRequest::Name("www".to_owned()));
        for wrong in [
            v1::LinuxContainerSecurityContext { run_as_group: number(7), ..nothing() },
            v1::LinuxContainerSecurityContext { run_as_user: number(1), ..by_name },
            v1::LinuxContainerSecurityContext { run_as_user: number(-1), ..nothing() },
            v1::LinuxContainerSecurityContext { run_as_user: number(1 << 31), ..nothing() },
            v1::LinuxContainerSecurityContext { supplemental_groups: vec![-1], ..nothing() },
        ] {
            assert!(converted(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_pods_group_needs_a_user() {
        let group = Some(v1::Int64Value { value: 1 });
        let context = v1::LinuxSandboxSecurityContext {
            run_as_group: group,
            ..v1::LinuxSandboxSecurityContext::default()
        };
        pod(context.clone()).unwrap_err();
        pod(v1::LinuxSandboxSecurityContext { run_as_user: group, ..context }).unwrap();
    }

    #[test]
    fn what_nobody_would_enforce_is_refused() {
        let nothing = v1::LinuxContainerSecurityContext::default;
        let level = v1::SeLinuxOption { level: "s0".to_owned(), ..v1::SeLinuxOption::default() };
        let labelled =
            v1::LinuxContainerSecurityContext { selinux_options: Some(level), ..nothing() };
        assert!(matches!(converted(labelled), Err(Refusal::Unsupported(_))));
        let apparmor = |kind| v1::LinuxContainerSecurityContext {
            apparmor: Some(profile(kind, "own")),
            ..nothing()
        };
        assert!(matches!(
            converted(apparmor(ProfileType::Localhost)),
            Err(Refusal::Unsupported(_))
        ));
        converted(apparmor(ProfileType::RuntimeDefault)).unwrap();
        converted(apparmor(ProfileType::Unconfined)).unwrap();
        let privileged = v1::LinuxContainerSecurityContext {
            privileged: true,
            ..apparmor(ProfileType::Localhost)
        };
        converted(privileged).unwrap();
    }
}
