//! Running streams: a program executed in a container, or an attachment to one, with the descriptors that its bytes travel on.
//!
//! The bytes never pass through the shim or through this crate: what a [`Session`] holds are the ends of the process' own
//! pipes, or the master of its terminal. All of them answer EAGAIN instead of waiting.

use crate::ServiceError;
use crate::supervisor::{End, Link, Opened};
use cringle_domain::id::ContainerId;
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::Terminal;
use std::os::fd::OwnedFd;

pub use cringle_kernel::terminal::Size;

/// A program to execute with streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Which streams the client has.
    pub streams: Streams,
    /// Whether the program gets a terminal.
    pub terminal: Terminal,
}

/// A container to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachRequest {
    /// Which streams the client has.
    pub streams: Streams,
    /// Whether the client thinks that the container has a terminal.
    pub terminal: Terminal,
}

/// Which of a process' streams somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// To write its input.
    pub input: Wanted,
    /// To read its output.
    pub output: Wanted,
    /// To read its error output.
    pub error: Wanted,
}

/// Whether something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is not.
    No,
    /// It is.
    Yes,
}

/// One running exec or one attachment. Dropped, an exec is killed with all its offspring; an attachment just ends.
#[derive(Debug)]
pub struct Session {
    /// The process' input is written here. Letting go of it is the end of the input; not so with a terminal, and not so for
    /// an attachment to a container whose input stays open. Absent if it was not wanted or the container has none, or its
    /// only attachment with input was another one.
    pub input: Option<OwnedFd>,
    /// The process' output is read here. With a terminal an exec has it whether wanted or not, for somebody must read it;
    /// EIO is its end then.
    pub output: Option<OwnedFd>,
    /// The process' error output is read here; absent with a terminal.
    pub error: Option<OwnedFd>,
    /// The process' terminal, for its size.
    pub terminal: Option<OwnedFd>,
    container: ContainerId,
    link: Link,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The program ended.
    Exited {
        /// Its exit code; 128 and the signal's number if one ended it.
        code: i32,
    },
    /// The container that was attached to ended; all that it said is in the pipes.
    ContainerEnded,
    /// The client read too slowly for the container and was left behind; what it got has no gaps.
    FellBehind,
}

impl Session {
    pub(crate) fn new(container: ContainerId, opened: Opened) -> Self {
        let Opened { input, output, error, terminal, link } = opened;
        Self { input, output, error, terminal, container, link }
    }

    /// Waits for the end. What was said before it may still be in the pipes, and a program's offspring may have them open
    /// for longer. May be dropped and called again.
    ///
    /// # Errors
    /// If the shim is gone.
    pub async fn ended(&mut self) -> Result<SessionEnd, ServiceError> {
        match self.link.ended().await {
            Ok(End::Exited(code)) => Ok(SessionEnd::Exited { code }),
            Ok(End::ContainerEnded) => Ok(SessionEnd::ContainerEnded),
            Ok(End::FellBehind) => Ok(SessionEnd::FellBehind),
            Err(source) => {
                Err(ServiceError::Supervisor { container: self.container.to_string(), source })
            }
        }
    }

    /// Sets the size of the terminal. Without a terminal, and of a size without lines or columns, it does nothing.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, size: Size) -> Result<(), ServiceError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        if size.rows == 0 || size.columns == 0 {
            return Ok(());
        }
        cringle_kernel::terminal::resize(terminal, size)
            .map_err(|source| ServiceError::kernel("resize a terminal", source))
    }
}

impl Streams {
    /// Makes sure that streams and terminal go together.
    ///
    /// # Errors
    /// Without any stream, or with a terminal and an error output of its own.
    pub(crate) fn check(self, terminal: Terminal) -> Result<(), Refusal> {
        if [self.input, self.output, self.error].iter().all(|wanted| *wanted == Wanted::No) {
            return Err(Refusal::invalid("stdin, stdout, stderr", "one of them must be true"));
        }
        if terminal == Terminal::Present && self.error == Wanted::Yes {
            return Err(Refusal::invalid("stderr", "must be false with a tty, which has none"));
        }
        Ok(())
    }
}

impl From<bool> for Wanted {
    fn from(wanted: bool) -> Self {
        if wanted { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_do_not_go_together_are_refused() {
        let streams = |input: bool, output: bool, error: bool| Streams {
            input: input.into(),
            output: output.into(),
            error: error.into(),
        };
        for (wanted, terminal, legal) in [
            (streams(false, false, false), Terminal::Absent, false),
            (streams(false, false, false), Terminal::Present, false),
            (streams(true, true, true), Terminal::Absent, true),
            (streams(false, false, true), Terminal::Absent, true),
            (streams(true, true, true), Terminal::Present, false),
            (streams(true, true, false), Terminal::Present, true),
            (streams(true, false, false), Terminal::Present, true),
        ] {
            assert_eq!(wanted.check(terminal).is_ok(), legal, "{wanted:?} {terminal:?}");
        }
    }
}
