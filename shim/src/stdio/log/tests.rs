//! The log file against a real file system.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cringle-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn log_path(&self) -> PathBuf {
        self.0.join("pod/container/0.log")
    }

    fn make_container_directory(&self) {
        fs::create_dir_all(self.0.join("pod/container")).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Writes `text` into a pipe and lets the log take it.
fn say(log: &mut Log, stream: Stream, text: &[u8]) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&writer, text).unwrap();
    assert_eq!(log.take_from(reader.as_fd(), stream).unwrap(), text.len());
}

fn contents(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line[31..].to_owned()).collect()
}

#[test]
fn the_file_and_its_directories_are_made_with_the_modes_that_readers_expect() {
    let scratch = Scratch::new("modes");
    let log = Log::new(scratch.log_path());
    assert_eq!(log.fault(), None);
    let mode = |path: &str| fs::metadata(scratch.0.join(path)).unwrap().permissions().mode();
    assert_eq!(mode("pod/container/0.log") & 0o777, 0o640);
    assert_eq!(mode("pod/container") & 0o777, 0o755);
}

#[test]
fn lines_of_both_streams_are_appended() {
    let scratch = Scratch::new("both");
    let mut log = Log::new(scratch.log_path());
    say(&mut log, Stream::Output, b"one\ntwo");
    say(&mut log, Stream::Error, b"oops\n");
    say(&mut log, Stream::Output, b" three\n");
    let lines = contents(&scratch.log_path());
    assert_eq!(lines, ["stdout F one", "stderr F oops", "stdout F two three"]);
}

#[test]
fn after_reopening_lines_go_to_the_new_file_even_if_they_had_begun() {
    let scratch = Scratch::new("reopen");
    let mut log = Log::new(scratch.log_path());
    say(&mut log, Stream::Output, b"old\nbeg");
    let rotated = scratch.0.join("rotated");
    fs::rename(scratch.log_path(), &rotated).unwrap();
    say(&mut log, Stream::Error, b"still old\n");
    log.reopen().unwrap();
    assert_eq!(contents(&scratch.log_path()).len(), 0, "the file is there at return");
    say(&mut log, Stream::Output, b"un\n");
    assert_eq!(contents(&rotated), ["stdout F old", "stderr F still old"]);
    assert_eq!(contents(&scratch.log_path()), ["stdout F begun"]);
}

#[test]
fn nothing_is_written_through_links_or_into_anything_but_a_plain_file() {
    let scratch = Scratch::new("foreign");
    let canary = scratch.0.join("canary");
    fs::File::create(&canary).unwrap();
    let path = scratch.log_path();
    let plant: [(&str, &dyn Fn()); 5] = [
        ("symbolic link", &|| symlink(&canary, &path).unwrap()),
        ("dangling link", &|| symlink(scratch.0.join("none"), &path).unwrap()),
        ("hard link", &|| fs::hard_link(&canary, &path).unwrap()),
        ("FIFO", &|| {
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        }),
        ("directory", &|| fs::create_dir_all(&path).unwrap()),
    ];
    for (case, plant) in plant {
        scratch.make_container_directory();
        plant();
        let mut log = Log::new(path.clone());
        assert!(log.fault().is_some(), "{case}");
        say(&mut log, Stream::Output, b"secret\n");
        assert_eq!(fs::read(&canary).unwrap(), b"", "{case}");
        assert!(log.reopen().is_err(), "{case}");
        fs::remove_dir_all(scratch.0.join("pod")).unwrap();
    }
    assert!(!scratch.0.join("none").exists());
}

#[test]
fn a_directory_that_became_a_link_is_not_followed() {
    let scratch = Scratch::new("directory-link");
    fs::create_dir_all(scratch.0.join("elsewhere")).unwrap();
    fs::create_dir_all(scratch.0.join("pod")).unwrap();
    symlink(scratch.0.join("elsewhere"), scratch.0.join("pod/container")).unwrap();
    assert!(Log::new(scratch.log_path()).fault().is_some());
    fs::remove_dir_all(scratch.0.join("pod")).unwrap();
    symlink(scratch.0.join("elsewhere"), scratch.0.join("pod")).unwrap();
    assert!(Log::new(scratch.log_path()).fault().is_some());
    assert_eq!(fs::read_dir(scratch.0.join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_path_that_is_not_plain_is_refused() {
    for path in ["relative/0.log", "/tmp/../etc/0.log", "/"] {
        assert!(Log::new(PathBuf::from(path)).fault().is_some(), "{path}");
    }
}

#[test]
fn lines_lost_while_the_file_was_missing_are_counted_in_the_first_line_after() {
    let scratch = Scratch::new("lost");
    scratch.make_container_directory();
    fs::create_dir_all(scratch.log_path()).unwrap();
    let mut log = Log::new(scratch.log_path());
    say(&mut log, Stream::Output, b"a\nb\n");
    fs::remove_dir_all(scratch.log_path()).unwrap();
    log.reopen().unwrap();
    say(&mut log, Stream::Output, b"c\n");
    let lines = contents(&scratch.log_path());
    assert!(lines[0].starts_with("stderr F cringle lost 2 lines of log ("), "{lines:?}");
    assert_eq!(lines[1..], ["stdout F c"]);
    assert_eq!(log.fault(), None);
}

#[test]
fn a_full_disk_drops_lines_and_heals() {
    let scratch = Scratch::new("full");
    scratch.make_container_directory();
    let directory = scratch.0.join("pod/container");
    let mounted = rustix::mount::mount(
        "cringle-test",
        &directory,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=16k"),
    );
    if mounted.is_err() {
        eprintln!("skipped because mounting needs privilege");
        return;
    }
    let mut log = Log::new(scratch.log_path());
    for _ in 0..10 {
        say(&mut log, Stream::Output, &[&[b'x'; 3000][..], b"\n"].concat());
    }
    assert!(log.fault().is_some());
    let whole = fs::read(scratch.log_path()).unwrap();
    assert_eq!(whole.last(), Some(&b'\n'), "no torn line at the end");
    fs::remove_file(scratch.log_path()).unwrap();
    log.reopen().unwrap();
    say(&mut log, Stream::Output, b"well again\n");
    let lines = contents(&scratch.log_path());
    rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(lines[0].contains("cringle lost 5 lines"), "{lines:?}");
    assert_eq!(lines[1..], ["stdout F well again"]);
}
