//! Netlink: messages with nested attributes, sent in batches over a socket that belongs to the network namespace it was
//! opened in.
//!
//! What the messages mean is the caller's business. The kernel works on a message during `send`, so when `send` returns
//! every acknowledgement is in the receive buffer already: collecting them never waits. Only dumps come in pieces.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use crate::error::SystemError;

mod message;

pub use message::{Attribute, Attributes, Message, attributes};
use message::{HEADER_LENGTH, Header};

/// `NLM_F_REQUEST`: every message to the kernel has it.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer, even if all is well.
pub const ACKNOWLEDGE: u16 = 0x4;
/// `NLM_F_DUMP`: answer with the whole table.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: refuse if the object exists.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`: make the object.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: add at the end of the list.
pub const APPEND: u16 = 0x800;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_INTERRUPTED: u16 = 0x10;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_EXTENDED_ACK: u16 = 0x200;
const EXTENDED_ACK_TEXT: u16 = 1;
const DUMP_ATTEMPTS: usize = 10;
const BUFFER: usize = 4 << 20;
const CHUNK: usize = 64 << 10;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error(transparent)]
    Socket(#[from] SystemError),
    /// The kernel refused a message.
    #[error("netlink message {place} refused{}{text}", if text.is_empty() { "" } else { ": " })]
    Refused {
        /// Which message it was.
        place: Place,
        /// The kernel's own words, if it said any.
        text: String,
        /// The error number.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("netlink answer is malformed")]
    Malformed,
    /// A table changed during each of many attempts to read it.
    #[error("netlink dump was interrupted every time")]
    Interrupted,
}

/// Which message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The message at that place, from zero.
    Message(usize),
    /// The batch as a whole.
    Batch,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(index) => write!(formatter, "{index}"),
            Self::Batch => formatter.write_str("batch"),
        }
    }
}

impl NetlinkError {
    /// The error number, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(error) => error.errno(),
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Malformed | Self::Interrupted => None,
        }
    }

    /// Which message was refused, if one was.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Refused { place, .. } => Some(*place),
            Self::Socket(_) | Self::Malformed | Self::Interrupted => None,
        }
    }
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, NetlinkError>;

/// A subsystem of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// Packet filters and connection tracking.
    Netfilter,
}

/// An answer to a dump or a question: the message's type and its payload.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The type of the message.
    pub kind: u16,
    /// What follows the netlink header.
    pub payload: Vec<u8>,
}

/// A connection to the kernel, bound for ever to the network namespace that the opening thread was in.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no such protocol or no more descriptors.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let (name, protocol) = match protocol {
            Protocol::Route => ("route", None),
            Protocol::Netfilter => ("netfilter", Some(netlink::NETFILTER)),
        };
        let failed =
            |call| move |errno: Errno| SystemError::new(call, format!("netlink {name}"), errno);
        let descriptor = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(failed("socket"))?;
        // The kernel keeps a lower limit than asked for if we may not exceed it, which only makes big batches fail.
        if sockopt::set_socket_recv_buffer_size_force(&descriptor, BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&descriptor, BUFFER)
                .map_err(failed("setsockopt"))?;
        }
        if sockopt::set_socket_send_buffer_size_force(&descriptor, BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&descriptor, BUFFER)
                .map_err(failed("setsockopt"))?;
        }
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK, libc::NETLINK_GET_STRICT_CHK] {
            enable(&descriptor, option)?;
        }
        Ok(Self { descriptor, sequence: 0, buffer: vec![0; CHUNK] })
    }

    /// Sends the messages in one go; the kernel works on them in order, each for itself, and goes on after a refusal.
    ///
    /// # Errors
    /// The first refusal, by the place of its message.
    pub fn apply(&mut self, messages: &[Message]) -> Result<()> {
        let outcome = self.apply_each(messages)?;
        outcome.into_iter().collect()
    }

    /// As `apply`, with one outcome for each message.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn apply_each(&mut self, messages: &[Message]) -> Result<Vec<Result<()>>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(&mut bytes, REQUEST | ACKNOWLEDGE, self.sequence);
        }
        self.send(&bytes)?;
        let mut outcomes: Vec<Option<Result<()>>> = messages.iter().map(|_| None).collect();
        self.collect(|header, payload| {
            let index = usize::try_from(header.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if let Some(outcome) = outcomes.get_mut(index).filter(|_| header.kind == TYPE_ERROR) {
                *outcome = Some(verdict(header.flags, payload, Place::Message(index)));
            }
        })?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Err(NetlinkError::Malformed)))
            .collect())
    }

    /// Sends a transaction: an opening message, the changes, and a closing message. The kernel makes all changes or none.
    ///
    /// # Errors
    /// The first refusal. `Place::Batch` if the transaction as a whole was refused.
    pub fn transact(&mut self, begin: &Message, changes: &[Message], end: &Message) -> Result<()> {
        let mut bytes = Vec::new();
        let opening = self.sequence.wrapping_add(1);
        begin.write(&mut bytes, REQUEST, opening);
        let first = opening.wrapping_add(1);
        self.sequence = opening;
        for change in changes {
            self.sequence = self.sequence.wrapping_add(1);
            change.write(&mut bytes, REQUEST | ACKNOWLEDGE, self.sequence);
        }
        self.sequence = self.sequence.wrapping_add(1);
        end.write(&mut bytes, REQUEST, self.sequence);
        self.send(&bytes)?;
        let mut acknowledged = 0;
        let mut refusal = None;
        self.collect(|header, payload| {
            if header.kind != TYPE_ERROR {
                return;
            }
            let index = usize::try_from(header.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            let place = if index < changes.len() { Place::Message(index) } else { Place::Batch };
            match verdict(header.flags, payload, place) {
                Ok(()) => acknowledged += 1,
                Err(error) if refusal.is_none() => refusal = Some(error),
                Err(_) => {}
            }
        })?;
        match refusal {
            Some(error) => Err(error),
            None if acknowledged == changes.len() => Ok(()),
            None => Err(NetlinkError::Malformed),
        }
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// The kernel's refusal, which for an object that is not there is `ENOENT`, `ENODEV` or the like.
    pub fn ask(&mut self, question: &Message) -> Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        question.write(&mut bytes, REQUEST, self.sequence);
        self.send(&bytes)?;
        let sequence = self.sequence;
        let mut answer = None;
        self.collect(|header, payload| {
            if header.sequence != sequence || answer.is_some() {
                return;
            }
            answer = Some(if header.kind == TYPE_ERROR {
                verdict(header.flags, payload, Place::Message(0)).and(Err(NetlinkError::Malformed))
            } else {
                Ok(Answer { kind: header.kind, payload: payload.to_vec() })
            });
        })?;
        answer.unwrap_or(Err(NetlinkError::Malformed))
    }

    /// Reads a whole table, again if it changed meanwhile.
    ///
    /// # Errors
    /// The kernel's refusal, or that the table never kept still.
    pub fn dump(&mut self, question: &Message) -> Result<Vec<Answer>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(answers) = self.dump_once(question)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    fn dump_once(&mut self, question: &Message) -> Result<Option<Vec<Answer>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        question.write(&mut bytes, REQUEST | DUMP, self.sequence);
        self.send(&bytes)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            let Some(length) = self.receive(RecvFlags::empty())? else { continue };
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((header, payload, next)) = Header::read(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    continue;
                }
                interrupted |= header.flags & FLAG_INTERRUPTED != 0;
                match header.kind {
                    TYPE_DONE => {
                        verdict(header.flags, payload, Place::Message(0))?;
                        return Ok((!interrupted).then_some(answers));
                    }
                    TYPE_ERROR => verdict(header.flags, payload, Place::Message(0))?,
                    kind => answers.push(Answer { kind, payload: payload.to_vec() }),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        // A batch is one datagram: it goes as a whole or not at all.
        rustix::io::retry_on_intr(|| rustix::net::send(&self.descriptor, bytes, SendFlags::empty()))
            .map(drop)
            .map_err(|errno| SystemError::new("send", "netlink", errno).into())
    }

    fn collect(&mut self, mut visit: impl FnMut(Header, &[u8])) -> Result<()> {
        while let Some(length) = self.receive(RecvFlags::DONTWAIT)? {
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((header, payload, next)) = Header::read(rest) {
                visit(header, payload);
                rest = next;
            }
        }
        Ok(())
    }

    /// The length of the next datagram in the buffer; `None` if there is none and we may not wait.
    fn receive(&mut self, flags: RecvFlags) -> Result<Option<usize>> {
        let failed = |errno| SystemError::new("recv", "netlink", errno);
        let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
        let length = match rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.descriptor, &mut [0_u8; 0][..], peek)
        }) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(failed(errno).into()),
        };
        if length > self.buffer.len() {
            self.buffer.resize(length, 0);
        }
        let descriptor = &self.descriptor;
        let (_, length) =
            rustix::net::recv(descriptor, &mut self.buffer[..], flags).map_err(failed)?;
        Ok(Some(length))
    }
}

/// What an acknowledgement says.
fn verdict(flags: u16, payload: &[u8], place: Place) -> Result<()> {
    let code = payload.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    let mut text = String::new();
    if flags & FLAG_EXTENDED_ACK != 0 {
        let skip = if flags & FLAG_CAPPED != 0 { 4 + HEADER_LENGTH } else { payload.len() };
        for attribute in attributes(payload.get(skip..).unwrap_or_default()) {
            if attribute.kind == EXTENDED_ACK_TEXT {
                attribute.text().clone_into(&mut text);
            }
        }
    }
    Err(NetlinkError::Refused {
        place,
        text,
        source: std::io::Error::from_raw_os_error(code.saturating_neg()),
    })
}

fn enable(descriptor: &OwnedFd, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: the descriptor is open for as long as it is borrowed, and the value is an int that lives across the call and
    // has the length we give.
    let outcome = unsafe {
        libc::setsockopt(
            descriptor.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast::<libc::c_void>(),
            length,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(SystemError::last("setsockopt", "netlink").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET_LINK: u16 = 18;
    const NEW_LINK: u16 = 16;
    const IFLA_IFNAME: u16 = 3;

    fn link_header(index: i32) -> Vec<u8> {
        let mut header = vec![0_u8; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header
    }

    #[test]
    fn the_loopback_device_is_in_the_dump_and_answers_by_name() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let all = socket.dump(&Message::new(GET_LINK, 0, &link_header(0))).unwrap();
        assert!(all.iter().any(|answer| {
            answer.kind == NEW_LINK
                && attributes(&answer.payload[16..])
                    .any(|a| a.kind == IFLA_IFNAME && a.text() == "lo")
        }));
        let mut question = Message::new(GET_LINK, 0, &link_header(0));
        question.text(IFLA_IFNAME, "lo");
        assert_eq!(socket.ask(&question).unwrap().kind, NEW_LINK);
    }

    #[test]
    fn a_refusal_names_its_message_and_leaves_the_socket_usable() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut missing = Message::new(GET_LINK, 0, &link_header(0));
        missing.text(IFLA_IFNAME, "no-such-link");
        assert_eq!(socket.ask(&missing).unwrap_err().errno(), Some(libc::ENODEV));
        let mut known = Message::new(GET_LINK, 0, &link_header(0));
        known.text(IFLA_IFNAME, "lo");
        let outcomes = socket.apply_each(&[missing, known.clone()]).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap_err().place(), Some(Place::Message(0)));
        socket.ask(&known).unwrap();
    }
}
