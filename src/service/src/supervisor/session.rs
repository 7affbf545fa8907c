//! Execs with streams and attachments: pipes made here, the shim's ends passed to it, and the connection that they live as
//! long as.

use super::control::{Control, raw};
use super::exec::exec_id;
use super::{ExecError, Shim, SupervisorError};
use crate::streams::{Streams, Wanted};
use cringle_proto_shim::control::{
    Answer, Detachment, ExecEnding, Order, Presence, Report, Stream, WantedInput,
};
use oci_spec::runtime::Process;
use rustix::pipe::PipeFlags;
use std::os::fd::{AsFd, OwnedFd};

/// What a pipe holds that an attachment is read from: room for a client that is slow for a moment.
const ATTACHED_PIPE: usize = 1 << 20;

/// A session as it was opened: our ends of its streams, and its link to the shim.
#[derive(Debug)]
pub struct Opened {
    /// The process' input.
    pub input: Option<OwnedFd>,
    /// Its output.
    pub output: Option<OwnedFd>,
    /// Its error output.
    pub error: Option<OwnedFd>,
    /// Its terminal.
    pub terminal: Option<OwnedFd>,
    /// What it lives as long as.
    pub link: Link,
}

/// The connection of one session.
#[derive(Debug)]
pub struct Link(Control);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// The container ended.
    ContainerEnded,
    /// The client was too slow.
    FellBehind,
}

impl Link {
    /// Waits for the session's end. May be dropped and called again: a report is taken whole or not at all.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn ended(&mut self) -> Result<End, SupervisorError> {
        loop {
            match self.0.report().await? {
                // A session's connection has one exec, which nobody gave a time.
                Report::ExecExited { ending: ExecEnding::Exited(ending), .. } => {
                    return Ok(End::Exited(super::end::outcome_of(ending).exit_code()));
                }
                Report::ExecExited { ending: ExecEnding::TimedOut, .. } => {
                    return Err(SupervisorError::Nonsense { order: "exec" });
                }
                Report::AttachmentEnded { why: Detachment::ContainerEnded } => {
                    return Ok(End::ContainerEnded);
                }
                Report::AttachmentEnded { why: Detachment::FellBehind } => {
                    return Ok(End::FellBehind);
                }
                Report::State(_) | Report::Exited(_) | Report::OutOfMemory { .. } => {}
            }
        }
    }
}

/// Executes a process on streams; `process` says whether it has a terminal.
pub(super) async fn open_exec(
    shim: &Shim,
    process: &Process,
    streams: Streams,
) -> Result<Opened, ExecError> {
    let on_terminal = process.terminal().unwrap_or(false);
    let terminal = if on_terminal { Presence::Present } else { Presence::Absent };
    let (mut passed, mut ours) = (Passed::default(), Ours::default());
    if terminal == Presence::Absent {
        ours.input = passed.readable(Stream::Input, streams.input)?;
        ours.output = passed.writable(Stream::Output, streams.output)?;
        ours.error = passed.writable(Stream::Error, streams.error)?;
    }
    let order = Order::Exec {
        id: exec_id(),
        process: raw(process)?,
        timeout_milliseconds: None,
        streams: passed.names.clone(),
    };
    let mut control = Control::connect(&shim.bundle)?;
    let (answer, descriptors) = passed.ask((shim, &mut control), order, "exec").await?;
    if let Some(master) = terminal_of(&answer, descriptors, terminal)? {
        ours.take_terminal(master, streams.input)?;
        ours.output = ours.terminal.as_ref().map(copy).transpose()?;
    }
    Ok(ours.opened(control))
}

/// The master of the terminal that an exec got, if it was to get one.
fn terminal_of(
    answer: &Answer,
    descriptors: Vec<OwnedFd>,
    wanted: Presence,
) -> Result<Option<OwnedFd>, SupervisorError> {
    let presence = match answer {
        Answer::Started { terminal, .. } => *terminal,
        Answer::Hello { .. } | Answer::Done | Answer::State(_) | Answer::Attached { .. } => {
            return Err(SupervisorError::Nonsense { order: "exec" });
        }
    };
    match (wanted, presence, descriptors.into_iter().next()) {
        (Presence::Absent, Presence::Absent, None) => Ok(None),
        (Presence::Present, Presence::Present, Some(master)) => Ok(Some(master)),
        (Presence::Absent | Presence::Present, _, _) => {
            Err(SupervisorError::Nonsense { order: "exec" })
        }
    }
}

/// Attaches to the container's first process.
pub(super) async fn attach(
    shim: &Shim,
    streams: Streams,
    input: WantedInput,
) -> Result<Opened, SupervisorError> {
    let (mut passed, mut ours) = (Passed::default(), Ours::default());
    ours.output = passed.writable(Stream::Output, streams.output)?;
    ours.error = passed.writable(Stream::Error, streams.error)?;
    for pipe in [&ours.output, &ours.error].into_iter().flatten() {
        // Without it the pipe is only smaller.
        let _unprivileged = rustix::pipe::fcntl_setpipe_size(pipe, ATTACHED_PIPE);
    }
    let order = Order::Attach { streams: passed.names.clone(), input };
    let mut control = Control::connect(&shim.bundle)?;
    let (answer, descriptors) = passed.ask((shim, &mut control), order, "attach").await?;
    let mut descriptors = descriptors.into_iter();
    let mut next = |presence| match presence {
        Presence::Absent => Ok(None),
        Presence::Present => match descriptors.next() {
            Some(descriptor) => Ok(Some(descriptor)),
            None => Err(SupervisorError::Nonsense { order: "attach" }),
        },
    };
    match answer {
        Answer::Attached { input, terminal } => {
            ours.input = next(input)?;
            ours.terminal = next(terminal)?;
        }
        Answer::Hello { .. } | Answer::Done | Answer::State(_) | Answer::Started { .. } => {
            return Err(SupervisorError::Nonsense { order: "attach" });
        }
    }
    for descriptor in [&ours.input, &ours.terminal].into_iter().flatten() {
        without_waiting(descriptor)?;
    }
    Ok(ours.opened(control))
}

/// The ends that the shim gets.
#[derive(Default)]
struct Passed {
    names: Vec<Stream>,
    descriptors: Vec<OwnedFd>,
}

/// The ends that stay.
#[derive(Default)]
struct Ours {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Passed {
    /// A pipe that the process reads, if it is wanted; gives our end.
    fn readable(
        &mut self,
        stream: Stream,
        wanted: Wanted,
    ) -> Result<Option<OwnedFd>, SupervisorError> {
        let Some((reader, writer)) = pipe(wanted)? else { return Ok(None) };
        self.pass(stream, reader);
        without_waiting(&writer)?;
        Ok(Some(writer))
    }

    /// A pipe that the process writes, if it is wanted; gives our end.
    fn writable(
        &mut self,
        stream: Stream,
        wanted: Wanted,
    ) -> Result<Option<OwnedFd>, SupervisorError> {
        let Some((reader, writer)) = pipe(wanted)? else { return Ok(None) };
        self.pass(stream, writer);
        without_waiting(&reader)?;
        Ok(Some(reader))
    }

    fn pass(&mut self, stream: Stream, descriptor: OwnedFd) {
        self.names.push(stream);
        self.descriptors.push(descriptor);
    }

    /// Gives the order with the descriptors, and lets go of them.
    async fn ask(
        self,
        (shim, control): (&Shim, &mut Control),
        order: Order,
        name: &'static str,
    ) -> Result<(Answer, Vec<OwnedFd>), SupervisorError> {
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        shim.pulse.wait_for(name, control.ask_with(order, &descriptors)).await
    }
}

impl Ours {
    fn take_terminal(&mut self, master: OwnedFd, input: Wanted) -> Result<(), SupervisorError> {
        without_waiting(&master)?;
        if input == Wanted::Yes {
            self.input = Some(copy(&master)?);
        }
        self.terminal = Some(master);
        Ok(())
    }

    fn opened(self, control: Control) -> Opened {
        let Self { input, output, error, terminal } = self;
        Opened { input, output, error, terminal, link: Link(control) }
    }
}

fn pipe(wanted: Wanted) -> Result<Option<(OwnedFd, OwnedFd)>, SupervisorError> {
    match wanted {
        Wanted::No => Ok(None),
        Wanted::Yes => rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map(Some)
            .map_err(|errno| SupervisorError::Streams(errno.into())),
    }
}

fn copy(descriptor: &OwnedFd) -> Result<OwnedFd, SupervisorError> {
    descriptor.try_clone().map_err(SupervisorError::Streams)
}

fn without_waiting(descriptor: &OwnedFd) -> Result<(), SupervisorError> {
    rustix::io::ioctl_fionbio(descriptor, true)
        .map_err(|errno| SupervisorError::Streams(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_taken_for_an_execs_beginning() {
        use Presence::{Absent, Present};
        let started = |terminal| Answer::Started { pid: 7, terminal };
        for (answer, descriptors, wanted, taken) in [
            (started(Absent), 0, Absent, Some(0)),
            (started(Present), 1, Present, Some(1)),
            (started(Present), 0, Present, None),
            (started(Absent), 0, Present, None),
            (started(Absent), 1, Absent, None),
            (started(Present), 1, Absent, None),
            (Answer::Done, 0, Absent, None),
            (Answer::Hello { version: 1, pid: 7 }, 0, Absent, None),
            (Answer::Attached { input: Absent, terminal: Present }, 1, Present, None),
        ] {
            let passed = (0..descriptors).map(|_| std::fs::File::open("/dev/null").unwrap().into());
            let found = terminal_of(&answer, passed.collect(), wanted);
            let found = found.ok().map(|terminal| usize::from(terminal.is_some()));
            assert_eq!(found, taken, "{answer:?} with {descriptors}, wanted: {wanted:?}");
        }
    }
}
