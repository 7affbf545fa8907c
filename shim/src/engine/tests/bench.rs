//! How long the engine takes; a number to look at, not a limit: `cargo test -- --ignored --nocapture the_engine`.

use std::time::Instant;

use super::*;

#[test]
#[ignore = "it measures and asserts nothing"]
fn the_engine_creates_and_starts() {
    alone_ignored("bench::the_engine_creates_and_starts", || {
        // As in a pod: its network, ipc and uts namespaces exist.
        let pod = Scratch::new().args(&["/bin/sleep", "1000"]);
        let (holder, _out) = pod.start().unwrap();
        let mut namespaces =
            vec![json!({"type": "pid"}), json!({"type": "mount"}), json!({"type": "cgroup"})];
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            namespaces
                .push(json!({"type": kind, "path": format!("/proc/{}/ns/{file}", holder.pid())}));
        }
        let scratch =
            Scratch::overlaid().args(&["/bin/true"]).set("/linux/namespaces", json!(namespaces));
        let bundle = scratch.bundle();
        let (mut creates, mut starts, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..300 {
            let (stdio, _out) = pipes();
            let begin = Instant::now();
            let created = create(&bundle, stdio).unwrap();
            let made = Instant::now();
            let running = created.start().unwrap();
            let started = Instant::now();
            process::wait(running.pidfd()).unwrap();
            let ended = Instant::now();
            delete(&scratch.path).unwrap();
            creates.push(made - begin);
            starts.push(started - made);
            gone.push(ended.elapsed());
            // A volatile upper directory can't be used twice.
            fs::remove_dir_all(scratch.path.join("work")).unwrap();
            fs::create_dir_all(scratch.path.join("work")).unwrap();
        }
        for (name, mut times) in [("create", creates), ("start", starts), ("delete", gone)] {
            times.sort();
            eprintln!("{name}: min {:?} p50 {:?} p95 {:?}", times[0], times[150], times[285]);
        }
        exec::end_of(&holder);
    });
}

fn alone_ignored(name: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return body();
    }
    let status = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("engine::tests::{name}"),
            "--test-threads=1",
            "--nocapture",
            "--ignored",
        ])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "it measures and asserts nothing"]
fn parts_of_the_parent() {
    alone_ignored("bench::parts_of_the_parent", || {
        use cringle_kernel::cgroup::{Cgroup, CgroupPaths, Layout};
        let scratch = Scratch::overlaid().args(&["/bin/true"]);
        let bundle = scratch.bundle();
        let mut times: [Vec<std::time::Duration>; 8] = Default::default();
        for _ in 0..300 {
            let mut last = Instant::now();
            let mut lap = |index: usize| {
                times[index].push(last.elapsed());
                last = Instant::now();
            };
            let plan = plan::Plan::new(&bundle).unwrap();
            lap(0);
            let layout = Layout::probe().unwrap();
            lap(1);
            let paths = CgroupPaths::new(&layout, &plan.cgroup).unwrap();
            state::State::new(paths.clone()).write(&bundle.path).unwrap();
            lap(2);
            let cgroup = Cgroup::create(paths).unwrap();
            lap(3);
            cgroup.apply(&plan.limits).unwrap();
            lap(4);
            drop(cgroup.tasks_files().unwrap());
            lap(5);
            cgroup.remove(std::time::Duration::from_secs(1)).unwrap();
            lap(6);
        }
        let names = ["plan", "probe", "state", "cgroup", "apply", "tasks", "remove"];
        for (name, times) in names.iter().zip(&mut times) {
            times.sort();
            eprintln!("{name}: min {:?} p50 {:?} p95 {:?}", times[0], times[150], times[285]);
        }
    });
}
