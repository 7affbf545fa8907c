//! Control groups: which hierarchies there are, what they can limit, and whether pods' cgroups can be made.

use super::finding::{Area, Finding};
use super::scratch::existing;
use crate::config::Settings;
use cringle_kernel::cgroup::{Controller, Hierarchy, Layout, Version};
use std::io;
use std::path::Path;

/// Limits of pods need these.
const NEEDED: [Controller; 4] =
    [Controller::Cpu, Controller::Cpuset, Controller::Memory, Controller::Pids];

/// Without a version 2 hierarchy these do what it does by itself.
const NEEDED_OLD: [Controller; 2] = [Controller::Devices, Controller::Freezer];

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let layout = match Layout::probe() {
        Ok(layout) => layout,
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            let hint = "mount one: mount -t cgroup2 none /sys/fs/cgroup";
            return vec![Finding::failure(Area::Cgroups, "hierarchies", error, hint)];
        }
    };
    let mut findings = vec![versions(&layout)];
    findings.extend(missing(&layout));
    let parent = settings.cgroup.parent.as_str().trim_start_matches('/');
    findings.extend(layout.hierarchies.iter().map(|one| hierarchy(one, parent)));
    findings
}

fn versions(layout: &Layout) -> Finding {
    let has = |version| layout.hierarchies.iter().any(|one| one.version == version);
    let detail = match (has(Version::V1), has(Version::V2)) {
        (true, true) => "version 1 and 2, each controller where it is",
        (true, false) => "version 1",
        (false, _) => "version 2",
    };
    Finding::fine(Area::Cgroups, "version", detail)
}

fn missing(layout: &Layout) -> Vec<Finding> {
    let is_there = |one: &Controller| layout.version_of(*one).is_some();
    let unified = layout.hierarchies.iter().any(|one| one.version == Version::V2);
    let old: &[Controller] = if unified { &[] } else { &NEEDED_OLD };
    let mut findings: Vec<Finding> = NEEDED
        .iter()
        .chain(old)
        .filter(|one| !is_there(one))
        .map(|one| {
            let hint = "enable it in the kernel, and mount it if it is of version 1";
            Finding::failure(Area::Cgroups, format!("controller {one}"), "missing", hint)
        })
        .collect();
    let optional = [
        (
            &[Controller::Io, Controller::Blkio][..],
            "what is read and written is neither told nor limited",
        ),
        (&[Controller::Hugetlb], "limits of huge pages are refused"),
    ];
    for (controllers, hint) in optional {
        if let Some(name) = controllers.first().filter(|_| !controllers.iter().any(is_there)) {
            let subject = format!("controller {name}");
            findings.push(Finding::warning(Area::Cgroups, subject, "missing", hint));
        }
    }
    findings
}

/// Makes a cgroup where the pods' will be, and removes it.
fn hierarchy(hierarchy: &Hierarchy, parent: &str) -> Finding {
    let place = hierarchy.mount.join(parent);
    let place = existing(&place);
    let subject = hierarchy.mount.display();
    if let Err(error) = try_to_make(place) {
        let detail = format!("failed to make a cgroup in \"{}\": {error}", place.display());
        let hint =
            "needs root and a writable hierarchy; in a container, one that is delegated to it";
        return Finding::failure(Area::Cgroups, subject, detail, hint);
    }
    let controllers = match hierarchy.version {
        Version::V1 => hierarchy.controllers.clone(),
        Version::V2 => match delegated(place, &hierarchy.controllers) {
            Ok(controllers) => controllers,
            Err(finding) => return Finding::failure(Area::Cgroups, subject, finding, DELEGATE),
        },
    };
    let names: Vec<&str> = controllers.iter().map(|one| one.name()).collect();
    let names = if names.is_empty() { "no controller".to_owned() } else { names.join(" ") };
    Finding::fine(Area::Cgroups, subject, format!("{names}; cgroups can be made"))
}

const DELEGATE: &str =
    "write \"+NAME\" of each to cgroup.subtree_control, from the root down to there";

fn try_to_make(place: &Path) -> io::Result<()> {
    let path = place.join(format!("cringle-check-{}", std::process::id()));
    std::fs::DirBuilder::new().create(&path)?;
    std::fs::remove_dir(path)
}

/// The controllers that a cgroup has; those of its hierarchy that are needed must be among them.
fn delegated(place: &Path, all: &[Controller]) -> Result<Vec<Controller>, String> {
    let text = std::fs::read_to_string(place.join("cgroup.controllers"))
        .map_err(|error| format!("failed to read its controllers: {error}"))?;
    let found: Vec<Controller> =
        text.split_whitespace().filter_map(Controller::from_name).collect();
    let missing = NEEDED.iter().filter(|one| all.contains(one) && !found.contains(one));
    let missing: Vec<&str> = missing.map(|one| one.name()).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    Err(format!("\"{}\" has no {}", place.display(), missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn layout(hierarchies: &[(Version, &[Controller])]) -> Layout {
        let hierarchies = hierarchies.iter().map(|(version, controllers)| Hierarchy {
            version: *version,
            mount: "/none".into(),
            controllers: controllers.to_vec(),
        });
        Layout { hierarchies: hierarchies.collect() }
    }

    fn subjects(layout: &Layout) -> Vec<(String, Verdict)> {
        missing(layout).into_iter().map(|one| (one.subject, one.verdict)).collect()
    }

    #[test]
    fn what_is_needed_fails_and_what_is_not_is_told() {
        let unified = layout(&[(Version::V2, &[Controller::Cpu, Controller::Memory])]);
        let expected = [
            ("controller cpuset".to_owned(), Verdict::Failed),
            ("controller pids".to_owned(), Verdict::Failed),
            ("controller io".to_owned(), Verdict::Warning),
            ("controller hugetlb".to_owned(), Verdict::Warning),
        ];
        assert_eq!(subjects(&unified), expected);
        let mut old = NEEDED.to_vec();
        old.extend([Controller::Blkio, Controller::Hugetlb, Controller::Devices]);
        let old = layout(&[(Version::V1, &old)]);
        assert_eq!(subjects(&old), [("controller freezer".to_owned(), Verdict::Failed)]);
    }

    #[test]
    fn a_hierarchy_that_cannot_be_written_to_fails() {
        let place = tempfile::tempdir().unwrap();
        let mount = place.path().join("file/below");
        drop(std::fs::File::create(place.path().join("file")).unwrap());
        let broken = Hierarchy { version: Version::V1, mount, controllers: Vec::new() };
        assert_eq!(hierarchy(&broken, "x").verdict, Verdict::Failed);
    }

    #[test]
    fn a_controller_that_is_not_delegated_fails() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("cgroup.controllers");
        cringle_store::atomic::replace(&file, b"cpu io\n").unwrap();
        let all = [Controller::Cpu, Controller::Memory, Controller::Io];
        assert!(delegated(place.path(), &all).unwrap_err().ends_with("has no memory"));
        let own = [Controller::Cpu, Controller::Io];
        assert_eq!(delegated(place.path(), &own[..1]), Ok(own.to_vec()));
    }
}
