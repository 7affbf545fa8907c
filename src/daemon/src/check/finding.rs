//! What was found out about one thing.

use serde::Serialize;
use std::fmt::Display;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Area {
    /// The daemon itself: its configuration, its socket.
    Daemon,
    /// What the kernel can do.
    Kernel,
    /// Control groups.
    Cgroups,
    /// Where it keeps things.
    Directories,
    /// What it starts.
    Programs,
    /// The pods' network.
    Network,
}

impl Area {
    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Kernel => "kernel",
            Self::Cgroups => "cgroups",
            Self::Directories => "directories",
            Self::Programs => "programs",
            Self::Network => "network",
        }
    }
}

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// The daemon works, but not everything in it, or not for long.
    Warning,
    /// The daemon will not start, or no pod will.
    Failed,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) area: Area,
    pub(super) subject: String,
    pub(super) verdict: Verdict,
    /// What is so.
    pub(super) detail: String,
    /// What to do about it; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn fine(area: Area, subject: impl Display, detail: impl Display) -> Self {
        Self::new(area, subject, Verdict::Ok, detail)
    }

    /// It will do.
    pub(super) fn warning(
        area: Area,
        subject: impl Display,
        detail: impl Display,
        hint: impl Display,
    ) -> Self {
        Self::new(area, subject, Verdict::Warning, detail).with_hint(hint)
    }

    /// It will not do.
    pub(super) fn failure(
        area: Area,
        subject: impl Display,
        detail: impl Display,
        hint: impl Display,
    ) -> Self {
        Self::new(area, subject, Verdict::Failed, detail).with_hint(hint)
    }

    fn new(area: Area, subject: impl Display, verdict: Verdict, detail: impl Display) -> Self {
        let (subject, detail) = (subject.to_string(), detail.to_string());
        Self { area, subject, verdict, detail, hint: None }
    }

    /// The same with what may be done about it.
    pub(super) fn with_hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }
}
