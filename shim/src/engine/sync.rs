//! The conversation between the engine and a child that prepares itself: one packet socket each.
//!
//! ```text
//!  child                                parent
//!    | -- Paused ---------------------------> |   for hooks that run outside, if there are any
//!    | <------------------------------- Go -- |
//!    | -- Ready (+ master of the terminal) -> |   an init always, others if they have a terminal
//!    | <------------------------------- Go -- |   only an init waits for it
//!    | -- Failed(attempt, call, errno) -----> |   at any time, or what became of a hook; the child exits then
//!    |    (closed by execve)                  |   end of file: the program runs
//! ```
//! The child's end is close-on-exec, the parent's end is never in the child: whoever dies, the other one reads the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cringle_kernel::error::SystemError;
use cringle_kernel::socket;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::{Attempting as _, EngineError, Refused, Result};

/// The largest packet: an attempt with a path in it, a call with another one.
const LARGEST: usize = 16 * 1024;

const READY: u8 = b'R';
const FAILED: u8 = b'F';
const PAUSED: u8 = b'H';
const HOOK: u8 = b'K';
const GO: &[u8] = b"G";

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct End(OwnedFd);

/// What the parent hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// The child has prepared everything; it may have sent the master end of a terminal.
    Ready(Option<OwnedFd>),
    /// The child has made everything and waits for the hooks that run outside.
    Paused,
    /// The child executed its program, or is dead.
    Closed,
}

/// Both ends: the parent's, the child's.
pub(super) fn pair() -> Result<(End, End)> {
    let ends = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    let (parent, child) = ends.attempting(|| "make a socket for the child".to_owned())?;
    Ok((End(parent), End(child)))
}

impl End {
    /// Takes a socket as an end.
    pub(super) fn from_descriptor(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for the child's next word.
    ///
    /// # Errors
    /// What the child says it failed at.
    pub(super) fn hear(&self) -> Result<Heard> {
        let packet = loop {
            match socket::receive(self.0.as_fd(), LARGEST) {
                Err(error) if error.errno() == Some(libc_eintr()) => {}
                // A child that was killed with a packet unread resets the connection.
                Err(error)
                    if error.errno() == Some(rustix::io::Errno::CONNRESET.raw_os_error()) =>
                {
                    return Ok(Heard::Closed);
                }
                other => break other.attempting(|| "hear from the child".to_owned())?,
            }
        };
        let Some(packet) = packet else { return Ok(Heard::Closed) };
        match packet.bytes.split_first() {
            Some((&READY, _)) => Ok(Heard::Ready(packet.descriptors.into_iter().next())),
            Some((&PAUSED, _)) => Ok(Heard::Paused),
            Some((&FAILED, rest)) => Err(decode(rest)),
            Some((&HOOK, rest)) => {
                Err(EngineError::Hook(String::from_utf8_lossy(rest).into_owned()))
            }
            Some(_) | None => Err(EngineError::Died("after a word that is not known".to_owned())),
        }
    }

    /// Lets the child go on: to what comes after the hooks, or through the gate.
    pub(super) fn go(&self) -> Result<()> {
        match socket::send(self.0.as_fd(), GO, &[]) {
            // It died at the gate: the next word heard says so.
            Err(error) if error.errno() == Some(rustix::io::Errno::PIPE.raw_os_error()) => Ok(()),
            answer => answer.attempting(|| "start the container's process".to_owned()),
        }
    }

    /// Child-side: says that everything is prepared.
    pub(super) fn ready(&self, master: Option<BorrowedFd<'_>>) -> Result<()> {
        socket::send(self.0.as_fd(), &[READY], master.as_slice())
            .attempting(|| "report to the engine".to_owned())
    }

    /// Child-side: lets the parent run hooks; the child waits for them by `may_go`.
    pub(super) fn pause(&self) -> Result<()> {
        socket::send(self.0.as_fd(), &[PAUSED], &[])
            .attempting(|| "report to the engine".to_owned())
    }

    /// Child-side: waits for the parent's word; false if the parent is gone.
    pub(super) fn may_go(&self) -> bool {
        let mut word = [0; 1];
        loop {
            match rustix::io::read(&self.0, &mut word) {
                Err(rustix::io::Errno::INTR) => {}
                answer => return answer == Ok(GO.len()),
            }
        }
    }

    /// Child-side: tells why the program will not run. Nobody listening is no reason to do more.
    pub(super) fn fail(&self, error: &EngineError) {
        let _nobody_listens = socket::send(self.0.as_fd(), &encode(error), &[]);
    }

    /// The descriptor.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn libc_eintr() -> i32 {
    rustix::io::Errno::INTR.raw_os_error()
}

/// Error number, length of the attempt, attempt, call; each text cut to a part of the packet.
fn encode(error: &EngineError) -> Vec<u8> {
    if let EngineError::Hook(text) = error {
        return [&[HOOK], cut(text, LARGEST / 2).as_bytes()].concat();
    }
    let (attempt, call) = if let EngineError::Attempt { attempt, source } = error {
        (attempt.clone(), describe(source))
    } else {
        (error.to_string(), String::new())
    };
    let attempt = cut(&attempt, LARGEST / 4);
    let call = cut(&call, LARGEST / 2);
    let mut packet = vec![FAILED];
    packet.extend_from_slice(&error.errno().unwrap_or_default().to_le_bytes());
    packet.extend_from_slice(&u32::try_from(attempt.len()).unwrap_or_default().to_le_bytes());
    packet.extend_from_slice(attempt.as_bytes());
    packet.extend_from_slice(call.as_bytes());
    packet
}

fn describe(error: &SystemError) -> String {
    error.to_string().trim().to_owned()
}

fn decode(packet: &[u8]) -> EngineError {
    let parts = || {
        let (errno, rest) = packet.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        Some((i32::from_le_bytes(*errno), rest.split_at_checked(length)?))
    };
    let Some((errno, (attempt, call))) = parts() else {
        return EngineError::Died("after words that make no sense".to_owned());
    };
    let attempt = String::from_utf8_lossy(attempt).into_owned();
    if errno == 0 {
        return EngineError::Died(attempt);
    }
    let call = String::from_utf8_lossy(call).into_owned();
    EngineError::Inside {
        attempt,
        source: Refused { call, source: io::Error::from_raw_os_error(errno) },
    }
}

/// The longest beginning of a text that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(attempt: &str) -> EngineError {
        let source = SystemError::new("openat2", "\"/proc\"", io::Error::from_raw_os_error(2));
        EngineError::Attempt { attempt: attempt.to_owned(), source }
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (parent, child) = pair().unwrap();
        child.fail(&failure("mount \"/proc\""));
        let EngineError::Inside { attempt, source } = parent.hear().unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(
            (attempt.as_str(), source.call.as_str()),
            ("mount \"/proc\"", "openat2 \"/proc\"")
        );
        assert_eq!(source.source.raw_os_error(), Some(2));
    }

    #[test]
    fn what_became_of_a_hook_arrives_as_it_was_said() {
        let (parent, child) = pair().unwrap();
        child.pause().unwrap();
        child.fail(&EngineError::Hook("poststop hook \"/ü\" exited".to_owned()));
        assert!(matches!(parent.hear(), Ok(Heard::Paused)));
        let error = parent.hear().unwrap_err();
        assert_eq!(error.to_string(), "poststop hook \"/ü\" exited");
        child.fail(&EngineError::Hook("ü".repeat(100_000)));
        assert!(matches!(parent.hear(), Err(EngineError::Hook(_))));
    }

    #[test]
    fn a_failure_about_a_path_of_any_length_fits_into_a_packet() {
        let (parent, child) = pair().unwrap();
        child.fail(&failure(&"ü".repeat(100_000)));
        assert!(matches!(parent.hear(), Err(EngineError::Inside { .. })));
    }

    #[test]
    fn a_child_that_goes_away_is_heard_as_closed_and_a_parent_as_no_go() {
        let (parent, child) = pair().unwrap();
        drop(child);
        assert!(matches!(parent.hear(), Ok(Heard::Closed)));
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(!child.may_go());
    }

    #[test]
    fn words_of_any_bytes_are_an_error_and_no_panic() {
        for packet in [&b"F"[..], b"F\x01\0\0\0\xff\xff\xff\xffx", b"X", b"F\x02\0\0\0\x01\0\0\0"] {
            let (parent, child) = pair().unwrap();
            socket::send(child.as_fd(), packet, &[]).unwrap();
            assert!(parent.hear().is_err(), "{packet:?}");
        }
    }
}
