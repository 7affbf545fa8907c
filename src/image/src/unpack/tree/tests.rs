//! Layers through the real worker: what is on disk afterwards.

use crate::settings::LayerLimits;
use crate::testing::tarball::{Head, Tarball, gzip};
use crate::testing::worker_program;
use crate::unpack::{EncodedPath, FailureKind, Report, Unpacked, Worker};
use rustix::fs::{CWD, FileType};
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory with the layer's beside a canary that no layer may touch.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Self { directory };
        DirBuilder::new().create(place.layer()).expect("a layer directory");
        File::create(place.canary()).expect("a canary");
        std::fs::set_permissions(place.canary(), Permissions::from_mode(0o640)).expect("a mode");
        place
    }

    fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    fn canary(&self) -> PathBuf {
        self.directory.path().join("canary")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layer().join(name)
    }

    fn stat(&self, name: &str) -> Metadata {
        std::fs::symlink_metadata(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    async fn unpack(&self, stream: &[u8]) -> Report {
        self.unpack_with(stream, LayerLimits::default()).await
    }

    async fn unpack_with(&self, stream: &[u8], limits: LayerLimits) -> Report {
        let directory = File::open(self.layer()).expect("the layer directory");
        let mut worker = Worker::start(&worker_program(), directory, limits).expect("a worker");
        let _taken = worker.write(stream).await.expect("written");
        worker.finish().await.expect("a report")
    }

    /// Nothing but the layer and the untouched canary.
    fn check_outside(&self, case: &str) {
        let names = std::fs::read_dir(self.directory.path()).expect("listed").count();
        assert_eq!(names, 2, "{case}: something was made outside");
        let canary = std::fs::symlink_metadata(self.canary()).expect("the canary");
        let state = (canary.mode() & 0o7777, canary.len(), canary.uid(), canary.nlink());
        assert_eq!(state, (0o640, 0, 0, 1), "{case}: the canary was touched");
    }
}

fn unpacked(report: Report) -> Unpacked {
    match report {
        Report::Unpacked(unpacked) => unpacked,
        Report::Failed { kind, detail } => panic!("{kind:?}: {detail}"),
    }
}

fn failure(report: Report) -> (FailureKind, String) {
    match report {
        Report::Failed { kind, detail } => (kind, detail),
        Report::Unpacked(unpacked) => panic!("unpacked: {unpacked:?}"),
    }
}

fn decoded(paths: &[EncodedPath]) -> Vec<String> {
    let text =
        |path: &EncodedPath| String::from_utf8(path.decode().expect("a path")).expect("text");
    paths.iter().map(text).collect()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[tokio::test]
async fn files_get_owner_mode_time_and_content() {
    let place = Place::new();
    let owned = |name: &'static str, mode, kind| Head {
        name: name.as_bytes(),
        kind,
        mode,
        uid: 1000,
        gid: 2000,
        link: b"nowhere",
        ..Head::default()
    };
    let bytes = Tarball::new()
        .directory("./", 0o1750)
        .entry(&owned("dir/", 0o2775, b'5'), b"")
        .entry(&owned("dir/setuid", 0o4755, b'0'), b"binary")
        .entry(&Head { name: b"dir/roots", ..Head::default() }, b"")
        .entry(&owned("dir/link", 0o777, b'2'), b"")
        .entry(&owned("pipe", 0o600, b'6'), b"")
        .entry(
            &Head { name: b"null", kind: b'3', mode: 0o666, device: (1, 3), ..Head::default() },
            b"",
        )
        .entry(
            &Head { name: b"disk", kind: b'4', mode: 0o660, device: (7, 0), ..Head::default() },
            b"",
        )
        .hard_link("hard", "dir/setuid")
        .finish();
    let report = unpacked(place.unpack(&gzip(&bytes)).await);
    assert_eq!(report.diff_id, crate::testing::sha256(&bytes));
    assert_eq!(place.stat("").mode() & 0o7777, 0o1750);
    let summary = |name: &str| {
        let stat = place.stat(name);
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime())
    };
    assert_eq!(summary("dir"), (0o2775, 1000, 2000, 1_600_000_000));
    assert_eq!(summary("dir/setuid"), (0o4755, 1000, 2000, 1_600_000_000));
    assert_eq!(
        summary("dir/roots"),
        (0o644, 0, 0, 1_600_000_000),
        "set-group-id gives nothing away"
    );
    assert_eq!(summary("dir/link").1, 1000);
    assert_eq!(summary("pipe"), (0o600, 1000, 2000, 1_600_000_000));
    assert!(place.stat("pipe").file_type().is_fifo());
    assert!(place.stat("null").file_type().is_char_device() && place.stat("null").rdev() == 0x103);
    assert!(place.stat("disk").file_type().is_block_device());
    assert_eq!(place.stat("hard").ino(), place.stat("dir/setuid").ino());
    assert_eq!(std::fs::read(place.path("hard")).expect("read"), b"binary");
    place.check_outside("attributes");
}

#[tokio::test]
async fn attributes_of_programs_are_kept_and_those_of_the_host_dropped() {
    let place = Place::new();
    // Version 2 file capabilities: NET_RAW, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let bytes = Tarball::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability[..]),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.security.selinux", b"evil"),
            ("SCHILY.xattr.system.posix_acl_access", b"acl"),
        ])
        .entry(&Head { name: b"ping", uid: 5, mode: 0o755, ..Head::default() }, b"binary")
        .finish();
    let report = unpacked(place.unpack(&bytes).await);
    assert_eq!(report.dropped_xattrs, 4);
    let ping = place.path("ping");
    assert_eq!(xattr(&ping, "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&ping, "user.note").as_deref(), Some(&b"kept"[..]));
    for name in ["trusted.overlay.opaque", "user.overlay.redirect", "security.selinux"] {
        assert_eq!(xattr(&ping, name), None, "{name}");
    }
}

#[tokio::test]
async fn whiteouts_hide_lower_layers_and_nothing_else() {
    let place = Place::new();
    let bytes = Tarball::new()
        .directory("etc/", 0o755)
        .file("etc/.wh.gone", b"")
        .directory("opt/", 0o755)
        .file("opt/.wh..wh..opq", b"")
        .file("opt/new", b"1")
        .file("deep/in/.wh..wh..opq", b"")
        .directory("kept/", 0o755)
        .file("kept/file", b"1")
        .file(".wh.kept", b"")
        .file(".wh.replaced", b"")
        .directory("replaced/", 0o700)
        .file("stays", b"1")
        .file(".wh.stays", b"")
        .file(".wh.refilled", b"")
        .file("refilled", b"2")
        .file(".wh..wh.plnk", b"")
        .finish();
    let report = unpacked(place.unpack(&bytes).await);
    let is_whiteout = |name: &str| {
        let stat = place.stat(name);
        stat.file_type().is_char_device() && stat.rdev() == 0
    };
    assert!(is_whiteout("etc/gone"));
    assert!(!is_whiteout("stays") && !is_whiteout("refilled"));
    assert!(place.stat("replaced").is_dir() && place.stat("kept/file").is_file());
    assert_eq!(decoded(&report.marks.opaque), ["deep/in", "kept", "opt", "replaced"]);
    assert_eq!(decoded(&report.marks.implied), ["deep", "deep/in"]);
    assert_eq!(std::fs::read_dir(place.layer()).expect("listed").count(), 7, "no .wh. names");
}

#[tokio::test]
async fn malformed_whiteouts_are_errors() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh./x"] {
        let place = Place::new();
        let report = place.unpack(&Tarball::new().file(name, b"").finish()).await;
        match report {
            Report::Failed { kind, .. } => assert_eq!(kind, FailureKind::Corrupt, "{name}"),
            // `.wh./x` is a file in a directory whose name looks like a whiteout.
            Report::Unpacked(_) => assert_eq!(name, "a/.wh./x"),
        }
        place.check_outside(name);
    }
    let place = Place::new();
    let bytes =
        Tarball::new().directory("d/", 0o755).symlink("l", "d").file("l/.wh.x", b"").finish();
    assert_eq!(failure(place.unpack(&bytes).await).0, FailureKind::Corrupt);
}

#[tokio::test]
async fn a_later_entry_replaces_an_earlier_one() {
    let place = Place::new();
    let bytes = Tarball::new()
        .file("a", b"first")
        .file("a", b"second")
        .directory("b/", 0o755)
        .file("b/c/d", b"deep")
        .file("b/.wh..wh..opq", b"")
        .file("b", b"file now")
        .symlink("l", "a")
        .file("l", b"no link")
        .file("f", b"x")
        .directory("f/", 0o711)
        .directory("kept/", 0o755)
        .file("kept/x", b"1")
        .directory("kept/", 0o700)
        .hard_link("same", "a")
        .hard_link("same", "a")
        .hard_link("a", "same")
        .finish();
    let report = unpacked(place.unpack(&bytes).await);
    let text = |name: &str| std::fs::read_to_string(place.path(name)).expect(name);
    assert_eq!([text("a"), text("b"), text("l")], ["second", "file now", "no link"]);
    assert_eq!(place.stat("f").mode() & 0o7777, 0o711);
    assert_eq!((place.stat("kept").mode() & 0o7777, text("kept/x").as_str()), (0o700, "1"));
    assert_eq!(place.stat("a").nlink(), 2);
    assert_eq!((report.marks.opaque.len(), report.marks.implied.len()), (0, 0), "of what is gone");
}

#[tokio::test]
async fn sparse_files_have_holes() {
    let place = Place::new();
    let bytes = Tarball::new()
        .pax(&[("GNU.sparse.size", b"1073741824"), ("GNU.sparse.map", b"0,1,1073741820,4")])
        .file("s", b"abcde")
        .finish();
    unpacked(place.unpack(&bytes).await);
    let stat = place.stat("s");
    assert_eq!(stat.len(), 1 << 30);
    assert!(stat.blocks() < 1024, "{} blocks", stat.blocks());
    let file = File::open(place.path("s")).expect("open");
    let mut end = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, (1 << 30) - 4).expect("read");
    assert_eq!(&end, b"bcde");
}

#[tokio::test]
async fn each_compression_is_recognised_and_parts_may_follow_each_other() {
    let bytes = Tarball::new().file("a", &[7; 300_000]).finish();
    let (front, back) = bytes.split_at(1000);
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 3).expect("compressed");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (case, stream) in [
        ("plain", bytes.clone()),
        ("gzip", gzip(&bytes)),
        ("two gzip members", [gzip(front), gzip(back)].concat()),
        ("zstd", zstd(&bytes)),
        ("two zstd frames", [zstd(front), zstd(back)].concat()),
        ("a skippable frame first", [skippable, zstd(&bytes)].concat()),
    ] {
        let place = Place::new();
        let report = unpacked(place.unpack(&stream).await);
        assert_eq!(report.diff_id, crate::testing::sha256(&bytes), "{case}");
        assert_eq!(place.stat("a").len(), 300_000, "{case}");
    }
}

#[tokio::test]
async fn damaged_streams_are_corrupt() {
    let bytes = Tarball::new().file("a", &[7; 300_000]).finish();
    let whole = gzip(&bytes);
    let mut flipped = whole.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    for (case, stream) in [
        ("cut gzip", whole[..whole.len() / 2].to_vec()),
        ("a wrong gzip checksum", flipped),
        ("garbage after gzip", [&whole[..], b"garbage"].concat()),
        ("no archive", b"this is no archive, though it is long enough".repeat(20)),
        ("a window of 2 GiB", vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]),
        ("cut archive", gzip(&bytes[..1000])),
    ] {
        let place = Place::new();
        let (kind, detail) = failure(place.unpack(&stream).await);
        assert_eq!(kind, FailureKind::Corrupt, "{case}: {detail}");
    }
}

#[tokio::test]
async fn layers_beyond_the_limits_are_refused() {
    let limits = LayerLimits { bytes: 1 << 20, inodes: 10, depth: 5, ratio: 10 };
    let many =
        (0..20).fold(Tarball::new(), |tar, number| tar.file(&format!("f{number}"), b"")).finish();
    let implied = (0..5)
        .fold(Tarball::new(), |tar, number| tar.file(&format!("{number}/a/b/c"), b""))
        .finish();
    let sparse = Tarball::new()
        .pax(&[("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.map", b"0,1")])
        .file("s", b"a")
        .finish();
    for (case, bytes) in [
        ("bytes", Tarball::new().file("a", &vec![0; 2 << 20]).finish()),
        ("a hole of a terabyte", sparse),
        ("files", many),
        ("implied directories", implied),
    ] {
        let place = Place::new();
        let (kind, detail) = failure(place.unpack_with(&gzip(&bytes), limits).await);
        assert_eq!(kind, FailureKind::TooLarge, "{case}: {detail}");
    }
    let place = Place::new();
    let deep = Tarball::new().file("a/b/c/d/e/f", b"").finish();
    assert_eq!(failure(place.unpack_with(&deep, limits).await).0, FailureKind::Corrupt);
}

#[tokio::test]
async fn a_stream_that_grows_too_much_is_stopped() {
    // A gibibyte and a half of zeros is a few kilobytes of zstd.
    let zeros = std::io::Read::take(std::io::repeat(0), 3 << 29);
    let stream = zstd::stream::encode_all(zeros, 1).expect("compressed");
    let place = Place::new();
    let (kind, detail) = failure(place.unpack(&stream).await);
    assert_eq!(kind, FailureKind::TooLarge, "{detail}");
}

#[tokio::test]
async fn names_are_kept_byte_by_byte() {
    let place = Place::new();
    let names: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", b" ", b"Case", b"case"];
    let tar = names
        .iter()
        .fold(Tarball::new(), |tar, name| tar.entry(&Head { name, ..Head::default() }, b""));
    unpacked(place.unpack(&tar.finish()).await);
    let mut found: Vec<Vec<u8>> = std::fs::read_dir(place.layer())
        .expect("listed")
        .map(|entry| {
            std::os::unix::ffi::OsStringExt::into_vec(entry.expect("an entry").file_name())
        })
        .collect();
    found.sort();
    let mut expected: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    expected.sort();
    assert_eq!(found, expected);
    for (case, tar) in [
        ("a name that is too long", Tarball::new().pax(&[("path", &[b'x'; 256])]).file("f", b"")),
        ("a file as a directory", Tarball::new().file("f", b"").file("f/x", b"")),
        ("a link to what it hides", Tarball::new().file(".wh.x", b"").hard_link("h", "x")),
        ("a link below a file", Tarball::new().file("f", b"").hard_link("h", "f/x")),
        ("a link to a directory", Tarball::new().directory("d", 0o755).hard_link("h", "d")),
        ("a link to the root", Tarball::new().hard_link("h", "/")),
        ("the root as a file", Tarball::new().file(".", b"x")),
        ("the root as a link", Tarball::new().symlink("/", "x")),
        ("an empty link", Tarball::new().symlink("l", "")),
    ] {
        let place = Place::new();
        let (kind, detail) = failure(place.unpack(&tar.finish()).await);
        assert!(matches!(kind, FailureKind::Corrupt | FailureKind::System), "{case}: {detail}");
    }
}

/// Every way to point outside, with every kind of entry written through it.
#[tokio::test]
async fn no_layer_reaches_outside_its_directory() {
    let outside = Place::new();
    let root = outside.directory.path().to_str().expect("a path").to_owned();
    let targets =
        ["..", "../..", "/", "../canary", "/canary", &root, &format!("{root}/canary"), ".", "loop"];
    let kinds = [b'0', b'1', b'2', b'3', b'5', b'6'];
    let mut cases = 0;
    for target in targets {
        for kind in kinds {
            for name in ["x", "x/canary", "x/../canary", "x//./canary/", "y/x/canary"] {
                let head = |name: &'static str| Head {
                    name: name.as_bytes(),
                    kind,
                    mode: 0o7777,
                    uid: 99,
                    link: b"x",
                    device: (1, 3),
                    ..Head::default()
                };
                let chain = Tarball::new()
                    .directory("d/", 0o755)
                    .symlink("x", target)
                    .symlink("y", ".")
                    .symlink("loop", "loop");
                let bytes =
                    chain.entry(&head(name), b"").file(&format!("{name}/.wh.canary"), b"").finish();
                // Whether it is an error depends on the case; that nothing happens outside doesn't.
                let _report = outside.unpack(&bytes).await;
                outside.check_outside(&format!("{target} {name} {}", char::from(kind)));
                std::fs::remove_dir_all(outside.layer()).expect("removed");
                DirBuilder::new().create(outside.layer()).expect("made");
                cases += 1;
            }
        }
    }
    for name in ["../canary", "/../canary", "a/../../canary", "..", "../layer/../canary"] {
        let bytes = Tarball::new().file(name, b"x").finish();
        assert_eq!(failure(outside.unpack(&bytes).await).0, FailureKind::Corrupt, "{name}");
        let bytes = Tarball::new().hard_link("h", name).finish();
        assert_eq!(failure(outside.unpack(&bytes).await).0, FailureKind::Corrupt, "link to {name}");
        outside.check_outside(name);
        cases += 2;
    }
    assert!(cases > 250, "{cases}");
}

#[tokio::test]
async fn a_directory_that_becomes_a_link_is_not_followed_from_memory() {
    let place = Place::new();
    let bytes = Tarball::new()
        .directory("a/", 0o755)
        .file("a/one", b"1")
        .symlink("a", "..")
        .entry(&Head { name: b"a/canary", mode: 0o777, ..Head::default() }, b"evil")
        .finish();
    let _report = place.unpack(&bytes).await;
    place.check_outside("stale resolution");
    let place = Place::new();
    let bytes = Tarball::new()
        .symlink("x", "/canary")
        .pax(&[("SCHILY.xattr.user.evil", b"1")])
        .directory("x/", 0o777)
        .finish();
    unpacked(place.unpack(&bytes).await);
    place.check_outside("attributes through a link");
    assert_eq!(xattr(&place.canary(), "user.evil"), None);
}

#[tokio::test]
async fn a_chain_of_links_inside_the_layer_is_followed_inside() {
    let place = Place::new();
    let bytes = Tarball::new()
        .directory("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .file("lib/a", b"1")
        .file("abs/lib/b", b"2")
        .hard_link("c", "lib/a")
        .finish();
    unpacked(place.unpack(&bytes).await);
    assert!(place.stat("usr/lib/a").is_file() && place.stat("usr/lib/b").is_file());
    assert_eq!(place.stat("c").nlink(), 2);
}

#[tokio::test]
async fn links_into_lower_layers_are_told_by_the_names_that_are_left() {
    let place = Place::new();
    let tar = Tarball::new()
        .directory("d", 0o755)
        .hard_link("d/one", "lower/file")
        .hard_link("two", "d/one")
        .hard_link("three", "./lower//file")
        .hard_link("other", "else")
        .hard_link("replaced", "else")
        .file("replaced", b"own")
        .hard_link("gone", "vanished")
        .file("gone", b"own")
        .hard_link("self", "self")
        .finish();
    let unpacked = unpacked(place.unpack(&tar).await);
    let links: Vec<(String, Vec<String>)> = unpacked
        .marks
        .links
        .iter()
        .map(|link| (decoded(std::slice::from_ref(&link.target)).remove(0), decoded(&link.names)))
        .collect();
    let expected = [
        ("else", vec!["other"]),
        ("lower/file", vec!["d/one", "three", "two"]),
        ("self", vec!["self"]),
    ];
    let expected = expected.map(|(target, names)| {
        (target.to_owned(), names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    });
    assert_eq!(links, expected);
    assert_eq!(place.stat("d/one").ino(), place.stat("three").ino());
    assert!(place.stat("replaced").is_file());
}

/// What the daemon's side does with marks must not leave the layer either.
#[test]
fn marks_are_set_inside_the_layer_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let layer = directory.path().join("layer");
    std::fs::create_dir_all(layer.join("fs/d")).expect("made");
    std::fs::create_dir_all(directory.path().join("out")).expect("made");
    std::os::unix::fs::symlink(directory.path(), layer.join("fs/l")).expect("a link");
    rustix::fs::mknodat(
        CWD,
        layer.join("fs/w"),
        FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .expect("a whiteout");
    crate::settle::mark_opaque(&layer, &[EncodedPath::new(b"d")]).expect("marked");
    assert_eq!(xattr(&layer.join("fs/d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    for path in [&b"l/out"[..], b"../../out", b"missing", b"w", b"/l"] {
        let result = crate::settle::mark_opaque(&layer, &[EncodedPath::new(path)]);
        assert!(result.is_err(), "{}", path.escape_ascii());
    }
    assert_eq!(xattr(&directory.path().join("out"), "trusted.overlay.opaque"), None);
}
