//! What is on the page: requests, stages of starts, pulls, how many there are of what, and all metrics of pods and
//! containers.

use super::Source;
use super::text::{Kind, Label, Text};
use cringle_kernel::{memory, proc};
use cringle_service::Service;
use cringle_service::metrics::{self, BASE_LABELS, DESCRIPTORS, Metric, Metrics};
use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

/// The page.
pub(super) async fn page(source: &Source) -> String {
    let measured = source.service.metrics().await;
    let mut text = Text::default();
    add_requests(&mut text, source);
    add_stages(&mut text, &source.service);
    add_pulls(&mut text, &source.service);
    add_census(&mut text, &source.service);
    add_own(&mut text);
    let all = measured.iter().flat_map(|pod| std::iter::once(&pod.pod).chain(&pod.containers));
    add_metrics(&mut text, &all.collect::<Vec<_>>());
    text.finish()
}

fn add_requests(text: &mut Text, source: &Source) {
    let name = "cringle_rpc_duration_seconds";
    text.begin(name, Kind::Histogram, "How long requests took");
    for (call, histogram) in source.latencies.histograms() {
        let code = format!("{:?}", call.code);
        let labels = [("method", call.method.as_str()), ("code", code.as_str())];
        text.histogram(name, &labels, histogram.sum(), histogram.cumulative());
    }
}

fn add_stages(text: &mut Text, service: &Service) {
    let name = "cringle_start_stage_duration_seconds";
    text.begin(name, Kind::Histogram, "How long the stages of starting pods and containers took");
    for (stage, times) in service.stage_times() {
        text.histogram(name, &[("stage", stage.name())], times.sum(), times.cumulative());
    }
}

fn add_pulls(text: &mut Text, service: &Service) {
    let pulls = service.pulls();
    let name = "cringle_image_pulls_total";
    text.begin(name, Kind::Counter, "Pulls of images");
    text.value(name, &[("result", "done")], pulls.done);
    text.value(name, &[("result", "failed")], pulls.failed);
    let name = "cringle_image_pulled_bytes_total";
    let help = "Sizes of the pulled images, with the layers that were here already";
    text.begin(name, Kind::Counter, help);
    text.value(name, &[], pulls.bytes);
    let usage = service.images().usage();
    let name = "cringle_image_disk_bytes";
    text.begin(name, Kind::Gauge, "What the layers of images take on disk");
    text.value(name, &[], usage.bytes);
}

fn add_census(text: &mut Text, service: &Service) {
    let census = service.census();
    let mut count = |name, help, phases: &BTreeMap<&'static str, usize>| {
        text.begin(name, Kind::Gauge, help);
        for (phase, number) in phases {
            text.value(name, &[("phase", phase)], number);
        }
    };
    count("cringle_pods", "Pods by phase", &census.pods);
    count("cringle_containers", "Containers by phase", &census.containers);
    let name = "cringle_shims";
    text.begin(name, Kind::Gauge, "Shims of containers");
    text.value(name, &[], census.shims);
}

/// What the daemon itself uses, by the names that Prometheus' own clients have for it.
fn add_own(text: &mut Text) {
    match proc::own() {
        Ok(own) => add_process(text, &own),
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            tracing::warn!(error, "the daemon's own process cannot be measured");
        }
    }
    let name = "cringle_heap_in_use_bytes";
    text.begin(
        name,
        Kind::Gauge,
        "What the daemon has of its heap; the rest of its memory is free or no heap",
    );
    text.value(name, &[], memory::heap_in_use());
}

fn add_process(text: &mut Text, own: &proc::Own) {
    let mut add = |name, kind, help, value: f64| {
        text.begin(name, kind, help);
        text.value(name, &[], value);
    };
    let cpu = own.cpu.as_secs_f64();
    add("process_cpu_seconds_total", Kind::Counter, "Processor time of the daemon", cpu);
    let started = own.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    add("process_start_time_seconds", Kind::Gauge, "When the daemon started", started);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory of the daemon", Some(own.resident)),
        ("process_virtual_memory_bytes", "Address space of the daemon", Some(own.address_space)),
        ("process_threads", "Threads of the daemon", Some(own.threads)),
        ("process_open_fds", "Open descriptors of the daemon", Some(own.descriptors)),
        ("process_max_fds", "Descriptors that the daemon may have", own.descriptor_limit),
    ] {
        if let Some(value) = value {
            add(name, Kind::Gauge, help, value as f64);
        }
    }
}

fn add_metrics(text: &mut Text, all: &[&Metrics]) {
    let mut by_name: HashMap<&str, Vec<(&Metrics, &Metric)>> = HashMap::new();
    for metrics in all {
        for metric in &metrics.values {
            by_name.entry(metric.descriptor.name).or_default().push((metrics, metric));
        }
    }
    for descriptor in DESCRIPTORS {
        let Some(values) = by_name.get(descriptor.name) else { continue };
        let kind = match descriptor.kind {
            metrics::Kind::Counter => Kind::Counter,
            metrics::Kind::Gauge => Kind::Gauge,
        };
        text.begin(descriptor.name, kind, descriptor.help);
        for (metrics, metric) in values {
            let base = BASE_LABELS.into_iter().zip(metrics.base.iter().map(String::as_str));
            let own = descriptor.labels.iter().copied();
            let own = own.zip(metric.labels.iter().map(String::as_str));
            let labels: Vec<Label<'_>> = base.chain(own).collect();
            text.value(descriptor.name, &labels, metric.value);
        }
    }
}
