use super::*;
use cringle_domain::namespaces::IdRange;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::fs::File;
use std::os::unix::fs::symlink;

/// An image of one layer, and what a container made of it.
struct Ground {
    place: tempfile::TempDir,
    active: Active,
}

impl Ground {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let active = Active { lower: vec![at("lower")], upper: at("upper"), work: at("work") };
        for directory in [&active.lower[0], &active.upper] {
            std::fs::create_dir_all(directory).unwrap();
        }
        Self { place, active }
    }

    fn upper(&self, path: &str) -> PathBuf {
        self.active.upper.join(path)
    }

    fn root<'a>(&'a self, mounts: &'a [PathBuf]) -> Root<'a> {
        Root { active: &self.active, mapping: None, mounts }
    }
}

fn put(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(content).unwrap();
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// Name, kind, and content or target of each entry.
fn told(bytes: &[u8]) -> Vec<(String, EntryType, String)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let kind = entry.header().entry_type();
        let target =
            entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        (name, kind, target.unwrap_or(content))
    });
    entries.collect()
}

#[test]
fn files_directories_and_links_are_told_and_links_are_not_followed() {
    let ground = Ground::new();
    put(&ground.upper("etc/new"), b"text");
    std::fs::hard_link(ground.upper("etc/new"), ground.upper("etc/same")).unwrap();
    symlink("/etc/passwd", ground.upper("etc/link")).unwrap();
    symlink("//", ground.upper("tree")).unwrap();
    let far = format!("../{}/", "far/".repeat(40));
    symlink(&far, ground.upper("tree2")).unwrap();
    let long = format!("etc/{}", "n".repeat(180));
    put(&ground.upper(&long), b"");
    let mut bytes = Vec::new();
    assert_eq!(ground.root(&[]).write(&mut bytes).unwrap(), Vec::<PathBuf>::new());
    let entry = |name: &str, kind, text: &str| (name.to_owned(), kind, text.to_owned());
    assert_eq!(
        told(&bytes),
        [
            entry("etc", EntryType::Directory, ""),
            entry("etc/link", EntryType::Symlink, "/etc/passwd"),
            entry("etc/new", EntryType::Regular, "text"),
            entry(&long, EntryType::Regular, ""),
            entry("etc/same", EntryType::Link, "etc/new"),
            entry("tree", EntryType::Symlink, "//"),
            entry("tree2", EntryType::Symlink, &far),
        ]
    );
}

#[test]
fn what_is_gone_is_listed_also_below_a_directory_that_was_made_anew() {
    let ground = Ground::new();
    let lower = &ground.active.lower[0];
    for path in ["a", "dir/kept", "dir/old", "dir/deep/old"] {
        put(&lower.join(path), b"");
    }
    std::fs::create_dir_all(ground.upper("dir/deep")).unwrap();
    put(&ground.upper("dir/kept"), b"again");
    rustix::fs::lsetxattr(ground.upper("dir"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
    whiteout(&ground.upper("a"));
    let mut bytes = Vec::new();
    let gone = ground.root(&[]).write(&mut bytes).unwrap();
    assert_eq!(gone, ["/a", "/dir/deep/old", "/dir/old"].map(PathBuf::from));
    let names: Vec<_> = told(&bytes).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["dir", "dir/deep", "dir/kept"]);
}

#[test]
fn mount_points_are_no_changes() {
    let ground = Ground::new();
    put(&ground.upper("etc/hosts"), b"");
    std::fs::create_dir_all(ground.upper("data/below")).unwrap();
    let mut bytes = Vec::new();
    ground.root(&["/etc/hosts".into(), "/data".into()]).write(&mut bytes).unwrap();
    let names: Vec<_> = told(&bytes).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["etc"]);
}

#[test]
fn ids_are_those_inside_and_attributes_of_files_are_kept() {
    let ground = Ground::new();
    put(&ground.upper("file"), b"x");
    std::os::unix::fs::chown(ground.upper("file"), Some(100_005), Some(7)).unwrap();
    let mark = c"user.mark";
    // Not every file system has them.
    let marked =
        rustix::fs::lsetxattr(ground.upper("file"), mark, b"v", XattrFlags::empty()).is_ok();
    let range = IdRange::new(100_000, 1000).unwrap();
    let mapping = Some(IdMapping { users: range, groups: range });
    let mut bytes = Vec::new();
    Root { mapping, ..ground.root(&[]) }.write(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (5, 7));
    if marked {
        let records = entry.pax_extensions().unwrap().unwrap();
        let found: Vec<_> = records
            .map(|record| record.unwrap())
            .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
            .collect();
        assert_eq!(found, [("SCHILY.xattr.user.mark".to_owned(), b"v".to_vec())]);
    }
}

#[test]
fn a_file_whose_content_is_in_the_image_fails() {
    let ground = Ground::new();
    put(&ground.upper("file"), b"");
    let mark = c"trusted.overlay.metacopy";
    rustix::fs::lsetxattr(ground.upper("file"), mark, b"", XattrFlags::empty()).unwrap();
    let error = ground.root(&[]).write(Vec::new()).unwrap_err().to_string();
    assert!(error.contains("its content is in the image"), "{error}");
}

#[test]
fn a_link_of_the_image_where_the_container_has_a_directory_leads_nowhere() {
    let ground = Ground::new();
    let outside = ground.place.path().join("outside");
    put(&outside.join("secret"), b"");
    symlink(&outside, ground.active.lower[0].join("x")).unwrap();
    put(&ground.upper("x/own"), b"");
    rustix::fs::lsetxattr(ground.upper("x"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
    assert_eq!(ground.root(&[]).write(Vec::new()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_became_a_link_while_it_was_walked_leads_nowhere() {
    let ground = Ground::new();
    let outside = ground.place.path().join("outside");
    put(&outside.join("secret"), b"secret");
    symlink(&outside, ground.upper("d")).unwrap();
    let tree = Tree::open(&ground.active.upper).unwrap();
    tree.names(Path::new("d")).unwrap_err();
    tree.find(Path::new("d/secret")).unwrap_err();
    tree.find(Path::new("../outside/secret")).unwrap_err();
    let link = tree.find(Path::new("d")).unwrap();
    assert_eq!(link.target().unwrap(), outside.as_os_str().as_encoded_bytes());
    assert_eq!(link.attributes().unwrap(), []);
}

#[test]
fn what_was_found_is_read_though_its_name_is_another_ones_now() {
    let ground = Ground::new();
    put(&ground.upper("file"), b"mine");
    let tree = Tree::open(&ground.active.upper).unwrap();
    let found = tree.find(Path::new("file")).unwrap();
    std::fs::remove_file(ground.upper("file")).unwrap();
    symlink("/etc/passwd", ground.upper("file")).unwrap();
    let mut content = String::new();
    found.open().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "mine");
}

#[test]
fn deep_directories_need_no_stack() {
    const DEPTH: usize = 500;
    let ground = Ground::new();
    std::fs::create_dir_all(ground.upper(&"a/".repeat(DEPTH))).unwrap();
    let told = std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let walk = || {
            let mut bytes = Vec::new();
            ground.root(&[]).write(&mut bytes).map(|_| bytes)
        };
        small.spawn_scoped(scope, walk).unwrap().join().unwrap().unwrap()
    });
    assert_eq!(tar::Archive::new(told.as_slice()).entries().unwrap().count(), DEPTH);
}
