//! Containers with users of their own.

use super::exec::end_of;
use super::*;
use std::os::unix::fs::{MetadataExt, chown};

/// The host's ids for those from 0 on inside.
const FIRST: u32 = 100_000;

fn maps() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65536}])
}

/// A container with a user namespace, on an overlay whose lower layer is as it came from an image.
fn own_users() -> Scratch {
    let mut scratch = Scratch::overlaid();
    let namespaces = scratch.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    chown(scratch.path.join("upper"), Some(FIRST), Some(FIRST)).unwrap();
    for word in ["uidmap", "gidmap"] {
        scratch.rootfs[0].options.push(format!("{word}=0:{FIRST}:65536"));
    }
    scratch.set("/linux/uidMappings", maps()).set("/linux/gidMappings", maps())
}

#[test]
fn root_inside_is_nobody_outside_and_owns_what_is_made_for_it() {
    alone("users::root_inside_is_nobody_outside_and_owns_what_is_made_for_it", || {
        let scratch = own_users().shell(
            "cat /proc/self/uid_map; stat -c %u:%g / /bin /dev /dev/null /dev/shm /dev/mqueue; \
             touch /file; mkdir /home/new; mount -t tmpfs none /tmp 2>/dev/null; echo to >/dev/stdout; \
             umount /dev 2>/dev/null && echo revealed; mknod /tmp/x c 1 3 2>/dev/null && echo made; \
             sh -c 'echo x >/proc/sys/kernel/panic' 2>/dev/null && echo written; true",
        );
        let output = scratch.output();
        let mut lines = output.lines();
        let map: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(map, ["0", "100000", "65536"]);
        let rest: Vec<_> = lines.collect();
        let (owners, rest) = rest.split_at(6);
        assert!(owners.iter().all(|owner| *owner == "0:0"), "{output}");
        assert_eq!(rest[0], "to", "{output}");
        assert!(!output.contains("revealed") && !output.contains("made"), "{output}");
        assert!(!output.contains("written"), "{output}");
        let upper = scratch.path.join("upper");
        let mut found = vec![upper.join("file"), upper.join("home/new")];
        found.extend(fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().path()));
        for path in found {
            let owner = fs::symlink_metadata(&path).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (FIRST, FIRST), "{path:?}");
        }
    });
}

#[test]
fn root_inside_may_do_with_its_namespaces_what_it_has_the_capability_for() {
    alone("users::root_inside_may_do_with_its_namespaces_what_it_has_the_capability_for", || {
        let all = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID"]);
        let sets = json!({"bounding": all, "effective": all, "permitted": all});
        let scratch = own_users().set("/process/capabilities", sets).shell(
            "hostname mine && hostname; mount -t tmpfs none /tmp && stat -c %u /tmp; \
             umount /proc 2>/dev/null || echo locked; sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward' 2>/dev/null \
             || echo protected; mount -o remount,rw /sys/fs/cgroup 2>/dev/null || echo cgroups",
        );
        assert_eq!(scratch.output(), "mine\n0\nlocked\nprotected\ncgroups\n");
    });
}

#[test]
fn a_volume_shows_the_ids_it_is_mapped_to_and_stores_those_inside() {
    alone("users::a_volume_shows_the_ids_it_is_mapped_to_and_stores_those_inside", || {
        let scratch = own_users();
        let data = scratch.path.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::File::create(data.join("file")).unwrap();
        chown(data.join("file"), Some(7), Some(8)).unwrap();
        // Others may write there who are nobody to it.
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let bind = |destination: &str| {
            json!({"destination": destination, "type": "bind", "source": data,
                   "options": ["rbind"]})
        };
        let mut mapped = bind("/mapped");
        mapped["uidMappings"] = maps();
        mapped["gidMappings"] = maps();
        let script = "stat -c %u:%g /mapped/file /plain/file; touch /mapped/new";
        let plain = bind("/plain");
        let scratch = scratch.mount(mapped).mount(plain).shell(script);
        assert_eq!(scratch.output(), "7:8\n65534:65534\n");
        assert_eq!(fs::metadata(scratch.path.join("data/new")).unwrap().uid(), 0);
    });
}

#[test]
fn a_volume_that_can_not_be_mapped_is_an_error() {
    alone("users::a_volume_that_can_not_be_mapped_is_an_error", || {
        let mount = json!({"destination": "/x", "type": "bind", "source": "/proc/sys",
                           "options": ["rbind"], "uidMappings": maps(), "gidMappings": maps()});
        let error = own_users().mount(mount).start().unwrap_err();
        assert!(chain(&error).contains("may not support it"), "{}", chain(&error));
    });
}

#[test]
fn an_exec_is_the_same_user_and_has_its_streams_and_limits() {
    alone("users::an_exec_is_the_same_user_and_has_its_streams_and_limits", || {
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 15_000}]);
        let scratch =
            own_users().set("/process/rlimits", limits.clone()).args(&["/bin/sleep", "100"]);
        let (running, _out) = scratch.start().unwrap();
        let script = "id -u; cat /proc/self/uid_map; echo to >/dev/stdout; touch /of-exec; ulimit -Hn; \
                      readlink /proc/self/ns/user";
        for user in [0, 1000] {
            let mut process = process_json(&["/bin/sh", "-c", script]);
            process["user"] = json!({"uid": user, "gid": user});
            process["rlimits"] = limits.clone();
            let (stdio, out) = pipes();
            let child = running.exec(&parse_process(process), stdio).unwrap();
            let text = read_all(out);
            process::wait(&child.pidfd).unwrap();
            let words: Vec<_> = text.split_whitespace().filter(|word| *word != "touch:").collect();
            let user = user.to_string();
            assert_eq!(words[..4], [user.as_str(), "0", "100000", "65536"], "{text}");
            assert!(words.contains(&"to") && words.contains(&"15000"), "{text}");
            let namespace = fs::read_link(format!("/proc/{}/ns/user", running.pid())).unwrap();
            assert_eq!(words.last().copied(), namespace.to_str(), "{text}");
        }
        assert_eq!(fs::metadata(scratch.path.join("upper/of-exec")).unwrap().uid(), FIRST);
        end_of(&running);
    });
}
