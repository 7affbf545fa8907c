//! Versions of the specification, and which one first had what a file uses.

use crate::document::{Document, Edits};
use std::fmt;

/// A released version: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u16, u16, u16);

const KNOWN: [Version; 8] = [
    Version(0, 3, 0),
    Version(0, 4, 0),
    Version(0, 5, 0),
    Version(0, 6, 0),
    Version(0, 7, 0),
    Version(0, 8, 0),
    Version(1, 0, 0),
    Version(1, 1, 0),
];

impl Version {
    /// The version of that name, with or without a "v" in front.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        KNOWN.into_iter().find(|known| known.to_string() == text)
    }

    /// All of them in a sentence.
    pub(crate) fn all() -> String {
        KNOWN.map(|known| known.to_string()).join(", ")
    }

    /// The oldest version that has all that a file uses; `class` is that of its devices.
    pub(crate) fn needed(document: &Document, class: &str) -> Self {
        let any = |uses: fn(&Edits) -> bool| document.all_edits().any(uses);
        let any_device =
            |uses: fn(&crate::document::Device) -> bool| document.devices.iter().any(uses);
        let annotated =
            !document.annotations.is_empty() || any_device(|device| !device.annotations.is_empty());
        let digit =
            any_device(|device| device.name.starts_with(|first: char| first.is_ascii_digit()));
        let uses = [
            (any(uses_1_1), Self(1, 1, 0)),
            (any(uses_0_7), Self(0, 7, 0)),
            (annotated || class.contains('.'), Self(0, 6, 0)),
            (digit || any(names_host_paths), Self(0, 5, 0)),
            (any(has_typed_mounts), Self(0, 4, 0)),
        ];
        uses.into_iter().find(|(used, _)| *used).map_or(KNOWN[0], |(_, version)| version)
    }
}

fn uses_1_1(edits: &Edits) -> bool {
    let rdt = edits.intel_rdt.as_ref();
    !edits.net_devices.is_empty()
        || rdt.is_some_and(|rdt| rdt.schemata.is_some() || rdt.enable_monitoring)
}

fn uses_0_7(edits: &Edits) -> bool {
    edits.intel_rdt.is_some() || !edits.additional_gids.is_empty()
}

fn names_host_paths(edits: &Edits) -> bool {
    edits.device_nodes.iter().any(|node| !node.host_path.as_os_str().is_empty())
}

fn has_typed_mounts(edits: &Edits) -> bool {
    edits.mounts.iter().any(|mount| !mount.kind.is_empty())
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}
