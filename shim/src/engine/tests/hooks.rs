//! Hooks: scripts of the host's busybox that leave what they saw in a directory of the test's.

use super::*;

/// A hook that runs a script on the host's files.
fn hook(script: &str) -> Value {
    json!({"path": busybox().unwrap(), "args": ["sh", "-c", script]})
}

/// A hook that runs a script on the container's files.
fn inner_hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

impl Scratch {
    fn hooks(self, hooks: Value) -> Self {
        self.set("/hooks", hooks)
    }

    /// A place in the bundle.
    fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What would be left of a container.
    fn is_clean(&self) -> bool {
        self.cgroups().is_empty() && !self.path.join("state.json").exists()
    }
}

fn noting_hooks(name: &str, moments: &[&str], scratch: &Scratch) -> Value {
    let note = |moment: &str| hook(&format!("echo {moment} >> {}", scratch.at(name)));
    moments.iter().map(|moment| ((*moment).to_owned(), json!([note(moment)]))).collect()
}

/// A hook that notes what it gets, in a file of that name, and that it ran.
fn seeing(name: &str, scratch: &Scratch) -> Value {
    let (order, seen) = (scratch.at("order"), scratch.at(name));
    hook(&format!(
        "{{ cat; /bin/busybox env; pwd; ls -l /proc/self/fd; }} > {seen};
         for kind in mnt uts pid; do readlink /proc/self/ns/$kind; done > {seen}.ns; echo {name} >> {order}"
    ))
}

/// The state at the beginning of a text, and the rest.
fn split_state(text: &str) -> (Value, &str) {
    let (state, rest) = text.split_once('}').unwrap();
    (serde_json::from_str(&format!("{state}}}")).unwrap(), rest)
}

fn namespaces(process: &str) -> [String; 3] {
    ["mnt", "uts", "pid"].map(|kind| {
        let link = fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        link.display().to_string()
    })
}

/// What such a hook must have seen.
fn assert_seen(name: &str, scratch: &Scratch, (status, pid): (&str, i32), own: &[String]) {
    let text = scratch.read(name);
    let (state, rest) = split_state(&text);
    let expected = json!({"ociVersion": "1.2.0", "status": status, "pid": pid,
        "bundle": scratch.path, "id": scratch.path.file_name().unwrap().to_str()});
    assert_eq!(state, expected, "{name}");
    for foreign in ["evil", "SECRET", "PATH=/bin\n"] {
        assert!(!rest.contains(foreign), "{name}: {rest}");
    }
    assert!(rest.lines().any(|line| line == "/"), "{name}: {rest}");
    // The three streams: the directory itself is closed before its entries are looked at.
    let descriptors = rest.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(descriptors, 3, "{name}: {rest}");
    assert_eq!(scratch.read(&format!("{name}.ns")).lines().collect::<Vec<_>>(), own, "{name}");
}

#[test]
fn each_hook_runs_at_its_moment_with_the_state_and_nothing_of_the_containers() {
    let name = "hooks::each_hook_runs_at_its_moment_with_the_state_and_nothing_of_the_containers";
    alone(name, || {
        let scratch = Scratch::overlaid();
        let say = |name: &str| seeing(name, &scratch);
        let inner = "{ cat; id -u; env; } > /tmp/seen";
        let hooks = json!({
            "prestart": [say("prestart")],
            "createRuntime": [say("first"), say("second")],
            "createContainer": [say("inside")],
            "startContainer": [inner_hook(inner)],
            "poststart": [say("poststart")],
            "poststop": [say("poststop")],
        });
        let environment =
            json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "SECRET=x"]);
        let scratch = scratch.hooks(hooks).shell("cat /tmp/seen").set("/process/env", environment);
        let (created, out) = scratch.create().unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(scratch.read("order"), "prestart\nfirst\nsecond\ninside\n");
        let pid = created.child().pid;
        let (outside, inside) = (namespaces("self"), namespaces(&pid.to_string()));
        let running = created.start().unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_seen("prestart", &scratch, ("creating", pid), &outside);
        assert_seen("first", &scratch, ("creating", pid), &outside);
        assert_seen("inside", &scratch, ("creating", 1), &inside);
        assert_seen("poststart", &scratch, ("running", pid), &outside);
        let said = read_all(out);
        let (state, rest) = split_state(&said);
        assert_eq!((state["status"].as_str(), state["pid"].as_i64()), (Some("created"), Some(1)));
        assert!(!rest.contains("evil"), "{rest}");
        assert_eq!(process::wait(running.pidfd()).unwrap(), Exit::Code(0));
        assert!(!scratch.path.join("poststop").exists());
        delete(&scratch.path).unwrap();
        let stopped = scratch.read("poststop");
        let (state, _) = split_state(&stopped);
        assert_eq!((state["status"].as_str(), state.get("pid")), (Some("stopped"), None));
        assert!(scratch.is_clean());
        delete(&scratch.path).unwrap();
        assert_eq!(scratch.read("order").lines().last(), Some("poststop"));
        assert_eq!(scratch.read("order").lines().count(), 6, "each once");
    });
}

#[test]
fn a_hook_inside_can_change_the_root_before_it_is_entered() {
    alone("hooks::a_hook_inside_can_change_the_root_before_it_is_entered", || {
        let scratch = Scratch::overlaid();
        let (root, other) = (scratch.at("rootfs"), scratch.at("other"));
        fs::create_dir_all(&other).unwrap();
        fs::File::create(scratch.path.join("other/file")).unwrap();
        let script =
            format!("echo made > {root}/etc/made && /bin/busybox mount --bind {other} {root}/home");
        let hooks = json!({"createContainer": [hook(&script)]});
        let scratch = scratch
            .hooks(hooks)
            .set("/root/readonly", json!(true))
            .shell("cat /etc/made; ls /home; touch /etc/other 2>/dev/null || echo sealed");
        assert_eq!(scratch.output(), "made\nfile\nsealed\n");
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(&root), "nothing of it is mounted here");
    });
}

#[test]
fn a_hook_of_the_containers_own_has_no_more_power_than_its_program() {
    alone("hooks::a_hook_of_the_containers_own_has_no_more_power_than_its_program", || {
        let script =
            "{ id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; } > /tmp/hook";
        let hooks = json!({"startContainer": [inner_hook(script)]});
        let script =
            "{ id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; } > /tmp/own";
        let show = format!("{script}; cat /tmp/hook; echo =; cat /tmp/own");
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
        let scratch = Scratch::new().hooks(hooks).shell(&show);
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(scratch.root("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
        let scratch = scratch
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/noNewPrivileges", json!(true))
            .set("/linux/seccomp", filter);
        let output = scratch.output();
        let (hook, own) = output.split_once("=\n").unwrap();
        assert_eq!(hook, own);
        assert!(hook.starts_with("1000\n") && hook.contains("Seccomp:\t2"), "{hook}");
    });
}

#[test]
fn a_hook_that_fails_ends_the_container_with_its_name_and_its_last_words() {
    alone("hooks::a_hook_that_fails_ends_the_container_with_its_name_and_its_last_words", || {
        for moment in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"]
        {
            let scratch = Scratch::new().args(&["/bin/sleep", "1000"]);
            let script = "echo early; echo 'no such board' >&2; exit 3";
            let failing =
                if moment == "startContainer" { inner_hook(script) } else { hook(script) };
            let after = hook(&format!("echo again >> {}", scratch.at("again")));
            let mut hooks = noting_hooks("stopped", &["poststop"], &scratch);
            hooks[moment] = json!([failing, after]);
            let scratch = scratch.hooks(hooks);
            let error = match scratch.create() {
                Ok((created, _out)) => {
                    assert!(matches!(moment, "startContainer" | "poststart"), "{moment}");
                    let pidfd = created.child().pidfd.try_clone().unwrap();
                    let error = created.start().unwrap_err();
                    assert!(process::wait(pidfd).is_err(), "{moment}: it is reaped already");
                    delete(&scratch.path).unwrap();
                    error
                }
                Err(error) => error,
            };
            let text = chain(&error);
            assert!(text.starts_with(&format!("{moment} hook \"/")), "{text}");
            assert!(
                text.contains("exited with code 3") && text.contains("no such board"),
                "{text}"
            );
            assert!(scratch.is_clean(), "{moment}");
            assert!(!scratch.path.join("again").exists(), "{moment}: the next one does not run");
            assert_eq!(scratch.read("stopped"), "poststop\n", "{moment}");
        }
    });
}

#[test]
fn a_hook_that_is_not_there_or_takes_too_long_is_told() {
    alone("hooks::a_hook_that_is_not_there_or_takes_too_long_is_told", || {
        for moment in ["createRuntime", "createContainer"] {
            let missing = json!({"path": "/no/such/hook"});
            let error = Scratch::new().hooks(json!({moment: [missing]})).create().unwrap_err();
            let text = chain(&error);
            assert!(
                text.starts_with(&format!("{moment} hook \"/no/such/hook\" did not run")),
                "{text}"
            );
            assert!(text.contains("No such file or directory"), "{text}");

            let scratch = Scratch::new();
            let mut slow =
                hook(&format!("echo waiting; sleep 1000 & echo $! > {}; wait", scratch.at("pid")));
            slow["timeout"] = json!(1);
            let scratch = scratch.hooks(json!({moment: [slow]}));
            let text = chain(&scratch.create().unwrap_err());
            assert!(text.contains("did not end within 1s") && text.contains("waiting"), "{text}");
            assert!(scratch.is_clean());
            if moment == "createRuntime" {
                let child: i32 = scratch.read("pid").trim().parse().unwrap();
                until("the hook's own child ends", || {
                    cringle_kernel::proc::stat(child).map_or(true, |stat| stat.is_zombie())
                });
            }
        }
    });
}

#[test]
fn a_hook_that_never_stops_writing_is_told_by_its_last_words() {
    alone("hooks::a_hook_that_never_stops_writing_is_told_by_its_last_words", || {
        let mut chatty = hook("while :; do echo word; done");
        chatty["timeout"] = json!(1);
        let scratch = Scratch::new().hooks(json!({"createRuntime": [chatty]}));
        let text = chain(&scratch.create().unwrap_err());
        assert!(text.contains("did not end within 1s") && text.contains("word"), "{text}");
        assert!(text.len() < 4096, "{}", text.len());
    });
}

#[test]
fn a_hook_may_leave_somebody_behind_who_holds_its_output() {
    alone("hooks::a_hook_may_leave_somebody_behind_who_holds_its_output", || {
        let scratch = Scratch::new().shell("echo ran");
        let script = format!("sleep 1000 & echo $! > {}", scratch.at("pid"));
        let scratch = scratch.hooks(json!({"createRuntime": [hook(&script)]}));
        assert_eq!(scratch.output(), "ran\n");
        let left: i32 = scratch.read("pid").trim().parse().unwrap();
        assert!(!cringle_kernel::proc::stat(left).unwrap().is_zombie());
        process::signal(process::open(left).unwrap(), 9).unwrap();
    });
}

#[test]
fn all_hooks_for_the_end_run_whatever_becomes_of_one_and_whoever_ends_it() {
    alone("hooks::all_hooks_for_the_end_run_whatever_becomes_of_one_and_whoever_ends_it", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "1000"]);
        let note = hook(&format!("echo ended >> {}", scratch.at("ended")));
        let hooks = json!({"poststop": [hook("exit 1"), {"path": "/no/such/hook"}, note]});
        let scratch = scratch.hooks(hooks);
        let (created, _out) = scratch.create().unwrap();
        let pidfd = created.child().pidfd.try_clone().unwrap();
        drop(created);
        process::wait(pidfd).unwrap();
        // As by another process: from what is on disk.
        delete(&scratch.path).unwrap();
        assert_eq!(scratch.read("ended"), "ended\n");
        assert!(scratch.is_clean());
    });
}

#[test]
fn a_state_of_any_size_reaches_a_hook_that_does_not_read_it_and_one_that_does() {
    alone(
        "hooks::a_state_of_any_size_reaches_a_hook_that_does_not_read_it_and_one_that_does",
        || {
            let scratch = Scratch::new();
            let counting = hook(&format!("wc -c > {}", scratch.at("size")));
            let scratch = scratch
                .hooks(json!({"createRuntime": [hook("exit 0"), counting]}))
                .set("/annotations", json!({"large": "x".repeat(1 << 20)}));
            scratch.output();
            let size: usize = scratch.read("size").trim().parse().unwrap();
            assert!(size > 1 << 20, "{size}");
        },
    );
}
