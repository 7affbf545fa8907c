//! The daemon's own log, on standard error.

use crate::config::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// Starts the log. What libraries say is shown from warnings on.
///
/// # Errors
/// If a log was started before.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> Result<(), TryInitError> {
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_target("cringle", to_filter(level));
    // A log that nobody reads any more must not take the daemon with it, so a failed write is not reported by a print.
    let base =
        fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => base.boxed(),
        LogFormat::Json => base.json().with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()
}

fn to_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
