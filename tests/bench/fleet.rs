//! Rows about a runtime that has pods already: commands in a container, and lists.

use crate::floor::Floors;
use crate::options::Options;
use crate::pods::resident;
use crate::sample::Samples;
use crate::table::Table;
use crate::target::Target;
use anyhow::{Result, ensure};
use cringle_tests::request::{namespaces, pod};
use tokio::time::Instant;

/// Containers in a listed runtime.
const LISTED: usize = 100;

/// Starts so many pods with one container each; the containers' ids.
pub(crate) async fn populate(
    options: &Options,
    target: &mut Target,
    count: usize,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in 0..count {
        let main = resident(&options.image, namespaces());
        let config = pod(&format!("fleet-{number}"));
        ids.push(target.cri.start_in_pod(&config, &main).await?.1);
    }
    Ok(ids)
}

/// Removes all pods.
pub(crate) async fn clear(target: &mut Target) -> Result<()> {
    for pod in target.cri.pods().await? {
        target.cri.take_away(&pod.id).await?;
    }
    Ok(())
}

/// ExecSync of `true`, one after another.
pub(crate) async fn exec(
    options: &Options,
    targets: &mut [Target],
    floors: &Floors,
    table: &mut Table,
) -> Result<()> {
    let mut samples = vec![Samples::default(); targets.len()];
    let mut ids = Vec::new();
    for target in targets.iter_mut() {
        ids.extend(populate(options, target, 1).await?);
    }
    for _ in 0..options.samples {
        for (place, target) in targets.iter_mut().enumerate() {
            let begin = Instant::now();
            let done = target.cri.exec(&ids[place], &["true"], 10).await?;
            samples[place].push(begin.elapsed());
            ensure!(done.exit_code == 0, "{}: {done:?}", target.name);
        }
    }
    table.row("ExecSync true", &samples, floors.get(&1).map(|floor| &floor.exec));
    for target in targets {
        clear(target).await?;
    }
    Ok(())
}

/// ListContainers of many.
pub(crate) async fn list(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    let mut samples = vec![Samples::default(); targets.len()];
    for target in targets.iter_mut() {
        populate(options, target, LISTED).await?;
    }
    for _ in 0..options.samples {
        for (place, target) in targets.iter_mut().enumerate() {
            let begin = Instant::now();
            let listed = target.cri.containers(None).await?.len();
            samples[place].push(begin.elapsed());
            ensure!(listed == LISTED, "{} lists {listed} containers", target.name);
        }
    }
    table.row(&format!("ListContainers, {LISTED} containers"), &samples, None);
    for target in targets {
        clear(target).await?;
    }
    Ok(())
}
