//! SPDY/3.1 as Kubernetes clients speak it: the server half, over any byte stream.
//!
//! ```text
//! bytes -> frame::Decoder -> State::receive -> streams' buffers  -> readers
//! bytes <- one write each <- State::fill    <- streams' buffers  <- writers
//! ```
//!
//! One task owns the byte stream; it and the handles of streams meet in one state behind a mutex, which nobody holds across
//! a wait. Streams send in turns, a piece each, and control frames go before them, so none waits behind another's
//! queue. Priorities are not looked at.
//!
//! # What a connection may cost
//! Control frames have 64 KiB at most, inflated headers 16 KiB; data frames are never kept whole. Bytes that wait
//! for readers are capped over all streams, and so are those that wait to be sent, of which each stream has 4 KiB for sure.
//! When readers or the network are behind, no more is read. A peer that asks for more than it reads, with pings or with
//! streams that are refused, is not read from until it does. No count in a frame is ever an allocation.
//!
//! # Flow control, and who keeps to it
//! SPDY/3.1 has windows of 64 KiB, per stream and per connection. The library behind crictl, kubectl and kubelet
//! (moby/spdystream, read at 0.5.1) has none: it sends at will, sends neither window updates nor settings, and queues
//! those it gets behind data that its user does not read, where enough of them would block all that it reads. So:
//!
//! - A peer that sends settings or a window update keeps to windows. We keep to its, and give back exactly what was
//!   consumed.
//! - A peer that sends more than it was given doesn't know windows. It is told nothing of ours, and its do not bind us.
//! - A peer of which nothing is known, when half of our window was consumed, may wait for room or know nothing of it. It
//!   is given room for a gigabyte, once, in two frames: what harms no one.
//! - A peer of which nothing is known, when its window is used up, is sent a ping. Whatever it was going to say about windows
//!   it has said when it answers, and silence means that windows do not bind us. It may also be stuck behind its own
//!   reader, so a quarter of a second without an answer is one. A peer that speaks of windows later is heard.
//!
//! Where windows do not hold a side back, TCP does. Towards a client that does not read, streams fill what they may
//! have waiting, and writers wait. When what waits for readers is over its cap, nothing more is read from the connection:
//! a stream that its reader leaves standing then holds up the input of the others, but not the output. That is what
//! ignoring windows costs; so no stream is reset for overstepping one, as the draft would have it. A client that keeps to
//! windows of its own accord, has never said so and has not read 64 KiB within a round trip gets more than
//! it gave room for. None is known.
//!
//! # Liberties
//! The draft has a stream reset for a frame of another version; as the headers in it are lost to the compression, the
//! connection ends. Headers that come later on a stream tell nothing and are dropped.

pub mod frame;
pub mod headers;

mod connection;
mod dictionary;
mod state;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod window;

pub use connection::Connection;
pub use headers::Headers;
pub use stream::{Incoming, Stream};

use std::io;
use std::time::Duration;

/// What a connection may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Streams at one time; more are refused.
    pub streams_cap: usize,
    /// How long a connection may be without a byte in either direction, pings included. None: for ever.
    pub idle: Option<Duration>,
}

/// How a connection has ended.
#[derive(Debug)]
pub enum Ending {
    /// We have closed it, and what was written was sent.
    Closed,
    /// The peer has left.
    Left,
    /// No byte came or went for too long.
    Idle,
    /// Something went wrong.
    Failed(ConnectionError),
}

impl Ending {
    /// Tells the log of an end that somebody may wonder about.
    pub(crate) fn tell(&self) {
        match self {
            Self::Closed | Self::Left => {}
            Self::Idle => tracing::debug!("a streaming connection was idle for too long"),
            Self::Failed(error) => {
                let error = cringle_service::error::chain(error);
                tracing::debug!(error, "a streaming connection broke");
            }
        }
    }

    /// The status of the farewell; none for a peer that is not there to read it.
    fn farewell(&self) -> Option<u32> {
        match self {
            Self::Closed | Self::Idle => Some(0),
            Self::Failed(
                ConnectionError::Frame(_)
                | ConnectionError::Headers(_)
                | ConnectionError::StreamOrder { .. }
                | ConnectionError::Window,
            ) => Some(1),
            Self::Left
            | Self::Failed(
                ConnectionError::Read(_) | ConnectionError::Write(_) | ConnectionError::Drive(_),
            ) => None,
        }
    }
}

/// What ends a connection before its time.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The byte stream gave no more.
    #[error("failed to read from a SPDY connection")]
    Read(#[source] io::Error),
    /// The byte stream took no more.
    #[error("failed to write to a SPDY connection")]
    Write(#[source] io::Error),
    /// The peer does not speak SPDY/3.1.
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    /// The peer's headers cannot be read, nor any that follow.
    #[error(transparent)]
    Headers(headers::HeaderError),
    /// The peer has opened a stream out of turn.
    #[error("failed to open stream {stream}: it must be odd and come after stream {last}")]
    StreamOrder {
        /// The stream.
        stream: u32,
        /// The last one before.
        last: u32,
    },
    /// The peer has made a window larger than a window can be.
    #[error("failed to enlarge a window: it would be over 2147483647 bytes")]
    Window,
    /// The connection's task has panicked or was ended with its runtime.
    #[error("failed to drive a SPDY connection")]
    Drive(#[source] tokio::task::JoinError),
}
