//! CRIU, the true one and others in its place.

use crate::program;
use crate::stage::{self, Stage};
use crate::wait::until;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether there is one that daemons use.
#[must_use]
pub fn is_there() -> bool {
    let told = Command::new("criu").arg("--version").output();
    told.is_ok_and(|told| {
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let old = ["1", "2", "3", "4.0", "4.1"].iter().map(|one| format!("Version: {one}."));
        told.starts_with("Version: ") && !old.into_iter().any(|old| told.starts_with(&old))
    })
}

/// Runs a test on a stage of its own where CRIU is; elsewhere it is skipped.
pub fn on_stage(test: impl AsyncFnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    if !is_there() {
        return stage::skip("there is no criu 4.2");
    }
    stage::on_stage(test)
}

/// Waits until a daemon that was started again has made good what was cut short.
pub async fn made_good(stage: &Stage) -> Result<()> {
    let checkpoints = stage.daemon.root().join("checkpoints");
    until("the checkpoint is made good", async || Ok(fs::read_dir(&checkpoints)?.next().is_none()))
        .await
}

/// Writes a program of these lines of shell, replacing what was there.
pub fn script(directory: &Path, lines: &str) -> Result<PathBuf> {
    let path = directory.join("criu");
    program::write(&path, &format!("#!/bin/sh\n{lines}\n"))?;
    Ok(path)
}

/// The directory of a process' cgroup in the unified hierarchy.
pub fn cgroup(process: i64) -> Result<PathBuf> {
    let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::")).context("a cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4)).context("the unified hierarchy")?;
    Ok(PathBuf::from(format!("{mount}{path}")))
}

/// Whether the cgroup of a process stands still.
pub fn frozen(process: i64) -> Result<bool> {
    let events = fs::read_to_string(cgroup(process)?.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "frozen 1"))
}
