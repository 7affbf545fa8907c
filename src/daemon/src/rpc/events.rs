//! Events as messages of the CRI.

use super::convert;
use super::status::events_ended;
use cringle_proto_cri::v1;
use cringle_service::events::{Event, Happening, Moment, Subscription};
use futures::{StreamExt, stream};
use std::sync::Arc;
use tonic::codegen::BoxStream;

/// The events of a subscription, to its end, which is an error: no client may take it for the last of all events.
pub(super) fn stream(
    subscription: Subscription<Arc<Event>>,
) -> BoxStream<v1::ContainerEventResponse> {
    stream::unfold(Some(subscription), |subscription| async {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(event) => Some((Ok(message(&event)), Some(subscription))),
            Err(ended) => Some((Err(events_ended(ended)), None)),
        }
    })
    .boxed()
}

/// The statuses of the containers of a moment.
pub(super) fn statuses(moment: &Moment) -> Vec<v1::ContainerStatus> {
    let logs = moment.pod.as_ref().and_then(|pod| pod.spec.log_directory.as_deref());
    let containers = moment.containers.iter();
    containers.map(|container| convert::container_status(container, logs)).collect()
}

fn message(event: &Event) -> v1::ContainerEventResponse {
    v1::ContainerEventResponse {
        container_id: event.subject.clone(),
        container_event_type: kind(event.happening).into(),
        created_at: event.moment.at.to_wire(),
        pod_sandbox_status: event.moment.pod.as_ref().map(|pod| convert::pod_status(pod)),
        containers_statuses: statuses(&event.moment),
    }
}

fn kind(happening: Happening) -> v1::ContainerEventType {
    match happening {
        Happening::Created => v1::ContainerEventType::ContainerCreatedEvent,
        Happening::Started => v1::ContainerEventType::ContainerStartedEvent,
        Happening::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        Happening::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    }
}
