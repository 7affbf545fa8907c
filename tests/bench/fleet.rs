//! Rows about a runtime that has pods already: commands in a container, and lists.

use crate::floor::Floor;
use crate::options::Options;
use crate::pods::resident;
use crate::sample::Samples;
use crate::table::Table;
use crate::target::Target;
use crate::{answers, processor};
use anyhow::{Result, ensure};
use cringle_proto_cri::v1::ListContainersResponse;
use cringle_tests::request::{namespaces, pod};
use prost::Message;
use std::ops::Range;
use tokio::time::Instant;

/// Containers in a listed runtime.
const LISTED: usize = 100;
/// Commands whose processor time is counted.
const PROBES: u32 = 200;

/// Starts pods of these numbers with one container each; the containers' ids.
pub(crate) async fn populate(
    options: &Options,
    target: &mut Target,
    numbers: Range<usize>,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in numbers {
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
    table: &mut Table,
) -> Result<()> {
    let mut samples = vec![Samples::default(); targets.len()];
    let mut ids = Vec::new();
    for target in targets.iter_mut() {
        ids.extend(populate(options, target, 0..1).await?);
    }
    let mut floor = Floor::new(options, 1);
    for round in 0..options.samples {
        floor.keep_up(round)?;
        for (place, target) in targets.iter_mut().enumerate() {
            let begin = Instant::now();
            let done = target.cri.exec(&ids[place], &["true"], 10).await?;
            samples[place].push(begin.elapsed());
            ensure!(done.exit_code == 0, "{}: {done:?}", target.name);
        }
    }
    table.row("ExecSync true", &samples, floor.exec());
    let mut spent = Vec::new();
    for (place, target) in targets.iter_mut().enumerate() {
        let before = processor::busy()?;
        for _ in 0..PROBES {
            target.cri.exec(&ids[place], &["true"], 10).await?;
        }
        spent.push((processor::busy()? - before) * (1000 / PROBES));
    }
    table.processor("processor time of 1000 ExecSync, whole machine", &spent);
    for target in targets {
        clear(target).await?;
    }
    Ok(())
}

/// ListContainers and ListContainerStats of many.
pub(crate) async fn list(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    let mut listing = vec![Samples::default(); targets.len()];
    let mut measuring = vec![Samples::default(); targets.len()];
    let mut bytes = 0;
    for target in targets.iter_mut() {
        populate(options, target, 0..LISTED).await?;
    }
    for _ in 0..options.samples {
        for (place, target) in targets.iter_mut().enumerate() {
            let begin = Instant::now();
            let containers = target.cri.containers(None).await?;
            listing[place].push(begin.elapsed());
            ensure!(containers.len() == LISTED, "{} lists {}", target.name, containers.len());
            if place == 0 {
                bytes = ListContainersResponse { containers }.encoded_len();
            }
            let begin = Instant::now();
            let stats = target.cri.stats().await?.len();
            measuring[place].push(begin.elapsed());
            ensure!(stats == LISTED, "{} measures {stats} containers", target.name);
        }
    }
    let floor = answers::round_trips(options.samples, bytes)?;
    table.row(&format!("ListContainers, {LISTED} containers"), &listing, Some(&floor));
    let floor = answers::readings(options.samples, LISTED)?;
    table.row(&format!("ListContainerStats, {LISTED} containers"), &measuring, Some(&floor));
    for target in targets {
        clear(target).await?;
    }
    Ok(())
}
