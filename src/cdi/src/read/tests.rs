//! Files as vendors write them, and as they should not.

use super::*;
use rustix::fs::{Gid, Uid};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

const SMALL: &str = r#"{"cdiVersion":"0.3.0","kind":"vendor.com/class",
    "devices":[{"name":"one","containerEdits":{"env":["A=b"]}}]}"#;

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    let mut file = File::create(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn read_text(name: &str, text: &str) -> Result<Source, ReadError> {
    let directory = tempfile::tempdir().unwrap();
    read(&file(directory.path(), name, text))
}

fn problem(name: &str, text: &str) -> String {
    let error = read_text(name, text).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

/// A file of one device with these edits.
fn with_edits(version: &str, edits: &str) -> String {
    format!(
        r#"{{"cdiVersion":"{version}","kind":"vendor.com/class",
            "devices":[{{"name":"one","containerEdits":{edits}}}]}}"#
    )
}

#[test]
fn json_and_yaml_are_the_same_file() {
    let json = r#"{"cdiVersion":"1.1.0","kind":"vendor.com/class","annotations":{"a":"b"},
        "devices":[{"name":"gpu0","containerEdits":{
            "env":["A=b=c"],
            "deviceNodes":[{"path":"/dev/a","hostPath":"/dev/null","type":"c","major":1,"minor":3,
                            "fileMode":432,"permissions":"rw","uid":7,"gid":8}],
            "mounts":[{"hostPath":"/h","containerPath":"/c","options":["ro","bind"],"type":"none"}],
            "hooks":[{"hookName":"createContainer","path":"/bin/x","args":["x","y"],"env":["Q=1"],"timeout":5}],
            "additionalGids":[5,6],
            "intelRdt":{"closID":"gold","l3CacheSchema":"L3:0=f","enableMonitoring":true},
            "netDevices":[{"hostInterfaceName":"eth7","name":"net0"}]}}],
        "containerEdits":{"env":["ALL=1"]}}"#;
    let yaml = r#"---
# As tools write it.
cdiVersion: "1.1.0"
kind: vendor.com/class
annotations: {a: b}
containerEdits:
  env: ["ALL=1"]
devices:
- name: gpu0
  containerEdits:
    env: [A=b=c]
    deviceNodes:
    - path: /dev/a
      hostPath: /dev/null
      type: c
      major: 1
      minor: 3
      fileMode: 0660
      permissions: rw
      uid: 7
      gid: 8
    mounts:
    - {hostPath: /h, containerPath: /c, options: [ro, bind], type: none}
    hooks:
    - hookName: createContainer
      path: /bin/x
      args: [x, "y"]
      env: [Q=1]
      timeout: 5
    additionalGids: [5, 6]
    intelRdt: {closID: gold, l3CacheSchema: "L3:0=f", enableMonitoring: true}
    netDevices:
    - {hostInterfaceName: eth7, name: net0}
"#;
    let (json, yaml) = (read_text("a.json", json).unwrap(), read_text("a.yaml", yaml).unwrap());
    assert_eq!(json.document, yaml.document);
    assert_eq!(json.names, yaml.names);
    assert_eq!(json.names[0].to_string(), "vendor.com/class=gpu0");
    assert_eq!(json.document.devices[0].container_edits.device_nodes[0].file_mode, Some(0o660));
}

#[test]
fn each_version_has_what_it_had() {
    let cases = [
        (r#"{"env":["A=b"]}"#, "0.3.0"),
        (r#"{"mounts":[{"hostPath":"/h","containerPath":"/c","type":"bind"}]}"#, "0.4.0"),
        (r#"{"deviceNodes":[{"path":"/dev/a","hostPath":"/dev/b"}]}"#, "0.5.0"),
        (r#"{"additionalGids":[1]}"#, "0.7.0"),
        (r#"{"intelRdt":{"closID":"x","enableCMT":true}}"#, "0.7.0"),
        (r#"{"intelRdt":{"schemata":[]}}"#, "1.1.0"),
        (r#"{"intelRdt":{"enableMonitoring":true}}"#, "1.1.0"),
        (r#"{"netDevices":[{"hostInterfaceName":"a","name":"b"}]}"#, "1.1.0"),
    ];
    let versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
    for (edits, since) in cases {
        for version in versions {
            let read = read_text("a.json", &with_edits(version, edits));
            assert_eq!(read.is_ok(), version >= since, "{version} {edits}: {read:?}");
        }
        read_text("a.json", &with_edits("v1.1.0", edits)).unwrap();
    }
    let digit = SMALL.replace("\"one\"", "\"1\"");
    let dotted = SMALL.replace("vendor.com/class", "vendor.com/c.x");
    let annotated = SMALL.replace("\"devices\"", r#""annotations":{"a":"b"},"devices""#);
    for (text, since) in [(digit, "0.5.0"), (dotted, "0.6.0"), (annotated, "0.6.0")] {
        for version in versions {
            let read = read_text("a.json", &text.replace("0.3.0", version));
            assert_eq!(read.is_ok(), version >= since, "{version} {text}: {read:?}");
        }
    }
    for version in ["0.2.0", "0.3", "0.3.1", "2.0.0", "latest", ""] {
        let text = SMALL.replace("0.3.0", version);
        assert!(problem("a.json", &text).starts_with("cdiVersion"), "{version}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let cases = [
        (r#"{"env":["=b"]}"#, "env \"=b\""),
        (r#"{"env":["AB"]}"#, "env \"AB\""),
        (r#"{"deviceNodes":[{"path":""}]}"#, "deviceNodes.path"),
        (r#"{"deviceNodes":[{"path":"dev/x"}]}"#, "deviceNodes.path"),
        (r#"{"deviceNodes":[{"path":"/dev/x","hostPath":"y"}]}"#, "deviceNodes.hostPath"),
        (r#"{"deviceNodes":[{"path":"/dev/x","type":"z"}]}"#, "type \"z\""),
        (r#"{"deviceNodes":[{"path":"/dev/x","permissions":"rx"}]}"#, "permissions \"rx\""),
        (r#"{"deviceNodes":[{"path":"/dev/x","major":-1}]}"#, "out of range"),
        (r#"{"mounts":[{"hostPath":"","containerPath":"/c"}]}"#, "no hostPath"),
        (r#"{"mounts":[{"hostPath":"/h","containerPath":"c"}]}"#, "mounts.containerPath"),
        (r#"{"hooks":[{"hookName":"preStart","path":"/x"}]}"#, "hook \"preStart\""),
        (r#"{"hooks":[{"hookName":"prestart","path":"x"}]}"#, "hooks.path"),
        (r#"{"hooks":[{"hookName":"prestart","path":"/x","env":["x"]}]}"#, "env \"x\""),
        (r#"{"hooks":[{"hookName":"prestart","path":"/x","timeout":0}]}"#, "time-out 0"),
        (r#"{"intelRdt":{"closID":".."}}"#, "closID"),
        (r#"{"netDevices":[{"hostInterfaceName":"a","name":""}]}"#, "without a name"),
        (
            r#"{"netDevices":[{"hostInterfaceName":"a","name":"b"},{"hostInterfaceName":"c","name":"b"}]}"#,
            "twice",
        ),
        (r#"{"unknown":1}"#, "unknown field"),
        (r#"{"deviceNodes":[{"path":"/dev/x","mode":1}]}"#, "unknown field"),
        (r#"{}"#, "no edits"),
    ];
    for (edits, word) in cases {
        let said = problem("a.json", &with_edits("1.1.0", edits));
        assert!(said.contains(word), "{edits}: {said}");
    }
    for (from, to, word) in [
        ("vendor.com/class", "class", "no qualified name"),
        ("\"one\"", "\"-one\"", "no qualified name"),
        (r#"{"name":"one","containerEdits":{"env":["A=b"]}}"#, "", "no devices"),
        ("\"kind\"", "\"Kind\"", "unknown field"),
        ("\"cdiVersion\":\"0.3.0\",", "", "missing field"),
        ("}]}", "}]", "EOF"),
    ] {
        let said = problem("a.json", &SMALL.replace(from, to));
        assert!(said.contains(word), "{to}: {said}");
    }
    let twice = SMALL
        .replace("\"devices\":[", r#""devices":[{"name":"one","containerEdits":{"env":["X=y"]}},"#);
    assert!(problem("a.json", &twice).contains("\"one\" twice"));
}

#[test]
fn text_of_any_kind_is_an_error_and_no_panic() {
    for text in ["", "\0", "---", "[]", "a: &x [*x]", "? [", "\u{feff}{", "- - - -", "{\"a\":"] {
        for name in ["a.json", "a.yaml"] {
            assert!(read_text(name, text).is_err(), "{name} {text:?}");
        }
    }
    // Each line ten times what is in the line before.
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    read_text("a.yaml", &bomb).unwrap_err();
}

#[test]
fn a_file_that_is_too_large_or_none_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let large = file(directory.path(), "a.json", SMALL);
    File::options().write(true).open(&large).unwrap().set_len(LARGEST + 1).unwrap();
    assert!(matches!(read(&large), Err(ReadError::Large)));
    let pipe = directory.path().join("b.json");
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(read(&pipe), Err(ReadError::NoFile)));
    assert!(matches!(read(&directory.path().join("c.json")), Err(ReadError::Open(_))));
}

#[test]
fn a_file_that_others_can_change_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "a.json", SMALL);
    for (mode, usable) in [(0o644, true), (0o600, true), (0o666, false), (0o602, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(read(&path).is_ok(), usable, "{mode:o}");
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped in part because it needs root");
        return;
    }
    let own = |user: u32, group: u32, mode: u32| {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chown(&path, Some(user), Some(group)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    };
    own(0, 0, 0o664).unwrap();
    own(0, 1000, 0o644).unwrap();
    assert!(matches!(own(0, 1000, 0o664), Err(ReadError::Foreign(ForeignError::Writable(0o664)))));
    assert!(matches!(own(1000, 0, 0o600), Err(ReadError::Foreign(ForeignError::Owner(1000)))));
}
