//! One daemon with roots, an instance name, a configuration and a network of its own.

use crate::inventory::Scope;
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// The name of its configuration.
pub(crate) const CONFIGURATION: &str = "cringle.toml";
/// The subnet of every stage: each has a network namespace of its own.
const SUBNET: &str = "10.244.7.0/24";

/// A daemon's place and, while it runs, its process. Dropped, it is killed; its containers are not.
#[derive(Debug)]
pub struct Daemon {
    directory: PathBuf,
    programs: PathBuf,
    /// Programs of its own, if it has them; the directory goes with it.
    installed: Option<TempDir>,
    instance: String,
    environment: Vec<(String, String)>,
    runner: Option<PathBuf>,
    process: Option<Child>,
}

impl Daemon {
    /// Writes the configuration below a directory; images come from a registry under any name of [`MIRRORED`].
    pub fn prepare(directory: &Path, registry: SocketAddr) -> Result<Self> {
        let daemon = Self::at(directory, instance_name())?;
        for name in ["net.d", "plugins", "logs"] {
            fs::create_dir_all(directory.join(name))?;
        }
        write(&directory.join("net.d/10-bridge.conflist"), &daemon.network())?;
        write(&daemon.configuration(), &daemon.settings(registry))?;
        Ok(daemon)
    }

    /// The daemon that was prepared below a directory by another process.
    pub fn adopt(directory: &Path) -> Result<Self> {
        let settings = fs::read_to_string(directory.join(CONFIGURATION))?;
        let instance = settings.lines().find_map(|line| line.strip_prefix("instance = "));
        let instance = instance.context("its configuration names no instance")?;
        Self::at(directory, instance.trim_matches('"').to_owned())
    }

    fn at(directory: &Path, instance: String) -> Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            programs: programs()?,
            installed: None,
            instance,
            environment: Vec::new(),
            runner: None,
            process: None,
        })
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        if let Some(status) = self.start_or_end().await? {
            bail!("the daemon ended with {status}:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Starts it and waits until it listens, or ends: then with what.
    pub async fn start_or_end(&mut self) -> Result<Option<ExitStatus>> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = match &self.runner {
            Some(runner) => Command::new(runner),
            None => Command::new(self.program()),
        };
        if self.runner.is_some() {
            command.arg(self.program());
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(self.configuration())
            .env("CRINGLE_FAILPOINT", self.failpoint())
            .envs(self.environment.iter().map(|(variable, value)| (variable, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start the daemon")?;
        self.process = Some(child);
        let mut ended = None;
        wait::until("the daemon listens", async || {
            ended = self.running()?.try_wait()?;
            Ok(ended.is_some() || UnixStream::connect(self.socket()).is_ok())
        })
        .await?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// Has it end as by kill -9 at so many of its steps from now, or from its next start.
    pub fn arm(&self, step: u32) -> Result<()> {
        self.order(&step.to_string())
    }

    /// Takes back what was ordered; what hangs goes on.
    pub fn disarm(&self) -> Result<()> {
        remove(&self.failpoint())
    }

    /// Has it hang at so many of its steps from now, until it is disarmed. The file is there while it does.
    pub fn hang(&self, step: u32) -> Result<PathBuf> {
        static ORDERS: AtomicU32 = AtomicU32::new(0);
        let order = ORDERS.fetch_add(1, Ordering::Relaxed);
        self.order(&format!("hang {step} {order}"))?;
        Ok(self.failpoint().with_extension(format!("{order}")))
    }

    /// Has it count its steps from now.
    pub fn count(&self) -> Result<()> {
        remove(&self.failpoint().with_extension("count"))?;
        self.order("count")
    }

    /// How many steps it took since [`Daemon::count`]; none if it was built without failpoints. It is disarmed.
    pub fn counted(&self) -> Result<u32> {
        self.disarm()?;
        let counted = fs::read(self.failpoint().with_extension("count")).unwrap_or_default();
        Ok(u32::try_from(counted.len())?)
    }

    /// Waits for it to end by itself; with what it did.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let child = self.running()?;
        wait::until("the daemon ends", async || Ok(child.try_wait()?.is_some())).await?;
        let status = child.wait()?;
        self.process = None;
        Ok(status)
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Puts other files of the same programs in a new place, from which it starts from now on. The last such place is
    /// gone then.
    pub fn install(&mut self) -> Result<()> {
        let place = tempfile::Builder::new().prefix("installed-").tempdir_in(&self.programs)?;
        for name in PROGRAMS {
            fs::copy(self.programs.join(name), place.path().join(name))?;
        }
        self.installed = Some(place);
        Ok(())
    }

    /// Where its programs are.
    #[must_use]
    pub fn program_directory(&self) -> &Path {
        self.installed.as_ref().map_or(&self.programs, TempDir::path)
    }

    /// Asks it to end. What it was asked before, it does.
    pub fn terminate(&mut self) -> Result<()> {
        let process = rustix::process::Pid::from_child(self.running()?);
        Ok(rustix::process::kill_process(process, rustix::process::Signal::TERM)?)
    }

    /// Asks it to end, and waits until it did.
    pub async fn stop(&mut self) -> Result<()> {
        self.terminate()?;
        let status = self.ended().await?;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.log_tail());
        Ok(())
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.program_directory().join("cringle")
    }

    /// Has its next start see this variable, beside its environment.
    pub fn tell(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// Has its next starts done by a program that becomes the one that its arguments name, or by nobody.
    pub fn run_by(&mut self, runner: Option<&Path>) {
        self.runner = runner.map(Path::to_owned);
    }

    /// Where clients connect.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("state/cringle.sock")
    }

    /// Where measurements can be read.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.directory.join("metrics.sock")
    }

    /// Where plugins of its own connect.
    #[must_use]
    pub fn nri(&self) -> PathBuf {
        self.directory.join("nri.sock")
    }

    /// The process id of the running daemon.
    pub fn id(&mut self) -> Result<u32> {
        Ok(self.running()?.id())
    }

    /// Directory for the logs of pods.
    #[must_use]
    pub fn pod_logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// What survives a reboot.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// What a reboot empties.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where addresses are reserved.
    #[must_use]
    pub fn leases(&self) -> PathBuf {
        self.directory.join("leases")
    }

    /// The instance's own cgroup.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("cringle-{}", self.instance)
    }

    /// Where it could leave something.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let own = ["root", "state", "leases", "cni", "netns"];
        Scope {
            directories: own.iter().map(|name| self.directory.join(name)).collect(),
            cgroup: self.cgroup(),
            bridge: self.bridge(),
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// How often a text is in its log.
    #[must_use]
    pub fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.log()).unwrap_or_default().matches(text).count()
    }

    fn order(&self, text: &str) -> Result<()> {
        // Whole or absent, for it is read at every step.
        let draft = self.failpoint().with_extension("draft");
        write(&draft, text)?;
        Ok(fs::rename(draft, self.failpoint())?)
    }

    fn running(&mut self) -> Result<&mut Child> {
        self.process.as_mut().context("the daemon runs")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("daemon.log")
    }

    fn failpoint(&self) -> PathBuf {
        self.directory.join("failpoint")
    }

    /// Its configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join(CONFIGURATION)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.instance)
    }

    fn settings(&self, registry: SocketAddr) -> String {
        let place = |name: &str| self.directory.join(name).display().to_string();
        format!(
            r#"instance = "{instance}"
root = "{root}"
state = "{state}"
socket = "{socket}"

[log]
level = "debug"

[cgroup]
parent = "/{cgroup}"

[metrics]
address = "unix://{metrics}"
layer_interval = "100ms"

[network]
config_directory = "{networks}"
plugin_directories = ["{plugins}"]
cache_directory = "{cache}"
netns_directory = "{netns}"

[images.registries."{MIRRORED}"]
mirrors = ["http://{registry}"]

[nri]
socket = "{plugins_socket}"
plugin_path = "{nri_plugins}"
plugin_config_path = "{nri_plugins}"
"#,
            instance = self.instance,
            root = self.root().display(),
            state = self.state().display(),
            socket = self.socket().display(),
            cgroup = self.cgroup(),
            metrics = self.metrics().display(),
            networks = place("net.d"),
            plugins = place("plugins"),
            plugins_socket = self.nri().display(),
            nri_plugins = place("nri-plugins"),
            cache = place("cni"),
            netns = place("netns"),
        )
    }

    fn network(&self) -> String {
        json!({
            "cniVersion": "1.1.0", "name": self.instance,
            "plugins": [
                {"type": "bridge", "bridge": self.bridge(), "isGateway": true, "ipMasq": true, "hairpinMode": true,
                 "ipam": {"type": "host-local", "ranges": [[{"subnet": SUBNET}]],
                          "routes": [{"dst": "0.0.0.0/0"}], "dataDir": self.leases()}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
        .to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The test has failed already, or the daemon was stopped.
        self.kill().unwrap_or_default();
    }
}

/// The registry's name in references: the configuration leads it to the test's own.
pub const MIRRORED: &str = "registry.example";

/// What a daemon needs.
const PROGRAMS: [&str; 3] = ["cringle", "containerd-shim-cringle-v2", "cringle-cni"];

/// Where the three programs are: beside the test program, or where the environment says.
fn programs() -> Result<PathBuf> {
    let directory = match std::env::var_os("CRINGLE_PROGRAMS") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let program = std::env::current_exe()?;
            let build = program.parent().and_then(Path::parent);
            build.context("the test program lies in the build directory")?.to_owned()
        }
    };
    for name in PROGRAMS {
        ensure!(
            directory.join(name).exists(),
            "\"{}\" has no program \"{name}\": build the workspace first",
            directory.display()
        );
    }
    Ok(directory)
}

/// At most eight letters and digits, one of its own for each stage on this machine.
fn instance_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{}{}", base36(std::process::id()), base36(count))
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(path: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path)?;
    file.write_all(content.as_bytes())?;
    Ok(())
}
