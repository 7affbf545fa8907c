//! One stream, as its connection keeps it.

use crate::spdy::window::{ReceiveWindow, SendWindow};
use bytes::BytesMut;
use std::task::Waker;

/// What the peer does on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spdy) enum Remote {
    Open,
    /// It sends no more.
    Finished,
    /// The stream is over, for either side.
    Reset,
}

/// What we do on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spdy) enum Local {
    Open,
    /// No more is written; what was written and the end of it are still to be sent.
    Finishing,
    /// All is sent.
    Finished,
}

/// Whether the stream has a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spdy) enum Owner {
    Held,
    Gone,
}

/// One stream.
#[derive(Debug)]
pub(in crate::spdy) struct Slot {
    pub(in crate::spdy) remote: Remote,
    pub(in crate::spdy) local: Local,
    pub(in crate::spdy) owner: Owner,
    /// What came in and was not read yet.
    pub(in crate::spdy) inbound: BytesMut,
    pub(in crate::spdy) receive: ReceiveWindow,
    pub(in crate::spdy) reader: Option<Waker>,
    /// What was written and not sent yet.
    pub(in crate::spdy) outbound: BytesMut,
    pub(in crate::spdy) send: SendWindow,
    pub(in crate::spdy) writer: Option<Waker>,
    /// Whether it is in the queue of those that have something to send.
    pub(in crate::spdy) queued: bool,
}

impl Slot {
    pub(in crate::spdy) fn new(remote: Remote, local: Local, window: i64) -> Self {
        Self {
            remote,
            local,
            owner: Owner::Held,
            inbound: BytesMut::new(),
            receive: ReceiveWindow::default(),
            reader: None,
            outbound: BytesMut::new(),
            send: SendWindow::new(window),
            writer: None,
            queued: false,
        }
    }
}
