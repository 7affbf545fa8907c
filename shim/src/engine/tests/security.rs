//! Identity, privileges, filters and devices in a container.

use super::*;

fn status(text: &str, field: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

#[test]
fn capability_sets_are_exactly_those_asked_for() {
    alone("security::capability_sets_are_exactly_those_asked_for", || {
        // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7.
        let set = "00000000000000eb";
        let none = "0000000000000000";
        let expected = |user: u32, ambient: bool| match (user, ambient) {
            (0, false) => [none, set, set, set, none],
            (0, true) => [set, set, set, set, set],
            // What a user other than root executes has no capabilities, except for ambient ones.
            (_, false) => [none, none, none, set, none],
            (_, true) => [set, set, set, set, set],
        };
        for user in [0, 1000] {
            for ambient in [false, true] {
                let mut scratch = Scratch::new()
                    .set("/process/user", json!({"uid": user, "gid": user}))
                    .args(&["/bin/sleep", "100"]);
                if ambient {
                    let names = scratch.spec["process"]["capabilities"]["bounding"].clone();
                    scratch.spec["process"]["capabilities"]["inheritable"] = names.clone();
                    scratch.spec["process"]["capabilities"]["ambient"] = names;
                }
                let (running, _out) = scratch.start().unwrap();
                let (stdio, out) = pipes();
                let mut other = scratch.spec["process"].clone();
                other["args"] = json!(["/bin/cat", "/proc/self/status"]);
                let child = running.exec(&parse_process(other), stdio).unwrap();
                let exec = read_all(out);
                process::wait(&child.pidfd).unwrap();
                let init = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
                for (who, text) in [("init", init), ("exec", exec)] {
                    let found = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
                        .map(|field| status(&text, field));
                    assert_eq!(
                        found,
                        expected(user, ambient),
                        "{who} as {user}, ambient {ambient}"
                    );
                    assert_eq!(status(&text, "NoNewPrivs"), "0");
                }
                exec::end_of(&running);
            }
        }
    });
}

#[test]
fn no_capabilities_given_means_none() {
    alone("security::no_capabilities_given_means_none", || {
        let text = Scratch::new()
            .set("/process/capabilities", json!({}))
            .set("/process/noNewPrivileges", json!(true))
            .args(&["/bin/cat", "/proc/self/status"])
            .output();
        for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(&text, field), "0000000000000000", "{field}");
        }
        assert_eq!(status(&text, "NoNewPrivs"), "1");
    });
}

#[test]
fn all_capabilities_are_those_the_host_can_give() {
    alone("security::all_capabilities_are_those_the_host_can_give", || {
        let all = serde_json::to_value(cringle_names()).unwrap();
        let text = Scratch::new()
            .set(
                "/process/capabilities",
                json!({"bounding": all, "effective": all, "permitted": all}),
            )
            .args(&["/bin/cat", "/proc/self/status"])
            .output();
        let own = fs::read_to_string("/proc/self/status").unwrap();
        for field in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(status(&text, field), status(&own, "CapBnd"), "{field}");
        }
    });
}

fn cringle_names() -> Vec<String> {
    cringle_kernel::capability::CapabilitySet::all().iter().map(|one| one.to_string()).collect()
}

#[test]
fn identity_limits_umask_and_score_are_as_specified() {
    alone("security::identity_limits_umask_and_score_are_as_specified", || {
        let text = Scratch::new()
            .set("/process/user", json!({"uid": 1000, "gid": 1001, "umask": 63, "additionalGids": [5, 6]}))
            .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                                            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]))
            .set("/process/oomScoreAdj", json!(321))
            .shell("cat /proc/self/status /proc/self/limits /proc/self/oom_score_adj; umask; echo out > /dev/stdout")
            .output();
        assert_eq!(status(&text, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(status(&text, "Gid"), "1001\t1001\t1001\t1001");
        assert_eq!(status(&text, "Groups"), "5 6");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.lines().any(|line| words(line) == "Max open files 100 200 files"), "{text}");
        assert!(text.ends_with("321\n0077\nout\n"), "{text}");
    });
}

#[test]
fn what_the_host_withholds_is_clamped_and_no_error() {
    alone("security::what_the_host_withholds_is_clamped_and_no_error", || {
        let text = Scratch::new()
            .set("/process/rlimits", json!([{"type": "RLIMIT_NICE", "soft": 40, "hard": u64::MAX}]))
            .set("/process/oomScoreAdj", json!(-999))
            .args(&["/bin/cat", "/proc/self/oom_score_adj"])
            .output();
        let score: i32 = text.trim().parse().unwrap();
        let own: i32 =
            fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
        assert!(score == -999 || score == own, "{score}");
    });
}

#[test]
fn a_filter_binds_init_and_exec_with_and_without_no_new_privs() {
    alone("security::a_filter_binds_init_and_exec_with_and_without_no_new_privs", || {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
        for (user, fixed) in [(0, false), (0, true), (1000, false), (1000, true)] {
            let scratch = Scratch::new()
                .set("/linux/seccomp", filter.clone())
                .set("/process/user", json!({"uid": user, "gid": user}))
                .set("/process/noNewPrivileges", json!(fixed))
                .shell("mkdir /tmp/x; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status; grep NoNew /proc/self/status");
            let text = scratch.output();
            assert!(
                text.starts_with(
                    "mkdir: can't create directory '/tmp/x': No space left on device\n"
                ),
                "{text}"
            );
            assert_eq!(status(&text, "Seccomp"), "2");
            assert_eq!(status(&text, "NoNewPrivs"), if fixed { "1" } else { "0" });
            let effective = if user == 0 { "00000000000000eb" } else { "0000000000000000" };
            assert_eq!(status(&text, "CapEff"), effective);
        }
    });
}

#[test]
fn only_devices_that_were_granted_can_be_used() {
    alone("security::only_devices_that_were_granted_can_be_used", || {
        let all = json!(["CAP_MKNOD", "CAP_SYS_ADMIN"]);
        let scratch = |rules: Value| {
            Scratch::new()
                .set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}))
                .set("/linux/resources", json!({"devices": rules}))
                .set("/linux/devices", json!([{"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640}]))
                .shell("stat -c '%t:%T %a' /dev/mine; mknod /tmp/k c 10 229; head -c 0 /tmp/k && echo opened; head -c 1 /dev/zero | wc -c")
        };
        let text = scratch(json!([])).run().unwrap().stdout;
        assert!(
            text.starts_with("a:e5 640\n")
                && text.contains("Operation not permitted")
                && text.ends_with("1\n"),
            "{text}"
        );
        let rule = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]);
        let text = scratch(rule).run().unwrap().stdout;
        assert!(text.contains("opened") && text.ends_with("1\n"), "{text}");
    });
}

#[test]
fn kernel_parameters_are_set_in_the_containers_namespaces_only() {
    alone("security::kernel_parameters_are_set_in_the_containers_namespaces_only", || {
        let host = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        let text = Scratch::new()
            .set(
                "/linux/sysctl",
                json!({"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}),
            )
            .args(&[
                "/bin/cat",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                "/proc/sys/kernel/shm_rmid_forced",
            ])
            .output();
        assert_eq!(text, "77\n1\n");
        assert_eq!(
            fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(),
            host
        );
        let wrong = Scratch::new().set("/linux/sysctl", json!({"net.no_such_thing": "1"}));
        assert!(
            chain(&wrong.create().unwrap_err())
                .starts_with("failed to set sysctl \"net.no_such_thing\" to \"1\"")
        );
    });
}

#[test]
fn namespaces_that_exist_are_joined() {
    alone("security::namespaces_that_exist_are_joined", || {
        let first = Scratch::new().args(&["/bin/sleep", "100"]);
        let (holder, _out) = first.start().unwrap();
        let path = |name: &str| format!("/proc/{}/ns/{name}", holder.pid());
        let second = Scratch::new()
            .set("/linux/namespaces", json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"},
                {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")}, {"type": "uts", "path": path("uts")}]))
            .set("/hostname", json!(""))
            .shell("for n in net ipc uts; do readlink /proc/self/ns/$n; done");
        let expected: String = ["net", "ipc", "uts"]
            .map(|name| format!("{}\n", fs::read_link(path(name)).unwrap().display()))
            .concat();
        assert_eq!(second.output(), expected);
        exec::end_of(&holder);
    });
}
