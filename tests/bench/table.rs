//! The figures, for people and for programs.

use crate::sample::Samples;
use crate::target::Target;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Rows with one cell for each runtime.
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    title: String,
    cells: Vec<String>,
    floor: String,
    figures: Value,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(targets: &[Target]) -> Self {
        Self { names: targets.iter().map(|target| target.name.clone()).collect(), rows: Vec::new() }
    }

    /// Adds durations: p50 / p99 in milliseconds, p50 as a multiple of the floor's and of the first runtime's.
    pub(crate) fn row(&mut self, title: &str, samples: &[Samples], floor: Option<&Samples>) {
        let first = samples.first();
        let mut cells = Vec::new();
        for (place, own) in samples.iter().enumerate() {
            let mut cell = own.to_string();
            if let Some(floor) = floor {
                cell.push_str(&format!("  {:.1} x floor", ratio(own, floor)));
            }
            if let Some(first) = first.filter(|_| place > 0) {
                cell.push_str(&format!("  {:.1} x {}", ratio(own, first), self.names[0]));
            }
            cells.push(cell);
        }
        let medians: Vec<Value> = samples.iter().map(figures).collect();
        self.rows.push(Row {
            title: format!("{title} (ms, p50 / p99)"),
            cells,
            floor: floor.map(Samples::to_string).unwrap_or_default(),
            figures: json!({"runtimes": medians, "floor": floor.map(figures)}),
        });
    }

    /// Adds amounts of memory in KiB.
    pub(crate) fn memory(&mut self, title: &str, amounts: &[u64], floor: Option<u64>) {
        self.rows.push(Row {
            title: format!("{title} (KiB)"),
            cells: amounts.iter().map(u64::to_string).collect(),
            floor: floor.map(|floor| floor.to_string()).unwrap_or_default(),
            figures: json!({"kibibytes": amounts, "floor": floor}),
        });
    }

    /// Adds processor time, in milliseconds.
    pub(crate) fn processor(&mut self, title: &str, amounts: &[Duration]) {
        self.rows.push(Row {
            title: format!("{title} (ms)"),
            cells: amounts.iter().map(|amount| amount.as_millis().to_string()).collect(),
            floor: String::new(),
            figures: json!({"milliseconds": amounts.iter().map(Duration::as_millis).collect::<Vec<_>>()}),
        });
    }

    /// Writes all figures.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|row| (row.title.clone(), row.figures.clone())).collect();
        let document = json!({"runtimes": self.names, "rows": rows});
        Ok(serde_json::to_writer_pretty(File::create(path)?, &document)?)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "| | {} | floor |", self.names.join(" | "))?;
        write!(formatter, "\n|---|{}---|", "---|".repeat(self.names.len()))?;
        for row in &self.rows {
            write!(formatter, "\n| {} | {} | {} |", row.title, row.cells.join(" | "), row.floor)?;
        }
        Ok(())
    }
}

fn ratio(own: &Samples, other: &Samples) -> f64 {
    let median = |samples: &Samples| samples.percentile(50).unwrap_or_default().as_secs_f64();
    median(own) / median(other)
}

fn figures(samples: &Samples) -> Value {
    let nanoseconds = |percent| {
        samples
            .percentile(percent)
            .map(|sample| u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX))
    };
    json!({"p50": nanoseconds(50), "p99": nanoseconds(99)})
}
