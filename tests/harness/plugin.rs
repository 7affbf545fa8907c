//! Plugins for the Node Resource Interface: processes of the program in `conformance/nri-plugin`, which is on the official
//! library.

use crate::request::{container, pod};
use crate::stage::{BUSYBOX, Stage};
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use cringle_proto_cri::v1::{ContainerConfig, PodSandboxConfig};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A plugin that a test started. Dropped, it ends.
#[derive(Debug)]
pub struct Plugin {
    notes: Notes,
    process: Child,
}

/// What a plugin was told, and what it shall do with it.
#[derive(Debug, Clone)]
pub struct Notes {
    journal: PathBuf,
    behaviours: PathBuf,
}

impl Plugin {
    /// Starts a plugin of this index and name (`10-name`) and waits until it knows what there is.
    pub async fn start(stage: &Stage, name: &str, options: &[&str]) -> Result<Self> {
        Self::behaving(stage, name, options, "{}").await
    }

    /// The same for one that does as a file of behaviours says.
    pub async fn behaving(
        stage: &Stage,
        name: &str,
        options: &[&str],
        behaviours: &str,
    ) -> Result<Self> {
        let (index, base) = name.split_once('-').context("an index and a name")?;
        let place = |end: &str| stage.directory().join(format!("{name}.{end}"));
        let notes = Notes { journal: place("journal"), behaviours: place("json") };
        notes.behave(behaviours)?;
        let process = Command::new(program()?)
            .arg("-socket")
            .arg(stage.daemon.nri())
            .args(["-index", index, "-name", base])
            .arg("-journal")
            .arg(&notes.journal)
            .arg("-behaviours")
            .arg(&notes.behaviours)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(place("log"))?)
            .spawn()
            .context("failed to start the plugin")?;
        let plugin = Self { notes, process };
        plugin.notes.heard("Synchronize").await?;
        Ok(plugin)
    }

    /// What it was told.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Has it send a request of its own: a message in one line of JSON.
    pub fn request(&mut self, message: &str) -> Result<()> {
        let input = self.process.stdin.as_mut().context("its input is ours")?;
        Ok(writeln!(input, "{message}")?)
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self) -> Result<()> {
        wait::until("the plugin ends", async || Ok(self.process.try_wait()?.is_some())).await
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Notes {
    /// Those of a plugin that the daemon launched from this file.
    #[must_use]
    pub fn beside(program: &Path) -> Self {
        let place = |end: &str| PathBuf::from(format!("{}.{end}", program.display()));
        Self { journal: place("journal"), behaviours: place("json") }
    }

    /// What it shall do from now on.
    pub fn behave(&self, behaviours: &str) -> Result<()> {
        let draft = self.behaviours.with_extension("draft");
        File::create(&draft)?.write_all(behaviours.as_bytes())?;
        Ok(fs::rename(draft, &self.behaviours)?)
    }

    /// Everything that it was told so far.
    pub fn all(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.journal).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The names of all that.
    pub fn calls(&self) -> Result<Vec<String>> {
        let name = |note: &Value| note["call"].as_str().unwrap_or_default().to_owned();
        Ok(self.all()?.iter().map(name).collect())
    }

    /// How often it was told so.
    pub fn count(&self, call: &str) -> Result<usize> {
        Ok(self.calls()?.iter().filter(|name| *name == call).count())
    }

    /// The last time it was told so.
    pub fn last(&self, call: &str) -> Result<Value> {
        let all = self.all()?;
        let found = all.into_iter().rev().find(|note| note["call"] == call);
        found.with_context(|| format!("it was not told {call}"))
    }

    /// Waits until it is told so for the first time.
    pub async fn heard(&self, call: &str) -> Result<Value> {
        self.heard_again(call, 0).await
    }

    /// Waits until it is told so more often than before.
    pub async fn heard_again(&self, call: &str, before: usize) -> Result<Value> {
        wait::until(&format!("the plugin is told {call}"), async || Ok(self.count(call)? > before))
            .await?;
        self.last(call)
    }

    /// Forgets what it was told.
    pub fn forget(&self) -> Result<()> {
        // It writes at the end of the file, wherever that is.
        Ok(File::options().write(true).open(&self.journal)?.set_len(0)?)
    }
}

/// A container that does nothing.
#[must_use]
pub fn sleeper() -> ContainerConfig {
    container("main", BUSYBOX, &["sleep", "600"])
}

/// A ready pod, and its configuration.
pub async fn ready(stage: &mut Stage) -> Result<(String, PodSandboxConfig)> {
    stage.cri.pull(BUSYBOX).await?;
    let config = pod("pod");
    Ok((stage.cri.run_pod(&config).await?, config))
}

/// The program; built, if it is not there yet or not from these sources.
pub fn program() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match built {
        Ok(path) => Ok(path),
        Err(error) => bail!("failed to build the plugin: {error}"),
    }
}

fn build() -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance");
    let built = Command::new(directory.join("build-tools")).arg("nri-plugin").output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(directory.join("bin/nri-plugin"))
}
