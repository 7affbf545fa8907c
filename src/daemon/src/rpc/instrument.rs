//! What surrounds every RPC: a span, one line in the log, its deadline, its latency, a net for panics, and what is held
//! until its answer is written.
//!
//! A deadline ends the wait, not the work: what changes something runs in a task of its own (see [`super::detached`]).

use super::held;
use super::latency::Latencies;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, field};

/// Puts [`Instrument`] around a service.
#[derive(Debug, Clone)]
pub(crate) struct InstrumentLayer {
    latencies: Arc<Latencies>,
}

impl InstrumentLayer {
    /// A layer that notes latencies here.
    pub(crate) fn new(latencies: Arc<Latencies>) -> Self {
        Self { latencies }
    }
}

impl<S> Layer<S> for InstrumentLayer {
    type Service = Instrument<S>;

    fn layer(&self, inner: S) -> Instrument<S> {
        Instrument { inner, latencies: Arc::clone(&self.latencies) }
    }
}

/// A service whose calls are watched.
#[derive(Debug, Clone)]
pub(crate) struct Instrument<S> {
    inner: S,
    latencies: Arc<Latencies>,
}

impl<S> Service<Request<Body>> for Instrument<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = method(request.uri().path()).to_owned();
        let deadline = client_deadline(request.headers()).or_else(|| default_deadline(&method));
        // The W3C trace context, so that a line can be found from the client's trace.
        let trace = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
        let span = tracing::info_span!(
            "rpc",
            method,
            trace,
            pod = field::Empty,
            container = field::Empty,
            image = field::Empty,
            // Filled for a collector of traces, if there is one.
            otel.name = field::Empty,
            otel.kind = field::Empty,
        );
        #[cfg(feature = "otlp")]
        crate::telemetry::traces::join(&span, &request);
        let latencies = Arc::clone(&self.latencies);
        let call = self.inner.call(request);
        let watched = async move {
            let start = Instant::now();
            let response = bounded(call, deadline).await;
            let elapsed = start.elapsed();
            let status = Status::from_header_map(response.headers());
            let code = status.as_ref().map_or(Code::Ok, Status::code);
            if code != Code::Unimplemented {
                latencies.note(&method, code, elapsed);
            }
            #[cfg(feature = "otlp")]
            crate::telemetry::traces::note_end(&tracing::Span::current(), status.as_ref());
            log(status.as_ref(), elapsed);
            Ok(held::until_written(response))
        };
        Box::pin(watched.instrument(span))
    }
}

/// Awaits a call until its deadline; a panic in it becomes INTERNAL.
async fn bounded<F>(call: F, deadline: Option<Duration>) -> Response<Body>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let caught = AssertUnwindSafe(call).catch_unwind();
    let outcome = match deadline {
        None => Ok(caught.await),
        Some(deadline) => tokio::time::timeout(deadline, caught).await,
    };
    match outcome {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(panic)) => super::status::panicked(&*panic).into_http(),
        Err(_elapsed) => {
            Status::deadline_exceeded("the deadline of the request passed").into_http()
        }
    }
}

fn log(status: Option<&Status>, elapsed: Duration) {
    let Some(status) = status.filter(|status| status.code() != Code::Ok) else {
        tracing::debug!(?elapsed, "answered");
        return;
    };
    let (code, message) = (status.code(), status.message());
    match code {
        // Clients ask for what is gone, and for what is not built, as a matter of course.
        Code::NotFound | Code::Unimplemented | Code::Cancelled | Code::Ok => {
            tracing::debug!(?elapsed, ?code, message, "refused");
        }
        Code::Internal | Code::Unknown => {
            tracing::error!(?elapsed, ?code, message, "failed");
        }
        Code::InvalidArgument
        | Code::DataLoss
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::Unauthenticated => tracing::warn!(?elapsed, ?code, message, "failed"),
    }
}

/// The method's name in a path `/package.Service/Method`.
fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The deadline that the client sent, if it sent one that is well-formed: at most eight digits and a unit.
pub(super) fn client_deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The deadline of a method whose client sent none: twice what the kubelet would wait. What takes as long as its request
/// says, or as long as it makes progress, has none.
fn default_deadline(method: &str) -> Option<Duration> {
    match method {
        "PullImage"
        | "ExecSync"
        | "StopContainer"
        | "CheckpointContainer"
        | "CheckpointPod"
        | "RestorePod"
        | "GetContainerEvents" => None,
        "RunPodSandbox" => Some(Duration::from_secs(480)),
        _ => Some(Duration::from_secs(240)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_the_last_part_of_its_path() {
        assert_eq!(method("/runtime.v1.RuntimeService/Version"), "Version");
        assert_eq!(method(""), "");
    }

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        let parsed = |text: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            client_deadline(&headers)
        };
        assert_eq!(parsed("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parsed("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parsed("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(parsed("7M"), Some(Duration::from_secs(420)));
        for text in ["", "S", "1", "-1S", "123456789S", "1d", "1.5S"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_panic_becomes_internal_and_a_passed_deadline_says_so() {
        let code = |response: Response<Body>| Status::from_header_map(response.headers()).unwrap();
        let panicking = async { panic!("broken invariant") };
        let status = code(bounded(panicking, None).await);
        assert_eq!(status.code(), Code::Internal);
        let endless = std::future::pending();
        let status = code(bounded(endless, Some(Duration::from_millis(1))).await);
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
