//! The program as a runtime calls it: by the name of a plugin, with variables and a configuration, in the network namespace
//! of a host that is a thread of this test.

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use cringle_kernel::namespace::{self, Namespaces};
    use serde_json::Value;

    const PROGRAM: &str = env!("CARGO_BIN_EXE_cringle-cni");

    fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                namespace::unshare(Namespaces::NETWORK).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    struct Pod {
        id: String,
        path: PathBuf,
        _netns: OwnedFd,
    }

    fn pod(number: usize) -> Pod {
        let netns = in_new_netns(|| namespace::own(Namespaces::NETWORK).unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd()).into();
        Pod { id: format!("c{number}"), path, _netns: netns }
    }

    fn run(kind: &str, command: &str, pod: &Pod, config: &str) -> Output {
        let mut child = Command::new(PROGRAM)
            .arg0(kind)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", &pod.path)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/no/such/directory")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn config(root: &Path, kind: &str, more: &str) -> String {
        format!(
            r#"{{"cniVersion":"1.1.0","name":"n","type":"{kind}","isDefaultGateway":true,"ipMasq":true,{more}
                "ipam":{{"type":"host-local","dataDir":"{}","subnet":"10.1.0.0/24"}}}}"#,
            root.display()
        )
    }

    fn leases(root: &Path) -> usize {
        let entries = std::fs::read_dir(root.join("n")).unwrap();
        entries
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("10.")
            })
            .count()
    }

    #[test]
    fn fifty_processes_attach_and_detach_at_the_same_time_with_ports() {
        let root = tempfile::tempdir().unwrap();
        let pods: Vec<Pod> = (0..50).map(pod).collect();
        in_new_netns(|| {
            let life = |number: usize, pod: &Pod| {
                let plain = config(root.path(), "bridge", "");
                let added = run("bridge", "ADD", pod, &plain);
                assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stdout));
                let ports = format!(
                    r#""prevResult":{},"runtimeConfig":{{"portMappings":[{{"hostPort":{},"containerPort":80}}]}},"#,
                    String::from_utf8_lossy(&added.stdout),
                    8000 + number
                );
                let with_ports = config(root.path(), "portmap", &ports);
                for (kind, command, config) in [
                    ("portmap", "ADD", &with_ports),
                    ("portmap", "CHECK", &with_ports),
                    ("portmap", "DEL", &with_ports),
                    ("bridge", "DEL", &plain),
                ] {
                    let output = run(kind, command, pod, config);
                    assert!(
                        output.status.success(),
                        "{kind} {command}: {}",
                        String::from_utf8_lossy(&output.stdout)
                    );
                }
            };
            std::thread::scope(|scope| {
                for (number, pod) in pods.iter().enumerate() {
                    scope.spawn(move || life(number, pod));
                }
            });
        });
        assert_eq!(leases(root.path()), 0);
    }

    #[test]
    fn a_failure_is_an_object_on_standard_output_and_a_status() {
        in_new_netns(|| {
            let output =
                run("bridge", "ADD", &pod(0), r#"{"cniVersion":"0.4.0","name":"n","vlan":5}"#);
            assert!(!output.status.success());
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                (json["code"].as_u64(), json["cniVersion"].as_str()),
                (Some(2), Some("0.4.0"))
            );
        });
    }

    #[test]
    fn the_first_argument_chooses_a_plugin_when_the_name_does_not() {
        let output =
            Command::new(PROGRAM).arg("host-local").env("CNI_COMMAND", "VERSION").output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["supportedVersions"].as_array().unwrap().len(), 7);
    }
}
