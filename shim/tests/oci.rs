//! The OCI command line as other engines use it: separate processes that share nothing but the bundle and the id.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use serde_json::{Value, json};

    /// A bundle with one static busybox, and a place for the ids.
    struct Scratch(PathBuf);

    impl Scratch {
        /// None, with a word, where such a test can't run.
        fn new(name: &str) -> Option<Self> {
            let busybox =
                ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
            let (true, Some(busybox)) = (rustix::process::geteuid().is_root(), busybox) else {
                eprintln!("skipped because it needs root and a static busybox");
                return None;
            };
            let path =
                std::env::temp_dir().join(format!("cringle-oci-{name}-{}", std::process::id()));
            for directory in ["bin", "dev", "proc"] {
                fs::create_dir_all(path.join("rootfs").join(directory)).unwrap();
            }
            fs::copy(busybox, path.join("rootfs/bin/busybox")).unwrap();
            Some(Self(path))
        }

        fn configure(&self, args: &[&str]) {
            self.configure_with(args, &json!({}));
        }

        fn configure_with(&self, args: &[&str], hooks: &Value) {
            let spec = json!({
                "hooks": hooks,
                "ociVersion": "1.2.0",
                "root": {"path": "rootfs"},
                "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
                "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                "linux": {
                    "cgroupsPath": format!("/{}", self.0.file_name().unwrap().to_str().unwrap()),
                    "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}],
                },
            });
            let file = fs::File::create(self.0.join("config.json")).unwrap();
            serde_json::to_writer(file, &spec).unwrap();
        }

        fn call(&self, words: &[&str]) -> Output {
            Command::new(env!("CARGO_BIN_EXE_containerd-shim-cringle-v2"))
                .arg("--root")
                .arg(self.0.join("ids"))
                .args(words)
                .output()
                .unwrap()
        }

        /// A container's streams are its creator's, which must not wait for them.
        fn create(&self) -> bool {
            let out = fs::File::create(self.0.join("out")).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-cringle-v2"));
            command
                .arg("--root")
                .arg(self.0.join("ids"))
                .arg("create")
                .arg("--bundle")
                .arg(&self.0)
                .arg("one");
            command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap().success()
        }

        fn status(&self) -> String {
            let output = self.call(&["state", "one"]);
            let state: Value = serde_json::from_slice(&output.stdout).unwrap();
            state["status"].as_str().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            assert!(self.call(&["delete", "--force", "one"]).status.success());
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "{what} in vain");
        }
    }

    #[test]
    fn a_container_goes_through_all_its_states() {
        let Some(scratch) = Scratch::new("states") else { return };
        scratch.configure(&["/bin/busybox", "sleep", "100"]);
        assert!(scratch.create());
        assert!(!scratch.create(), "the id is taken");
        assert_eq!(scratch.status(), "created");
        assert!(scratch.call(&["start", "one"]).status.success());
        assert_eq!(scratch.status(), "running");
        assert!(!scratch.call(&["start", "one"]).status.success(), "it was started");
        assert!(!scratch.call(&["delete", "one"]).status.success(), "it runs");
        let output =
            scratch.call(&["exec", "one", "/bin/busybox", "sh", "-c", "echo inside $HOME; exit 5"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "inside /\n");
        assert_eq!(output.status.code(), Some(5));
        assert!(scratch.call(&["kill", "one", "KILL"]).status.success());
        until("the end", || scratch.status() == "stopped");
        assert!(scratch.call(&["delete", "one"]).status.success());
        assert!(!scratch.call(&["state", "one"]).status.success());
    }

    #[test]
    fn each_command_runs_its_hooks() {
        let Some(scratch) = Scratch::new("hooks") else { return };
        let noted = scratch.0.join("noted");
        let note = |moment: &str| {
            let script = format!("echo {moment} $(cat) >> {}", noted.display());
            json!([{"path": "/bin/busybox", "args": ["sh", "-c", script]}])
        };
        let moments = ["createRuntime", "createContainer", "poststart", "poststop"];
        let hooks: Value =
            moments.iter().map(|moment| ((*moment).to_owned(), note(moment))).collect();
        scratch.configure_with(&["/bin/busybox", "sleep", "100"], &hooks);
        let ran = || -> Vec<String> {
            let text = fs::read_to_string(&noted).unwrap_or_default();
            assert!(text.lines().all(|line| line.contains(r#""id":"one""#)), "{text}");
            text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
        };
        assert!(scratch.create());
        assert_eq!(ran(), moments[..2]);
        assert!(scratch.call(&["start", "one"]).status.success());
        assert_eq!(ran(), moments[..3]);
        assert!(scratch.call(&["kill", "one", "KILL"]).status.success());
        until("the end", || scratch.status() == "stopped");
        assert!(scratch.call(&["delete", "one"]).status.success());
        assert_eq!(ran(), moments);
    }

    #[test]
    fn a_hook_that_fails_after_the_start_ends_the_container() {
        let Some(scratch) = Scratch::new("failing") else { return };
        let hook = json!({"path": "/bin/busybox", "args": ["sh", "-c", "echo broken >&2; exit 4"]});
        scratch.configure_with(&["/bin/busybox", "sleep", "100"], &json!({"poststart": [hook]}));
        assert!(scratch.create());
        let output = scratch.call(&["start", "one"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("exited with code 4"), "{text}");
        assert!(text.contains("poststart hook") && text.contains("broken"), "{text}");
        until("the end", || scratch.status() == "stopped");
    }

    #[test]
    fn a_program_that_is_not_there_is_told_by_start() {
        let Some(scratch) = Scratch::new("missing") else { return };
        scratch.configure(&["nope"]);
        assert!(scratch.create());
        let output = scratch.call(&["start", "one"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("executable file not found in $PATH"), "{text}");
        until("the end", || scratch.status() == "stopped");
    }

    #[test]
    fn run_gives_the_programs_exit_code_and_leaves_nothing() {
        let Some(scratch) = Scratch::new("run") else { return };
        scratch.configure(&["/bin/busybox", "sh", "-c", "echo out; exit 7"]);
        let output = scratch.call(&["run", "--bundle", scratch.0.to_str().unwrap(), "one"]);
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(7), "out\n")
        );
        assert!(!scratch.call(&["state", "one"]).status.success());
    }
}
