//! What a plugin can do to its connection.

use super::*;
use crate::testing::{call, pair, started, until};
use cringle_proto_nri::v1alpha1::{
    RegisterPluginRequest, RunPodSandboxRequest, UpdateContainersRequest,
};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn bytes_that_are_no_message_end_it() {
    let response = |payload: Vec<u8>| {
        encode(PLUGIN_SERVICE, &Message { kind: Kind::Response, stream: 1, payload })
    };
    let request =
        encode(PLUGIN_SERVICE, &Message { kind: Kind::Request, stream: 1, payload: Vec::new() });
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        // A frame of 4 GiB, of which nothing comes.
        vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        // A message of 2 GiB in a small frame.
        [vec![0, 0, 0, 1, 0, 0, 0, 10], vec![0x80, 0, 0, 0, 0, 0, 0, 1, 2, 0]].concat(),
        response(vec![0xff; 9]),
        request,
    ] {
        let (ours, mut theirs) = pair();
        let connection = started(ours);
        theirs.write_all(&garbage).await.unwrap();
        until("the connection has ended", || connection.is_closed()).await;
        let refused = connection.ask(&RunPodSandboxRequest::default(), LONG).await;
        assert!(matches!(refused, Err(AskError::Closed)), "{garbage:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_with_its_time_and_with_the_connection() {
    let (ours, theirs) = pair();
    let connection = Arc::new(started(ours));
    let short = Duration::from_millis(20);
    let late = connection.ask(&RunPodSandboxRequest::default(), short).await;
    assert!(matches!(late, Err(AskError::Elapsed(time)) if time == short));
    assert!(!connection.is_closed());
    let caller = Arc::clone(&connection);
    let waiting =
        tokio::spawn(async move { caller.ask(&RunPodSandboxRequest::default(), LONG).await });
    drop(theirs);
    assert!(matches!(waiting.await.unwrap(), Err(AskError::Closed)));
}

#[tokio::test]
async fn a_plugin_that_does_not_read_holds_nobody_up_for_longer() {
    let (ours, _theirs) = pair();
    let connection = started(ours);
    let mut large = RunPodSandboxRequest::default();
    large.pod.get_or_insert_default().name = "x".repeat(3 << 20);
    for _ in 0..8 {
        let late = connection.ask(&large, Duration::from_millis(20)).await;
        assert!(matches!(late, Err(AskError::Elapsed(_))), "{late:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_sent() {
    let (ours, _theirs) = pair();
    let connection = started(ours);
    let mut large = RunPodSandboxRequest::default();
    large.pod.get_or_insert_default().name = "x".repeat(LARGEST_MESSAGE);
    let refused = connection.ask(&large, LONG).await;
    assert!(matches!(refused, Err(AskError::TooLarge(_))));
}

#[tokio::test]
async fn calls_come_in_order_and_a_flood_of_them_ends_it() {
    let (ours, mut theirs) = pair();
    let (connection, mut incoming) = Connection::start(ours);
    theirs.write_all(&call(1, &RegisterPluginRequest::default())).await.unwrap();
    theirs.write_all(&call(3, &UpdateContainersRequest::default())).await.unwrap();
    let first = incoming.recv().await.unwrap();
    assert_eq!((first.stream, first.request.method.as_str()), (1, "RegisterPlugin"));
    for number in 0..=u32::try_from(WAITING_CALLS).unwrap() {
        theirs.write_all(&call(5 + 2 * number, &UpdateContainersRequest::default())).await.unwrap();
    }
    until("the connection has ended", || connection.is_closed()).await;
}

#[tokio::test]
async fn few_calls_that_are_very_large_end_it_too() {
    let (ours, mut theirs) = pair();
    let (connection, _incoming) = Connection::start(ours);
    let mut large = UpdateContainersRequest::default();
    let update = cringle_proto_nri::v1alpha1::ContainerUpdate {
        container_id: "x".repeat(3 << 20),
        ..Default::default()
    };
    large.update.push(update);
    for number in 0..3 {
        theirs.write_all(&call(1 + 2 * number, &large)).await.unwrap();
    }
    until("the connection has ended", || connection.is_closed()).await;
}
