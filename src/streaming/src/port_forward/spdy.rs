//! Port-forward over SPDY: a connection is a pair of streams, one for its bytes and one for an error, which bear the same
//! number of a request. Clients from before there were such numbers make the two one after the other, the error's first.

use super::Connect;
use crate::spdy::{Connection, Headers, Incoming, Settings, Stream};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Streams on one connection, of which each forwarded connection has two.
const STREAMS: usize = 4096;

/// Serves a client until it leaves.
pub(super) async fn serve<I, C>(io: I, idle: Option<Duration>, patience: Duration, connect: C)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Connect,
{
    let connect = Arc::new(connect);
    let mut connection = Connection::serve(io, &Settings { streams_cap: STREAMS, idle });
    let mut forwarding = JoinSet::new();
    let mut halves = Halves::default();
    loop {
        tokio::select! {
            incoming = connection.accept() => {
                let Some(incoming) = incoming else { break };
                let pair = halves.pair(incoming, &*connect, Instant::now() + patience);
                let Some(pair) = pair else { continue };
                forwarding.spawn(forward(pair, Arc::clone(&connect)));
            }
            () = halves.overdue() => tracing::debug!("a streaming client made half a pair"),
            Some(ended) = forwarding.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a forwarded connection broke down");
            },
        }
    }
    forwarding.shutdown().await;
    connection.close().await.tell();
}

/// Both streams of a connection.
#[derive(Debug)]
struct Pair {
    port: u16,
    bytes: Stream,
    error: Stream,
}

/// Streams whose other half has not come yet.
#[derive(Debug, Default)]
struct Halves {
    waiting: HashMap<String, (Half, u64)>,
    /// Numbers of streams with their deadlines, the oldest first; one whose pair is complete may still be here.
    deadlines: VecDeque<(Instant, String, u64)>,
    next: u64,
}

#[derive(Debug)]
enum Half {
    Bytes(Stream, u16),
    Error(Stream),
}

/// What a stream says it is.
enum Kind {
    Bytes,
    Error,
}

impl Halves {
    /// Takes a stream; gives a pair if it completes one. What makes no sense is refused.
    fn pair(
        &mut self,
        incoming: Incoming,
        connect: &impl Connect,
        deadline: Instant,
    ) -> Option<Pair> {
        let kind = match incoming.headers.get("streamtype") {
            Some("data") => Kind::Bytes,
            Some("error") => Kind::Error,
            Some(_) | None => return refuse(incoming),
        };
        let port = incoming.headers.get("port").and_then(|port| port.parse::<u16>().ok());
        let Some(port) = port.filter(|port| *port > 0 && connect.permits(*port)) else {
            return refuse(incoming);
        };
        let request = match (incoming.headers.get("requestid"), &kind) {
            (Some(request), _) if !request.is_empty() => request.to_owned(),
            (_, Kind::Error) => format!("stream {}", incoming.id()),
            (_, Kind::Bytes) => format!("stream {}", incoming.id().wrapping_sub(2)),
        };
        match (kind, self.waiting.remove(&request)) {
            (Kind::Bytes, Some((Half::Error(error), _))) => {
                Some(Pair { port, bytes: incoming.reply(&Headers::new()), error })
            }
            (Kind::Error, Some((Half::Bytes(bytes, port), _))) => {
                Some(Pair { port, bytes, error: incoming.reply(&Headers::new()) })
            }
            // A second stream of a kind: the first one goes on waiting for its other half.
            (_, Some(half)) => {
                self.waiting.insert(request, half);
                refuse(incoming)
            }
            (kind, None) => {
                let stream = incoming.reply(&Headers::new());
                let half = match kind {
                    Kind::Bytes => Half::Bytes(stream, port),
                    Kind::Error => Half::Error(stream),
                };
                self.next += 1;
                self.deadlines.push_back((deadline, request.clone(), self.next));
                self.waiting.insert(request, (half, self.next));
                None
            }
        }
    }

    /// Waits until a stream has waited for too long, and lets go of it.
    async fn overdue(&mut self) {
        loop {
            let Some((deadline, request, number)) = self.deadlines.front() else {
                return std::future::pending().await;
            };
            if self.waiting.get(request).is_some_and(|(_, waiting)| waiting == number) {
                tokio::time::sleep_until(*deadline).await;
                self.waiting.remove(&request.clone());
                self.deadlines.pop_front();
                return;
            }
            self.deadlines.pop_front();
        }
    }
}

fn refuse(incoming: Incoming) -> Option<Pair> {
    incoming.refuse();
    None
}

/// Connects, and carries bytes until both sides have ended.
async fn forward<C: Connect>(pair: Pair, connect: Arc<C>) {
    let Pair { port, mut bytes, mut error } = pair;
    match connect.connect(port).await {
        Ok(mut connection) => {
            match tokio::io::copy_bidirectional(&mut bytes, &mut connection).await {
                Ok(_) => {}
                Err(broken) => tracing::debug!(error = %broken, "a forwarded connection broke"),
            }
        }
        Err(refused) => {
            let text = connect.failed(port, &refused);
            tracing::debug!(error = text, "a connection was not forwarded");
            if error.write_all(text.as_bytes()).await.is_err() {
                tracing::debug!("a streaming client was gone before it could be told an error");
            }
        }
    }
    if let Err(gone) = error.shutdown().await {
        tracing::debug!(error = %gone, "a stream was ended already");
    }
}

#[cfg(test)]
mod tests;
