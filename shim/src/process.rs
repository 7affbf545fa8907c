//! The life of a container's first process, as a pure function of what happens.
//!
//! ```text
//!  Empty --Created--> Created --Released--> Running --Ended--> Exited
//!                        |                                       ^
//!                        +------- StartFailed | Ended -----------+
//! ```
//! Events go in, [`Action`]s come out; the caller performs them in order. Invariants: the first exit is kept; a signal to
//! stop is sent once; of several deadlines the earliest counts.

use cringle_proto_shim::control::{FailureKind, Phase as ReportedPhase};
use cringle_proto_shim::record::{Ending, ExitRecord, VERSION};
use std::time::Instant;

/// Where the process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is none yet.
    Empty,
    /// It was cloned and waits at the gate.
    Created {
        /// Process id.
        pid: i32,
        /// Whether we have killed it.
        killed: Killed,
    },
    /// It runs the container's program.
    Running {
        /// Process id.
        pid: i32,
        /// The order to stop, once there is one.
        stop: Option<StopOrder>,
        /// Whether we have killed it.
        killed: Killed,
    },
    /// It ended, and the record of that is on its way to the disk or there.
    Exited(ExitRecord),
}

/// An order to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// When it is killed.
    pub deadline: Instant,
}

/// Whether SIGKILL came from us: then it was not the kernel's, for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// We sent none.
    NotByUs,
    /// We sent one.
    ByUs,
}

/// How the kernel says a process ended (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitStatus {
    /// It exited with this status.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The engine cloned it.
    Created {
        /// Process id.
        pid: i32,
    },
    /// The engine let it execute the program.
    Released,
    /// The engine could not; the process is gone and reaped.
    StartFailed {
        /// Why.
        reason: String,
        /// When, in nanoseconds since the epoch.
        at: u64,
    },
    /// Somebody wants it to end.
    StopOrdered {
        /// The signal to ask with.
        signal: u8,
        /// When to kill.
        deadline: Instant,
    },
    /// Somebody sends a signal that is no order to stop.
    SignalSent {
        /// Its number.
        signal: u8,
    },
    /// A timer rang.
    TimeIs(Instant),
    /// The kernel says that it ended.
    Ended {
        /// How.
        status: WaitStatus,
        /// How many processes of the container the kernel has killed for lack of memory.
        memory_kills: u64,
        /// When, in nanoseconds since the epoch.
        at: u64,
    },
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this signal to the first process.
    Signal(u8),
    /// Say [`Event::TimeIs`] at this time.
    ArmTimer(Instant),
    /// Kill every process of the container.
    KillAll,
    /// Write the exit record, and when it is written, report it.
    RecordExit(ExitRecord),
}

/// An event that this phase of life does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct OutOfOrder {
    /// Its kind for the other side.
    pub kind: FailureKind,
    text: &'static str,
}

impl Life {
    /// Takes an event and says what is to be done.
    ///
    /// # Errors
    /// The event does not fit; nothing has changed then.
    pub(crate) fn apply(&mut self, event: Event) -> Result<Vec<Action>, OutOfOrder> {
        match event {
            Event::Created { pid } => self.created(pid),
            Event::Released => self.released(),
            Event::StartFailed { reason, at } => self.start_failed(reason, at),
            Event::StopOrdered { signal, deadline } => self.stop_ordered(signal, deadline),
            Event::SignalSent { signal } => self.signal_sent(signal),
            Event::TimeIs(now) => Ok(self.time_is(now)),
            Event::Ended { status, memory_kills, at } => self.ended(status, memory_kills, at),
        }
    }

    /// The same in the words of the control socket.
    pub(crate) fn phase(&self) -> ReportedPhase {
        match self {
            Self::Empty => ReportedPhase::Empty,
            Self::Created { pid, .. } => ReportedPhase::Created { pid: *pid },
            Self::Running { pid, .. } => ReportedPhase::Running { pid: *pid },
            Self::Exited(record) => ReportedPhase::Exited(record.clone()),
        }
    }

    /// The process id, while there is or was one.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Empty => None,
            Self::Created { pid, .. } | Self::Running { pid, .. } => Some(*pid),
            Self::Exited(record) => record.pid,
        }
    }

    fn created(&mut self, pid: i32) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Empty => {
                *self = Self::Created { pid, killed: Killed::NotByUs };
                Ok(Vec::new())
            }
            Self::Created { .. } | Self::Running { .. } | Self::Exited(_) => {
                Err(refused("the container was created before"))
            }
        }
    }

    fn released(&mut self) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Created { pid, killed } => {
                *self = Self::Running { pid: *pid, stop: None, killed: *killed };
                Ok(Vec::new())
            }
            Self::Empty => Err(refused("the container was not created")),
            Self::Running { .. } => Err(refused("the container runs already")),
            Self::Exited(_) => Err(refused("the container has exited")),
        }
    }

    fn start_failed(&mut self, reason: String, at: u64) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Created { pid, .. } => {
                let pid = Some(*pid);
                Ok(vec![self.exit(pid, Ending::NeverStarted(reason), at)])
            }
            Self::Empty | Self::Running { .. } | Self::Exited(_) => {
                Err(refused("the container is not being started"))
            }
        }
    }

    fn stop_ordered(&mut self, signal: u8, deadline: Instant) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Empty => Err(refused("the container was not created")),
            // Its program never ran, so there is no one to ask.
            Self::Created { killed, .. } => {
                *killed = Killed::ByUs;
                Ok(vec![Action::KillAll])
            }
            Self::Running { stop: Some(order), .. } => {
                if deadline >= order.deadline {
                    return Ok(Vec::new());
                }
                order.deadline = deadline;
                Ok(vec![Action::ArmTimer(deadline)])
            }
            Self::Running { stop, .. } => {
                *stop = Some(StopOrder { deadline });
                Ok(vec![Action::Signal(signal), Action::ArmTimer(deadline)])
            }
            Self::Exited(_) => Ok(Vec::new()),
        }
    }

    fn signal_sent(&mut self, signal: u8) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Created { killed, .. } | Self::Running { killed, .. } => {
                if signal == KILL {
                    *killed = Killed::ByUs;
                }
                Ok(vec![Action::Signal(signal)])
            }
            Self::Empty => Err(refused("the container was not created")),
            Self::Exited(_) => Err(OutOfOrder {
                kind: FailureKind::NotFound,
                text: "the container's process has ended",
            }),
        }
    }

    fn time_is(&mut self, now: Instant) -> Vec<Action> {
        match self {
            Self::Running { stop: Some(order), killed, .. } if order.deadline <= now => {
                *killed = Killed::ByUs;
                vec![Action::KillAll]
            }
            Self::Empty | Self::Created { .. } | Self::Running { .. } | Self::Exited(_) => {
                Vec::new()
            }
        }
    }

    fn ended(
        &mut self,
        status: WaitStatus,
        memory_kills: u64,
        at: u64,
    ) -> Result<Vec<Action>, OutOfOrder> {
        match self {
            Self::Empty => Err(refused("there is no process that could have ended")),
            Self::Created { pid, .. } => {
                let pid = Some(*pid);
                let reason = "its process ended before it was started".to_owned();
                Ok(vec![self.exit(pid, Ending::NeverStarted(reason), at)])
            }
            Self::Running { pid, killed, .. } => {
                let (pid, ending) = (Some(*pid), ending(status, memory_kills, *killed));
                Ok(vec![self.exit(pid, ending, at)])
            }
            Self::Exited(_) => Ok(Vec::new()),
        }
    }

    fn exit(&mut self, pid: Option<i32>, ending: Ending, at_nanoseconds: u64) -> Action {
        let record = ExitRecord { version: VERSION, ending, at_nanoseconds, pid };
        *self = Self::Exited(record.clone());
        Action::RecordExit(record)
    }
}

const KILL: u8 = 9;
/// What a shell exits with if its child was killed.
const CHILD_KILLED: u8 = 128 + KILL;

/// The verdict: what the status means if the kernel killed so many processes of the container for lack of memory.
pub(crate) fn ending(status: WaitStatus, memory_kills: u64, killed: Killed) -> Ending {
    let lack_of_memory = memory_kills > 0 && killed == Killed::NotByUs;
    match status {
        WaitStatus::Signal(KILL) | WaitStatus::Code(CHILD_KILLED) if lack_of_memory => {
            Ending::OutOfMemory
        }
        WaitStatus::Code(code) => Ending::Code(code),
        WaitStatus::Signal(signal) => Ending::Signal(signal),
    }
}

fn refused(text: &'static str) -> OutOfOrder {
    OutOfOrder { kind: FailureKind::WrongState, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn running() -> Life {
        let mut life = Life::Empty;
        assert_eq!(life.apply(Event::Created { pid: 7 }), Ok(vec![]));
        assert_eq!(life.apply(Event::Released), Ok(vec![]));
        life
    }

    fn ended(life: &mut Life, status: WaitStatus, memory_kills: u64) -> Ending {
        let actions = life.apply(Event::Ended { status, memory_kills, at: 1 }).unwrap();
        match actions.as_slice() {
            [Action::RecordExit(record)] => record.ending.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_exit_is_kept() {
        let mut life = running();
        assert_eq!(ended(&mut life, WaitStatus::Code(3), 0), Ending::Code(3));
        let again = Event::Ended { status: WaitStatus::Code(4), memory_kills: 0, at: 2 };
        assert_eq!(life.apply(again), Ok(vec![]));
        assert!(
            matches!(life.phase(), ReportedPhase::Exited(record) if record.at_nanoseconds == 1)
        );
    }

    #[test]
    fn a_second_stop_can_only_bring_the_deadline_forward_and_signals_no_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut life = running();
        let stop = |seconds| Event::StopOrdered { signal: 15, deadline: at(seconds) };
        let first = vec![Action::Signal(15), Action::ArmTimer(at(10))];
        assert_eq!(life.apply(stop(10)), Ok(first));
        assert_eq!(life.apply(stop(20)), Ok(vec![]));
        assert_eq!(life.apply(stop(5)), Ok(vec![Action::ArmTimer(at(5))]));
        assert_eq!(life.apply(Event::TimeIs(at(4))), Ok(vec![]));
        assert_eq!(life.apply(Event::TimeIs(at(5))), Ok(vec![Action::KillAll]));
    }

    #[test]
    fn a_timer_without_an_order_kills_nobody() {
        assert_eq!(running().apply(Event::TimeIs(Instant::now())), Ok(vec![]));
    }

    #[test]
    fn what_never_ran_is_stopped_by_a_kill() {
        let mut life = Life::Empty;
        life.apply(Event::StopOrdered { signal: 15, deadline: Instant::now() }).unwrap_err();
        assert_eq!(life.apply(Event::Created { pid: 7 }), Ok(vec![]));
        let stop = Event::StopOrdered { signal: 15, deadline: Instant::now() };
        assert_eq!(life.apply(stop), Ok(vec![Action::KillAll]));
        let ending = ended(&mut life, WaitStatus::Signal(9), 0);
        assert!(matches!(ending, Ending::NeverStarted(_)), "{ending:?}");
    }

    #[test]
    fn a_failed_start_is_an_exit_with_its_reason() {
        let mut life = Life::Empty;
        assert_eq!(life.apply(Event::Created { pid: 7 }), Ok(vec![]));
        let failed = Event::StartFailed { reason: "no such program".to_owned(), at: 5 };
        assert!(matches!(life.apply(failed).unwrap().as_slice(), [Action::RecordExit(_)]));
        life.apply(Event::Released).unwrap_err();
    }

    #[test]
    fn lack_of_memory_is_the_verdict_for_a_kill_that_was_not_ours() {
        use Killed::{ByUs, NotByUs};
        let cases = [
            (WaitStatus::Signal(9), 1, NotByUs, Ending::OutOfMemory),
            (WaitStatus::Code(137), 2, NotByUs, Ending::OutOfMemory),
            (WaitStatus::Signal(9), 0, NotByUs, Ending::Signal(9)),
            (WaitStatus::Signal(9), 1, ByUs, Ending::Signal(9)),
            (WaitStatus::Code(137), 0, NotByUs, Ending::Code(137)),
            (WaitStatus::Code(1), 1, NotByUs, Ending::Code(1)),
            (WaitStatus::Signal(15), 1, NotByUs, Ending::Signal(15)),
        ];
        for (status, kills, killed, expected) in cases {
            assert_eq!(ending(status, kills, killed), expected, "{status:?} {kills} {killed:?}");
        }
    }

    #[test]
    fn a_signal_after_the_end_finds_nobody() {
        let mut life = running();
        ended(&mut life, WaitStatus::Code(0), 0);
        let error = life.apply(Event::SignalSent { signal: 15 }).unwrap_err();
        assert_eq!(error.kind, FailureKind::NotFound);
    }
}
