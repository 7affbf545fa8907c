//! Real containers, as root, from a root filesystem with one static busybox.
//!
//! Each test runs in a process of its own that has one thread, as the shim has: the test's name is run again in a child. Skipped,
//! with a word, without root or busybox.

mod bench;
mod exec;
mod hooks;
mod mounts;
mod security;
mod users;

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use cringle_kernel::process::{self, Exit};
use oci_spec::runtime::Process;
use serde_json::{Value, json};

use super::*;

/// Set in the process that runs one test alone.
const ALONE: &str = "CRINGLE_TEST_ALONE";

/// Runs a test body in a process of its own. `name` is the test's full path below `engine::tests`.
fn alone(name: &str, body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() || busybox().is_none() {
        eprintln!("skipped because it needs root and a static busybox");
        return;
    }
    if env::var_os(ALONE).is_some() {
        return body();
    }
    let name = format!("engine::tests::{name}");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", &name, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// A bundle in a scratch directory; all of it is gone in the end.
struct Scratch {
    path: PathBuf,
    spec: Value,
    rootfs: Vec<RootfsMount>,
}

/// What a container's program left.
#[derive(Debug)]
struct Done {
    stdout: String,
    exit: Exit,
}

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cringle-engine-{}-{number}", std::process::id());
        let path = env::temp_dir().join(&name);
        let root = path.join("rootfs");
        for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "home"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "echo", "sleep", "id", "mount", "umount", "touch", "true", "stat",
            "grep", "readlink", "mkdir", "mknod", "ps", "hostname", "tty", "stty", "head", "wc",
            "dd", "env", "pwd",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let spec = default_spec(&format!("/{name}"));
        Self { path, spec, rootfs: Vec::new() }
    }

    /// The same, on an overlay with the tree as its lower layer.
    fn overlaid() -> Self {
        let mut scratch = Self::new();
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.path.join(name));
        fs::rename(scratch.path.join("rootfs"), &lower).unwrap();
        for directory in [scratch.path.join("rootfs"), upper.clone(), work.clone()] {
            fs::create_dir_all(directory).unwrap();
        }
        scratch.rootfs = vec![RootfsMount {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={}", lower.display()),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
                "volatile".into(),
            ],
        }];
        scratch
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.spec["process"]["args"] = json!(args);
        self
    }

    fn shell(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let place = self.spec.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) => place[index] = value,
            Err(_) => place[key] = value,
        }
        self
    }

    fn mount(mut self, value: Value) -> Self {
        self.spec["mounts"].as_array_mut().unwrap().push(value);
        self
    }

    fn root(&self, path: &str) -> PathBuf {
        self.path.join("rootfs").join(path)
    }

    fn bundle(&self) -> Bundle {
        let text = serde_json::to_vec(&self.spec).unwrap();
        fs::File::create(self.path.join("config.json"))
            .and_then(|mut file| {
                use std::io::Write as _;
                file.write_all(&text)
            })
            .unwrap();
        Bundle::load(&self.path, self.rootfs.clone()).unwrap()
    }

    fn create(&self) -> Result<(Created, OwnedFd)> {
        let (stdio, out) = pipes();
        Ok((create(&self.bundle(), stdio)?, out))
    }

    /// Creates and starts.
    fn start(&self) -> Result<(Running, OwnedFd)> {
        let (created, out) = self.create()?;
        Ok((created.start()?, out))
    }

    /// Runs the program to its end.
    fn run(&self) -> Result<Done> {
        let (running, out) = self.start()?;
        let stdout = read_all(out);
        let exit = process::wait(running.pidfd()).unwrap();
        Ok(Done { stdout, exit })
    }

    /// What the program writes, which must end well.
    fn output(&self) -> String {
        let done = self.run().unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(done.exit, Exit::Code(0), "{}", done.stdout);
        done.stdout
    }

    /// The directories of its cgroup that are there.
    fn cgroups(&self) -> Vec<PathBuf> {
        let name =
            self.spec["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/').to_owned();
        let below = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        below.map(|entry| entry.path().join(&name)).filter(|path| path.exists()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        delete(&self.path).unwrap();
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        fs::remove_dir_all(&self.path).unwrap();
    }
}

fn default_spec(cgroup: &str) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_KILL"
    ]);
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "TERM=dumb"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "network"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi", "/sys/firmware",
                            "/proc/no-such-file"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// Streams for a program: nothing in, both outputs into one pipe, whose other end is the answer.
fn pipes() -> (Stdio, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stderr = write.try_clone().unwrap();
    (Stdio::Pipes { stdin: None, stdout: write, stderr }, read)
}

fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Waits for a level.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what} in vain");
        std::thread::yield_now();
    }
}

fn process_json(args: &[&str]) -> Value {
    let mut process = default_spec("/x")["process"].clone();
    process["args"] = json!(args);
    process
}

fn parse_process(value: Value) -> Process {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_container_runs_to_its_end_and_leaves_nothing() {
    alone("a_container_runs_to_its_end_and_leaves_nothing", || {
        let before = (cringle_kernel::mountinfo::own().unwrap(), descriptors());
        let scratch = Scratch::overlaid().shell("echo hello; hostname; echo $$; exit 3");
        let done = scratch.run().unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(done.stdout, "hello\ninside\n1\n");
        assert_eq!(done.exit, Exit::Code(3));
        assert!(!scratch.cgroups().is_empty());
        delete(&scratch.path).unwrap();
        delete(&scratch.path).unwrap();
        assert!(scratch.cgroups().is_empty());
        assert_eq!((cringle_kernel::mountinfo::own().unwrap(), descriptors()), before);
    });
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_created_container_waits_until_it_is_started() {
    alone("a_created_container_waits_until_it_is_started", || {
        let scratch = Scratch::new().shell("echo ran");
        let (created, out) = scratch.create().unwrap();
        let state = cringle_kernel::proc::stat(created.child().pid).unwrap();
        assert!(!state.is_zombie());
        let running = created.start().unwrap();
        assert_eq!(read_all(out), "ran\n");
        assert_eq!(process::wait(running.pidfd()).unwrap(), Exit::Code(0));
    });
}

#[test]
fn a_waiting_init_ends_when_its_parent_goes_away_and_can_be_deleted() {
    alone("a_waiting_init_ends_when_its_parent_goes_away_and_can_be_deleted", || {
        let scratch = Scratch::new();
        let (created, _out) = scratch.create().unwrap();
        let pidfd = created.child().pidfd.try_clone().unwrap();
        drop(created);
        assert_eq!(process::wait(pidfd).unwrap(), Exit::Code(1));

        let (created, _out) = scratch.create().unwrap();
        let pidfd = created.child().pidfd.try_clone().unwrap();
        delete(&scratch.path).unwrap();
        assert_eq!(process::wait(pidfd).unwrap(), Exit::Signal(9));
        drop(created);
    });
}

#[test]
fn a_program_that_is_not_there_is_named_and_nothing_is_left() {
    alone("a_program_that_is_not_there_is_named_and_nothing_is_left", || {
        for (args, message) in [
            (&["/nope"][..], "failed to exec \"/nope\": "),
            (&["nope"], "failed to exec \"nope\": executable file not found in $PATH"),
            (&["/etc"], "failed to exec \"/etc\""),
        ] {
            let scratch = Scratch::new().args(args);
            let (created, _out) = scratch.create().unwrap();
            let pidfd = created.child().pidfd.try_clone().unwrap();
            let error = created.start().unwrap_err();
            assert!(chain(&error).starts_with(message), "{}", chain(&error));
            assert!(process::wait(pidfd).is_err(), "it is reaped already");
        }
        let scratch = Scratch::new().args(&["/script"]);
        fs::File::create(scratch.root("script"))
            .and_then(|mut file| {
                use std::io::Write as _;
                file.write_all(b"#!/no/interpreter\n")
            })
            .unwrap();
        fs::set_permissions(
            scratch.root("script"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let error = scratch.start().unwrap_err();
        assert!(chain(&error).contains("interpreter"), "{}", chain(&error));
        assert_eq!(error.errno(), Some(2));
    });
}

#[test]
fn a_failed_create_gives_everything_back() {
    alone("a_failed_create_gives_everything_back", || {
        let scratch = Scratch::new()
            .mount(json!({"destination": "/x", "source": "/no/such/path", "options": ["bind"]}));
        let error = scratch.create().unwrap_err();
        assert_eq!(
            chain(&error),
            "failed to open mount source \"/no/such/path\": open_tree \"/no/such/path\": No such file or directory (os error 2)"
        );
        assert!(scratch.cgroups().is_empty());
        assert!(!scratch.path.join("state.json").exists());
    });
}

#[test]
fn limits_are_set_and_changed_and_a_bad_change_changes_nothing() {
    alone("limits_are_set_and_changed_and_a_bad_change_changes_nothing", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]).set(
            "/linux/resources",
            json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 512}, "pids": {"limit": 50}}),
        );
        let (running, _out) = scratch.start().unwrap();
        let read = |controller, file: &str| {
            let directory = running.cgroup().directory_of(controller).unwrap();
            fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
        };
        use cringle_kernel::cgroup::Controller;
        assert_eq!(read(Controller::Pids, "pids.max"), "50");
        let change = serde_json::from_value(json!({"pids": {"limit": 60}})).unwrap();
        running.update(&change).unwrap();
        assert_eq!(read(Controller::Pids, "pids.max"), "60");
        let bad = json!({"pids": {"limit": 70}, "cpu": {"cpus": "9999"}});
        running.update(&serde_json::from_value(bad).unwrap()).unwrap_err();
        assert_eq!(read(Controller::Pids, "pids.max"), "60");
        running.kill_all().unwrap();
        process::wait(running.pidfd()).unwrap();
    });
}

#[test]
fn pausing_stops_and_killing_ends_every_process() {
    alone("pausing_stops_and_killing_ends_every_process", || {
        let scratch = Scratch::new().shell("sleep 100 & sleep 100 & while :; do sleep 100; done");
        let (running, _out) = scratch.start().unwrap();
        until("four processes", || running.pids().unwrap().len() == 4);
        running.pause().unwrap();
        running.resume().unwrap();
        running.signal(15, Target::All).unwrap();
        running.signal(9, Target::Init).unwrap();
        assert_eq!(process::wait(running.pidfd()).unwrap(), Exit::Signal(9));
        until("no process", || running.pids().unwrap().is_empty());
    });
}

#[test]
fn a_terminal_is_made_inside_and_controls_the_session() {
    alone("a_terminal_is_made_inside_and_controls_the_session", || {
        let scratch = Scratch::new()
            .shell("tty; stty size; ls -l /dev/console /proc/self/fd/0; echo typed > /dev/tty")
            .set("/process/consoleSize", json!({"height": 33, "width": 111}));
        let mut created = create(&scratch.bundle(), Stdio::Terminal).unwrap();
        let master = created.take_master().unwrap();
        let running = created.start().unwrap();
        assert_eq!(process::wait(running.pidfd()).unwrap(), Exit::Code(0));
        let text = read_terminal(&master);
        for word in ["/dev/pts/0\r\n", "33 111\r\n", "typed\r\n", "/dev/console"] {
            assert!(text.contains(word), "{word:?} in {text}");
        }
    });
}

/// What a terminal holds whose program has ended.
fn read_terminal(master: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(master.as_fd(), &mut part) {
        text.extend_from_slice(&part[..length]);
    }
    String::from_utf8(text).unwrap()
}

/// A directory beside the root that a container must not change.
fn canary(scratch: &Scratch) -> PathBuf {
    let path = scratch.path.join("canary");
    fs::create_dir_all(&path).unwrap();
    for name in ["ptmx", "fd", "null", "passwd"] {
        fs::File::create(path.join(name)).unwrap();
    }
    path
}

fn listing(path: &Path) -> Vec<(PathBuf, u64, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut entries: Vec<_> = fs::read_dir(path)
        .unwrap()
        .flatten()
        .map(|entry| {
            let status = fs::symlink_metadata(entry.path()).unwrap();
            (entry.path(), status.ino(), status.mode())
        })
        .collect();
    entries.sort();
    entries
}
