//! Cgroups on this host, as root, below a group of this test process' own.

use super::*;
use crate::testing::{Sleeper, exit_code};
use std::os::fd::AsRawFd;

/// Long enough that only a bug reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup that is removed, with what is in it, when the test ends.
struct Scratch(Cgroup);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("/cringle-test-{}-{test}/leaf", std::process::id());
        let layout = Layout::probe().unwrap();
        Self(Cgroup::create(CgroupPaths::new(&layout, &name).unwrap()).unwrap())
    }

    fn file(&self, controller: Controller, name: &str) -> String {
        let text = read(&self.0.directory_of(controller).unwrap().join(name)).unwrap();
        text.trim().to_owned()
    }

    fn parent(&self) -> Cgroup {
        let layout = Layout::probe().unwrap();
        let name = self.0.name().strip_suffix("/leaf").unwrap();
        Cgroup::at(CgroupPaths::new(&layout, name).unwrap())
    }

    /// A process in it that waits.
    fn sleeper(&self) -> Sleeper {
        self.sleeper_that(|| {})
    }

    /// A process in it that does this every now and then.
    fn sleeper_that(&self, turn: impl Fn()) -> Sleeper {
        let tasks = self.0.tasks_files().unwrap();
        let v2 = self.0.v2_path().map(|path| path.join("cgroup.procs"));
        let prepare = move || {
            enter(&tasks).unwrap();
            if let Some(procs) = &v2 {
                write::write(procs, "0").unwrap();
            }
        };
        Sleeper::start(prepare, turn)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.remove(PATIENCE).unwrap();
        self.parent().remove(PATIENCE).unwrap();
        assert!(self.0.directories().all(|directory| !directory.path.exists()));
    }
}

fn is_v1(cgroup: &Cgroup, controller: Controller) -> bool {
    cgroup.home(controller).is_some_and(|home| home.version == Version::V1)
}

#[test]
fn names_that_could_leave_the_hierarchy_are_refused() {
    for name in ["", "/", "a", "a/b", "/a/../b", "/..", "/a/.", "/a//b", "/a/", "/a\nb", "/a\0b"] {
        assert!(matches!(check_name(name), Err(CgroupError::Name { .. })), "{name:?}");
    }
    assert_eq!(check_name("/kubepods/pod1:x/c.scope").unwrap(), "kubepods/pod1:x/c.scope");
}

#[test]
fn paths_survive_a_record() {
    let paths = CgroupPaths::new(&Layout::probe().unwrap(), "/a/b").unwrap();
    let text = serde_json::to_string(&paths).unwrap();
    assert_eq!(serde_json::from_str::<CgroupPaths>(&text).unwrap(), paths);
}

#[test]
fn a_cgroup_is_made_in_every_hierarchy_and_removed_twice() {
    let scratch = Scratch::new("make");
    assert!(scratch.0.directories().all(|directory| directory.path.is_dir()));
    if is_v1(&scratch.0, Controller::Cpuset) {
        assert!(!scratch.file(Controller::Cpuset, "cpuset.cpus").is_empty());
        assert!(!scratch.file(Controller::Cpuset, "cpuset.mems").is_empty());
    }
    scratch.0.remove(PATIENCE).unwrap();
    scratch.0.remove(PATIENCE).unwrap();
}

#[test]
fn removal_takes_child_cgroups_along() {
    let scratch = Scratch::new("children");
    for directory in scratch.0.directories() {
        let below = directory.path.join("one");
        make_directory(&below);
        make_directory(&below.join("two"));
    }
    scratch.0.remove(PATIENCE).unwrap();
    assert!(scratch.0.directories().all(|directory| !directory.path.exists()));
}

fn make_directory(path: &Path) {
    rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
}

#[test]
fn an_occupied_cgroup_is_not_taken_and_not_removed() {
    let scratch = Scratch::new("occupied");
    let _sleeper = scratch.sleeper();
    let again = Cgroup::create(scratch.0.paths().clone());
    assert!(matches!(again, Err(CgroupError::Occupied { .. })), "{again:?}");
    let removed = scratch.0.remove(Duration::from_millis(30));
    assert!(matches!(removed, Err(CgroupError::Remove { .. })), "{removed:?}");
}

#[test]
fn limits_are_in_force_and_can_be_changed_both_ways() {
    let scratch = Scratch::new("limits");
    let with_memory = |bytes| Limits {
        cpu: CpuLimits {
            shares: Some(512),
            quota: Some(Ceiling::At(bytes / 1000)),
            period: Some(50_000),
            ..CpuLimits::default()
        },
        memory: MemoryLimits {
            limit: Some(Ceiling::At(bytes)),
            with_swap: Some(Ceiling::At(bytes)),
            reservation: None,
        },
        pids: Some(Ceiling::At(17)),
        ..Limits::default()
    };
    scratch.0.apply(&with_memory(64 << 20)).unwrap();
    for bytes in [64_u64 << 20, 128 << 20, 32 << 20] {
        scratch.0.update(&with_memory(bytes)).unwrap();
        let file = if is_v1(&scratch.0, Controller::Memory) {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        assert_eq!(scratch.file(Controller::Memory, file), bytes.to_string());
        assert_eq!(scratch.0.memory_usage().unwrap().unwrap().limit, Some(bytes));
    }
    assert_eq!(scratch.file(Controller::Pids, "pids.max"), "17");
    if is_v1(&scratch.0, Controller::Cpu) {
        assert_eq!(scratch.file(Controller::Cpu, "cpu.shares"), "512");
        assert_eq!(scratch.file(Controller::Cpu, "cpu.cfs_period_us"), "50000");
    }
}

#[test]
fn a_refused_update_changes_nothing_and_names_the_file() {
    let scratch = Scratch::new("rollback");
    let mut limits = Limits { pids: Some(Ceiling::At(17)), ..Limits::default() };
    limits.cpu.shares = Some(512);
    limits.memory.limit = Some(Ceiling::At(64 << 20));
    scratch.0.apply(&limits).unwrap();
    let before = scratch.file(Controller::Memory, "memory.stat").len();
    assert!(before > 0);

    let mut bad = Limits::default();
    bad.cpu.shares = Some(2048);
    // The CPU set is refused after the shares were written.
    bad.cpu.cpus = Some("4095".to_owned());
    let refused = scratch.0.update(&bad).unwrap_err();
    assert!(refused.to_string().contains("cpuset.cpus"), "{refused}");
    if is_v1(&scratch.0, Controller::Cpu) {
        assert_eq!(scratch.file(Controller::Cpu, "cpu.shares"), "512");
    }

    // Memory with swap below memory is refused by the kernel (v1) or by us (v2).
    let mut bad = Limits::default();
    bad.memory.with_swap = Some(Ceiling::At(1 << 20));
    let refused = scratch.0.update(&bad).unwrap_err();
    assert!(!refused.to_string().is_empty());
    assert_eq!(scratch.0.memory_usage().unwrap().unwrap().limit, Some(64 << 20));
}

#[test]
fn huge_pages_are_limited_and_a_missing_size_is_told_not_refused() {
    let scratch = Scratch::new("hugepages");
    let limits = |size: &str, bytes| Limits {
        huge_pages: [(size.to_owned(), bytes)].into(),
        ..Limits::default()
    };
    let clamps = scratch.0.apply(&limits("3MB", 0)).unwrap();
    assert!(!clamps.is_empty());
    assert!(clamps.iter().all(|clamp| clamp.file.contains("3MB")), "{clamps:?}");

    let clamps = scratch.0.apply(&limits("2MB", 4 << 20)).unwrap();
    if clamps.is_empty() && !is_v1(&scratch.0, Controller::Hugetlb) {
        assert_eq!(scratch.file(Controller::Hugetlb, "hugetlb.2MB.max"), "4194304");
        let unified = [("hugetlb.2MB.max".to_owned(), "2097152".to_owned())].into();
        scratch.0.update(&Limits { unified, ..Limits::default() }).unwrap();
        assert_eq!(scratch.file(Controller::Hugetlb, "hugetlb.2MB.max"), "2097152");
    }
    // The host's own v2 root was told to pass the controller on. It keeps it if someone else needs it by now.
    if let Some(home) = scratch.0.home(Controller::Hugetlb) {
        for path in [scratch.parent().v2_path().unwrap(), &home.mount] {
            _ = write::write(&path.join("cgroup.subtree_control"), "-hugetlb").ok();
        }
    }
}

#[test]
fn a_unified_file_on_v1_is_refused() {
    let scratch = Scratch::new("unified");
    if !is_v1(&scratch.0, Controller::Memory) {
        return;
    }
    let limits = Limits {
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..Limits::default()
    };
    assert!(matches!(scratch.0.apply(&limits), Err(CgroupError::UnifiedOnV1 { .. })));
}

#[test]
fn processes_are_listed_killed_and_waited_for() {
    let scratch = Scratch::new("kill");
    let sleepers = [scratch.sleeper(), scratch.sleeper()];
    let mut expected: Vec<u32> = sleepers.iter().map(Sleeper::pid).collect();
    expected.sort_unstable();
    assert_eq!(scratch.0.pids().unwrap(), expected);
    assert!(scratch.0.is_populated().unwrap());
    let waited = scratch.0.wait_empty(Duration::from_millis(5));
    assert!(matches!(waited, Err(CgroupError::Populated { .. })), "{waited:?}");

    scratch.0.kill().unwrap();
    scratch.0.wait_empty(PATIENCE).unwrap();
    assert!(scratch.0.pids().unwrap().is_empty());
    for sleeper in sleepers {
        assert_eq!(sleeper.wait(), Err(libc::SIGKILL));
    }
}

#[test]
fn without_the_v2_tree_processes_are_frozen_and_killed_too() {
    let scratch = Scratch::new("killv1");
    let sleepers = [scratch.sleeper(), scratch.sleeper()];
    let mut paths = scratch.0.paths().clone();
    paths.directories.retain(|directory| directory.version == Version::V1);
    if paths.directories.is_empty() {
        return;
    }
    let v1 = Cgroup::at(paths);
    v1.freeze(PATIENCE).unwrap();
    v1.kill().unwrap();
    v1.wait_empty(PATIENCE).unwrap();
    for sleeper in sleepers {
        assert_eq!(sleeper.wait(), Err(libc::SIGKILL));
    }
}

#[test]
fn frozen_processes_run_again_when_thawed() {
    let scratch = Scratch::new("freeze");
    let (sign, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let sleeper = scratch.sleeper_that(move || {
        // A full pipe is as good a sign of life as another byte.
        _ = rustix::io::write(&tell, b".").ok();
    });
    let life = |patience: Duration| {
        while rustix::io::read(&sign, &mut [0; 4096]).is_ok_and(|count| count > 0) {}
        let mut polled = [rustix::event::PollFd::new(&sign, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec::try_from(patience).unwrap();
        rustix::event::poll(&mut polled, Some(&patience)).unwrap() == 1
    };
    assert!(life(PATIENCE));
    scratch.0.freeze(PATIENCE).unwrap();
    assert!(!life(Duration::from_millis(20)), "a frozen process wrote");
    scratch.0.thaw().unwrap();
    assert!(life(PATIENCE));
    drop(sleeper);
}

#[test]
fn an_out_of_memory_kill_is_counted() {
    let scratch = Scratch::new("oom");
    let mut limits = Limits::default();
    limits.memory.limit = Some(Ceiling::At(8 << 20));
    limits.memory.with_swap = Some(Ceiling::At(8 << 20));
    scratch.0.apply(&limits).unwrap();
    assert_eq!(scratch.0.memory_events().unwrap(), MemoryEvents::default());
    let tasks = scratch.0.tasks_files().unwrap();
    let v2 = scratch.0.v2_path().map(|path| path.join("cgroup.procs"));
    let ended = exit_code(|| {
        enter(&tasks).unwrap();
        if let Some(procs) = &v2 {
            write::write(procs, "0").unwrap();
        }
        let mut hoard = vec![0_u8; 64 << 20];
        hoard.chunks_mut(4096).for_each(|page| page[0] = 1);
        i32::from(std::hint::black_box(hoard)[0])
    });
    assert_eq!(ended, Err(libc::SIGKILL));
    assert_eq!(scratch.0.memory_events().unwrap().kills, 1);
    assert!(scratch.0.cpu_usage().unwrap().unwrap().total > Duration::ZERO);
}

fn only(rules: &[(Permission, &str)]) -> Devices {
    let rule = |(permission, text): &(Permission, &str)| {
        let mut fields = text.split([' ', ':']);
        let kind = match fields.next().unwrap() {
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => DeviceKind::All,
        };
        let major = fields.next().unwrap().parse().ok();
        let minor = fields.next().unwrap().parse().ok();
        let access = DeviceAccess::from_letters(fields.next().unwrap()).unwrap();
        DeviceRule { permission: *permission, kind, major, minor, access }
    };
    Devices::Only(rules.iter().map(rule).collect())
}

/// What opening each device for reading and writing gives inside the cgroup: 0 or the error number.
fn open_inside(scratch: &Scratch, paths: &[&str]) -> Vec<i32> {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let tasks = scratch.0.tasks_files().unwrap();
    let v2 = scratch.0.v2_path().map(|path| path.join("cgroup.procs"));
    let code = exit_code(|| {
        enter(&tasks).unwrap();
        if let Some(procs) = &v2 {
            write::write(procs, "0").unwrap();
        }
        for path in paths {
            let opened = fs::OpenOptions::new().read(true).write(true).open(path);
            let errno = opened.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
            rustix::io::write(&writer, &[u8::try_from(errno).unwrap()]).unwrap();
        }
        0
    });
    assert_eq!(code, Ok(0));
    let mut answers = vec![0_u8; paths.len()];
    assert_eq!(rustix::io::read(&reader, &mut answers).unwrap(), paths.len());
    answers.into_iter().map(i32::from).collect()
}

#[test]
fn only_granted_devices_can_be_opened() {
    let scratch = Scratch::new("devices");
    let devices = only(&[
        (Permission::Allow, "c 1:3 rwm"),
        (Permission::Allow, "c 1:5 rw"),
        (Permission::Deny, "c 1:5 w"),
    ]);
    scratch.0.apply(&Limits { devices, ..Limits::default() }).unwrap();
    let paths = ["/dev/null", "/dev/zero", "/dev/full"];
    assert_eq!(open_inside(&scratch, &paths), [0, libc::EPERM, libc::EPERM]);

    let devices = only(&[(Permission::Allow, "a *:* rwm")]);
    scratch.0.update(&Limits { devices, ..Limits::default() }).unwrap();
    assert_eq!(open_inside(&scratch, &paths), [0, 0, 0]);
}

#[test]
fn devices_that_the_parent_withholds_are_told_and_the_rest_is_granted() {
    // The kernel takes rules for everything only while a cgroup has no children.
    let parent = format!("/cringle-test-{}-withheld", std::process::id());
    let paths = CgroupPaths::new(&Layout::probe().unwrap(), &parent).unwrap();
    let parent = Cgroup::create(paths).unwrap();
    let devices = only(&[(Permission::Allow, "c 1:3 rwm"), (Permission::Allow, "c 1:5 rwm")]);
    parent.apply(&Limits { devices, ..Limits::default() }).unwrap();
    let scratch = Scratch::new("withheld");
    if !is_v1(&scratch.0, Controller::Devices) {
        return;
    }
    let paths = ["/dev/null", "/dev/zero", "/dev/full"];

    let devices = only(&[(Permission::Allow, "c 1:3 rwm"), (Permission::Allow, "c 1:7 rwm")]);
    let clamps = scratch.0.apply(&Limits { devices, ..Limits::default() }).unwrap();
    let expected = Clamp { file: "devices.allow".to_owned(), value: "c 1:7 rwm".to_owned() };
    assert_eq!(clamps, [expected]);
    assert_eq!(open_inside(&scratch, &paths), [0, libc::EPERM, libc::EPERM]);

    let devices = only(&[(Permission::Allow, "a *:* rwm")]);
    let clamps = scratch.0.apply(&Limits { devices, ..Limits::default() }).unwrap();
    assert_eq!(clamps.len(), 1);
    assert_eq!(open_inside(&scratch, &paths), [0, 0, libc::EPERM]);
}

#[test]
fn an_empty_device_list_grants_nothing() {
    let scratch = Scratch::new("nodevices");
    let devices = Devices::Only(Vec::new());
    scratch.0.apply(&Limits { devices, ..Limits::default() }).unwrap();
    assert_eq!(open_inside(&scratch, &["/dev/null"]), [libc::EPERM]);
}

#[test]
fn a_device_program_decides_on_v2_and_can_be_replaced() {
    let scratch = Scratch::new("program");
    let Some(path) = scratch.0.v2_path() else { return };
    let Devices::Only(rules) = only(&[
        (Permission::Allow, "c 1:3 rwm"),
        (Permission::Allow, "c 1:5 rwm"),
        (Permission::Deny, "c 1:5 w"),
    ]) else {
        return;
    };
    let paths = ["/dev/null", "/dev/zero", "/dev/full"];
    device_program::replace(path, &rules).unwrap();
    assert_eq!(open_inside(&scratch, &paths), [0, libc::EPERM, libc::EPERM]);
    device_program::replace(path, &rules[..2]).unwrap();
    assert_eq!(open_inside(&scratch, &paths), [0, 0, libc::EPERM]);
    device_program::replace(path, &[]).unwrap();
    assert_eq!(open_inside(&scratch, &paths), [libc::EPERM; 3]);
}

#[test]
fn the_v2_directory_and_the_tasks_files_are_close_on_exec() {
    let scratch = Scratch::new("handles");
    let mut held = scratch.0.tasks_files().unwrap();
    held.extend(scratch.0.v2_directory().unwrap());
    assert_eq!(held.len(), scratch.0.paths().directories.len());
    for file in held {
        let flags = rustix::io::fcntl_getfd(&file).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{}", file.as_raw_fd());
    }
}

#[test]
fn a_cgroup_that_is_gone_has_no_readings_and_one_in_use_has_all() {
    let scratch = Scratch::new("readings");
    let gone = scratch.parent().name().to_owned() + "/gone";
    let gone = Cgroup::at(CgroupPaths::new(&Layout::probe().unwrap(), &gone).unwrap());
    assert_eq!(gone.cpu_time().unwrap(), None);
    assert_eq!(gone.cpu_usage().unwrap(), None);
    assert_eq!(gone.memory_usage().unwrap(), None);
    assert_eq!(gone.memory_past().unwrap(), None);
    assert_eq!(gone.task_count().unwrap(), None);
    assert_eq!(gone.pressure(Resource::Cpu).unwrap(), None);
    assert_eq!((gone.device_io().unwrap(), gone.huge_pages().unwrap()), (vec![], vec![]));
    // Small amounts are charged late, so it is only asked whether there is a reading.
    let sleeper = scratch.sleeper();
    assert_eq!(scratch.0.task_count().unwrap(), Some(1));
    assert!(scratch.0.memory_usage().unwrap().is_some());
    assert!(scratch.0.cpu_time().unwrap().is_some() && scratch.0.cpu_usage().unwrap().is_some());
    assert!(scratch.0.memory_past().unwrap().unwrap().peak.is_some());
    let pressure = Path::new("/proc/pressure/cpu").exists();
    assert_eq!(scratch.0.pressure(Resource::Memory).unwrap().is_some(), pressure);
    drop(sleeper);
}
