//! Processes executed in the container beside its first.
//!
//! The Task service adds one and starts it later; the control socket does both at once and passes the descriptors. An exec
//! is not recorded on disk: it dies with its container or its shim. When its time is up, it is killed with all its
//! offspring: what is in its group, or where there are no groups, what leads back to it as parent or belongs to its session.

mod group;

use crate::container::{KILL, Shim, ShimError, send};
use crate::engine::{Child, Running, Stdio};
use crate::exec::group::{Group, LeftOver};
use crate::process::{Killed, WaitStatus, ending};
use crate::stdio::pump::Pump;
use crate::stdio::{Ends, Names};
use crate::{chain, locked, note};
use cringle_kernel::proc;
use cringle_kernel::terminal::Size;
use cringle_proto_shim::control::ExecEnding;
use cringle_proto_shim::record::Ending;
use oci_spec::runtime::Process;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use tokio::sync::watch;

/// All execs of the container, by id.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    known: Mutex<HashMap<String, Exec>>,
    left_over: Mutex<LeftOver>,
}

#[derive(Debug)]
struct Exec {
    names: Option<Names>,
    life: Life,
    streams: Ends,
    pump: Pump,
    ended: watch::Sender<Option<ExecExit>>,
}

#[derive(Debug)]
enum Life {
    /// Known, not started.
    Added(Box<Process>),
    /// Started.
    Running { child: Child, group: Option<Group>, why_killed: Option<Why> },
    /// Ended.
    Exited { pid: i32 },
}

/// Why an exec is killed with its offspring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its time is up.
    TimeIsUp,
    /// Nobody wants its result any more.
    Abandoned,
}

/// The end of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecExit {
    /// How it ended.
    pub ending: ExecEnding,
    /// When, in nanoseconds since the epoch.
    pub at: u64,
    /// Process id it had.
    pub pid: i32,
}

/// An exec just started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process id.
    pub pid: i32,
    /// A copy of its terminal's master, if it has one.
    pub terminal: Option<OwnedFd>,
    /// Where its end will be told.
    pub exit: watch::Receiver<Option<ExecExit>>,
}

/// What the Task service tells of an exec.
#[derive(Debug, Clone)]
pub(crate) struct ShownExec {
    /// Process id; absent before the start.
    pub pid: Option<i32>,
    /// Its end.
    pub exit: Option<ExecExit>,
    /// Its streams.
    pub names: Option<Names>,
}

type Result<T> = std::result::Result<T, ShimError>;

impl Execs {
    /// Makes an exec known, to be started later.
    ///
    /// # Errors
    /// There is one of this id.
    pub(crate) fn add(&self, id: &str, process: Process, names: Names) -> Result<()> {
        let mut execs = locked(&self.known);
        if execs.contains_key(id) {
            return Err(ShimError::DuplicateProcess(id.to_owned()));
        }
        let exec = Exec {
            names: Some(names),
            life: Life::Added(Box::new(process)),
            streams: Ends::default(),
            pump: Pump::default(),
            ended: watch::Sender::new(None),
        };
        execs.insert(id.to_owned(), exec);
        Ok(())
    }

    /// Starts what [`Self::add`] made known. Gives its process id.
    ///
    /// # Errors
    /// Why it could not be executed.
    pub(crate) fn start(&self, id: &str, running: &Running) -> Result<i32> {
        let mut execs = locked(&self.known);
        let exec = find(&mut execs, id)?;
        let (Life::Added(process), Some(names)) = (&exec.life, &exec.names) else {
            return Err(ShimError::DuplicateProcess(id.to_owned()));
        };
        let streams = crate::stdio::open(names)?;
        let (child, group) = self.execute(running, process, streams.theirs)?;
        let pid = child.pid;
        exec.streams = streams.ours;
        let pump = exec.streams.start(child.master.as_ref());
        exec.life = Life::Running { child, group, why_killed: None };
        exec.pump = pump.map_err(ShimError::WatchStreams)?;
        Ok(pid)
    }

    /// Adds and starts at once, with descriptors that the caller has. The exec is forgotten by [`Self::forget`].
    ///
    /// Of a terminal the caller gets a copy of the master, and one is kept here for as long as the process runs: a daemon
    /// that dies takes its own along, and the hang-up would end the process before the end of the connection could have the
    /// whole tree killed.
    ///
    /// # Errors
    /// Why it could not be executed.
    pub(crate) fn run(
        &self,
        id: &str,
        running: &Running,
        process: &Process,
        stdio: Stdio,
    ) -> Result<Started> {
        let mut execs = locked(&self.known);
        if execs.contains_key(id) {
            return Err(ShimError::DuplicateProcess(id.to_owned()));
        }
        let (child, group) = self.execute(running, process, stdio)?;
        let pid = child.pid;
        let terminal = match child.master.as_ref().map(OwnedFd::try_clone).transpose() {
            Ok(terminal) => terminal,
            Err(source) => {
                self.give_up(&child, group);
                return Err(ShimError::WatchStreams(source));
            }
        };
        let (ended, exit) = watch::channel(None);
        let exec = Exec {
            names: None,
            life: Life::Running { child, group, why_killed: None },
            streams: Ends::default(),
            pump: Pump::default(),
            ended,
        };
        execs.insert(id.to_owned(), exec);
        Ok(Started { pid, terminal, exit })
    }

    /// Sends a signal to the exec's process.
    ///
    /// # Errors
    /// It does not run, or the kernel refuses.
    pub(crate) fn signal(&self, id: &str, signal: u8) -> Result<()> {
        let mut execs = locked(&self.known);
        match &find(&mut execs, id)?.life {
            Life::Running { child, .. } => send(child.pidfd.as_fd(), signal),
            Life::Added(_) => Err(ShimError::NotRunning),
            Life::Exited { .. } => Err(ShimError::NoSuchProcess(id.to_owned())),
        }
    }

    /// Kills the exec and its offspring. One that has ended is left in peace; its offspring was killed with it or is its
    /// own master.
    pub(crate) fn kill_tree(&self, id: &str, why: Why, shim: &Shim) {
        let Some(pid) = self.condemn(id, why) else { return };
        if self.kill_group(id) {
            return;
        }
        let killed = shim.running().and_then(|running| kill_offspring(&running, pid));
        if let Err(error) = killed {
            note(&format!("failed to kill exec {id:?}: {}", chain(&error)));
        }
    }

    /// The kernel says that a child has ended; it may be one of these.
    pub(crate) fn ended(&self, pid: i32, status: WaitStatus, at: u64) {
        let mut execs = locked(&self.known);
        let ours = execs.values_mut().find(|exec| exec.running_pid() == Some(pid));
        let Some(exec) = ours else { return };
        let why = match &exec.life {
            Life::Running { why_killed, .. } => *why_killed,
            Life::Added(_) | Life::Exited { .. } => None,
        };
        let ending = match why {
            Some(Why::TimeIsUp) => ExecEnding::TimedOut,
            // No verdict about memory is made for an exec: the kernel's count is the container's.
            Some(Why::Abandoned) | None => ExecEnding::Exited(ending(status, 0, Killed::NotByUs)),
        };
        if let Life::Running { group: Some(group), .. } =
            std::mem::replace(&mut exec.life, Life::Exited { pid })
        {
            locked(&self.left_over).remove(group);
        }
        exec.streams.release();
        exec.ended.send_replace(Some(ExecExit { ending, at, pid }));
    }

    /// Where the end of an exec is told.
    ///
    /// # Errors
    /// There is none of this id.
    pub(crate) fn exit(&self, id: &str) -> Result<watch::Receiver<Option<ExecExit>>> {
        Ok(find(&mut locked(&self.known), id)?.ended.subscribe())
    }

    /// What the Task service tells.
    ///
    /// # Errors
    /// There is none of this id.
    pub(crate) fn shown(&self, id: &str) -> Result<ShownExec> {
        let mut execs = locked(&self.known);
        let exec = find(&mut execs, id)?;
        let pid = match &exec.life {
            Life::Added(_) => None,
            Life::Running { child, .. } => Some(child.pid),
            Life::Exited { pid } => Some(*pid),
        };
        let exit = exec.ended.borrow().clone();
        Ok(ShownExec { pid, exit, names: exec.names.clone() })
    }

    /// Forgets an exec that does not run.
    ///
    /// # Errors
    /// It runs, or there is none of this id.
    pub(crate) fn forget(&self, id: &str) -> Result<Option<ExecExit>> {
        let mut execs = locked(&self.known);
        if find(&mut execs, id)?.running_pid().is_some() {
            return Err(ShimError::StillRunning);
        }
        let exec = execs.remove(id);
        Ok(exec.and_then(|exec| exec.ended.borrow().clone()))
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// It has none, or does not run.
    pub(crate) fn resize(&self, id: &str, size: Size) -> Result<()> {
        let mut execs = locked(&self.known);
        match &find(&mut execs, id)?.life {
            Life::Running { child: Child { master: Some(master), .. }, .. } => {
                cringle_kernel::terminal::resize(master, size).map_err(ShimError::Resize)
            }
            Life::Running { .. } | Life::Added(_) | Life::Exited { .. } => {
                Err(ShimError::NoTerminal)
            }
        }
    }

    /// Closes an exec's input.
    ///
    /// # Errors
    /// There is none of this id.
    pub(crate) fn close_input(&self, id: &str) -> Result<()> {
        let mut execs = locked(&self.known);
        let exec = find(&mut execs, id)?;
        exec.streams.close_input();
        exec.pump.end_feed();
        Ok(())
    }

    /// Executes a process in a group of its own, if there can be one.
    fn execute(
        &self,
        running: &Running,
        process: &Process,
        stdio: Stdio,
    ) -> Result<(Child, Option<Group>)> {
        let Some(group) = Group::make(running) else {
            return Ok((running.exec(process, stdio)?, None));
        };
        match running.exec_below(process, stdio, Some(group.directory())) {
            Ok(child) => Ok((child, Some(group))),
            Err(error) => {
                locked(&self.left_over).remove(group);
                Err(error.into())
            }
        }
    }

    /// Kills what was executed and will never be known.
    fn give_up(&self, child: &Child, group: Option<Group>) {
        let killed = group.as_ref().is_some_and(|group| group.kill().is_ok());
        if !killed && let Err(error) = send(child.pidfd.as_fd(), KILL) {
            note(&format!("failed to kill process {}: {}", child.pid, chain(&error)));
        }
        if let Some(group) = group {
            locked(&self.left_over).remove(group);
        }
    }

    /// Kills the exec's group; whether it has one and that worked.
    fn kill_group(&self, id: &str) -> bool {
        match locked(&self.known).get(id).map(|exec| &exec.life) {
            Some(Life::Running { group: Some(group), .. }) => group.kill().is_ok(),
            Some(Life::Running { group: None, .. } | Life::Added(_) | Life::Exited { .. })
            | None => false,
        }
    }

    /// Writes down why the exec is killed; gives its process id if it runs.
    fn condemn(&self, id: &str, why: Why) -> Option<i32> {
        let mut execs = locked(&self.known);
        match &mut execs.get_mut(id)?.life {
            Life::Running { child, why_killed, .. } => {
                why_killed.get_or_insert(why);
                Some(child.pid)
            }
            Life::Added(_) | Life::Exited { .. } => None,
        }
    }
}

impl Exec {
    fn running_pid(&self) -> Option<i32> {
        match &self.life {
            Life::Running { child, .. } => Some(child.pid),
            Life::Added(_) | Life::Exited { .. } => None,
        }
    }
}

fn find<'execs>(execs: &'execs mut HashMap<String, Exec>, id: &str) -> Result<&'execs mut Exec> {
    execs.get_mut(id).ok_or_else(|| ShimError::NoSuchProcess(id.to_owned()))
}

/// Kills the process `root` and what descends from it. A process that forks while we look is found in the next round: its
/// child is in the session or a child of one that was found, and the dead stay visible as parents until `root`, which is
/// ours to reap, is reaped.
fn kill_offspring(running: &Running, root: i32) -> Result<()> {
    let mut found = HashSet::from([root]);
    loop {
        let known = found.len();
        for _ in 0..2 {
            add_offspring(&running.pids()?, root, &mut found);
        }
        for &pid in &found {
            // Opened before it is checked: if the number was given to another process meanwhile, that one is no offspring.
            if let Ok(process) = cringle_kernel::process::open(pid)
                && is_offspring(pid, root, &found)
            {
                send(process.as_fd(), KILL)?;
            }
        }
        if found.len() == known {
            return Ok(());
        }
    }
}

fn add_offspring(pids: &[u32], root: i32, found: &mut HashSet<i32>) {
    for pid in pids.iter().filter_map(|&pid| i32::try_from(pid).ok()) {
        if is_offspring(pid, root, found) {
            found.insert(pid);
        }
    }
}

fn is_offspring(pid: i32, root: i32, found: &HashSet<i32>) -> bool {
    pid == root
        || proc::stat(pid).is_ok_and(|stat| stat.session == root || found.contains(&stat.parent))
}

/// The exit status as the Task service counts it: 128 and the signal for a process that was killed.
pub(crate) fn status_code(ending: &Ending) -> u32 {
    match ending {
        Ending::Code(code) => u32::from(*code),
        Ending::Signal(signal) => 128 + u32::from(*signal),
        Ending::OutOfMemory => 128 + u32::from(KILL),
        Ending::NeverStarted(_) => 128,
    }
}
