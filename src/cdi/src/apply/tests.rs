//! What a container's specification is after its devices were applied.

use super::*;
use oci_spec::runtime::LinuxDeviceType;
use rustix::fs::{FileType, Mode};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

fn base() -> Spec {
    serde_json::from_value(json!({
        "ociVersion": "1.2.1",
        "process": {"user": {"uid": 1000, "gid": 0, "additionalGids": [0, 7]}, "cwd": "/", "args": ["x"],
                    "env": ["PATH=/bin", "A=old"]},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/a/b/c", "type": "bind", "source": "/h", "options": ["rbind"]}],
        "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]},
                  "devices": [{"path": "/dev/old", "type": "c", "major": 9, "minor": 9}]},
    }))
    .unwrap()
}

/// A directory with one file of this content, and its catalogue.
fn catalog(text: &str) -> (TempDir, Catalog) {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "a.json", text);
    let catalog = Catalog::new(vec![directory.path().to_owned()]);
    (directory, catalog)
}

fn put(directory: &TempDir, name: &str, text: &str) {
    let mut file = File::create(directory.path().join(name)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn one(edits: &serde_json::Value) -> (TempDir, Catalog) {
    let document = json!({"cdiVersion": "1.1.0", "kind": "v/c",
        "devices": [{"name": "one", "containerEdits": edits}]});
    catalog(&document.to_string())
}

fn names(texts: &[&str]) -> Vec<DeviceName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The base after the device with these edits.
fn applied(edits: &serde_json::Value) -> Result<Spec, ApplyError> {
    let (_directory, catalog) = one(edits);
    let mut spec = base();
    catalog.apply(&names(&["v/c=one"]), &mut spec).map(|()| spec)
}

fn environment(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().unwrap().env().clone().unwrap()
}

#[test]
fn a_container_that_asks_for_nothing_stays_as_it_is() {
    let (_directory, catalog) = one(&json!({"env": ["A=b"]}));
    let mut spec = base();
    catalog.apply(&[], &mut spec).unwrap();
    assert_eq!(spec, base());
}

#[test]
fn what_is_for_all_devices_of_a_file_comes_first_and_once() {
    let (directory, catalog) = catalog(
        &json!({"cdiVersion": "0.5.0", "kind": "v/c", "containerEdits": {"env": ["ALL=1", "LAST=all"]},
            "devices": [{"name": "1", "containerEdits": {"env": ["ONE=1", "LAST=1"]}},
                        {"name": "2", "containerEdits": {"env": ["TWO=1", "LAST=2"]}}]})
        .to_string(),
    );
    let other = json!({"cdiVersion": "0.5.0", "kind": "v/d", "containerEdits": {"env": ["OTHER=1"]},
        "devices": [{"name": "x", "containerEdits": {"env": ["X=1"]}}]});
    put(&directory, "b.json", &other.to_string());
    let mut spec = base();
    catalog.apply(&names(&["v/c=2", "v/d=x", "v/c=1", "v/c=2"]), &mut spec).unwrap();
    assert_eq!(
        environment(&spec),
        ["PATH=/bin", "A=old", "ALL=1", "LAST=1", "TWO=1", "OTHER=1", "X=1", "ONE=1"]
    );
}

#[test]
fn a_variable_that_is_there_is_replaced_in_its_place() {
    let spec = applied(&json!({"env": ["A=new=er", "B=", "PATHS=x"]})).unwrap();
    assert_eq!(environment(&spec), ["PATH=/bin", "A=new=er", "B=", "PATHS=x"]);
}

#[test]
fn a_device_that_is_not_described_in_full_is_looked_up() {
    let spec = applied(&json!({"deviceNodes": [
        {"path": "/dev/null"},
        {"path": "/dev/other", "hostPath": "/dev/zero", "permissions": "rw", "uid": 5, "gid": 6, "fileMode": 384},
        {"path": "/dev/old", "type": "c", "hostPath": "/dev/full"},
    ]}))
    .unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let devices = linux.devices().clone().unwrap();
    let shown: Vec<_> = devices
        .iter()
        .map(|one| {
            (
                one.path().to_str().unwrap(),
                one.typ(),
                one.major(),
                one.minor(),
                one.uid(),
                one.gid(),
            )
        })
        .collect();
    let kind = LinuxDeviceType::C;
    assert_eq!(
        shown,
        [
            // The program's user, and no group: root's is everybody's default.
            ("/dev/null", kind, 1, 3, Some(1000), None),
            ("/dev/other", kind, 1, 5, Some(5), Some(6)),
            ("/dev/old", kind, 1, 7, Some(1000), None),
        ]
    );
    assert_eq!(devices[0].file_mode().unwrap() & 0o666, 0o666);
    assert_eq!(devices[1].file_mode(), Some(0o600));
    let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| (rule.allow(), rule.minor(), rule.access().clone().unwrap()))
        .collect();
    let allowed = |minor, access: &str| (true, Some(minor), access.to_owned());
    assert_eq!(rules[1..], [allowed(3, "rwm"), allowed(5, "rw"), allowed(7, "rwm")]);
    assert!(!rules[0].0);
}

#[test]
fn a_device_that_is_described_in_full_need_not_be_there() {
    let spec = applied(&json!({"deviceNodes": [
        {"path": "/dev/absent", "type": "b", "major": 8, "minor": 0},
        {"path": "/dev/unbuffered", "type": "u", "major": 300, "minor": 2},
    ]}))
    .unwrap();
    let devices = spec.linux().as_ref().unwrap().devices().clone().unwrap();
    let numbers: Vec<_> =
        devices[1..].iter().map(|one| (one.typ(), one.major(), one.minor())).collect();
    assert_eq!(numbers, [(LinuxDeviceType::B, 8, 0), (LinuxDeviceType::C, 300, 2)]);
    assert_eq!(devices[1].file_mode(), None);
}

#[test]
fn a_pipe_is_a_node_without_a_rule() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    let spec = applied(&json!({"deviceNodes": [{"path": "/run/pipe", "hostPath": pipe}]})).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let device = &linux.devices().clone().unwrap()[1];
    assert_eq!((device.typ(), device.file_mode().unwrap() & 0o777), (LinuxDeviceType::P, 0o640));
    assert_eq!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len(), 1);
}

#[test]
fn what_is_not_there_or_another_device_is_named() {
    let node = |node: serde_json::Value| json!({"deviceNodes": [node]});
    for (edits, word) in [
        (node(json!({"path": "/dev/nope"})), "failed to look at device \"/dev/nope\""),
        (
            node(json!({"path": "/dev/x", "hostPath": "/proc/version"})),
            "\"/proc/version\" is no device",
        ),
        (
            node(json!({"path": "/dev/x", "hostPath": "/dev/null", "type": "b"})),
            "not of type \"b\"",
        ),
        (
            json!({"mounts": [{"hostPath": "/nope", "containerPath": "/c"}]}),
            "mount source \"/nope\"",
        ),
        (json!({"hooks": [{"hookName": "poststop", "path": "/nope"}]}), "hook \"/nope\""),
    ] {
        let error = applied(&edits).unwrap_err();
        let ApplyError::Edit { source, path } = error else { panic!("{error}") };
        assert!(source.to_string().contains(word), "{source}");
        assert!(path.ends_with("a.json"));
    }
}

#[test]
fn mounts_are_bound_unless_they_say_otherwise_and_parents_come_first() {
    let spec = applied(&json!({"mounts": [
        {"hostPath": "/etc", "containerPath": "/a/b/c/d", "options": ["ro"]},
        {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"]},
        {"hostPath": "/usr", "containerPath": "/a/b/c", "type": "none", "options": ["bind", "ro"]},
        {"hostPath": "/", "containerPath": "/v"},
    ]}))
    .unwrap();
    let shown: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| {
            let text = |path: &Path| path.display().to_string();
            let options = mount.options().clone().unwrap_or_default().join(",");
            let source = mount.source().as_deref().map(text).unwrap_or_default();
            format!(
                "{} {} {source} {options}",
                text(mount.destination()),
                mount.typ().clone().unwrap()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "/proc proc proc ",
            "/t tmpfs tmpfs size=1m",
            "/v bind / rbind",
            "/a/b/c bind /usr bind,ro",
            "/a/b/c/d bind /etc rbind,ro",
        ]
    );
}

#[test]
fn hooks_go_to_their_lists_and_groups_to_the_others() {
    let spec = applied(&json!({
        "hooks": [
            {"hookName": "createContainer", "path": "/bin/true", "args": ["a"], "env": ["E=f"], "timeout": 3},
            {"hookName": "createContainer", "path": "/bin/false"},
            {"hookName": "prestart", "path": "/bin/sh"}, {"hookName": "createRuntime", "path": "/bin/cat"},
            {"hookName": "startContainer", "path": "/5"}, {"hookName": "poststart", "path": "/bin/ls"},
            {"hookName": "poststop", "path": "/bin/echo"},
        ],
        "additionalGids": [0, 7, 9],
    }))
    .unwrap();
    let hooks = serde_json::to_value(spec.hooks().clone().unwrap()).unwrap();
    assert_eq!(
        hooks,
        json!({
            "createContainer": [{"path": "/bin/true", "args": ["a"], "env": ["E=f"], "timeout": 3}, {"path": "/bin/false"}],
            "prestart": [{"path": "/bin/sh"}], "createRuntime": [{"path": "/bin/cat"}],
            "startContainer": [{"path": "/5"}], "poststart": [{"path": "/bin/ls"}], "poststop": [{"path": "/bin/echo"}],
        })
    );
    let groups = spec.process().as_ref().unwrap().user().additional_gids().clone();
    assert_eq!(groups, Some(vec![0, 7, 9]));
}

#[test]
fn what_is_not_offered_is_refused() {
    for (edits, word) in [
        (json!({"intelRdt": {"closID": "gold"}}), "intelRdt"),
        (json!({"netDevices": [{"hostInterfaceName": "e", "name": "f"}]}), "netDevices"),
    ] {
        let error = applied(&edits).unwrap_err();
        assert!(matches!(error, ApplyError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_device_that_nobody_describes_is_named_with_where_it_was_looked_for() {
    let (directory, catalog) = one(&json!({"env": ["A=b"]}));
    put(&directory, "broken.json", "{");
    let mut spec = base();
    let error = catalog.apply(&names(&["v/c=one", "v/c=two", "v/x=y"]), &mut spec).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no CDI device v/c=two, v/x=y in [\""), "{text}");
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
    assert!(text.contains("broken.json\" can't be used: failed to parse it: EOF"), "{text}");
    assert_eq!(spec, base(), "nothing was changed");
}

#[test]
fn a_device_that_two_describe_is_given_to_nobody() {
    let (directory, catalog) = one(&json!({"env": ["A=b"]}));
    let other = json!({"cdiVersion": "0.5.0", "kind": "v/c",
        "devices": [{"name": "one", "containerEdits": {"env": ["A=c"]}}]});
    put(&directory, "b.yaml", &other.to_string());
    let error = catalog.apply(&names(&["v/c=one"]), &mut base()).unwrap_err();
    let ApplyError::Conflict { paths, .. } = &error else { panic!("{error}") };
    assert_eq!(paths.len(), 2);
    assert!(
        error.to_string().contains("a.json") && error.to_string().contains("b.yaml"),
        "{error}"
    );
}
