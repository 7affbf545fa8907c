use super::*;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        cringle_store::atomic::replace(&directory.path().join(name), content.as_bytes()).unwrap();
    }
    directory
}

const LIST: &str = r#"{"cniVersion":"1.1.0","name":"one","plugins":[{"type":"bridge","x":1e400}]}"#;

#[test]
fn an_invalid_file_is_passed_over_with_its_reason_and_hides_no_valid_one() {
    let found = directory(&[("00-bad.conflist", "{"), ("10-one.conflist", LIST)]);
    let loaded = Loaded::read(found.path());
    assert_eq!(loaded.select(None).unwrap().name, "one");
    assert_eq!(loaded.problems.len(), 1);
    assert!(loaded.problems[0].contains("00-bad.conflist"), "{:?}", loaded.problems);
}

#[test]
fn only_files_with_the_right_endings_count_and_their_names_order_them() {
    let second = LIST.replace("one", "two");
    let found = directory(&[
        ("05-off.conflist.cilium_bak", LIST),
        ("20-b.conflist", &second),
        ("10-a.conflist", LIST),
    ]);
    let loaded = Loaded::read(found.path());
    let names: Vec<_> = loaded.lists.iter().map(|list| list.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(loaded.select(Some("two")).unwrap().name, "two");
}

#[test]
fn a_single_plugin_is_lifted_to_a_list_and_numbers_survive() {
    let single =
        r#"{"cniVersion":"0.4.0","name":"one","type":"bridge","big":12345678901234567890123}"#;
    let found = directory(&[("10-one.conf", single)]);
    let loaded = Loaded::read(found.path());
    let list = loaded.select(None).unwrap();
    assert_eq!(list.version, "0.4.0");
    assert_eq!(list.plugins[0].object["big"].get(), "12345678901234567890123");
}

#[test]
fn no_network_is_a_reason_that_names_the_directory() {
    let found = directory(&[]);
    let error = Loaded::read(found.path()).select(None).unwrap_err();
    assert!(error.message.contains(&found.path().display().to_string()));
    Loaded::read(Path::new("/nonexistent")).select(None).unwrap_err();
}

#[test]
fn dangerous_types_and_names_and_unknown_versions_are_refused() {
    for text in [
        r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"../../bin/sh"}]}"#,
        r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"/bin/sh"}]}"#,
        r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":""}]}"#,
        r#"{"cniVersion":"1.1.0","name":"../n","plugins":[{"type":"bridge"}]}"#,
        r#"{"cniVersion":"1.1.0","name":"n","plugins":[]}"#,
        r#"{"cniVersion":"1.1.0","name":"n"}"#,
        r#"{"cniVersion":"7.0.0","name":"n","plugins":[{"type":"bridge"}]}"#,
    ] {
        assert!(ConfigurationList::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_highest_version_that_both_speak_is_chosen() {
    let text = r#"{"cniVersion":"0.3.1","cniVersions":["0.4.0","9.0.0","1.0.0"],"name":"n",
        "plugins":[{"type":"bridge"}]}"#;
    assert_eq!(ConfigurationList::parse(text).unwrap().version, "1.0.0");
}

#[test]
fn a_plugin_is_added_at_the_end_and_the_rest_is_as_it_was() {
    let list = ConfigurationList::parse(LIST).unwrap();
    let text = list.with_plugin(r#"{"type":"portmap"}"#).unwrap();
    let longer = ConfigurationList::parse(&text).unwrap();
    assert_eq!(longer.plugins[1].kind, "portmap");
    assert_eq!(longer.plugins[0].object["x"].get(), "1e400");
}
