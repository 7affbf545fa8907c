//! Traces for an OpenTelemetry collector: what was done for a request, as a part of its client's trace.
//!
//! A client says by the header `traceparent` (W3C Trace Context) which trace its request belongs to and whether that one is
//! collected; its word counts. Requests without it begin a trace of their own as often as the configuration says. Spans are
//! sent in the background and dropped if nobody takes them: no request waits for the collector.

use super::TelemetryError;
use crate::config::Settings;
use http::{HeaderMap, Request};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status as SpanStatus, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::time::Duration;
use tonic::{Code, Status};
use tracing::{Level, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::{Layer, Registry};

/// How long the end of the daemon may wait for the collector.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The sending of traces.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to send, if the settings name a collector. The collector need not be there yet.
    ///
    /// # Errors
    /// If its address cannot be used.
    pub(super) fn start(settings: &Settings) -> Result<Option<Self>, TelemetryError> {
        let tracing = &settings.tracing;
        let Some(endpoint) = tracing.endpoint.url() else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|source| TelemetryError::Traces { endpoint: endpoint.to_owned(), source })?;
        let resource = Resource::builder_empty()
            .with_service_name("cringle")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new(
                "service.instance.id",
                settings.daemon.instance.as_str().to_owned(),
            ))
            .build();
        let own = Sampler::TraceIdRatioBased(tracing.sampling_rate_per_million.share());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What makes spans of the log's spans, and events of its lines.
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("cringle"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_told).with_max_level_hint(LevelFilter::DEBUG))
            .boxed()
    }

    /// Sends what is left; what can't be sent in time is dropped.
    pub(super) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Spans of ours down to the stages of a start, and the lines that the log has by default.
fn is_told(metadata: &Metadata<'_>) -> bool {
    let lowest = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    metadata.target().starts_with("cringle") && *metadata.level() <= lowest
}

/// Makes the span of a request, which nobody has entered yet, a part of its client's trace.
pub(crate) fn join<B>(span: &Span, request: &Request<B>) {
    let client = TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Headers(request.headers()));
    // Nothing listens for spans, or not for this one.
    if span.set_parent(client).is_err() {
        return;
    }
    let path = request.uri().path().trim_start_matches('/');
    span.record("otel.name", path);
    span.record("otel.kind", "server");
    span.set_attribute("rpc.system", "grpc");
    if let Some((service, method)) = path.split_once('/') {
        span.set_attribute("rpc.service", service.to_owned());
        span.set_attribute("rpc.method", method.to_owned());
    }
}

/// Notes how a request ended.
pub(crate) fn note_end(span: &Span, status: Option<&Status>) {
    let code = status.map_or(Code::Ok, Status::code);
    span.set_attribute("rpc.grpc.status_code", i64::from(i32::from(code)));
    if let Some(status) = status.filter(|_| code != Code::Ok) {
        span.set_status(SpanStatus::error(status.message().to_owned()));
    }
}

/// The headers of a request, as the propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
