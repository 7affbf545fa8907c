//! Further processes in a container.

use super::*;

#[test]
fn an_exec_is_inside_everything_the_container_has() {
    alone("exec::an_exec_is_inside_everything_the_container_has", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let mut process = process_json(&[
            "/bin/sh",
            "-c",
            "hostname; pwd; id -u; id -g; echo $X; for n in pid ipc uts mnt net cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup",
        ]);
        process["cwd"] = json!("/tmp");
        process["user"] = json!({"uid": 7, "gid": 8});
        process["env"] = json!(["PATH=/bin", "X=y"]);
        let (stdio, out) = pipes();
        let child = running.exec(&parse_process(process), stdio).unwrap();
        let text = read_all(out);
        assert_eq!(process::wait(&child.pidfd).unwrap(), Exit::Code(0), "{text}");
        let mut lines = text.lines();
        for expected in ["inside", "/tmp", "7", "8", "y"] {
            assert_eq!(lines.next(), Some(expected), "{text}");
        }
        for name in ["pid", "ipc", "uts", "mnt", "net", "cgroup"] {
            let namespace = fs::read_link(format!("/proc/{}/ns/{name}", running.pid())).unwrap();
            assert_eq!(lines.next(), namespace.to_str(), "{name}");
        }
        // In its own cgroup namespace the container's cgroup is the root.
        assert!(lines.all(|line| line.ends_with(":/")), "{text}");
        end_of(&running);
    });
}

#[test]
fn an_exec_of_what_is_not_there_says_so_and_leaves_no_process() {
    alone("exec::an_exec_of_what_is_not_there_says_so_and_leaves_no_process", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let error = running.exec(&parse_process(process_json(&["nope"])), pipes().0).unwrap_err();
        assert_eq!(error.errno(), Some(2));
        assert_eq!(running.pids().unwrap().len(), 1);
        end_of(&running);
    });
}

#[test]
fn an_exec_has_no_descriptor_but_its_streams() {
    alone("exec::an_exec_has_no_descriptor_but_its_streams", || {
        let leak = fs::File::open("/").unwrap();
        let leaked = rustix::io::dup(&leak).unwrap();
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let (stdio, out) = pipes();
        let list = parse_process(process_json(&["/bin/ls", "/proc/self/fd"]));
        let child = running.exec(&list, stdio).unwrap();
        // The fourth is the directory that ls reads.
        assert_eq!(read_all(out), "0\n1\n2\n3\n");
        process::wait(&child.pidfd).unwrap();
        drop((leak, leaked));
        end_of(&running);
    });
}

#[test]
fn a_working_directory_through_a_descriptor_of_the_host_is_refused() {
    alone("exec::a_working_directory_through_a_descriptor_of_the_host_is_refused", || {
        let leaks: Vec<_> =
            (0..32).map(|_| rustix::io::dup(fs::File::open("/").unwrap()).unwrap()).collect();
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        symlink("/proc/self/fd/9", scratch.root("link")).unwrap();
        let (running, _out) = scratch.start().unwrap();
        for number in 0..40 {
            let mut process = process_json(&["/bin/true"]);
            process["cwd"] = json!(format!("/proc/self/fd/{number}"));
            assert!(running.exec(&parse_process(process), pipes().0).is_err(), "{number}");
        }
        let mut process = process_json(&["/bin/true"]);
        process["cwd"] = json!("/link");
        running.exec(&parse_process(process), pipes().0).unwrap_err();
        for number in 3..40 {
            let process = process_json(&[&format!("/proc/self/fd/{number}/bin/true")]);
            assert!(running.exec(&parse_process(process), pipes().0).is_err(), "{number}");
        }
        end_of(&running);
        drop(leaks);

        for number in 3..40 {
            let scratch =
                Scratch::new().set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
            assert!(scratch.start().is_err(), "{number}");
        }
    });
}

#[test]
fn an_exec_may_have_a_terminal_of_the_container() {
    alone("exec::an_exec_may_have_a_terminal_of_the_container", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let mut process = process_json(&["/bin/tty"]);
        process["terminal"] = json!(true);
        let child = running.exec(&parse_process(process), Stdio::Terminal).unwrap();
        process::wait(&child.pidfd).unwrap();
        assert_eq!(read_terminal(child.master.as_ref().unwrap()), "/dev/pts/0\r\n");
        end_of(&running);
    });
}

#[test]
fn processes_of_the_container_can_not_look_into_one_that_joins_it() {
    alone("exec::processes_of_the_container_can_not_look_into_one_that_joins_it", || {
        // Whatever becomes visible in /proc is asked for its descriptors and memory; an answer that leads outside is an escape.
        let spy = "echo looks; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] && continue; \
                   l=$(readlink $p/exe); case \"$l\" in *busybox*|'') ;; *) echo \"escaped $l\";; esac; \
                   ls -l $p/fd 2>/dev/null | grep -e '->' | grep -v -e pipe: -e /dev/null -e /proc/ && echo escaped; done; done";
        let scratch = Scratch::new().args(&["/bin/sh", "-c", spy]);
        let (running, out) = scratch.start().unwrap();
        let mut looks = [0; 6];
        fs::File::from(out.try_clone().unwrap()).read_exact(&mut looks).unwrap();
        for _ in 0..100 {
            let (stdio, _their_out) = pipes();
            let child = running.exec(&parse_process(process_json(&["/bin/true"])), stdio).unwrap();
            process::wait(&child.pidfd).unwrap();
        }
        end_of(&running);
        let text = read_all(out);
        assert!(!text.contains("escaped"), "{text}");
    });
}

#[test]
fn a_container_can_share_a_pid_namespace_that_exists() {
    alone("exec::a_container_can_share_a_pid_namespace_that_exists", || {
        let first = Scratch::new().args(&["/bin/sleep", "100"]);
        let (holder, _out) = first.start().unwrap();
        let path = format!("/proc/{}/ns/pid", holder.pid());
        let second = Scratch::new()
            .shell("echo $$; readlink /proc/self/ns/pid; ls -d /proc/1")
            .set("/linux/namespaces/0", json!({"type": "pid", "path": path}));
        let own = fs::read_link("/proc/self/ns/pid").unwrap();
        let text = second.output();
        let mut lines = text.lines();
        assert_ne!(lines.next(), Some("1"), "{text}");
        assert_eq!(lines.next(), fs::read_link(&path).unwrap().to_str());
        assert_eq!(lines.next(), Some("/proc/1"));
        assert_eq!(fs::read_link("/proc/self/ns/pid_for_children").unwrap(), own);
        end_of(&holder);
    });
}

#[test]
fn a_container_is_found_again_by_what_was_noted() {
    alone("exec::a_container_is_found_again_by_what_was_noted", || {
        let scratch = Scratch::new().args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let found = Running::find(&scratch.path).unwrap();
        assert_eq!(found.pid(), running.pid());
        let (stdio, out) = pipes();
        let child =
            found.exec(&parse_process(process_json(&["/bin/echo", "here"])), stdio).unwrap();
        assert_eq!(read_all(out), "here\n");
        process::wait(&child.pidfd).unwrap();
        end_of(&running);
        Running::find(&scratch.path).unwrap_err();
    });
}

/// Kills and reaps a container.
pub(super) fn end_of(running: &Running) {
    running.kill_all().unwrap();
    process::wait(running.pidfd()).unwrap();
}
