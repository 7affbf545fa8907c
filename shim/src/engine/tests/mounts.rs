//! Mounts, devices and paths in a container, and what must never happen outside of it.

use super::exec::end_of;
use super::*;
use std::process::Child;

#[test]
fn default_mounts_and_devices_are_as_specified() {
    alone("mounts::default_mounts_and_devices_are_as_specified", || {
        let text = Scratch::overlaid()
            .shell("cat /proc/self/mounts; cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; \
                    for l in fd stdin stdout stderr ptmx; do readlink $l; done; ls -ld /dev/shm /dev/mqueue /dev/pts | head -c 10; \
                    echo x > /dev/null && echo x > /dev/shm/x && echo writable")
            .output();
        for line in [
            "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0",
            "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0",
            "/proc/sys proc ro,nosuid,nodev,noexec",
            "tmpfs /sys/firmware tmpfs ro",
            "null 1:3 666",
            "zero 1:5 666",
            "full 1:7 666",
            "random 1:8 666",
            "urandom 1:9 666",
            "tty 5:0 666",
            "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx",
            "drwxrwxrwt",
            "writable",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(text.lines().next().unwrap().starts_with("overlay / overlay rw"), "{text}");
    });
}

#[test]
fn the_containers_cgroups_are_shown_as_roots_and_read_only() {
    alone("mounts::the_containers_cgroups_are_shown_as_roots_and_read_only", || {
        let text = Scratch::new()
            .set("/linux/resources", json!({"pids": {"limit": 44}}))
            .shell("cat /sys/fs/cgroup/pids/pids.max; mkdir /sys/fs/cgroup/pids/x 2>&1; mkdir /sys/fs/cgroup/x 2>&1; \
                    grep cgroup /proc/self/mountinfo; cat /sys/fs/cgroup/pids/cgroup.procs")
            .run()
            .unwrap()
            .stdout;
        assert!(text.starts_with("44\n"), "{text}");
        assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
        let mounts: Vec<_> =
            text.lines().filter(|line| line.contains("/sys/fs/cgroup/pids")).collect();
        assert!(
            mounts
                .iter()
                .any(|line| line.contains(" / /sys/fs/cgroup/pids ro,nosuid,nodev,noexec")),
            "{text}"
        );
        assert!(text.lines().any(|line| line == "1"), "{text}");
    });
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_refuse_writes() {
    alone("mounts::masked_paths_are_empty_and_read_only_paths_refuse_writes", || {
        let text = Scratch::new()
            .shell("wc -c < /proc/timer_list; wc -c < /proc/keys; ls /sys/firmware | wc -l; ls -l /proc/timer_list; \
                    echo 1 > /proc/sys/kernel/panic; echo 1 > /proc/irq/default_smp_affinity; touch /sys/firmware/x; mount -o remount,rw /proc/sys")
            .run()
            .unwrap()
            .stdout;
        assert!(text.starts_with("0\n0\n0\n"), "{text}");
        assert!(text.contains("1,   3"), "{text}");
        assert!(text.matches("Read-only file system").count() >= 3, "{text}");
        assert!(text.contains("permission denied"), "{text}");
    });
}

#[test]
fn a_read_only_root_takes_no_writes_but_its_mounts_do() {
    alone("mounts::a_read_only_root_takes_no_writes_but_its_mounts_do", || {
        let scratch = Scratch::overlaid().set("/root/readonly", json!(true));
        let data = scratch.path.join("data");
        fs::create_dir_all(&data).unwrap();
        let scratch = scratch
            .mount(json!({"destination": "/new/deep/data", "source": data, "options": ["rbind"]}))
            .shell("touch /x 2>&1; touch /new/deep/data/y && touch /dev/shm/z && echo fine");
        let text = scratch.run().unwrap().stdout;
        assert_eq!(text, "touch: /x: Read-only file system\nfine\n");
        assert!(data.join("y").exists());
    });
}

#[test]
fn bind_mounts_keep_their_words() {
    alone("mounts::bind_mounts_keep_their_words", || {
        let scratch = Scratch::new();
        let data = scratch.path.join("data");
        fs::create_dir_all(data.join("below")).unwrap();
        fs::File::create(data.join("file")).unwrap();
        symlink(&data, scratch.path.join("link")).unwrap();
        let link = scratch.path.join("link");
        let scratch = scratch
            .mount(json!({"destination": "/ro", "source": data, "options": ["rbind", "ro"]}))
            .mount(json!({"destination": "/rro", "source": data, "options": ["rbind", "rro"]}))
            .mount(json!({"destination": "/one", "source": link, "options": ["bind", "nosuid", "nodev", "noexec"]}))
            .mount(json!({"destination": "/etc/some/file", "source": data.join("file"), "options": ["bind"]}))
            .mount(json!({"destination": "/dev/termination-log", "source": data.join("file"), "options": ["bind"]}))
            .shell("for d in /ro /ro/below /rro /rro/below /one /one/below; do touch $d/x 2>/dev/null && echo $d; done; \
                    echo text > /etc/some/file; cat /dev/termination-log; grep ' /one ' /proc/self/mounts");
        let _below = Mounted::tmpfs(&data.join("below"));
        let text = scratch.output();
        assert!(text.starts_with("/ro/below\n/one\n/one/below\ntext\n"), "{text}");
        assert!(text.contains("nosuid,nodev,noexec"), "{text}");
    });
}

/// A mount of the test's own on the host, made shared, gone in the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), None)
            .unwrap();
        Self(path.to_owned())
    }

    fn share(self) -> Self {
        rustix::mount::mount_change(&self.0, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        self
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// Whether a mount made later on the host appears in the container, and one made in the container on the host.
fn propagation(word: &str) -> (bool, bool) {
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let scratch = Scratch::new();
    let source = scratch.path.join("source");
    let scratch = scratch
        .mount(json!({"destination": "/shared", "source": source, "options": ["rbind", word]}))
        .set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}))
        .shell("mount -t tmpfs tmpfs /shared/container && touch /shared/container/mark && echo ready && sleep 100");
    let _shared = Mounted::tmpfs(&source).share();
    for name in ["host", "container"] {
        fs::create_dir_all(source.join(name)).unwrap();
    }
    let (running, out) = scratch.start().unwrap();
    let mut ready = [0; 6];
    fs::File::from(out.try_clone().unwrap()).read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    let later = Mounted::tmpfs(&source.join("host"));
    fs::File::create(source.join("host/mark")).unwrap();
    let (stdio, out) = pipes();
    let look = parse_process(process_json(&["/bin/ls", "/shared/host"]));
    let child = running.exec(&look, stdio).unwrap();
    let inside = read_all(out) == "mark\n";
    process::wait(&child.pidfd).unwrap();
    let outside = source.join("container/mark").exists();
    end_of(&running);
    drop(later);
    if outside {
        rustix::mount::unmount(source.join("container"), rustix::mount::UnmountFlags::DETACH)
            .unwrap();
    }
    (inside, outside)
}

#[test]
fn mounts_propagate_as_asked() {
    alone("mounts::mounts_propagate_as_asked", || {
        assert_eq!(propagation("rprivate"), (false, false));
        assert_eq!(propagation("rslave"), (true, false));
        assert_eq!(propagation("rshared"), (true, true));
    });
}

#[test]
fn proc_and_sys_that_are_no_directories_are_refused() {
    alone("mounts::proc_and_sys_that_are_no_directories_are_refused", || {
        for name in ["proc", "sys"] {
            for (kind, target) in [
                ("link", "tmp"),
                ("link", "/tmp"),
                ("link", "nowhere"),
                ("link", "../canary"),
                ("file", ""),
            ] {
                let scratch = Scratch::new();
                let canary = canary(&scratch);
                let before = listing(&canary);
                let path = scratch.root(name);
                fs::remove_dir(&path).unwrap();
                match kind {
                    "link" => symlink(target, &path).unwrap(),
                    _ => drop(fs::File::create(&path).unwrap()),
                }
                let error = scratch.create().unwrap_err();
                assert!(
                    chain(&error).contains("is to be a directory and no link"),
                    "{}",
                    chain(&error)
                );
                assert_eq!(listing(&canary), before);
            }
        }
    });
}

#[test]
fn nothing_may_cover_procfs() {
    alone("mounts::nothing_may_cover_procfs", || {
        for destination in
            ["/proc", "/proc/self", "/proc/sys", "/proc/self/attr", "/alias/sys", "/proc/1"]
        {
            let scratch = Scratch::new();
            symlink("/proc", scratch.root("alias")).unwrap();
            let data = scratch.path.join("data");
            fs::create_dir_all(&data).unwrap();
            let bind = json!({"destination": destination, "source": data, "options": ["rbind"]});
            assert!(scratch.mount(bind).create().is_err(), "bind {destination}");
            let scratch = Scratch::new();
            symlink("/proc", scratch.root("alias")).unwrap();
            let tmpfs = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
            assert!(scratch.mount(tmpfs).create().is_err(), "tmpfs {destination}");
        }
        let scratch = Scratch::new();
        let file = scratch.path.join("meminfo");
        fs::File::create(&file).unwrap();
        let text = scratch
            .mount(json!({"destination": "/proc/meminfo", "source": file, "options": ["bind"]}))
            .shell("wc -c < /proc/meminfo")
            .output();
        assert_eq!(text, "0\n");
    });
}

#[test]
fn a_dev_that_is_a_link_never_leads_outside() {
    alone("mounts::a_dev_that_is_a_link_never_leads_outside", || {
        for target in ["ABSOLUTE", "../canary", "../../../../../../CANARY", "hop"] {
            let scratch = Scratch::new();
            let canary = canary(&scratch);
            let before = listing(&canary);
            fs::remove_dir(scratch.root("dev")).unwrap();
            let absolute = canary.to_str().unwrap();
            let target = target.replace("ABSOLUTE", absolute).replace("/CANARY", absolute);
            symlink(canary.join("x/../.."), scratch.root("hop")).unwrap();
            symlink(&target, scratch.root("dev")).unwrap();
            // Without any mount on it the default nodes go to where /dev leads.
            let mounts = scratch.spec["mounts"].as_array().unwrap();
            let kept: Vec<_> = mounts
                .iter()
                .filter(|one| !one["destination"].as_str().unwrap().starts_with("/dev"))
                .cloned()
                .collect();
            let scratch = scratch.set("/mounts", json!(kept));
            drop(scratch.run());
            assert_eq!(listing(&canary), before, "{target}");
        }
    });
}

#[test]
fn mount_targets_and_the_working_directory_stay_inside_whatever_links_say() {
    alone("mounts::mount_targets_and_the_working_directory_stay_inside_whatever_links_say", || {
        for target in ["ABSOLUTE", "../../../../../..ABSOLUTE", "../canary", "../canary/new/dir"] {
            let scratch = Scratch::new();
            let canary = canary(&scratch);
            let before = listing(&canary);
            let table = cringle_kernel::mountinfo::own().unwrap();
            let target = target.replace("ABSOLUTE", canary.to_str().unwrap());
            for name in ["trap", "workdir", "filetrap"] {
                symlink(&target, scratch.root(name)).unwrap();
            }
            let data = scratch.path.join("data");
            fs::create_dir_all(&data).unwrap();
            let file = scratch.path.join("file");
            fs::File::create(&file).unwrap();
            let scratch = scratch
                .mount(json!({"destination": "/trap/deep", "source": data, "options": ["rbind"]}))
                .mount(
                    json!({"destination": "/filetrap/hosts", "source": file, "options": ["bind"]}),
                )
                .set("/process/cwd", json!("/workdir/made"))
                .shell("pwd");
            let done = scratch.run().unwrap_or_else(|error| panic!("{}", chain(&error)));
            assert_eq!(done.exit, Exit::Code(0));
            assert_eq!(listing(&canary), before, "{target}");
            assert_eq!(cringle_kernel::mountinfo::own().unwrap(), table);
        }
    });
}

#[test]
fn a_dangling_link_as_target_of_a_file_gets_its_target_made_inside() {
    alone("mounts::a_dangling_link_as_target_of_a_file_gets_its_target_made_inside", || {
        let scratch = Scratch::new();
        symlink("/run/resolv.conf", scratch.root("etc/resolv.conf")).unwrap();
        let file = scratch.path.join("resolv.conf");
        fs::copy("/proc/sys/kernel/ostype", &file).unwrap();
        let text = scratch
            .mount(json!({"destination": "/etc/resolv.conf", "source": file, "options": ["bind", "ro"]}))
            .args(&["/bin/cat", "/etc/resolv.conf", "/run/resolv.conf"])
            .output();
        assert_eq!(text, "Linux\nLinux\n");
    });
}

#[test]
fn a_null_device_of_the_container_is_never_used_to_mask() {
    alone("mounts::a_null_device_of_the_container_is_never_used_to_mask", || {
        let fake = |kind: &str| {
            let scratch = Scratch::new();
            let dev = scratch.path.join("fakedev");
            fs::create_dir_all(&dev).unwrap();
            match kind {
                "link" => symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap(),
                "file" => drop(fs::File::create(dev.join("null")).unwrap()),
                _ => {}
            }
            let mut scratch = scratch;
            scratch.spec["mounts"][1] =
                json!({"destination": "/dev", "source": dev, "options": ["rbind"]});
            scratch.spec["mounts"].as_array_mut().unwrap().truncate(2);
            scratch.shell("ls -l /proc/timer_list; echo x > /proc/keys; wc -c < /proc/keys; grep -c . /proc/sys/kernel/core_pattern")
        };
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        for kind in ["link", "file", "missing"] {
            let done = fake(kind).run().unwrap_or_else(|error| panic!("{}", chain(&error)));
            assert!(done.stdout.contains("1,   3"), "{kind}: {}", done.stdout);
            assert!(done.stdout.contains("\n0\n"), "{kind}: {}", done.stdout);
        }
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    });
}

/// Who exchanges a directory and a link all the time, until this is dropped.
struct Attacker(Child);

impl Attacker {
    fn of(shared: &Path) -> Self {
        let script = "cd \"$0\"; while :; do mv -T swap tmp; mv -T link swap; mv -T swap link; mv -T tmp swap; done";
        let mut command = Command::new("/bin/busybox");
        command.args(["sh", "-c", script]).arg(shared).stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_mount_target_exchanged_for_a_link_meanwhile_stays_inside() {
    alone("mounts::a_mount_target_exchanged_for_a_link_meanwhile_stays_inside", || {
        let volume = Scratch::new();
        let shared = volume.path.join("volume");
        let canary = canary(&volume);
        fs::create_dir_all(shared.join("swap")).unwrap();
        symlink(format!("../../../../../../../..{}", canary.display()), shared.join("link"))
            .unwrap();
        let before = listing(&canary);
        let table = cringle_kernel::mountinfo::own().unwrap();
        let attacker = Attacker::of(&shared);
        let data = volume.path.join("data");
        fs::create_dir_all(&data).unwrap();
        let victim = Scratch::new()
            .mount(json!({"destination": "/volume", "source": shared, "options": ["rbind"]}))
            .mount(json!({"destination": "/volume/swap/new/dir", "source": data, "options": ["rbind"]}));
        for _ in 0..200 {
            drop(victim.run());
            delete(&victim.path).unwrap();
        }
        drop(attacker);
        assert_eq!(listing(&canary), before);
        assert_eq!(cringle_kernel::mountinfo::own().unwrap(), table);
    });
}

/// An overlay without an upper layer, at `target`, of which only `part` is mounted.
fn part_of_layers(scratch: &Scratch, part: &str, target: &str) -> Value {
    let [top, base] = ["top", "base"].map(|name| scratch.path.join(name));
    fs::create_dir_all(top.join("tree/deep")).unwrap();
    let mut file = fs::File::create(top.join("tree/deep/file")).unwrap();
    std::io::Write::write_all(&mut file, b"of the part").unwrap();
    fs::create_dir_all(&base).unwrap();
    let layers = format!("lowerdir={}:{}", top.display(), base.display());
    let part = format!("X-mount.subdir={part}");
    json!({"destination": target, "type": "overlay", "source": "overlay", "options": ["ro", layers, part]})
}

#[test]
fn a_part_of_a_filesystem_is_mounted_and_nothing_of_the_rest_or_of_the_host_is_left() {
    alone(
        "mounts::a_part_of_a_filesystem_is_mounted_and_nothing_of_the_rest_or_of_the_host_is_left",
        || {
            let scratch = Scratch::new();
            let parts = [
                part_of_layers(&scratch, "tree", "/part"),
                part_of_layers(&scratch, "tree/deep/file", "/file"),
            ];
            let [tree, file] = parts;
            let script = "cat /part/deep/file /file; touch /part/new 2>/dev/null || echo refused; stat -c %d:%i / /..";
            let out = scratch.mount(tree).mount(file).shell(script).output();
            let mut lines = out.lines();
            assert_eq!(lines.next(), Some("of the partof the partrefused"), "{out}");
            // A path that goes up from the root leads to whatever is mounted over it.
            assert_eq!(lines.next(), lines.next(), "{out}");
        },
    );
}
