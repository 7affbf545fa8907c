//! Between the words of the CRI and ours: the only place that reads or writes a field of a message.
//!
//! What a request asks for and this runtime does not offer is refused here, by name; nothing is passed over in silence.
//! Whether values go together is the domain's business.

mod container;
mod devices;
mod fields;
mod image;
mod namespaces;
mod pod;
mod resources;
mod security;
mod signal;

pub(super) use container::{container_filter, container_item, container_spec, container_status};
pub(super) use fields::seconds;
pub(super) use image::{credentials, image_filter, image_item, image_text, pulled_image};
pub(super) use pod::{pod_filter, pod_item, pod_spec, pod_status};
pub(super) use resources::limits_of_update;
