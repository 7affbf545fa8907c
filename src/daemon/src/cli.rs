//! The command line.

use crate::config::LogLevel;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Where the configuration is if nobody says so; it need not be there.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/cringle/config.toml";

/// A container runtime for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "cringle", version, about)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the kubelet until told to end.
    Serve(Serve),
    /// Report whether this host is one that pods can run on; fails if not.
    Check(Check),
    /// Print or judge a configuration.
    #[command(subcommand)]
    Config(Config),
    /// Print the version.
    Version,
}

/// How to serve.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The configuration [default: /etc/cringle/config.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The socket to serve on, instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How much to log, instead of the configuration's choice.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

/// What to check, and how to say it.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The configuration [default: /etc/cringle/config.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a configuration that has every key with its meaning and default.
    Default,
    /// Report every mistake in a configuration.
    Check {
        /// The configuration.
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }
}
