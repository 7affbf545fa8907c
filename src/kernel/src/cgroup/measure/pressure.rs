//! Pressure: how long tasks waited for a resource (the kernel's `Documentation/accounting/psi.rst`). Only the v2 tree has
//! it, but there it is in every cgroup, even on a host whose controllers are all v1.

use super::super::{Cgroup, CgroupError};
use super::text;
use std::time::Duration;

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Input and output.
    Io,
}

/// How much was waited for one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Waiting,
    /// No task could go on.
    pub full: Waiting,
}

/// How long was waited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// In all.
    pub total: Duration,
    /// Share of the last ten seconds, in percent.
    pub last_10: f64,
    /// Share of the last minute, in percent.
    pub last_60: f64,
    /// Share of the last five minutes, in percent.
    pub last_300: f64,
}

impl Cgroup {
    /// How much was waited for a resource in it and below; none where the kernel doesn't count it.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn pressure(&self, resource: Resource) -> Result<Option<Pressure>, CgroupError> {
        let Some(directory) = self.v2_path() else { return Ok(None) };
        let file = match resource {
            Resource::Cpu => "cpu.pressure",
            Resource::Memory => "memory.pressure",
            Resource::Io => "io.pressure",
        };
        Ok(text::read(&directory.join(file))?.map(|text| parse(&text)))
    }
}

fn parse(text: &str) -> Pressure {
    let line = |kind: &str| {
        let fields = text.lines().find_map(|line| line.strip_prefix(kind));
        fields.map(waiting).unwrap_or_default()
    };
    Pressure { some: line("some "), full: line("full ") }
}

fn waiting(fields: &str) -> Waiting {
    let field = |name: &str| {
        let mut fields = fields.split_whitespace();
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let share = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let total = field("total").and_then(|text| text.parse().ok()).unwrap_or(0);
    Waiting {
        total: Duration::from_micros(total),
        last_10: share("avg10"),
        last_60: share("avg60"),
        last_300: share("avg300"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read_and_a_missing_one_is_nothing() {
        let some = "some avg10=0.50 avg60=2.29 avg300=9.64 total=2661866065\n";
        let full = "full avg10=0.00 avg60=0.10 avg300=0.00 total=7\n";
        let pressure = parse(&format!("{some}{full}"));
        let waited = Duration::from_micros(2_661_866_065);
        assert_eq!((pressure.some.total, pressure.full.total), (waited, Duration::from_micros(7)));
        assert_eq!(
            (pressure.some.last_10, pressure.some.last_60, pressure.some.last_300),
            (0.5, 2.29, 9.64)
        );
        assert_eq!(parse(some).full, Waiting::default());
    }
}
