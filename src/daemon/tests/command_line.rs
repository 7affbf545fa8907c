//! The program as it is called: configuration, version, and one daemon for each instance.

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};

    fn cringle() -> Command {
        Command::new(env!("CARGO_BIN_EXE_cringle"))
    }

    fn run(words: &[&str]) -> Output {
        cringle().args(words).output().unwrap()
    }

    fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
        use std::io::Write;
        let path = directory.join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    /// A daemon that is ended with the test.
    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    /// A configuration with everything below a directory, and an empty program as the shim: nothing is started.
    fn configuration(directory: &Path) -> PathBuf {
        let shim = file(directory, "shim", "");
        std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = |name: &str| directory.join(name).display().to_string();
        let text = format!(
            "instance = \"cmdline\"\nroot = \"{}\"\nstate = \"{}\"\nsocket = \"{}\"\n\
             [shim]\npath = \"{}\"\n\
             [network]\nconfig_directory = \"{}\"\ncache_directory = \"{}\"\nnetns_directory = \"{}\"\n\
             [nri]\nsocket = \"{}\"\nplugin_path = \"{}\"\n",
            place("root"),
            place("state"),
            place("run/cringle.sock"),
            shim.display(),
            place("net.d"),
            place("cni"),
            place("netns"),
            place("nri.sock"),
            place("nri-plugins"),
        );
        file(directory, "config.toml", &text)
    }

    fn serve(config: &Path) -> Command {
        let mut command = cringle();
        command.arg("serve").arg("--config").arg(config).stderr(Stdio::piped());
        command
    }

    /// Starts a daemon and waits until it says that it serves.
    fn start(config: &Path) -> Daemon {
        let mut daemon = Daemon(serve(config).spawn().unwrap());
        let log = BufReader::new(daemon.0.stderr.take().unwrap());
        let mut said = Vec::new();
        for line in log.lines() {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line.contains("serving")) {
                return daemon;
            }
        }
        panic!("the daemon ended: {said:?}");
    }

    #[test]
    fn the_version_is_told() {
        let output = run(&["version"]);
        let expected = concat!("cringle ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn the_default_configuration_passes_the_check() {
        let directory = tempfile::tempdir().unwrap();
        let printed = String::from_utf8(run(&["config", "default"]).stdout).unwrap();
        let path = file(directory.path(), "default.toml", &printed);
        let output = run(&["config", "check", &path.display().to_string()]);
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_wrong_configuration_fails_the_check_with_every_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), "wrong.toml", "x = 1\n[log]\nlevel = \"loud\"\n");
        let output = run(&["config", "check", &path.display().to_string()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("line 1: x:") && said.contains("line 3: log.level:"), "{said}");
    }

    #[test]
    fn a_second_daemon_is_refused_and_the_first_serves_on() {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(directory.path());
        let first = start(&config);
        let socket = directory.path().join("run/cringle.sock");
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o7777, 0o660);
        for private in ["root", "state", "run"] {
            let mode = directory.path().join(private).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{private}");
        }
        let second = serve(&config).output().unwrap();
        let said = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(said.contains("another daemon uses"), "{said}");
        drop(UnixStream::connect(&socket).unwrap());
        drop(first);
        // Killed, it left its socket; the next one replaces it.
        let third = start(&config);
        drop(UnixStream::connect(&socket).unwrap());
        drop(third);
    }
}
