//! A stage: where one test runs, alone.

use crate::abandoned::{self, Owner, PLACE, PREFIX};
use crate::client::Cri;
use crate::daemon::{Daemon, MIRRORED};
use crate::image::{self, Description};
use crate::inventory::{Inventory, files};
use crate::registry::Registry;
use crate::wait;
use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{ContainerConfig, PodSandboxConfig};
use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The image that every stage has: busybox.
pub const BUSYBOX: &str = "registry.example/test/busybox:1";

/// What a test has.
#[derive(Debug)]
pub struct Stage {
    /// A client of the daemon.
    pub cri: Cri,
    /// The daemon.
    pub daemon: Daemon,
    /// The registry behind the references' host name.
    pub registry: Registry,
    directory: TempDir,
}

impl Stage {
    /// A directory for the test's own files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills the daemon and starts it again.
    pub async fn crash(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.start_again().await
    }

    /// Starts the daemon after it ended, and connects anew.
    pub async fn start_again(&mut self) -> Result<()> {
        self.daemon.start().await?;
        self.cri = Cri::connect(&self.daemon.socket()).await?;
        Ok(())
    }

    /// Starts the daemon if it is dead. A test may have failed just then, and containers run on without one.
    async fn revive(&mut self) -> Result<()> {
        self.daemon.disarm()?;
        if self.daemon.is_alive()? { Ok(()) } else { self.start_again().await }
    }

    /// Adds to the daemon's configuration, and starts it anew with that.
    pub async fn configure(&mut self, text: &str) -> Result<()> {
        use std::io::Write as _;
        let path = self.daemon.configuration();
        std::fs::File::options().append(true).open(path)?.write_all(text.as_bytes())?;
        self.daemon.stop().await?;
        self.start_again().await
    }

    /// Runs a pod with one started container, whose image is [`BUSYBOX`]; both ids.
    pub async fn run(
        &mut self,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<(String, String)> {
        self.cri.pull(BUSYBOX).await?;
        self.cri.start_in_pod(pod, container).await
    }

    /// Puts another image of busybox into the registry, with a configuration and no more than a file of its own.
    pub fn add_image(&self, name: &str, description: &Description) -> Result<String> {
        let own =
            image::LayerBuilder::default().file("etc/image", 0o644, name.as_bytes())?.pack()?;
        self.registry.add(name, "1", &[image::busybox()?, own], description)?;
        Ok(format!("{MIRRORED}/{name}:1"))
    }
}

/// Runs a test on a stage of its own and compares the host afterwards. A test must remove what it made: what is left
/// fails it. Without root it is skipped, which is said and counted.
pub fn on_stage(test: impl AsyncFnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return skip("not root");
    }
    isolate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        abandoned::sweep().await?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(PLACE)?;
        let _owner = Owner::of(directory.path())?;
        let registry = Registry::start().await?;
        registry.add("test/busybox", "1", &[image::busybox()?], &Description::default())?;
        let mut daemon = Daemon::prepare(directory.path(), registry.address)?;
        let before = Inventory::take(&daemon.scope())?;
        daemon.start().await?;
        let cri = Cri::connect(&daemon.socket()).await?;
        let mut stage = Stage { cri, daemon, registry, directory };
        let outcome = Box::pin(test(&mut stage)).await;
        let outcome = outcome.map_err(|error| told(error, &stage));
        let there = if outcome.is_err() { stage.revive().await } else { Ok(()) };
        let cleaned = match there {
            Ok(()) => clean(&mut stage, &before).await,
            Err(error) => Err(error),
        };
        outcome?;
        cleaned
    })
}

/// The error with what the daemon said last.
fn told(error: anyhow::Error, stage: &Stage) -> anyhow::Error {
    error.context(format!(
        "the daemon's log ends with:\n{}\n\nthe test failed",
        stage.daemon.log_tail()
    ))
}

/// Removes the images, stops the daemon and looks at what is left. Pods are the test's to remove, but must not outlive
/// a test that failed.
async fn clean(stage: &mut Stage, before: &Inventory) -> Result<()> {
    let pods = stage.cri.pods().await?;
    stage.cri.remove_all().await?;
    let root = stage.daemon.root();
    // Space is given back in the background, which the end of the daemon would cut short until its next start.
    // Twice, as a layer may move between two directories while the first look is between them.
    let given_back = || files(&root).is_empty() && files(&root).is_empty();
    wait::until("what the images held is given back", async || Ok(given_back())).await?;
    let scope = stage.daemon.scope();
    stage.daemon.stop().await?;
    before.again(&scope).await?;
    ensure!(pods.is_empty(), "the test left pods: {pods:?}");
    Ok(())
}

/// Says that a test can't run here. The line is what `make test` counts.
pub fn skip(reason: &str) -> Result<()> {
    use std::io::Write as _;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // Straight to the stream: the test runner hides what is printed by a test that passes.
    writeln!(std::io::stderr(), "skipped: {name} because {reason}")?;
    Ok(())
}

/// Gives this thread network and mount namespaces of its own. Children inherit them; they end with the thread.
fn isolate() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("failed to make namespaces for a test")?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).context("failed to make mounts private")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    ensure!(up.success(), "failed to bring up loopback: {up}");
    Ok(())
}
