//! The daemon's own log, on standard error, and its traces where it is built with them.

#[cfg(feature = "otlp")]
pub(crate) mod traces;

use crate::config::{LogFormat, LogLevel, Settings};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// There is a log already.
    #[error("failed to start the log")]
    Log(#[source] TryInitError),
    /// The collector's address cannot be used.
    #[cfg(feature = "otlp")]
    #[error("failed to prepare traces for \"{endpoint}\"")]
    Traces {
        /// The address.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// What is to be brought to its end when the daemon ends.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<traces::Traces>,
}

impl Telemetry {
    /// Sends what was not sent yet; to be called when nothing is traced any more, while the runtime still lives.
    pub(crate) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}

/// Starts the log, and the traces if they are wanted. What libraries say is shown from warnings on. To be called inside a
/// runtime.
///
/// # Errors
/// If a log was started before, or the collector's address cannot be used.
pub(crate) fn start(settings: &Settings) -> Result<Telemetry, TelemetryError> {
    let (level, format) = (settings.log.level, settings.log.format);
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_target("cringle", to_filter(level));
    // A log that nobody reads any more must not take the daemon with it, so a failed write is not reported by a print.
    let base =
        fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => base.boxed(),
        LogFormat::Json => base.json().with_span_list(false).boxed(),
    };
    #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "traces are a further layer"))]
    let mut layers = vec![layer.with_filter(filter).boxed()];
    #[cfg(feature = "otlp")]
    let telemetry = {
        let traces = traces::Traces::start(settings)?;
        layers.extend(traces.as_ref().map(traces::Traces::layer));
        Telemetry { traces }
    };
    #[cfg(not(feature = "otlp"))]
    let telemetry = Telemetry::default();
    tracing_subscriber::registry().with(layers).try_init().map_err(TelemetryError::Log)?;
    Ok(telemetry)
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
