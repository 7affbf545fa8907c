//! Rows about pulling: an image of which the runtime has nothing.
//!
//! The floor is what gzip and tar need for the same layers from files that are in memory: as many layers at once as there
//! are processors, nothing fetched, nothing hashed.

use crate::options::{Options, Pull};
use crate::sample::Samples;
use crate::table::Table;
use crate::target::Target;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use tokio::time::Instant;

/// A pull takes long, so a few must do.
const PULLS: usize = 5;

/// Pulls and removes every image that the command line names.
pub(crate) async fn measure(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    for pull in &options.pulls {
        let mut samples = vec![Samples::default(); targets.len()];
        let mut floor = Samples::default();
        for _ in 0..PULLS {
            for (place, target) in targets.iter_mut().enumerate() {
                let begin = Instant::now();
                target.cri.pull(&pull.reference).await?;
                samples[place].push(begin.elapsed());
                target.cri.remove_image(&pull.reference).await?;
            }
            if let Some(directory) =
                options.directory.as_deref().filter(|_| !pull.layers.is_empty())
            {
                floor.push(unpack(pull, &directory.join("floor-pull"))?);
            }
        }
        let name = pull.reference.rsplit('/').next().unwrap_or(&pull.reference);
        let floor = Some(&floor).filter(|floor| floor.percentile(50).is_some());
        table.row(&format!("cold pull of {name}"), &samples, floor);
    }
    Ok(())
}

/// Unpacks the layers into a directory, which is gone again afterwards.
fn unpack(pull: &Pull, directory: &Path) -> Result<std::time::Duration> {
    let at_once = std::thread::available_parallelism()?.get();
    fs::create_dir_all(directory)?;
    let begin = Instant::now();
    let mut running = Vec::new();
    for (number, layer) in pull.layers.iter().enumerate() {
        if running.len() == at_once {
            finish(running.remove(0))?;
        }
        running.push(start(layer, &directory.join(number.to_string()))?);
    }
    running.into_iter().try_for_each(finish)?;
    let took = begin.elapsed();
    fs::remove_dir_all(directory)?;
    Ok(took)
}

fn start(layer: &Path, directory: &Path) -> Result<Child> {
    fs::create_dir_all(directory)?;
    Command::new("tar")
        .arg("--extract")
        .arg("--gzip")
        .arg("--file")
        .arg(layer)
        .arg("--directory")
        .arg(directory)
        .spawn()
        .context("failed to run \"tar\"")
}

fn finish(mut tar: Child) -> Result<()> {
    ensure!(tar.wait()?.success(), "tar did not unpack a layer");
    Ok(())
}
