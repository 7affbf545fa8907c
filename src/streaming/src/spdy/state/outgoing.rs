//! What is sent: control frames first, then a piece of each stream in its turn.

use super::{Local, Owner, Phase, State, replace, wake};
use crate::spdy::frame::{Control, Status, put_data};
use crate::spdy::headers::Headers;
use crate::spdy::window::Sending;
use bytes::{Buf, BytesMut};
use std::io;
use std::task::{Poll, Waker};

/// The longest data frame that is sent, and what one stream may have waiting.
const PIECE: usize = 32 << 10;
/// What all streams together may have waiting, before each has only its floor.
const OUTBOUND_CAP: usize = 1 << 20;
/// What one stream may always have waiting.
const FLOOR: usize = 4 << 10;
/// What is gathered for one write.
const GATHERED: usize = 64 << 10;

impl State {
    pub(super) fn put(&mut self, control: &Control) {
        control.put(&mut self.control);
        wake(&mut self.driver);
    }

    pub(super) fn put_reset(&mut self, stream: u32, status: Status) {
        self.put(&Control::RstStream { stream, status: status.code() });
    }

    /// Accepts a stream towards the peer.
    pub(in crate::spdy) fn reply(&mut self, stream: u32, headers: &Headers) {
        let waits = self.slots.get(&stream).is_some_and(|slot| slot.local == Local::Open);
        if waits {
            let block = self.packer.pack(headers);
            self.put(&Control::SynReply { stream, fin: false, block });
        }
    }

    /// Takes bytes to be sent on a stream, as many as there is room for, or notes whom to wake.
    pub(in crate::spdy) fn write(
        &mut self,
        stream: u32,
        bytes: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let cap = if self.outbound < OUTBOUND_CAP { PIECE } else { FLOOR };
        let ended = matches!(self.phase, Phase::Ended);
        let Some(slot) = self.slots.get_mut(&stream).filter(|_| !ended) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if slot.local != Local::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(cap.saturating_sub(slot.outbound.len()));
        if taken == 0 && !bytes.is_empty() {
            replace(&mut slot.writer, waker);
            return Poll::Pending;
        }
        let (bytes, _) = bytes.split_at(taken);
        slot.outbound.extend_from_slice(bytes);
        self.outbound += taken;
        self.queue(stream);
        Poll::Ready(Ok(taken))
    }

    /// No more is written on a stream: its end is sent after what was written.
    pub(in crate::spdy) fn finish(&mut self, stream: u32) -> io::Result<()> {
        let ended = self.phase == Phase::Ended;
        let Some(slot) = self.slots.get_mut(&stream) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        match slot.local {
            Local::Open if ended => return Err(io::ErrorKind::BrokenPipe.into()),
            Local::Open => {
                slot.local = Local::Finishing;
                self.queue(stream);
            }
            Local::Finishing | Local::Finished => {}
        }
        Ok(())
    }

    /// Whether all that was written is filled.
    pub(in crate::spdy) fn is_drained(&self) -> bool {
        self.control.is_empty() && self.outbound == 0 && self.ready.is_empty()
    }

    /// Gives a stream its next turn, if it has anything to send.
    pub(super) fn queue(&mut self, stream: u32) {
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        let has_more = !slot.outbound.is_empty() || slot.local == Local::Finishing;
        if has_more && !slot.queued {
            slot.queued = true;
            self.ready.push_back(stream);
        }
        wake(&mut self.driver);
    }

    pub(super) fn queue_all(&mut self) {
        self.ready.append(&mut self.parked);
        let mut streams: Vec<u32> = self.slots.keys().copied().collect();
        streams.sort_unstable();
        for stream in streams {
            self.queue(stream);
        }
    }

    /// Moves what may be sent now into a buffer.
    pub(in crate::spdy) fn fill(&mut self, buffer: &mut BytesMut) {
        self.fill_control(buffer);
        while buffer.len() < GATHERED {
            let Some(stream) = self.ready.pop_front() else { break };
            self.turn(stream, buffer);
            self.fill_control(buffer);
        }
    }

    /// What waited may have been much; its room is not kept.
    fn fill_control(&mut self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(&std::mem::take(&mut self.control));
    }

    /// Sends a piece of a stream and the end of it, if its turn is not over before.
    fn turn(&mut self, stream: u32, buffer: &mut BytesMut) {
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        slot.queued = false;
        let room = self.flow.room(slot);
        let length = slot.outbound.len().min(PIECE).min(room);
        if length == 0 && !slot.outbound.is_empty() {
            if slot.send.room() > 0 {
                slot.queued = true;
                self.parked.push_back(stream);
            }
            if self.flow.sending == Sending::Unknown {
                self.probe();
            }
            return;
        }
        let fin = slot.local == Local::Finishing && length == slot.outbound.len();
        if length == 0 && !fin {
            return;
        }
        let (piece, _) = slot.outbound.split_at(length);
        put_data(buffer, stream, piece, fin);
        slot.outbound.advance(length);
        if slot.outbound.is_empty() {
            // What an idle stream had room for is not kept.
            slot.outbound = BytesMut::new();
        }
        self.outbound -= length;
        slot.send.spend(length);
        self.flow.send.spend(length);
        wake(&mut slot.writer);
        if fin {
            slot.local = Local::Finished;
            if slot.owner == Owner::Gone {
                self.release(stream, Status::Cancel);
            }
        } else {
            self.queue(stream);
        }
    }
}
