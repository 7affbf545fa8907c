//! Directories that change while they are looked at.

use super::*;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

/// Directories, the last one with the highest rank.
fn directories<const N: usize>() -> ([TempDir; N], Catalog) {
    let directories = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let catalog = Catalog::new(directories.iter().map(|one| one.path().to_owned()).collect());
    (directories, catalog)
}

/// A file of devices that each set `FROM` to the file's path.
fn put(directory: &TempDir, name: &str, devices: &[&str]) -> PathBuf {
    let path = directory.path().join(name);
    let from = path.display();
    let devices = devices.iter().map(|device| {
        format!(r#"{{"name":"{device}","containerEdits":{{"env":["FROM={from}"]}}}}"#)
    });
    let devices = devices.collect::<Vec<_>>().join(",");
    let text =
        format!(r#"{{"cdiVersion":"0.5.0","kind":"vendor.com/class","devices":[{devices}]}}"#);
    write(&path, &text);
    path
}

fn write(path: &Path, text: &str) {
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn devices(catalog: &Catalog) -> Vec<String> {
    let names = catalog.report().devices;
    names.iter().map(|name| name.to_string().split_once('=').unwrap().1.to_owned()).collect()
}

/// The file that describes a device.
fn source(catalog: &Catalog, device: &str) -> Option<PathBuf> {
    let name = format!("vendor.com/class={device}").parse().unwrap();
    match catalog.look().find(&name) {
        Some(Found::Device(source, index)) => {
            assert_eq!(source.document.devices[*index].name, device);
            Some(source.path.clone())
        }
        Some(Found::Conflict(_)) | None => None,
    }
}

#[test]
fn files_that_come_change_and_go_are_seen_at_the_next_look() {
    let ([directory], catalog) = directories();
    assert_eq!(catalog.report(), Report::default());
    let path = put(&directory, "a.json", &["one"]);
    assert_eq!(devices(&catalog), ["one"]);
    put(&directory, "b.yaml", &["two"]);
    assert_eq!(devices(&catalog), ["one", "two"]);
    put(&directory, "a.json", &["three", "four"]);
    assert_eq!(devices(&catalog), ["four", "three", "two"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(devices(&catalog), ["two"]);
    drop(directory);
    assert_eq!(catalog.report(), Report::default());
}

#[test]
fn only_plain_files_of_the_right_name_count() {
    let ([directory], catalog) = directories();
    for name in ["a.yml", "b.json.tmp", "c", "json"] {
        put(&directory, name, &["one"]);
    }
    let below = directory.path().join("d.json");
    std::fs::DirBuilder::new().create(&below).unwrap();
    std::fs::create_dir_all(directory.path().join("sub")).unwrap();
    write(&directory.path().join("sub/a.json"), "{}");
    assert_eq!(catalog.report(), Report::default());
    std::os::unix::fs::symlink(
        put(&directory, "real", &["linked"]),
        directory.path().join("e.json"),
    )
    .unwrap();
    assert_eq!(devices(&catalog), ["linked"]);
}

#[test]
fn a_later_directory_has_the_last_word() {
    let ([low, high], catalog) = directories();
    let lower = put(&low, "a.json", &["both", "low"]);
    assert_eq!(source(&catalog, "both"), Some(lower.clone()));
    let higher = put(&high, "z.json", &["both"]);
    assert_eq!(source(&catalog, "both"), Some(higher.clone()));
    assert_eq!(source(&catalog, "low"), Some(lower.clone()));
    assert_eq!(catalog.report().faults, []);
    std::fs::remove_file(higher).unwrap();
    assert_eq!(source(&catalog, "both"), Some(lower));
}

#[test]
fn files_of_one_rank_cancel_each_other_unless_another_outranks_both() {
    let ([low, high], catalog) = directories();
    let one = put(&low, "1.json", &["same", "own"]);
    let two = put(&low, "2.json", &["same"]);
    let three = put(&low, "3.json", &["same"]);
    assert_eq!(devices(&catalog), ["own"]);
    let name = "vendor.com/class=same".parse().unwrap();
    let view = catalog.look();
    let Some(Found::Conflict(paths)) = view.find(&name) else { panic!("{view:?}") };
    assert_eq!(*paths, [one.clone(), two.clone(), three.clone()]);
    let faults = catalog.report().faults;
    assert_eq!(faults.iter().map(|fault| &fault.path).collect::<Vec<_>>(), [&one, &two, &three]);
    assert!(faults[0].problem.contains("2.json"), "{faults:?}");
    let over = put(&high, "0.json", &["same"]);
    assert_eq!(source(&catalog, "same"), Some(over.clone()));
    assert_eq!(catalog.report().faults, []);
    for gone in [over, two, three] {
        std::fs::remove_file(gone).unwrap();
    }
    assert_eq!(source(&catalog, "same"), Some(one));
}

#[test]
fn a_file_that_can_not_be_used_is_reported_and_hides_no_other() {
    let ([low, high], catalog) = directories();
    let bad = low.path().join("bad.json");
    write(&bad, "{");
    put(&low, "good.json", &["good"]);
    std::os::unix::fs::symlink("/nonexistent", high.path().join("dangling.json")).unwrap();
    let report = catalog.report();
    assert_eq!(devices(&catalog), ["good"]);
    assert_eq!(report.faults.len(), 1, "{report:?}");
    assert_eq!(report.faults[0].path, bad);
    assert!(report.faults[0].problem.contains("EOF"), "{report:?}");
    put(&low, "bad.json", &["mended"]);
    assert_eq!(devices(&catalog), ["good", "mended"]);
    assert_eq!(catalog.report().faults, []);
}

#[test]
fn a_directory_that_everybody_can_write_to_is_not_used() {
    let ([directory], catalog) = directories();
    put(&directory, "a.json", &["one"]);
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let report = catalog.report();
    assert!(report.devices.is_empty());
    assert_eq!(report.faults[0].path, directory.path());
    let file = directory.path().join("a.json/below");
    assert_eq!(Catalog::new(vec![file]).report().faults.len(), 1);
}
