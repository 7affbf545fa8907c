//! Who looks at what plugins want of a container, and may reject it: the built-in validator, and plugins that subscribed to
//! that.

use crate::owners::Owners;
use crate::plugin::Plugin;
use crate::{HookError, Rejected, ValidatorSettings};
use cringle_proto_nri::v1alpha1::security_profile::ProfileType;
use cringle_proto_nri::v1alpha1::{
    Field, PodSandbox, ValidateContainerAdjustmentRequest as Request,
};
use std::sync::Arc;

/// The name of the built-in validator.
const BUILT_IN: &str = "default-validator";

/// The annotation by which a pod names plugins that it needs, besides those that are configured.
const REQUIRED: &str = "required-plugins.noderesource.dev";

/// Asks these validators, at the same time: none of them changes anything.
///
/// # Errors
/// One of them rejects, or refuses to say. A validator that does not answer, or has left, rejects.
pub(crate) async fn by_plugins(
    validators: &[Arc<Plugin>],
    request: &Request,
) -> Result<(), HookError> {
    let answers = validators.iter().map(|plugin| validated(plugin, request));
    futures::future::join_all(answers).await.into_iter().collect()
}

async fn validated(plugin: &Plugin, request: &Request) -> Result<(), HookError> {
    let reject = |reason: &str| {
        let (validator, reason) = (plugin.name.to_string(), reason.to_owned());
        Err(HookError::Rejected { validator, reason })
    };
    match plugin.ask(request).await? {
        Some(answer) if !answer.reject => Ok(()),
        Some(answer) if answer.reason.is_empty() => reject("it gave no reason"),
        Some(answer) => reject(&answer.reason),
        // What it is there for is to keep things from being done.
        None => reject("it did not answer"),
    }
}

/// What the configuration says.
///
/// # Errors
/// It rejects.
pub(crate) fn by_settings(
    settings: &ValidatorSettings,
    request: &Request,
    owners: &Owners,
) -> Result<(), HookError> {
    let problem = settings
        .rejected
        .iter()
        .find_map(|rejected| problem(*rejected, request, owners))
        .or_else(|| missing(settings, request));
    match problem {
        None => Ok(()),
        Some(reason) => Err(HookError::Rejected { validator: BUILT_IN.to_owned(), reason }),
    }
}

fn problem(rejected: Rejected, request: &Request, owners: &Owners) -> Option<String> {
    let by = |field| owners.of(field).map(|owner| format!("\"{owner}\""));
    let seccomp = |kind, what: &str| {
        let owner = by(Field::SeccompPolicy).filter(|_| profile(request) == kind)?;
        Some(format!("{what} seccomp policy was changed by {owner}"))
    };
    match rejected {
        Rejected::Hooks => {
            by(Field::OciHooks).map(|owner| format!("OCI hooks were added by {owner}"))
        }
        Rejected::DefaultSeccomp => seccomp(ProfileType::RuntimeDefault, "the default"),
        Rejected::UnconfinedSeccomp => seccomp(ProfileType::Unconfined, "an absent"),
        Rejected::CustomSeccomp => seccomp(ProfileType::Localhost, "a custom"),
        Rejected::Namespaces => entries(owners, Field::Namespace, "namespaces were changed"),
        Rejected::Sysctls => entries(owners, Field::Sysctl, "sysctls were changed"),
    }
}

/// What the container asked for; nothing is no confinement.
fn profile(request: &Request) -> ProfileType {
    let linux = request.container.as_ref().and_then(|container| container.linux.as_ref());
    let profile = linux.and_then(|linux| linux.seccomp_profile.as_ref());
    profile.map_or(ProfileType::Unconfined, |profile| profile.profile_type())
}

fn entries(owners: &Owners, field: Field, what: &str) -> Option<String> {
    let named = owners.of_entries(field).map(|(key, plugin)| format!("{key} by \"{plugin}\""));
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| format!("{what}: {}", named.join(", ")))
}

/// Plugins that are needed and were not asked.
fn missing(settings: &ValidatorSettings, request: &Request) -> Option<String> {
    let container = request.container.as_ref().map_or("", |container| container.name.as_str());
    let annotation =
        |key: &str| request.pod.as_ref().and_then(|pod| effective(pod, key, container));
    let tolerating = &settings.tolerating_annotation;
    if !tolerating.is_empty() {
        match annotation(tolerating) {
            Some("true" | "True" | "TRUE" | "t" | "T" | "1") => return None,
            None | Some("false" | "False" | "FALSE" | "f" | "F" | "0") => {}
            Some(other) => return Some(format!("annotation {tolerating} is \"{other}\"")),
        }
    }
    let mut required = settings.required.clone();
    if let Some(text) = annotation(REQUIRED) {
        match names(text) {
            Some(names) => required.extend(names),
            None => return Some(format!("annotation {REQUIRED} is no list: \"{text}\"")),
        }
    }
    let asked = |name: &String| {
        request.plugins.iter().any(|plugin| {
            plugin.name == *name || format!("{}-{}", plugin.index, plugin.name) == *name
        })
    };
    let missing: Vec<String> = required.into_iter().filter(|name| !asked(name)).collect();
    (!missing.is_empty()).then(|| format!("required plugins are not there: {}", missing.join(", ")))
}

/// The annotation of a pod that counts for one of its containers.
fn effective<'a>(pod: &'a PodSandbox, key: &str, container: &str) -> Option<&'a str> {
    [format!("{key}/container.{container}"), format!("{key}/pod"), key.to_owned()]
        .iter()
        .find_map(|key| pod.annotations.get(key))
        .map(String::as_str)
}

/// A YAML list of names: `[a, "b"]`, or a line `- a` for each. None if it is something else.
fn names(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let bare = |name: &str| {
        let name = name.trim().trim_matches(['"', '\'']);
        (!name.is_empty() && !name.contains(['[', ']', ',', ':', '{', '}', '"', '\'']))
            .then(|| name.to_owned())
    };
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) if inner.trim().is_empty() => Some(Vec::new()),
        Some(inner) => inner.trim().trim_end_matches(',').split(',').map(bare).collect(),
        None => text.lines().map(|line| bare(line.trim().strip_prefix("- ")?)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owners::Claimant;
    use cringle_proto_nri::v1alpha1::{Container, LinuxContainer, PluginInstance, SecurityProfile};

    fn request(annotations: &[(&str, &str)], seccomp: Option<ProfileType>) -> Request {
        let profile = seccomp.map(|kind| SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: String::new(),
        });
        let annotations =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Request {
            pod: Some(PodSandbox { annotations: annotations.collect(), ..PodSandbox::default() }),
            container: Some(Container {
                name: "main".to_owned(),
                linux: Some(LinuxContainer {
                    seccomp_profile: profile,
                    ..LinuxContainer::default()
                }),
                ..Container::default()
            }),
            plugins: vec![PluginInstance { name: "there".to_owned(), index: "07".to_owned() }],
            ..Request::default()
        }
    }

    fn owners() -> Owners {
        let mut owners = Owners::default();
        let mut claimant = Claimant { owners: &mut owners, plugin: "07-there" };
        claimant.claim(Field::SeccompPolicy).unwrap();
        claimant.join(Field::OciHooks);
        claimant.claim_entry(Field::Namespace, "network").unwrap();
        claimant.claim_entry(Field::Sysctl, "net.x").unwrap();
        owners
    }

    fn rejection(
        settings: &ValidatorSettings,
        request: &Request,
        owners: &Owners,
    ) -> Option<String> {
        by_settings(settings, request, owners).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_configured_is_rejected_and_nothing_else() {
        let kinds = [
            (Rejected::Hooks, None, "OCI hooks"),
            (Rejected::DefaultSeccomp, Some(ProfileType::RuntimeDefault), "the default seccomp"),
            (Rejected::UnconfinedSeccomp, None, "an absent seccomp"),
            (Rejected::CustomSeccomp, Some(ProfileType::Localhost), "a custom seccomp"),
            (Rejected::Namespaces, None, "network by \"07-there\""),
            (Rejected::Sysctls, None, "net.x by \"07-there\""),
        ];
        for (rejected, seccomp, word) in kinds {
            let settings =
                ValidatorSettings { rejected: vec![rejected], ..ValidatorSettings::default() };
            let request = request(&[], seccomp);
            let text = rejection(&settings, &request, &owners()).unwrap();
            assert!(text.contains(word) && text.contains("07-there"), "{text}");
            assert_eq!(rejection(&settings, &request, &Owners::default()), None, "{rejected:?}");
            assert_eq!(rejection(&ValidatorSettings::default(), &request, &owners()), None);
        }
        let custom = ValidatorSettings {
            rejected: vec![Rejected::CustomSeccomp],
            ..ValidatorSettings::default()
        };
        assert_eq!(rejection(&custom, &request(&[], None), &owners()), None);
    }

    #[test]
    fn plugins_that_are_needed_must_have_been_asked() {
        let tolerating = "tolerate.example";
        let settings = |required: &[&str]| ValidatorSettings {
            required: required.iter().map(|name| (*name).to_owned()).collect(),
            tolerating_annotation: tolerating.to_owned(),
            ..ValidatorSettings::default()
        };
        for (required, annotations, missing) in [
            (&["there"][..], &[][..], None),
            (&["07-there"], &[], None),
            (&["08-there"], &[], Some("08-there")),
            (&["gone"], &[(tolerating, "true")], None),
            (&["gone"], &[("tolerate.example/container.other", "true")], Some("gone")),
            (&["gone"], &[("tolerate.example/container.main", "true")], None),
            (&["gone"], &[(tolerating, "perhaps")], Some("perhaps")),
            (&[], &[(REQUIRED, "[there, \"gone\"]")], Some("gone")),
            (&[], &[(REQUIRED, "- there\n- gone\n")], Some("gone")),
            (&[], &[(REQUIRED, "- there")], None),
            (&[], &[(REQUIRED, "[]")], None),
            (&[], &[(REQUIRED, "{a: b}")], Some("no list")),
        ] {
            let text = rejection(&settings(required), &request(annotations, None), &owners());
            let seen = text.as_deref();
            assert_eq!(seen.is_some(), missing.is_some(), "{required:?} {annotations:?} {seen:?}");
            assert!(missing.is_none_or(|word| seen.is_some_and(|text| text.contains(word))));
        }
    }
}
