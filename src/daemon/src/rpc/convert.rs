//! Between the words of the CRI and ours: the only place that reads or writes a field of a message.
//!
//! What a request asks for and this runtime does not offer is refused here, by name; nothing is passed over in silence.
//! Whether values go together is the domain's business.

mod container;
mod devices;
mod fields;
mod image;
mod metrics;
mod namespaces;
mod pod;
mod ranges;
mod resources;
mod security;
mod signal;
mod stats;
mod streaming;

pub(super) use container::{
    container_filter, container_item, container_spec, container_spec_in, container_status,
};
pub(super) use fields::seconds;
pub(super) use image::{credentials, image_filter, image_item, image_text, pulled_image};
pub(super) use metrics::{metric_descriptor, pod_metrics};
pub(super) use pod::{pod_filter, pod_item, pod_spec, pod_status};
pub(super) use ranges::pod_ranges;
pub(super) use resources::{limits_of_update, pod_resources_of_update};
pub(super) use stats::{container_stats, pod_stats};
pub(super) use streaming::{attach_request, exec_request, port_forward_request};
