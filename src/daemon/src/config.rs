//! The configuration: one TOML file, judged as a whole before anything starts.
//!
//! Each key is declared once in [`settings`], with its meaning, its default and its type; the printed defaults, the check
//! for unknown keys and the reader all come from that declaration.

mod declare;
mod file;
mod settings;
mod values;

pub(crate) use file::{ConfigError, absolute, defaults, load, load_defaults};
pub(crate) use settings::{CheckpointKeys, NriKeys, Settings};
pub(crate) use values::{
    CheckpointLevel, LogFormat, LogLevel, MetricsAddress, OldestTls, Switch, UnsetSeccomp,
};
