use std::collections::HashMap;

use serde_json::Value;

use super::*;
use crate::testing::{Pod, on_new_host};

const BRIDGE: &str = r#"{"cniVersion":"0.2.0","name":"n","type":"bridge","isGateway":true,
    "ipam":{"type":"host-local",DATA,"subnet":"10.1.0.0/24"}}"#;

struct Answer {
    ending: Ending,
    output: String,
    log: String,
}

fn call(names: &[&str], variables: &[(&str, &str)], input: &str) -> Answer {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let variable = |name: &str| variables.get(name).map(ToString::to_string);
    let names = names.iter().map(ToString::to_string).collect();
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let invocation = Invocation { names, variable: &variable };
    let ending = invocation.run(&mut input.as_bytes(), &mut output, &mut log).unwrap();
    Answer {
        ending,
        output: String::from_utf8(output).unwrap(),
        log: String::from_utf8(log).unwrap(),
    }
}

fn code(answer: &Answer) -> u64 {
    assert_eq!(answer.ending, Ending::Failure, "{}", answer.output);
    serde_json::from_str::<Value>(&answer.output).unwrap()["code"].as_u64().unwrap()
}

const ENVIRONMENT: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/no/such"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/no/such"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    ENVIRONMENT.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn without_a_command_it_says_what_it_is() {
    let answer = call(&["cringle-cni"], &[], "");
    assert_eq!((answer.ending, answer.output.as_str()), (Ending::Success, ""));
    assert!(answer.log.contains("host-local") && answer.log.contains("1.1.0"), "{}", answer.log);
}

#[test]
fn every_plugin_tells_its_versions_without_any_other_variable() {
    for kind in KNOWN {
        for names in [vec![*kind], vec!["cringle-cni", kind]] {
            let answer = call(&names, &[("CNI_COMMAND", "VERSION")], "garbage");
            let json: Value = serde_json::from_str(&answer.output).unwrap();
            assert_eq!(
                (json["cniVersion"].as_str(), json["supportedVersions"].as_array().unwrap().len()),
                (Some("1.1.0"), 7)
            );
        }
    }
}

#[test]
fn what_is_missing_or_wrong_has_its_code() {
    let conf = r#"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#;
    let add = ("CNI_COMMAND", "ADD");
    let cases = [
        (with(&[("CNI_COMMAND", "JUMP")]), conf, 4),
        (vec![add], conf, 4),
        (with(&[add, ("CNI_CONTAINERID", "a b")]), conf, 4),
        (with(&[add, ("CNI_IFNAME", "a/b")]), conf, 4),
        (with(&[add]), "{", 6),
        (with(&[add]), "[]", 6),
        (with(&[add]), r#"{"cniVersion":"7.0.0","name":"n"}"#, 1),
        (with(&[add]), r#"{"cniVersion":"1.0.0"}"#, 7),
        (with(&[add]), conf, 8),
        (with(&[add, ("CNI_NETNS", "/proc/thread-self/ns/net")]), conf, 8),
        (with(&[("CNI_COMMAND", "GC")]), conf, 1),
        (with(&[("CNI_COMMAND", "STATUS")]), conf, 1),
        (with(&[("CNI_COMMAND", "CHECK")]), r#"{"cniVersion":"0.3.1","name":"n"}"#, 1),
    ];
    for (variables, input, expected) in cases {
        assert_eq!(code(&call(&["bridge"], &variables, input)), expected, "{variables:?} {input}");
    }
    assert_eq!(code(&call(&["what"], &[add], conf)), 4);
}

#[test]
fn an_answer_is_in_the_version_of_the_configuration() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let path = pod.request("{}").netns.unwrap();
        let variables =
            |command| with(&[("CNI_COMMAND", command), ("CNI_NETNS", path.to_str().unwrap())]);
        for version in Version::ALL {
            let config = host.config(BRIDGE).replace("0.2.0", version.as_str());
            let answer = call(&["bridge"], &variables("ADD"), &config);
            assert_eq!(answer.ending, Ending::Success, "{}", answer.output);
            let json: Value = serde_json::from_str(&answer.output).unwrap();
            assert_eq!(json["cniVersion"], version.as_str());
            assert_eq!(json["ip4"].is_object(), version <= Version::V0_2_0, "{json}");
            assert_eq!(json["ips"].is_array(), version > Version::V0_2_0, "{json}");
            let with_previous =
                config.replacen('{', &format!(r#"{{"prevResult":{},"#, answer.output), 1);
            if version >= Version::V0_4_0 {
                let answer = call(&["bridge"], &variables("CHECK"), &with_previous);
                assert_eq!((answer.ending, answer.output.as_str()), (Ending::Success, ""));
            }
            let answer = call(&["bridge"], &variables("DEL"), &with_previous);
            assert_eq!((answer.ending, answer.output.as_str()), (Ending::Success, ""));
        }
        assert_eq!(host.leases("n"), 0);
    });
}
