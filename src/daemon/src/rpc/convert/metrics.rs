//! Metrics and their descriptors.

use cringle_proto_cri::v1;
use cringle_service::metrics::{
    BASE_LABELS, Descriptor, Kind, Metric, Metrics, PodMetrics as Measured,
};

/// A metric's name, meaning and labels.
pub(in crate::rpc) fn metric_descriptor(descriptor: &Descriptor) -> v1::MetricDescriptor {
    let keys = BASE_LABELS.iter().chain(descriptor.labels);
    v1::MetricDescriptor {
        name: descriptor.name.to_owned(),
        help: descriptor.help.to_owned(),
        label_keys: keys.map(|key| (*key).to_owned()).collect(),
    }
}

/// The metrics of a pod and its containers.
pub(in crate::rpc) fn pod_metrics(measured: Measured) -> v1::PodSandboxMetrics {
    let containers = measured.containers.into_iter().map(|metrics| {
        let (container_id, metrics) = values(metrics);
        v1::ContainerMetrics { container_id, metrics }
    });
    let container_metrics = containers.collect();
    let (pod_sandbox_id, metrics) = values(measured.pod);
    v1::PodSandboxMetrics { pod_sandbox_id, metrics, container_metrics }
}

/// An id and its values.
fn values(metrics: Metrics) -> (String, Vec<v1::Metric>) {
    let Metrics { id, base, values } = metrics;
    (id, values.into_iter().map(|metric| value(&base, metric)).collect())
}

fn value(base: &[String; 6], metric: Metric) -> v1::Metric {
    let Metric { descriptor, labels, value } = metric;
    let kind = match descriptor.kind {
        Kind::Counter => v1::MetricType::Counter,
        Kind::Gauge => v1::MetricType::Gauge,
    };
    v1::Metric {
        name: descriptor.name.to_owned(),
        // It is of now.
        timestamp: 0,
        metric_type: kind.into(),
        label_values: base.iter().cloned().chain(labels).collect(),
        value: Some(v1::UInt64Value { value: value.whole() }),
    }
}
