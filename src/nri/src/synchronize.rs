//! What a plugin is told when it joins: everything there is, in as many messages as it takes.

use crate::connection::{AskError, Connection};
use crate::frame::LARGEST_MESSAGE;
use cringle_proto_nri::v1alpha1::{
    Container, ContainerUpdate, PodSandbox, SynchronizeRequest, SynchronizeResponse,
};
use prost::Message;
use std::time::Duration;

/// Room for what a message has besides pods and containers.
const ENVELOPE: usize = 64 << 10;

/// Why a plugin does not know all that there is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SynchronizeError {
    /// It did not take it.
    #[error("failed to tell it what there is")]
    Ask(#[from] AskError),
    /// It does not know messages in parts.
    #[error("failed to tell it what there is: it can't take that in parts")]
    Parts,
}

/// Tells a plugin; answers what containers it wants to change for that.
///
/// # Errors
/// It does not take it.
pub(crate) async fn synchronize(
    connection: &Connection,
    pods: Vec<PodSandbox>,
    containers: Vec<Container>,
    patience: Duration,
) -> Result<Vec<ContainerUpdate>, SynchronizeError> {
    for request in parts(pods, containers, LARGEST_MESSAGE - ENVELOPE) {
        let more = request.more;
        let answer: SynchronizeResponse = connection.ask(&request, patience).await?;
        if !more {
            return Ok(answer.update);
        }
        if !answer.more || !answer.update.is_empty() {
            return Err(SynchronizeError::Parts);
        }
    }
    Ok(Vec::new())
}

/// The messages, each with no more than `room` bytes unless one thing alone has more.
fn parts(
    pods: Vec<PodSandbox>,
    containers: Vec<Container>,
    room: usize,
) -> Vec<SynchronizeRequest> {
    let mut parts = Vec::new();
    let (mut part, mut used) = (SynchronizeRequest::default(), 0);
    let mut begin = |part: &mut SynchronizeRequest, used: &mut usize, length: usize| {
        if *used > 0 && *used + length > room {
            part.more = true;
            parts.push(std::mem::take(part));
            *used = 0;
        }
        *used += length;
    };
    for pod in pods {
        begin(&mut part, &mut used, length(&pod));
        part.pods.push(pod);
    }
    for container in containers {
        begin(&mut part, &mut used, length(&container));
        part.containers.push(container);
    }
    parts.push(part);
    parts
}

/// With its tag and its length in front.
fn length(message: &impl Message) -> usize {
    message.encoded_len() + 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_once_in_order_and_only_the_last_part_says_so() {
        let pod = |number: u32| PodSandbox { id: format!("pod{number}"), ..PodSandbox::default() };
        let container =
            |number: u32| Container { id: format!("c{number}"), ..Container::default() };
        for room in [1, 30, 1000] {
            let told = parts((0..9).map(pod).collect(), (0..9).map(container).collect(), room);
            let pods: Vec<_> = told.iter().flat_map(|part| part.pods.clone()).collect();
            assert_eq!(pods, (0..9).map(pod).collect::<Vec<_>>());
            let containers: Vec<_> = told.iter().flat_map(|part| part.containers.clone()).collect();
            assert_eq!(containers, (0..9).map(container).collect::<Vec<_>>());
            let (last, before) = told.split_last().unwrap();
            assert!(!last.more && before.iter().all(|part| part.more), "{room}");
            assert_eq!(told.len() > 1, room < 1000, "{room}");
        }
        assert_eq!(parts(Vec::new(), Vec::new(), 1), [SynchronizeRequest::default()]);
    }
}
