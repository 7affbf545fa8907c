//! The kernel's floor, from the program in `floor.c`, measured in turn with what it is the floor of: the machine of one
//! minute is not that of the next.

use crate::options::Options;
use crate::sample::Samples;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Rounds of a row between two looks at the floor. The program warms up each time, which takes two pods.
const ROUNDS: usize = 10;

/// The floor of each kind of work, as far as it was measured.
#[derive(Debug)]
pub(crate) struct Floor<'a> {
    command: &'a [String],
    workers: usize,
    up: Samples,
    exec: Samples,
    down: Samples,
}

impl<'a> Floor<'a> {
    /// That of so many workers at once; nothing measured yet.
    pub(crate) fn new(options: &'a Options, workers: usize) -> Self {
        let (up, exec, down) = Default::default();
        Self { command: &options.floor, workers, up, exec, down }
    }

    /// To be called before each round of a row: measures as much as the next rounds of the row do.
    pub(crate) fn keep_up(&mut self, round: usize) -> Result<()> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        if !round.is_multiple_of(ROUNDS) {
            return Ok(());
        }
        let output = Command::new(program)
            .args(arguments)
            .arg((ROUNDS * self.workers).to_string())
            .arg(self.workers.to_string())
            .output()
            .with_context(|| format!("failed to run \"{program}\""))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the floor failed: {stderr}");
        let document: Value = serde_json::from_slice(&output.stdout)?;
        add(&mut self.up, &document["up"])?;
        add(&mut self.exec, &document["exec"])?;
        add(&mut self.down, &document["down"])
    }

    /// RunPodSandbox, CreateContainer, StartContainer.
    pub(crate) fn up(&self) -> Option<&Samples> {
        Some(&self.up).filter(|samples| !samples.is_empty())
    }

    /// A command in the container.
    pub(crate) fn exec(&self) -> Option<&Samples> {
        Some(&self.exec).filter(|samples| !samples.is_empty())
    }

    /// The way back.
    pub(crate) fn down(&self) -> Option<&Samples> {
        Some(&self.down).filter(|samples| !samples.is_empty())
    }
}

fn add(samples: &mut Samples, list: &Value) -> Result<()> {
    let values = list.as_array().context("the floor prints lists")?;
    for nanoseconds in values.iter().filter_map(Value::as_u64) {
        samples.push(Duration::from_nanos(nanoseconds));
    }
    Ok(())
}
