//! Descriptors that come with an order, and those that go with an answer.

use super::failure;
use crate::engine::Stdio;
use crate::stdio::lines;
use cringle_proto_shim::control::{Answer, Failure, FailureKind, Presence, Stream};
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// An answer and what goes with it.
#[derive(Debug)]
pub(super) struct Reply {
    /// The answer.
    pub(super) answer: Answer,
    /// The descriptors that it speaks of.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, descriptors: Vec::new() }
    }
}

/// Whether a descriptor is there, as an answer says it.
pub(super) fn presence(descriptor: Option<&OwnedFd>) -> Presence {
    if descriptor.is_some() { Presence::Present } else { Presence::Absent }
}

/// An exec's streams: a terminal if it asks for one, otherwise the passed descriptors; what was not passed is `/dev/null`.
pub(super) fn exec_stdio(
    process: &Process,
    streams: &[Stream],
    descriptors: Vec<OwnedFd>,
) -> Result<Stdio, Failure> {
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    for (stream, descriptor) in named(streams, descriptors)? {
        let place = match stream {
            Stream::Input => &mut stdin,
            Stream::Output => &mut stdout,
            Stream::Error => &mut stderr,
        };
        *place = Some(descriptor);
    }
    if process.terminal().unwrap_or(false) {
        return match streams {
            [] => Ok(Stdio::Terminal),
            [_, ..] => Err(failure(FailureKind::Malformed, "a terminal takes no other streams")),
        };
    }
    let stdout = stdout.map_or_else(null, Ok)?;
    let stderr = stderr.map_or_else(null, Ok)?;
    Ok(Stdio::Pipes { stdin, stdout, stderr })
}

/// The pipes of an attachment.
pub(super) fn attached(
    streams: &[Stream],
    descriptors: Vec<OwnedFd>,
) -> Result<Vec<(lines::Stream, OwnedFd)>, Failure> {
    let mut pipes = Vec::new();
    for (stream, descriptor) in named(streams, descriptors)? {
        let stream = match stream {
            Stream::Output => lines::Stream::Output,
            Stream::Error => lines::Stream::Error,
            Stream::Input => {
                return Err(failure(FailureKind::Malformed, "the input is not passed but given"));
            }
        };
        pipes.push((stream, descriptor));
    }
    Ok(pipes)
}

fn named(
    streams: &[Stream],
    descriptors: Vec<OwnedFd>,
) -> Result<impl Iterator<Item = (Stream, OwnedFd)>, Failure> {
    if streams.len() != descriptors.len() {
        return Err(failure(FailureKind::Malformed, "as many descriptors as streams are wanted"));
    }
    Ok(streams.iter().copied().zip(descriptors))
}

fn null() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| failure(FailureKind::Refused, &format!("failed to open /dev/null: {errno}")),
    )
}
