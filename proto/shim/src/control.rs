//! The control socket: SOCK_SEQPACKET, one JSON message per packet, descriptors beside it (unix(7), SCM_RIGHTS).
//!
//! The client's first packet is [`Order::Hello`]. Every request gets exactly one [`Message::Answer`] with its number, but for
//! one that is numbered [`UNANSWERED`], which is answered only if it is refused; reports come unasked after [`Order::Subscribe`], after [`Order::Exec`] for that exec, and after [`Order::Attach`] for that
//! attachment. A client may send the next request before it has the answer to the last. An exec and an attachment live as
//! long as the connection that ordered them: the exec is killed then, the attachment's streams are let go of.

use crate::record::{Ending, ExitRecord};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Version of these messages; raised when an old peer would misread a new one.
pub const VERSION: u32 = 1;
/// The number of a request whose client wants to hear of it only if it is refused.
pub const UNANSWERED: u64 = 0;
/// Largest packet either side sends or accepts.
pub const MAXIMUM_PACKET: usize = 1 << 20;

/// One packet from client to shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, echoed in the answer; or [`UNANSWERED`].
    pub number: u64,
    /// What to do.
    pub order: Order,
}

/// What a client can order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first message on a connection. Answer: [`Answer::Hello`].
    Hello {
        /// The client's [`VERSION`].
        version: u32,
    },
    /// Answer: [`Answer::State`].
    State,
    /// Sends `signal` and, when the deadline has passed, kills. Of several stops the earliest deadline counts and only the
    /// first signal is sent. Answered at once; the end comes as a report.
    Stop {
        /// Signal number.
        signal: u8,
        /// Milliseconds from now until the kill.
        grace_milliseconds: u64,
    },
    /// Opens the log's path anew. When the answer is there, so is the file.
    ReopenLog,
    /// Starts a process in the container. The packet carries the descriptors that `streams` names, in that order. A process
    /// that asks for a terminal takes none: the terminal's master comes back with the answer, and the shim keeps no copy.
    /// Answer: [`Answer::Started`], then the report [`Report::ExecExited`].
    Exec {
        /// Unique among the execs of this container.
        id: String,
        /// The process as in an OCI runtime specification.
        process: Box<RawValue>,
        /// After so many milliseconds the process and its offspring are killed; absent: never.
        timeout_milliseconds: Option<u64>,
        /// What the passed descriptors are.
        streams: Vec<Stream>,
    },
    /// Copies what the container says from now on to the pipes that the packet carries, as `streams` names them in that
    /// order: output and error, or with a terminal output alone. A pipe that stays full for too long ends the attachment.
    /// Answer: [`Answer::Attached`], then the report [`Report::AttachmentEnded`].
    Attach {
        /// What the passed descriptors are.
        streams: Vec<Stream>,
        /// Whether the container's input is wanted too.
        input: WantedInput,
    },
    /// Sends a signal.
    Signal {
        /// To whom.
        target: Target,
        /// Signal number.
        signal: u8,
    },
    /// Changes limits; the content is OCI's `linux.resources`.
    Update {
        /// The resources as JSON.
        resources: Box<RawValue>,
    },
    /// From now on reports are sent on this connection; the first is [`Report::State`].
    Subscribe,
    /// The exit is recorded elsewhere; the shim may forget its record.
    AcknowledgeExit,
}

/// A standard stream whose descriptor is passed along; a stream that is not passed is `/dev/null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// The read end of the process' input.
    Input,
    /// The write end of its output.
    Output,
    /// The write end of its error output.
    Error,
}

/// How an attachment wants the container's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedInput {
    /// Not at all.
    Unwanted,
    /// A copy of the descriptor: the input stays open when the attachment ends.
    Shared,
    /// The only descriptor there is: when the client lets go of it, the input ends for ever. Of a terminal it is a copy all
    /// the same.
    Whole,
}

/// Whether a packet carries a certain descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
}

/// Who is signalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
    /// The process of that exec.
    Exec(String),
}

/// One packet from shim to client.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The answer to one request.
    Answer {
        /// The request's number.
        number: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// Something that happened.
    Report(Report),
}

/// What an order gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Order::Hello`].
    Hello {
        /// The shim's [`VERSION`].
        version: u32,
        /// The shim's own process id.
        pid: i32,
    },
    /// Done; there is nothing more to say.
    Done,
    /// To [`Order::State`].
    State(State),
    /// To [`Order::Exec`].
    Started {
        /// Process id, in the shim's PID namespace.
        pid: i32,
        /// The master of its terminal.
        #[serde(default)]
        terminal: Presence,
    },
    /// To [`Order::Attach`]. The descriptors come in the order of the fields.
    Attached {
        /// Where the container's input is written to. Absent if it was not wanted, the container has none, or somebody
        /// else has or had the whole of it.
        input: Presence,
        /// The master of the container's terminal, for its size.
        terminal: Presence,
    },
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind, for code.
    pub kind: FailureKind,
    /// The whole chain of causes, for people.
    pub text: String,
}

/// Kinds of failure that a client tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The message makes no sense.
    Malformed,
    /// The peer speaks another version.
    Version,
    /// The container or process is not in a state for this.
    WrongState,
    /// There is no such process.
    NotFound,
    /// It was tried, and the kernel or the container's files refused.
    Refused,
}

/// What is so in the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where the container is in its life.
    pub phase: Phase,
    /// What is wrong with the log, if its file could not be opened or written.
    pub log_fault: Option<String>,
}

/// A container's life as the shim sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing was created yet.
    Empty,
    /// The first process waits to be released.
    Created {
        /// Process id.
        pid: i32,
    },
    /// It runs.
    Running {
        /// Process id.
        pid: i32,
    },
    /// It ended.
    Exited(ExitRecord),
}

/// What a shim tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The state at the time of subscription.
    State(State),
    /// The container ended; the exit record is on disk.
    Exited(ExitRecord),
    /// An exec ended.
    ExecExited {
        /// The exec's id.
        id: String,
        /// How.
        ending: ExecEnding,
    },
    /// The connection's attachment ended; its pipes are closed.
    AttachmentEnded {
        /// Why.
        why: Detachment,
    },
    /// The kernel killed a process of the container for lack of memory.
    OutOfMemory {
        /// How many it has killed so far.
        kills: u64,
    },
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEnding {
    /// By itself.
    Exited(Ending),
    /// Its time was up and it was killed with all its offspring.
    TimedOut,
}

/// Why an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detachment {
    /// The container ended, and all that it said was passed on.
    ContainerEnded,
    /// The client did not read fast enough; what follows was not passed on.
    FellBehind,
}
