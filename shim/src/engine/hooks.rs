//! Hooks of the OCI specification: programs of others that run at moments of a container's life.
//!
//! | hook | when | where | one that fails |
//! |---|---|---|---|
//! | `prestart`, `createRuntime` | everything is mounted, the root not yet entered | here | ends the creation |
//! | `createContainer` | right after | in the container's namespaces but that of users, with the host's files | ends the creation |
//! | `startContainer` | before the program | in the container, as its user, confined like its program | ends the start |
//! | `poststart` | the program runs | here | ends the start and the container |
//! | `poststop` | everything is given back | here | is noted |
//!
//! A hook gets the container's state on its input, the environment that it names and nothing of the container's, no descriptor
//! of ours, and a session of its own. What it writes is kept in part, to be told if it fails. It is waited for, but not for
//! ever: the engine has one thread.

mod call;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Bundle;
use super::error::{EngineError, Result};

/// How long a hook may take that names no time-out.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long all hooks of one order may take, whatever they name: whoever gave it waits, and shall hear of it from us.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(60);

/// How long those of a start may take: there are two moments to it, each in a process of its own.
const PATIENCE_AT_START: Duration = Duration::from_secs(30);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Moment {
    /// The old name of the next one, whose hooks come first.
    Prestart,
    /// The container is made, its root not yet entered; outside.
    CreateRuntime,
    /// The same; inside.
    CreateContainer,
    /// Before the program; inside.
    StartContainer,
    /// After the program began; outside.
    Poststart,
    /// After everything; outside.
    Poststop,
}

/// The hooks of a container, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hooks {
    subject: Subject,
    /// In the order in which they run.
    list: Vec<(Moment, Hook)>,
}

/// What of a container's state does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Subject {
    oci_version: String,
    id: String,
    bundle: PathBuf,
    annotations: BTreeMap<String, String>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hook {
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<String>,
    patience: Duration,
}

/// Plans the hooks.
///
/// # Errors
/// One that makes no sense.
pub(super) fn plan(bundle: &Bundle) -> Result<Hooks> {
    let spec = &bundle.spec;
    let subject = Subject {
        oci_version: spec.version().clone(),
        id: bundle.id.clone(),
        bundle: bundle.path.clone(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
    };
    let mut list = Vec::new();
    if let Some(hooks) = spec.hooks() {
        for (moment, asked) in [
            (Moment::Prestart, hooks.prestart()),
            (Moment::CreateRuntime, hooks.create_runtime()),
            (Moment::CreateContainer, hooks.create_container()),
            (Moment::StartContainer, hooks.start_container()),
            (Moment::Poststart, hooks.poststart()),
            (Moment::Poststop, hooks.poststop()),
        ] {
            for hook in asked.iter().flatten() {
                list.push((moment, Hook::checked(hook, moment)?));
            }
        }
    }
    Ok(Hooks { subject, list })
}

/// When the hooks of an order that is given now must have ended.
pub(super) fn end_of_all() -> Instant {
    Instant::now() + PATIENCE_WITH_ALL
}

/// When the hooks of a start's next moment must have ended.
pub(super) fn end_at_start() -> Instant {
    Instant::now() + PATIENCE_AT_START
}

impl Hooks {
    /// Whether there is a hook for one of these moments.
    pub(super) fn has(&self, moments: &[Moment]) -> bool {
        self.list.iter().any(|(moment, _)| moments.contains(moment))
    }

    /// The hooks of these moments alone, if there are any.
    pub(super) fn only(&self, moments: &[Moment]) -> Option<Self> {
        let list: Vec<_> =
            self.list.iter().filter(|(moment, _)| moments.contains(moment)).cloned().collect();
        (!list.is_empty()).then(|| Self { subject: self.subject.clone(), list })
    }

    /// Runs the hooks of a moment one after the other until `end`, up to the first that fails.
    ///
    /// `pid` is the container's process as the hook sees it; `enter` is called in the hook's process, last of all.
    ///
    /// # Errors
    /// A hook failed.
    pub(super) fn run(
        &self,
        moment: Moment,
        pid: Option<i32>,
        end: Instant,
        enter: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let mut due = self.list.iter().filter(|(due, _)| *due == moment);
        due.try_for_each(|(_, hook)| self.run_one(hook, (moment, pid), end, &enter))
    }

    /// Runs all hooks of a moment that nobody waits for any more. Gives what went wrong.
    pub(super) fn run_all(&self, moment: Moment) -> Vec<EngineError> {
        let end = end_of_all();
        let due = self.list.iter().filter(|(due, _)| *due == moment);
        due.filter_map(|(_, hook)| self.run_one(hook, (moment, None), end, &|| Ok(())).err())
            .collect()
    }

    fn run_one(
        &self,
        hook: &Hook,
        (moment, pid): (Moment, Option<i32>),
        end: Instant,
        enter: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let patience = hook.patience.min(end.saturating_duration_since(Instant::now()));
        let state = self.subject.state(moment, pid);
        call::perform(hook, &state, patience, enter).map_err(|how| {
            EngineError::Hook(format!("{} hook {:?} {how}", moment.name(), hook.path))
        })
    }
}

impl Subject {
    /// The state in the specification's form.
    fn state(&self, moment: Moment, pid: Option<i32>) -> Vec<u8> {
        let mut state = json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": moment.status(),
            "bundle": self.bundle,
        });
        if let Some(pid) = pid {
            state["pid"] = pid.into();
        }
        if !self.annotations.is_empty() {
            state["annotations"] = json!(self.annotations);
        }
        state.to_string().into_bytes()
    }
}

impl Hook {
    fn checked(hook: &runtime::Hook, moment: Moment) -> Result<Self> {
        let field = || format!("hooks.{}", moment.name());
        let path = hook.path();
        if !path.is_absolute() {
            return Err(EngineError::invalid(field(), format!("{path:?} is not absolute")));
        }
        let patience = match hook.timeout() {
            None => PATIENCE,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                Ok(_) | Err(_) => {
                    let problem = format!("the time-out {seconds} of {path:?} is not above zero");
                    return Err(EngineError::invalid(field(), problem));
                }
            },
        };
        let arguments = hook.args().clone().filter(|words| !words.is_empty());
        let checked = Self {
            path: path.clone(),
            arguments: arguments.unwrap_or_else(|| vec![path.to_string_lossy().into_owned()]),
            environment: hook.env().clone().unwrap_or_default(),
            patience,
        };
        let has_nul = |text: &String| text.contains('\0');
        let nul = path.as_os_str().as_encoded_bytes().contains(&0)
            || checked.arguments.iter().chain(&checked.environment).any(has_nul);
        if nul {
            return Err(EngineError::invalid(field(), "it has a NUL byte in it"));
        }
        Ok(checked)
    }
}

impl Moment {
    /// Its name in the specification.
    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The state that the container is in then.
    fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn planned(hooks: &str) -> Result<Hooks> {
        let json = format!(r#"{{"ociVersion":"1.2.1","annotations":{{"a":"b"}},"hooks":{hooks}}}"#);
        let spec = serde_json::from_str(&json).unwrap();
        plan(&Bundle {
            path: "/b/one".into(),
            id: "one".into(),
            spec,
            rootfs: Vec::new(),
            restore: None,
        })
    }

    #[test]
    fn hooks_come_in_the_order_of_their_moments() {
        let hooks = planned(
            r#"{"poststop":[{"path":"/5"}],"createRuntime":[{"path":"/2"},{"path":"/3"}],
                "prestart":[{"path":"/1","timeout":7,"args":["x","y"],"env":["A=b"]}],
                "startContainer":[{"path":"/4"}]}"#,
        )
        .unwrap();
        let paths: Vec<_> =
            hooks.list.iter().map(|(_, hook)| hook.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/1", "/2", "/3", "/4", "/5"]);
        let (moment, first) = &hooks.list[0];
        assert_eq!(*moment, Moment::Prestart);
        assert_eq!(
            (first.patience.as_secs(), first.environment.as_slice()),
            (7, &["A=b".to_owned()][..])
        );
        assert_eq!(first.arguments, ["x", "y"]);
        assert_eq!(
            (&hooks.list[1].1.patience, hooks.list[1].1.arguments.as_slice()),
            (&PATIENCE, &["/2".to_owned()][..])
        );
        assert!(hooks.has(&[Moment::Poststop]) && !hooks.has(&[Moment::Poststart]));
        let later = hooks.only(&[Moment::Poststart, Moment::Poststop]).unwrap();
        assert_eq!(later.list.len(), 1);
        assert_eq!(hooks.only(&[Moment::Poststart]), None);
        let kept: Hooks = serde_json::from_slice(&serde_json::to_vec(&later).unwrap()).unwrap();
        assert_eq!(kept, later);
    }

    #[test]
    fn a_hook_that_makes_no_sense_is_refused_by_its_name() {
        for hook in [
            r#"{"path":"x"}"#,
            r#"{"path":"/x","timeout":0}"#,
            r#"{"path":"/x","timeout":-1}"#,
            r#"{"path":"/x","env":["a\u0000b"]}"#,
            r#"{"path":"/x","args":["a\u0000b"]}"#,
        ] {
            let error = planned(&format!(r#"{{"poststart":[{hook}]}}"#)).unwrap_err().to_string();
            assert!(error.starts_with("hooks.poststart is invalid"), "{error}");
        }
    }

    #[test]
    fn the_state_is_that_of_the_moment() {
        let hooks = planned("{}").unwrap();
        let state = |moment, pid| -> Value {
            serde_json::from_slice(&hooks.subject.state(moment, pid)).unwrap()
        };
        let expected = json!({"ociVersion": "1.2.1", "id": "one", "status": "creating", "pid": 7,
            "bundle": "/b/one", "annotations": {"a": "b"}});
        assert_eq!(state(Moment::CreateRuntime, Some(7)), expected);
        let stopped = state(Moment::Poststop, None);
        assert_eq!((stopped["status"].as_str(), stopped.get("pid")), (Some("stopped"), None));
    }
}
