//! Flow control of a connection: windows in both directions, and finding out what the peer makes of them.

use super::{Owner, Remote, Slot, State};
use crate::spdy::ConnectionError;
use crate::spdy::frame::{Control, Status};
use crate::spdy::window::{INITIAL, OPEN, ReceiveWindow, Receiving, SendWindow, Sending};
use std::time::Duration;
use tokio::time::Instant;

/// How long the answer to a probe is waited for. A client whose reader stands still may never answer.
const PROBE_PATIENCE: Duration = Duration::from_millis(250);

/// Windows of the connection, and what is known of the peer.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// What the send window of a new stream starts with.
    pub(super) initial_send: i64,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) probe: Option<Probe>,
    next_ping: u32,
}

/// A ping that is on its way. What the peer was going to say about windows it has said when it answers.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) id: u32,
    deadline: Instant,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            send: SendWindow::new(INITIAL),
            receive: ReceiveWindow::default(),
            initial_send: INITIAL,
            sending: Sending::Unknown,
            receiving: Receiving::Unknown,
            probe: None,
            next_ping: 2,
        }
    }
}

impl Flow {
    /// Bytes that a stream may send now.
    pub(super) fn room(&self, slot: &Slot) -> usize {
        match self.sending {
            Sending::Unknown | Sending::Bound => self.send.room().min(slot.send.room()),
            Sending::Unbound => usize::MAX,
        }
    }
}

impl State {
    /// When to give up waiting for the answer to a probe.
    pub(in crate::spdy) fn probe_deadline(&self) -> Option<Instant> {
        self.flow.probe.as_ref().map(|probe| probe.deadline)
    }

    pub(super) fn probe(&mut self) {
        if self.flow.probe.is_none() {
            let id = self.flow.next_ping;
            self.flow.next_ping = id.wrapping_add(2);
            self.flow.probe = Some(Probe { id, deadline: Instant::now() + PROBE_PATIENCE });
            self.put(&Control::Ping { id });
        }
    }

    /// The probe was answered, or has had its time: the peer's silence is an answer now.
    pub(in crate::spdy) fn probe_is_over(&mut self) {
        self.flow.probe = None;
        self.unbind();
    }

    fn unbind(&mut self) {
        if self.flow.sending == Sending::Unknown {
            self.flow.sending = Sending::Unbound;
            self.queue_all();
        }
    }

    /// The peer has sent more than it was given.
    pub(super) fn overrun(&mut self) {
        if self.flow.receiving == Receiving::Unknown {
            self.flow.receiving = Receiving::Ignored;
            self.unbind();
        }
    }

    /// The peer speaks of windows, so it keeps to them.
    fn bind(&mut self) {
        self.flow.sending = Sending::Bound;
        if self.flow.receiving == Receiving::Unknown {
            self.flow.receiving = Receiving::Exact;
        }
    }

    pub(super) fn set_initial(&mut self, window: Option<u32>) -> Result<(), ConnectionError> {
        self.bind();
        let Some(window) = window.map(i64::from) else { return Ok(()) };
        let delta = window - std::mem::replace(&mut self.flow.initial_send, window);
        let mut fits = SendWindow::new(0).grow(window);
        for slot in self.slots.values_mut() {
            fits &= slot.send.grow(delta);
        }
        self.queue_all();
        if fits { Ok(()) } else { Err(ConnectionError::Window) }
    }

    pub(super) fn grow(&mut self, stream: u32, delta: u32) -> Result<(), ConnectionError> {
        self.bind();
        if stream == 0 {
            if !self.flow.send.grow(i64::from(delta)) {
                return Err(ConnectionError::Window);
            }
            self.ready.append(&mut self.parked);
            return Ok(());
        }
        let Some(slot) = self.slots.get_mut(&stream) else { return Ok(()) };
        if slot.send.grow(i64::from(delta)) {
            self.queue(stream);
        } else {
            self.put_reset(stream, Status::FlowControlError);
            self.cut(stream);
        }
        Ok(())
    }

    /// A reader has taken bytes of a stream, or nobody ever will: the peer gets room for as many.
    pub(super) fn consumed(&mut self, stream: u32, bytes: usize) {
        self.flow.receive.consume(bytes);
        if self.flow.receive.is_due(self.flow.receiving) {
            if self.flow.receiving == Receiving::Unknown {
                self.flow.receiving = Receiving::Open;
                self.put(&Control::Settings { initial_window: Some(OPEN) });
                self.put(&Control::WindowUpdate { stream: 0, delta: OPEN });
            } else {
                let delta = self.flow.receive.grant();
                self.put(&Control::WindowUpdate { stream: 0, delta });
            }
        }
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        slot.receive.consume(bytes);
        let more_comes = slot.remote == Remote::Open && slot.owner == Owner::Held;
        if more_comes && slot.receive.is_due(self.flow.receiving) {
            let delta = slot.receive.grant();
            self.put(&Control::WindowUpdate { stream, delta });
        }
    }
}
