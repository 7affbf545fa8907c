//! The kernel's floor, from the program in `floor.c`.

use crate::options::Options;
use crate::sample::Samples;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

/// Floors by workers.
pub(crate) type Floors = HashMap<usize, Floor>;

/// The floor of each kind of work.
#[derive(Debug)]
pub(crate) struct Floor {
    /// RunPodSandbox, CreateContainer, StartContainer.
    pub(crate) up: Samples,
    /// A command in the container.
    pub(crate) exec: Samples,
    /// The way back.
    pub(crate) down: Samples,
}

/// Runs the program alone and with ten workers, if there is one.
pub(crate) fn measure(options: &Options) -> Result<Floors> {
    let mut floors = Floors::new();
    let Some((program, arguments)) = options.floor.split_first() else { return Ok(floors) };
    for workers in [1, 10] {
        let output = Command::new(program)
            .args(arguments)
            .arg(options.samples.to_string())
            .arg(workers.to_string())
            .output()
            .with_context(|| format!("failed to run \"{program}\""))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the floor failed: {stderr}");
        let document: Value = serde_json::from_slice(&output.stdout)?;
        let floor = Floor {
            up: samples(&document["up"])?,
            exec: samples(&document["exec"])?,
            down: samples(&document["down"])?,
        };
        floors.insert(workers, floor);
    }
    Ok(floors)
}

fn samples(list: &Value) -> Result<Samples> {
    let values = list.as_array().context("the floor prints lists")?;
    let nanoseconds = values.iter().filter_map(Value::as_u64);
    Ok(nanoseconds.map(Duration::from_nanos).collect())
}
