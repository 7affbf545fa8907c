//! What must hold of a container under a shim, whoever asks.

use super::supervisor::{
    self, ExecBounds, ExecError, Launch, LogTarget, ShimProgram, ShimState, Supervisor,
    SupervisorError, TerminalMode,
};
use cringle_domain::process::{Outcome, Signal};
use cringle_domain::spec::Input;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

/// A bundle with a root of its own; all of it goes with this value, the container first.
struct Container {
    directory: PathBuf,
    name: String,
    spec: Value,
    terminal: TerminalMode,
    input: Input,
}

impl Container {
    /// A container that runs `script`.
    fn new(script: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cringle-test-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::DirBuilder::new().mode(0o755).create(&directory).unwrap();
        let root = directory.join("root");
        for place in ["bin", "proc", "dev", "sys", "tmp"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "sleep", "echo", "cat", "dd", "true", "kill", "seq", "tail", "setsid", "stty",
            "ps",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::create_dir_all(directory.join("bundle")).unwrap();
        let spec = spec(&root, &name, &["/bin/sh", "-c", script]);
        Self { directory, name, spec, terminal: TerminalMode::Absent, input: Input::Closed }
    }

    fn bundle(&self) -> PathBuf {
        self.directory.join("bundle")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("pod/container/0.log")
    }

    fn launch(&self) -> Launch {
        let config = fs::File::create(self.bundle().join("config.json")).unwrap();
        serde_json::to_writer(config, &self.spec).unwrap();
        Launch {
            bundle: self.bundle(),
            id: self.name.clone(),
            stdout: LogTarget::CriLog(self.log_path()),
            terminal: self.terminal,
            input: self.input,
            restore: None,
            rootfs: Vec::new(),
        }
    }

    async fn created(&self) -> Supervisor {
        let launch = self.launch();
        let supervisor = Supervisor::launch(program(), &launch).await.unwrap();
        supervisor.create(&launch).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        supervisor
    }

    async fn started(&self) -> Supervisor {
        let supervisor = self.created().await;
        supervisor.start().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        supervisor
    }

    /// Runs it to its end and gives how it ended.
    async fn outcome(&self) -> Outcome {
        let supervisor = self.started().await;
        let exit = within(supervisor.exited()).await.unwrap();
        supervisor.delete().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        exit.outcome
    }

    /// The log's lines without their times.
    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines().filter_map(|line| line.get(31..).map(str::to_owned)).collect()
    }

    /// Waits until the log has a line with `text`.
    async fn logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            self.log().iter().any(|line| line.contains(text))
        })
        .await;
    }

    fn cgroup_directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let place = hierarchy.unwrap().path().join(&self.name);
            if place.exists() {
                found.push(place);
            }
        }
        found
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let bundle = self.bundle();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(supervisor::end(&bundle)).unwrap();
        })
        .join()
        .unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn spec(root: &Path, name: &str, arguments: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(arguments),
        "root": { "path": root, "readonly": false },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{name}"),
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" },
            ],
        },
    })
}

fn process(arguments: &[&str]) -> Value {
    json!({
        "user": { "uid": 0, "gid": 0 },
        "args": arguments,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
    })
}

fn oci_process(script: &str) -> oci_spec::runtime::Process {
    serde_json::from_value(process(&["/bin/sh", "-c", script])).unwrap()
}

/// Bounds of one's own: only the cap counts.
fn keeping(cap: usize) -> ExecBounds {
    ExecBounds::new(cap, 8, 8)
}

/// The shim beside this test's own program.
fn program() -> &'static ShimProgram {
    static PROGRAM: OnceLock<ShimProgram> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let directory = own.parent().and_then(Path::parent).unwrap();
        ShimProgram::load(&directory.join("containerd-shim-cringle-v2")).unwrap()
    })
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "no {what} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn is_there(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Kills one process by its id.
fn kill_process(pid: i32) {
    let pidfd = cringle_kernel::process::open(pid).unwrap();
    cringle_kernel::process::signal(&pidfd, 9).unwrap();
}

fn shim_pid(container: &Container) -> i32 {
    let record = fs::read(container.bundle().join("shim.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    i32::try_from(record["pid"].as_i64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_exits_and_leaves_nothing() {
    let container = Container::new("echo out; echo err >&2; exit 3");
    let supervisor = container.created().await;
    assert!(matches!(supervisor.state().await.unwrap(), ShimState::Created(_)));
    let started = supervisor.start().await.unwrap();
    let exit = within(supervisor.exited()).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(3));
    assert_eq!(supervisor::read_exit_record(&container.bundle()), Some(exit.clone()));
    assert_eq!(supervisor.state().await.unwrap(), ShimState::Exited(exit));
    let mut log = container.log();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out"]);
    let shim = shim_pid(&container);
    assert!(supervisor.is_alive());
    supervisor.delete().await.unwrap();
    assert!(!supervisor.is_alive());
    assert!(!is_there(started.pid));
    until("end of the shim", || !is_there(shim)).await;
    assert_eq!(container.cgroup_directories(), Vec::<PathBuf>::new());
    supervisor.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_a_start_error_with_its_reason() {
    let mut container = Container::new("");
    container.spec["process"]["args"] = json!(["/nope"]);
    let supervisor = container.created().await;
    let error = supervisor.start().await.unwrap_err();
    assert!(matches!(error, SupervisorError::Refused { .. }), "{error:?}");
    assert!(chain(&error).contains("/nope"), "{}", chain(&error));
    let exit = within(supervisor.exited()).await.unwrap();
    assert!(
        matches!(&exit.outcome, Outcome::NeverStarted(why) if why.contains("/nope")),
        "{exit:?}"
    );
    supervisor.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_a_signal_and_after_its_deadline_a_kill() {
    let polite = Container::new("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let supervisor = polite.started().await;
    polite.logged("ready").await;
    supervisor.stop(Signal::TERM, Duration::from_secs(1000)).await.unwrap();
    assert_eq!(within(supervisor.exited()).await.unwrap().outcome, Outcome::Code(7));
    let deaf = Container::new("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    let supervisor = deaf.started().await;
    deaf.logged("ready").await;
    supervisor.stop(Signal::TERM, Duration::from_secs(1000)).await.unwrap();
    supervisor.stop(Signal::TERM, Duration::from_millis(50)).await.unwrap();
    supervisor.stop(Signal::TERM, Duration::from_secs(1000)).await.unwrap();
    assert_eq!(within(supervisor.exited()).await.unwrap().outcome, Outcome::Signal(Signal::KILL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_goes_on_and_nothing_is_lost_while_no_daemon_is_there() {
    let container =
        Container::new("trap '' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
    let supervisor = container.started().await;
    container.logged("stdout F 3").await;
    supervisor.stop(Signal::TERM, Duration::from_millis(300)).await.unwrap();
    drop(supervisor);
    until("exit record", || supervisor::read_exit_record(&container.bundle()).is_some()).await;
    let numbers = container.log().into_iter().enumerate();
    for (number, line) in numbers {
        assert_eq!(line, format!("stdout F {number}"));
    }
    let again = Supervisor::connect(&container.bundle(), DEADLINE).await.unwrap();
    let exit = within(again.exited()).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Signal(Signal::KILL));
    again.acknowledge_exit().await.unwrap();
    assert_eq!(supervisor::read_exit_record(&container.bundle()), None);
    again.delete().await.unwrap();
    assert!(matches!(
        Supervisor::connect(&container.bundle(), DEADLINE).await,
        Err(SupervisorError::Gone)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_gives_its_output_and_code_and_its_cap_is_kept() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "echo one; echo two >&2; exit 5";
    let output =
        within(supervisor.exec_sync(&oci_process(script), None, &keeping(1000))).await.unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"one\n"[..], &b"two\n"[..])
    );
    assert_eq!(output.exit_code, 5);
    let flood = oci_process("dd if=/dev/zero bs=1024 count=1000 2>/dev/null; echo end >&2");
    let output = within(supervisor.exec_sync(&flood, None, &keeping(1000))).await.unwrap();
    assert_eq!((output.stdout.len(), output.stderr.as_slice()), (1000, &b"end\n"[..]));
    let mut absent = oci_process("");
    absent.set_args(Some(vec!["/nope".to_owned()]));
    let error = within(supervisor.exec_sync(&absent, None, &keeping(1000))).await.unwrap_err();
    assert!(
        matches!(&error, ExecError::NotExecuted { text, .. } if text.contains("/nope")),
        "{error:?}"
    );
    let closing = oci_process("exec >&- 2>&-; exit 4");
    assert_eq!(
        within(supervisor.exec_sync(&closing, None, &keeping(10))).await.unwrap().exit_code,
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_that_leaves_its_pipes_to_others_is_not_waited_for() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "(sleep 1000) & echo done";
    let output =
        within(supervisor.exec_sync(&oci_process(script), None, &keeping(1000))).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_whose_time_is_up_dies_with_its_offspring() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script =
        "sleep 4321 & (sleep 4321 & setsid sleep 4321) & (setsid sleep 4321 &); sleep 4321";
    let timeout = Some(Duration::from_millis(300));
    let error = within(supervisor.exec_sync(&oci_process(script), timeout, &keeping(1000)))
        .await
        .unwrap_err();
    assert!(matches!(error, ExecError::TimedOut), "{error:?}");
    streams::gone(&supervisor, "[s]leep 4321").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_whose_caller_gives_up_is_killed() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    {
        let process = oci_process("echo begun >/proc/1/fd/1; sleep 4322");
        let bounds = keeping(1000);
        let exec = supervisor.exec_sync(&process, None, &bounds);
        tokio::select! {
            _ = exec => panic!("ended"),
            () = container.logged("begun") => {}
        }
    }
    streams::gone(&supervisor, "[s]leep 4322").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_opened_anew_goes_on_in_the_new_file_and_nothing_is_lost() {
    let container = Container::new("seq 1 200000; sleep 1000");
    let supervisor = container.started().await;
    let mut rotated = Vec::new();
    for number in 0..5 {
        let old = container.directory.join(format!("rotated-{number}"));
        until("log", || container.log_path().exists()).await;
        fs::rename(container.log_path(), &old).unwrap();
        supervisor.reopen_log().await.unwrap();
        assert!(container.log_path().exists(), "at return");
        rotated.push(old);
    }
    container.logged("stdout F 200000").await;
    let mut all = String::new();
    for path in rotated.iter().chain([&container.log_path()]) {
        all.push_str(&fs::read_to_string(path).unwrap());
    }
    let numbers: Vec<u32> = all.lines().map(|line| line[40..].parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=200_000), "{} lines", numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_is_told_and_holds_nobody_up() {
    let container = Container::new("seq 1 100000; exit 6");
    fs::create_dir_all(container.log_path()).unwrap();
    let supervisor = container.started().await;
    assert!(supervisor.log_fault().await.unwrap().is_some());
    assert_eq!(within(supervisor.exited()).await.unwrap().outcome, Outcome::Code(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn lack_of_memory_is_the_reason_even_if_it_was_a_child() {
    for script in
        ["dd if=/dev/zero of=/dev/null bs=60M", "exec dd if=/dev/zero of=/dev/null bs=60M"]
    {
        let mut container = Container::new(script);
        let limit = 20 << 20;
        container.spec["linux"]["resources"] =
            json!({ "memory": { "limit": limit, "swap": limit } });
        assert_eq!(container.outcome().await, Outcome::OutOfMemory, "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one_stream_of_output() {
    let mut container = Container::new("stty size; echo err >&2; test -t 0 && echo yes");
    container.terminal = TerminalMode::Present;
    container.spec["process"]["terminal"] = json!(true);
    assert_eq!(container.outcome().await, Outcome::Code(0));
    let log = container.log();
    assert!(log.iter().any(|line| line.starts_with("stdout F err")), "{log:?}");
    assert!(log.iter().any(|line| line.starts_with("stdout F yes")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_kept_open_has_no_end() {
    let mut container = Container::new("echo ready; cat; echo never");
    container.input = Input::Open;
    let supervisor = container.started().await;
    container.logged("ready").await;
    assert!(matches!(supervisor.state().await.unwrap(), ShimState::Running(_)));
    supervisor.kill_all().await.unwrap();
    assert_eq!(within(supervisor.exited()).await.unwrap().outcome, Outcome::Signal(Signal::KILL));
    let closed = Container::new("cat; echo end");
    assert_eq!(closed.outcome().await, Outcome::Code(0));
    assert_eq!(closed.log(), ["stdout F end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_leaves_behind_in_a_shared_pid_namespace_is_killed() {
    let mut container = Container::new("sleep 5432 & setsid sleep 5432 & echo $!; exit 0");
    let namespaces = container.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    assert_eq!(container.outcome().await, Outcome::Code(0));
    let left: i32 = container.log()[0].strip_prefix("stdout F ").unwrap().parse().unwrap();
    until("end of the process left behind", || !is_there(left)).await;
    assert_eq!(container.cgroup_directories(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_was_killed_or_hangs_is_ended_with_its_container() {
    for hang in [false, true] {
        let container = Container::new("echo ready; sleep 1000");
        let launch = container.launch();
        let supervisor = Supervisor::launch(program(), &launch).await.unwrap();
        let init = supervisor.create(&launch).await.unwrap();
        supervisor.start().await.unwrap();
        container.logged("ready").await;
        let shim = shim_pid(&container);
        if hang {
            let pidfd = cringle_kernel::process::open(shim).unwrap();
            cringle_kernel::process::signal(&pidfd, 19).unwrap();
        } else {
            kill_process(shim);
            assert_eq!(within(supervisor.exited()).await, None);
        }
        within(supervisor::end(&container.bundle())).await.unwrap();
        until("end of the shim", || !is_there(shim)).await;
        until("end of the container", || !is_there(init.pid)).await;
        assert_eq!(container.cgroup_directories(), Vec::<PathBuf>::new());
        within(supervisor::end(&container.bundle())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_container_ended_is_known_though_its_shim_stands_still() {
    let killed = Outcome::Signal(Signal::from_number(9).unwrap());
    for (body, shim_is, expected) in [
        ("sleep 1000", Shim::StandsStill, killed.clone()),
        ("sleep 0.3; exit 7", Shim::StandsStill, Outcome::Code(7)),
        ("sleep 1000", Shim::Works, killed.clone()),
    ] {
        let container = Container::new(&format!("echo ready; {body}"));
        let launch = container.launch();
        let supervisor = Supervisor::launch(program(), &launch).await.unwrap();
        let init = supervisor.create(&launch).await.unwrap();
        supervisor.start().await.unwrap();
        container.logged("ready").await;
        if shim_is == Shim::StandsStill {
            let pidfd = cringle_kernel::process::open(shim_pid(&container)).unwrap();
            cringle_kernel::process::signal(&pidfd, 19).unwrap();
            if expected == Outcome::Code(7) {
                until("its end", || cringle_kernel::proc::stat(init.pid).unwrap().is_zombie())
                    .await;
            }
        }
        let seen = within(supervisor::kill(&container.bundle(), init)).await.unwrap();
        if shim_is == Shim::Works {
            // Unless it was faster and reaped it.
            assert!(seen.is_none_or(|seen| seen == expected));
            assert_eq!(within(supervisor.exited()).await.unwrap().outcome, expected);
        } else {
            assert_eq!(seen, Some(expected));
        }
        within(supervisor::end(&container.bundle())).await.unwrap();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shim {
    Works,
    StandsStill,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shim_runs_from_a_sealed_memory_file_and_shows_nothing() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let shim = PathBuf::from(format!("/proc/{}", shim_pid(&container)));
    let program = fs::read_link(shim.join("exe")).unwrap();
    assert!(program.to_string_lossy().starts_with("/memfd:"), "{program:?}");
    let written = fs::OpenOptions::new().write(true).open(shim.join("exe"));
    written.unwrap_err();
    // What the C library is told of its allocator; nothing of the daemon's own environment.
    let allocator = b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0\0";
    assert_eq!(fs::read(shim.join("environ")).unwrap(), allocator);
    assert_eq!(fs::read_dir(shim.join("task")).unwrap().count(), 1, "one thread");
    drop(supervisor);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_while_it_runs() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let resources = serde_json::from_value(json!({ "pids": { "limit": 77 } })).unwrap();
    supervisor.update(&resources).await.unwrap();
    let found = container.cgroup_directories().into_iter().any(|place| {
        fs::read_to_string(place.join("pids.max")).is_ok_and(|value| value.trim() == "77")
    });
    assert!(found);
}

/// The specification of a reaper, as the daemon makes it.
fn reaper_spec(name: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "annotations": { "dev.cringle.role": "reaper" },
        "process": process(&["pause"]),
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [],
        "linux": {
            "cgroupsPath": format!("/{name}"),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_is_pid_1_for_containers_that_join_it() {
    let mut pod = Container::new("");
    pod.spec = reaper_spec(&pod.name);
    let launch = Launch { stdout: LogTarget::Discard, ..pod.launch() };
    let reaper = Supervisor::launch(program(), &launch).await.unwrap();
    let one = reaper.create(&launch).await.unwrap();
    assert_eq!(reaper.start().await.unwrap(), one);
    let place = PathBuf::from(format!("/proc/{}", one.pid));
    assert_eq!(fs::read_to_string(place.join("comm")).unwrap(), "pause\n");
    let status = fs::read_to_string(place.join("status")).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    let descriptors = fs::read_dir(place.join("fd")).unwrap();
    let open: Vec<_> = descriptors
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    assert!(open.iter().all(|file| file == "/dev/null" || file.contains("signalfd")), "{open:?}");

    // An orphan of a member is reaped, and members see each other.
    let mut member = Container::new(
        "(sleep 0.01 & exec true); echo me $$; ps -o pid,comm | grep pause; sleep 1000",
    );
    let namespaces = member.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces[0] = json!({ "type": "pid", "path": place.join("ns/pid") });
    let supervisor = member.started().await;
    member.logged("1 pause").await;
    let zombies = oci_process("ps -o stat | grep -c Z");
    let end = Instant::now() + DEADLINE;
    while within(supervisor.exec_sync(&zombies, None, &keeping(10))).await.unwrap().stdout != b"0\n"
    {
        assert!(Instant::now() < end, "zombies");
    }
    reaper.stop(Signal::TERM, DEADLINE).await.unwrap();
    assert_eq!(within(reaper.exited()).await.unwrap().outcome, Outcome::Code(0));
    assert_eq!(within(supervisor.exited()).await.unwrap().outcome, Outcome::Signal(Signal::KILL));
    reaper.delete().await.unwrap();
    assert_eq!(pod.cgroup_directories(), Vec::<PathBuf>::new());
}

/// What a process has written to of its own memory, in kB: heap, stack and the like. The program's own pages are left out:
/// how many of them the loader touches depends on how it was built.
fn own_memory(pid: i32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut is_program = false;
    let mut sum = 0;
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Private_Dirty:") {
            let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
            sum += if is_program { 0 } else { size };
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            is_program = line.contains("/memfd:");
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_needs_little_memory_of_its_own() {
    let container = Container::new("exec sleep 1000");
    let supervisor = container.started().await;
    let size = own_memory(shim_pid(&container));
    assert!(size <= 256, "{size} kB");
    drop(supervisor);
}

#[path = "streams.rs"]
mod streams;
