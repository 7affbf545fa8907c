//! What both ends of a connection share: its streams, and what is to be sent. No input, no output, no waiting: frames
//! come in through [`State::receive`] and go out through [`State::fill`].

mod flow;
mod outgoing;
mod slot;

use super::frame::{Control, Event, Status};
use super::headers::{HeaderError, Headers, Inflater, Packer};
use super::{ConnectionError, Settings};
use bytes::{Buf, BytesMut};
use flow::Flow;
use slot::{Local, Owner, Remote, Slot};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Poll, Waker};
use tokio::io::ReadBuf;

/// Bytes that came in and wait for their readers, over all streams, before no more is read.
const INBOUND_CAP: usize = 256 << 10;
/// Bytes of control frames that wait to be sent, before no more is read.
const CONTROL_OUT_CAP: usize = 64 << 10;

/// Where the connection is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The peer has said that it opens no more streams.
    Leaving,
    /// We have said so; what is written is still sent.
    Closing,
    /// Nothing comes or goes any more.
    Ended,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Streams that have a handle, or something left to send.
    slots: HashMap<u32, Slot>,
    /// Streams that nobody has accepted yet.
    arrived: VecDeque<(u32, Headers)>,
    streams_cap: usize,
    last_seen: u32,
    inflater: Inflater,
    packer: Packer,
    flow: Flow,
    /// Bytes over all streams that wait for their readers.
    inbound: usize,
    /// Bytes over all streams that wait to be sent.
    outbound: usize,
    /// Control frames that wait to be sent.
    control: BytesMut,
    /// Streams that have something to send, each once, in the order of their turns.
    ready: VecDeque<u32>,
    /// Streams that have had to stop because of the connection's window.
    parked: VecDeque<u32>,
    driver: Option<Waker>,
    acceptor: Option<Waker>,
}

impl State {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            phase: Phase::Open,
            slots: HashMap::new(),
            arrived: VecDeque::new(),
            streams_cap: settings.streams_cap,
            last_seen: 0,
            inflater: Inflater::default(),
            packer: Packer::default(),
            flow: Flow::default(),
            inbound: 0,
            outbound: 0,
            control: BytesMut::new(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            driver: None,
            acceptor: None,
        }
    }

    /// Whoever sends what is filled, and reads, is woken when there is reason to.
    pub(super) fn set_driver(&mut self, waker: &Waker) {
        replace(&mut self.driver, waker);
    }

    /// Whether the peer has to wait until readers or the network are done with what there is.
    pub(super) fn is_full(&self) -> bool {
        self.inbound >= INBOUND_CAP || self.control.len() >= CONTROL_OUT_CAP
    }

    /// The last stream that the peer opened, as a farewell names it.
    pub(super) fn last_seen(&self) -> u32 {
        self.last_seen
    }

    /// Takes a stream that nobody has accepted yet, or notes whom to wake. None: there will be no more.
    pub(super) fn accept(&mut self, waker: &Waker) -> Poll<Option<(u32, Headers)>> {
        while let Some((id, headers)) = self.arrived.pop_front() {
            if self.slots.get(&id).is_some_and(|slot| slot.remote == Remote::Reset) {
                self.remove(id);
            } else {
                return Poll::Ready(Some((id, headers)));
            }
        }
        if self.phase != Phase::Open {
            return Poll::Ready(None);
        }
        replace(&mut self.acceptor, waker);
        Poll::Pending
    }

    /// No more streams are taken.
    pub(super) fn leave(&mut self, phase: Phase) {
        self.phase = phase;
        wake(&mut self.acceptor);
        wake(&mut self.driver);
    }

    /// Nothing comes or goes any more: whoever waits learns it.
    pub(super) fn end(&mut self) {
        self.leave(Phase::Ended);
        for slot in self.slots.values_mut() {
            wake(&mut slot.reader);
            wake(&mut slot.writer);
        }
    }

    /// Does what a frame says.
    ///
    /// # Errors
    /// The peer broke a rule on which the whole connection rests.
    pub(super) fn receive(&mut self, event: Event) -> Result<(), ConnectionError> {
        let control = match event {
            Event::Control(control) => control,
            Event::Data { stream, bytes, fin } => {
                self.receive_data(stream, &bytes, fin);
                return Ok(());
            }
        };
        match control {
            Control::SynStream { stream, fin, unidirectional, block } => {
                let remote = if fin { Remote::Finished } else { Remote::Open };
                let local = if unidirectional { Local::Finished } else { Local::Open };
                let headers = self.headers(stream, &block)?;
                return self.opened(stream, headers, (remote, local));
            }
            // We open no streams, so there is nothing to reply to.
            Control::SynReply { stream, block, fin: _ } => {
                if self.headers(stream, &block)?.is_some() {
                    self.put_reset(stream, Status::InvalidStream);
                }
            }
            Control::Headers { stream, fin, block } => {
                // They tell nothing that a stream of ours is for.
                if self.headers(stream, &block)?.is_some() {
                    self.receive_data(stream, &[], fin);
                }
            }
            Control::RstStream { stream, status: _ } => self.cut(stream),
            Control::Ping { id } if id % 2 == 1 => self.put(&Control::Ping { id }),
            Control::Ping { id } => {
                if self.flow.probe.as_ref().is_some_and(|probe| probe.id == id) {
                    self.probe_is_over();
                }
            }
            Control::GoAway { .. } if self.phase == Phase::Open => self.leave(Phase::Leaving),
            Control::GoAway { .. } => {}
            Control::Settings { initial_window } => return self.set_initial(initial_window),
            Control::WindowUpdate { stream, delta } => return self.grow(stream, delta),
        }
        Ok(())
    }

    /// The headers of a block. None: they are wrong, and the stream is reset.
    fn headers(&mut self, stream: u32, block: &[u8]) -> Result<Option<Headers>, ConnectionError> {
        match self.inflater.inflate(block).and_then(|block| Headers::parse(&block)) {
            Ok(headers) => Ok(Some(headers)),
            Err(HeaderError::Name { name: _ }) => {
                self.put_reset(stream, Status::ProtocolError);
                self.cut(stream);
                Ok(None)
            }
            Err(
                fault @ (HeaderError::Inflate(_)
                | HeaderError::Cut
                | HeaderError::TooLarge
                | HeaderError::Lengths),
            ) => Err(ConnectionError::Headers(fault)),
        }
    }

    fn opened(
        &mut self,
        stream: u32,
        headers: Option<Headers>,
        (remote, local): (Remote, Local),
    ) -> Result<(), ConnectionError> {
        if stream.is_multiple_of(2) || stream < self.last_seen {
            return Err(ConnectionError::StreamOrder { stream, last: self.last_seen });
        }
        if stream == self.last_seen {
            self.put_reset(stream, Status::ProtocolError);
            self.cut(stream);
            return Ok(());
        }
        self.last_seen = stream;
        let Some(headers) = headers else { return Ok(()) };
        if self.phase != Phase::Open || self.slots.len() >= self.streams_cap {
            self.put_reset(stream, Status::RefusedStream);
            return Ok(());
        }
        self.slots.insert(stream, Slot::new(remote, local, self.flow.initial_send));
        self.arrived.push_back((stream, headers));
        wake(&mut self.acceptor);
        Ok(())
    }

    /// Data that nobody reads count as consumed at once.
    fn receive_data(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        if !self.flow.receive.receive(bytes.len()) {
            self.overrun();
        }
        match self.slots.get_mut(&stream) {
            Some(slot) if slot.owner == Owner::Held && slot.remote == Remote::Open => {
                let kept = slot.receive.receive(bytes.len());
                slot.inbound.extend_from_slice(bytes);
                self.inbound += bytes.len();
                if fin {
                    slot.remote = Remote::Finished;
                }
                wake(&mut slot.reader);
                if !kept {
                    self.overrun();
                }
            }
            found => {
                match found.map(|slot| (slot.owner, &mut slot.remote)) {
                    Some((Owner::Held, Remote::Finished)) => {
                        self.put_reset(stream, Status::StreamAlreadyClosed);
                        self.cut(stream);
                    }
                    Some((Owner::Gone, remote @ Remote::Open)) if fin => *remote = Remote::Finished,
                    None if stream > self.last_seen || stream.is_multiple_of(2) => {
                        self.put_reset(stream, Status::InvalidStream);
                    }
                    Some(_) | None => {}
                }
                self.consumed(stream, bytes.len());
            }
        }
    }

    /// Gives a reader what there is, or notes whom to wake.
    pub(super) fn read(
        &mut self,
        stream: u32,
        buffer: &mut ReadBuf<'_>,
        waker: &Waker,
    ) -> Poll<io::Result<()>> {
        let was_full = self.is_full();
        let Some(slot) = self.slots.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let length = slot.inbound.len().min(buffer.remaining());
        if length == 0 && buffer.remaining() > 0 {
            return match slot.remote {
                Remote::Finished => Poll::Ready(Ok(())),
                Remote::Open if self.phase != Phase::Ended => {
                    replace(&mut slot.reader, waker);
                    Poll::Pending
                }
                Remote::Open | Remote::Reset => {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                }
            };
        }
        let (read, _) = slot.inbound.split_at(length);
        buffer.put_slice(read);
        slot.inbound.advance(length);
        if slot.inbound.is_empty() {
            // What an idle stream had room for is not kept.
            slot.inbound = BytesMut::new();
        }
        self.inbound -= length;
        self.consumed(stream, length);
        if was_full {
            wake(&mut self.driver);
        }
        Poll::Ready(Ok(()))
    }

    /// The stream is over: what was not read or sent is of no use any more.
    fn cut(&mut self, stream: u32) {
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        slot.remote = Remote::Reset;
        slot.local = Local::Finished;
        wake(&mut slot.reader);
        wake(&mut slot.writer);
        let owner = slot.owner;
        self.discard(stream);
        if owner == Owner::Gone {
            self.remove(stream);
        }
    }

    /// The handle of a stream is gone, or never was wanted. What was ended properly is still sent.
    pub(super) fn release(&mut self, stream: u32, status: Status) {
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        slot.owner = Owner::Gone;
        let (local, remote) = (slot.local, slot.remote);
        self.discard_inbound(stream);
        match (local, remote) {
            (Local::Finishing, _) => {}
            (Local::Open, Remote::Open | Remote::Finished) | (Local::Finished, Remote::Open) => {
                self.put_reset(stream, status);
                self.remove(stream);
            }
            (Local::Finished, Remote::Finished) | (_, Remote::Reset) => self.remove(stream),
        }
        wake(&mut self.driver);
    }

    fn remove(&mut self, stream: u32) {
        self.discard(stream);
        self.slots.remove(&stream);
    }

    fn discard(&mut self, stream: u32) {
        self.discard_inbound(stream);
        if let Some(slot) = self.slots.get_mut(&stream) {
            self.outbound -= slot.outbound.len();
            slot.outbound = BytesMut::new();
        }
    }

    fn discard_inbound(&mut self, stream: u32) {
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        let unread = std::mem::take(&mut slot.inbound).len();
        self.inbound -= unread;
        self.consumed(stream, unread);
    }
}

/// Notes whom to wake.
pub(super) fn replace(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
