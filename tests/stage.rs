//! The stage itself: what a test that was killed leaves is taken down by the next one.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::abandoned;
use cringle_tests::footprint::parent;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a test writes what it leaves, as it is to be killed.
const TESTAMENT: &str = "CRINGLE_TEST_TESTAMENT";

/// Runs a container and kills shim, daemon and the test itself, like a machine that takes a whole run away.
async fn perish(stage: &mut Stage, testament: &Path) -> Result<()> {
    let sleeper = container("main", BUSYBOX, &["sleep", "6000"]);
    let (_pod, id) = stage.run(&pod("pod"), &sleeper).await?;
    let process = stage.cri.process(&id).await?;
    let shim = i32::try_from(parent(u32::try_from(process)?)?)?;
    let directory = stage.directory().display();
    write!(File::create(testament)?, "{directory}\n{process}\n{}", stage.daemon.cgroup())?;
    stage.daemon.kill()?;
    kill_process(Pid::from_raw(shim).context("a process id")?, Signal::KILL)?;
    kill_process(rustix::process::getpid(), Signal::KILL)?;
    Ok(())
}

fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")?;
    let places: Result<Vec<_>> = hierarchies.map(|entry| Ok(entry?.path().join(name))).collect();
    Ok(places?.into_iter().filter(|place| place.exists()).collect())
}

#[test]
fn what_a_killed_test_leaves_is_taken_down() -> Result<()> {
    if let Some(testament) = std::env::var_os(TESTAMENT) {
        return on_stage(async |stage| perish(stage, Path::new(&testament)).await);
    }
    on_stage(async |stage| {
        let testament = stage.directory().join("testament");
        let killed = Command::new(std::env::current_exe()?)
            .args(["--exact", "what_a_killed_test_leaves_is_taken_down"])
            .env(TESTAMENT, &testament)
            .status()?;
        ensure!(killed.signal() == Some(9), "it ended with {killed}");
        let left = fs::read_to_string(&testament)?;
        let [directory, process, cgroup] = left.lines().collect::<Vec<_>>()[..] else {
            anyhow::bail!("it left \"{left}\"");
        };
        let process = Path::new("/proc").join(process);
        ensure!(process.exists() && !cgroups(cgroup)?.is_empty(), "nothing was left");
        let living = abandoned::take_down(stage.directory()).await?;
        ensure!(!living, "a test that lives was taken down");
        ensure!(abandoned::take_down(Path::new(directory)).await?, "it was not found");
        ensure!(!Path::new(directory).exists(), "its files are there");
        until("its container has ended", async || Ok(!process.exists())).await?;
        let cgroups = cgroups(cgroup)?;
        ensure!(cgroups.is_empty(), "{cgroups:?}");
        Ok(())
    })
}
