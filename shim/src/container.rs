//! What one shim holds: a container, its life, its streams and the processes executed in it.
//!
//! All orders, from whichever socket, come down to the functions here; none of them waits. The lock is held for one
//! function at a time, never across an await, and since there is one thread it is never contended.
//!
//! Invariant: whatever is known of the container's end is on disk before it is told (see [`crate::exits`]).

mod attach;
mod error;

pub(crate) use attach::Attached;
pub(crate) use error::ShimError;

use crate::engine::{self, Bundle, Created, RootfsMount, Running};
use crate::exec::Execs;
use crate::process::{Action, Event, Life, WaitStatus};
use crate::rest::Rest;
use crate::stdio::pump::Pump;
use crate::stdio::{Ends, Names};
use crate::{chain, clock, exits, locked, note, oom, reaper};
use cringle_kernel::terminal::Size;
use cringle_proto_shim::control::State as ReportedState;
use cringle_proto_shim::record::ExitRecord;
use oci_spec::runtime::LinuxResources;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long output may go on after the end of the process that made it before the end is told: somebody else has it open.
const GRACE: Duration = Duration::from_millis(200);

/// SIGKILL.
pub(crate) const KILL: u8 = 9;

/// A shim.
#[derive(Debug)]
pub(crate) struct Shim {
    /// The bundle directory.
    pub(crate) bundle: PathBuf,
    /// The executed processes.
    pub(crate) execs: Execs,
    /// What follows work.
    pub(crate) rest: Rest,
    /// Rung when the shim shall end.
    pub(crate) shutdown: Notify,
    state: Mutex<State>,
    exit: watch::Sender<Option<ExitRecord>>,
}

#[derive(Debug)]
struct State {
    id: String,
    life: Life,
    engine: Engine,
    names: Option<Names>,
    streams: Ends,
    pump: Pump,
    master: Option<OwnedFd>,
    pausing: Pausing,
}

#[derive(Debug)]
enum Engine {
    Absent,
    Created(Box<Created>),
    Running(Arc<Running>),
}

/// Whether the container is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pausing {
    /// It runs.
    Runs,
    /// It is frozen.
    Paused,
}

/// A container as asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Its id.
    pub id: String,
    /// Its bundle; empty: the shim's own.
    pub bundle: PathBuf,
    /// What makes its root.
    pub rootfs: Vec<RootfsMount>,
    /// Its streams.
    pub names: Names,
    /// The directory of the checkpoint that it is made of, if it is.
    pub restore: Option<PathBuf>,
}

/// What the Task service tells of a process.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Where the process is in its life.
    pub life: Life,
    /// Its streams.
    pub names: Option<Names>,
    /// Whether it is frozen.
    pub pausing: Pausing,
}

type Result<T> = std::result::Result<T, ShimError>;

impl Shim {
    /// A shim without a container.
    pub(crate) fn new(bundle: PathBuf) -> Arc<Self> {
        let state = State {
            id: String::new(),
            life: Life::Empty,
            engine: Engine::Absent,
            names: None,
            streams: Ends::default(),
            pump: Pump::default(),
            master: None,
            pausing: Pausing::Runs,
        };
        Arc::new(Self {
            bundle,
            execs: Execs::default(),
            rest: Rest::default(),
            shutdown: Notify::new(),
            state: Mutex::new(state),
            exit: watch::Sender::new(None),
        })
    }

    /// Clones the container's first process, which waits to be started. Gives its process id.
    ///
    /// # Errors
    /// What kept it from being made.
    pub(crate) fn create(&self, wanted: Wanted) -> Result<i32> {
        let mut state = locked(&self.state);
        if state.life != Life::Empty {
            state.life.apply(Event::Created { pid: 0 })?;
        }
        let streams = crate::stdio::open(&wanted.names)?;
        let path = if wanted.bundle.as_os_str().is_empty() { &self.bundle } else { &wanted.bundle };
        let mut bundle = Bundle::load(path, wanted.rootfs)?;
        bundle.id.clone_from(&wanted.id);
        bundle.restore = wanted.restore;
        if reaper::is_wanted(&bundle.spec) {
            bundle.rootfs = vec![reaper::empty_root()];
        }
        let mut created = engine::create(&bundle, streams.theirs)?;
        let pid = created.child().pid;
        state.master = created.take_master();
        state.engine = Engine::Created(Box::new(created));
        state.life.apply(Event::Created { pid })?;
        state.id = wanted.id;
        state.names = Some(wanted.names);
        state.streams = streams.ours;
        let State { streams, master, .. } = &mut *state;
        let pump = streams.start(master.as_ref()).map_err(ShimError::WatchStreams)?;
        state.pump = pump;
        Ok(pid)
    }

    /// Lets the container's program run. Gives its process id.
    ///
    /// # Errors
    /// Why it could not be executed; that is the container's exit then, recorded and reported like any other.
    pub(crate) fn start(self: &Arc<Self>) -> Result<i32> {
        let mut state = locked(&self.state);
        let created = match std::mem::replace(&mut state.engine, Engine::Absent) {
            Engine::Created(created) if matches!(state.life, Life::Created { .. }) => created,
            other @ (Engine::Absent | Engine::Created(_) | Engine::Running(_)) => {
                state.engine = other;
                state.life.apply(Event::Released)?;
                return Err(ShimError::NotRunning);
            }
        };
        match created.start() {
            Ok(running) => {
                let pid = running.pid();
                state.engine = Engine::Running(Arc::new(running));
                state.life.apply(Event::Released)?;
                Ok(pid)
            }
            Err(error) => {
                let reason = chain(&error);
                let actions = state.life.apply(Event::StartFailed { reason, at: clock::now() })?;
                self.perform(&mut state, actions)?;
                Err(error.into())
            }
        }
    }

    /// Asks the container to end with `signal`, and kills it after `grace`.
    ///
    /// # Errors
    /// There is none, or the signal could not be sent.
    pub(crate) fn stop(self: &Arc<Self>, signal: u8, grace: Duration) -> Result<()> {
        let mut state = locked(&self.state);
        // Too far to be counted is as good as never.
        let deadline = Instant::now().checked_add(grace).unwrap_or_else(far_future);
        let actions = state.life.apply(Event::StopOrdered { signal, deadline })?;
        if state.pausing == Pausing::Paused {
            // A frozen process could not even be killed.
            self.thaw(&mut state)?;
        }
        self.perform(&mut state, actions)
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// There is none, or the kernel refuses.
    pub(crate) fn signal(self: &Arc<Self>, signal: u8) -> Result<()> {
        let mut state = locked(&self.state);
        let actions = state.life.apply(Event::SignalSent { signal })?;
        self.perform(&mut state, actions)
    }

    /// Sends a signal to all processes of the container. None left is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn signal_all(self: &Arc<Self>, signal: u8) -> Result<()> {
        let running = {
            let mut state = locked(&self.state);
            if let Engine::Running(running) = &state.engine {
                let running = Arc::clone(running);
                // So that its life knows whose kill it was; the signal itself goes to all.
                let _ended_already = state.life.apply(Event::SignalSent { signal });
                running
            } else {
                let actions = state.life.apply(Event::SignalSent { signal })?;
                return self.perform(&mut state, actions);
            }
        };
        Ok(running.signal(i32::from(signal), engine::Target::All)?)
    }

    /// Opens the log's file anew.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn reopen_log(&self) -> Result<()> {
        let state = locked(&self.state);
        if !matches!(state.life, Life::Created { .. } | Life::Running { .. }) {
            return Err(ShimError::NotRunning);
        }
        match &state.streams.log {
            Some(log) => Ok(locked(log).reopen()?),
            None => Ok(()),
        }
    }

    /// Changes limits.
    ///
    /// # Errors
    /// The text is not OCI's resources, or a limit cannot be had.
    pub(crate) fn update(&self, resources: &str) -> Result<()> {
        let parsed: LinuxResources = serde_json::from_str(resources)
            .map_err(|source| ShimError::Parse { what: "linux resources", source })?;
        for clamp in self.running()?.update(&parsed)? {
            note(&format!("limit not to be had here: {clamp:?}"));
        }
        Ok(())
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// It does not run, or the kernel refuses.
    pub(crate) fn pause(&self) -> Result<()> {
        let running = self.running()?;
        running.pause()?;
        locked(&self.state).pausing = Pausing::Paused;
        Ok(())
    }

    /// Lets a frozen container run again.
    ///
    /// # Errors
    /// It does not run, or the kernel refuses.
    pub(crate) fn resume(&self) -> Result<()> {
        self.thaw(&mut locked(&self.state))
    }

    /// The processes of the container.
    ///
    /// # Errors
    /// It does not run, or its cgroup cannot be read.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        Ok(self.running()?.pids()?)
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// There is no terminal.
    pub(crate) fn resize(&self, size: Size) -> Result<()> {
        let state = locked(&self.state);
        let master = state.master.as_ref().ok_or(ShimError::NoTerminal)?;
        cringle_kernel::terminal::resize(master, size).map_err(ShimError::Resize)
    }

    /// Closes the container's input.
    pub(crate) fn close_input(&self) {
        let mut state = locked(&self.state);
        state.streams.close_input();
        state.pump.end_feed();
    }

    /// Takes the container off the host: nothing is left of it but the bundle. It must have ended.
    ///
    /// # Errors
    /// It still runs, or a cgroup does not go.
    pub(crate) fn delete(&self) -> Result<Option<ExitRecord>> {
        let mut state = locked(&self.state);
        let record = match &state.life {
            Life::Empty => None,
            Life::Created { .. } | Life::Running { .. } => return Err(ShimError::StillRunning),
            Life::Exited(record) => Some(record.clone()),
        };
        engine::delete(&self.bundle)?;
        state.engine = Engine::Absent;
        state.pump = Pump::default();
        state.streams = Ends::default();
        state.master = None;
        Ok(record)
    }

    /// Whether there is no container yet.
    pub(crate) fn is_empty(&self) -> bool {
        locked(&self.state).life == Life::Empty
    }

    /// Whether no process of a container depends on this shim: there is none, or it has ended.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(locked(&self.state).life, Life::Empty | Life::Exited(_))
    }

    /// What is so.
    pub(crate) fn state(&self) -> ReportedState {
        let state = locked(&self.state);
        let log_fault = state.streams.log.as_ref().and_then(|log| locked(log).fault());
        ReportedState { phase: state.life.phase(), log_fault }
    }

    /// What the Task service tells of the first process.
    pub(crate) fn shown(&self) -> Shown {
        let state = locked(&self.state);
        Shown { life: state.life.clone(), names: state.names.clone(), pausing: state.pausing }
    }

    /// The exit, as soon as there is one and its record is on disk.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.exit.subscribe()
    }

    /// The container, if it runs.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn running(&self) -> Result<Arc<Running>> {
        let state = locked(&self.state);
        match (&state.engine, &state.life) {
            (Engine::Running(running), Life::Running { .. }) => Ok(Arc::clone(running)),
            _ => Err(ShimError::NotRunning),
        }
    }

    /// The kernel says that a child has ended. One that nobody knows is an orphan of the container's: nothing to do.
    pub(crate) fn child_ended(self: &Arc<Self>, pid: i32, status: WaitStatus) {
        let at = clock::now();
        let mut state = locked(&self.state);
        if state.life.pid() != Some(pid) {
            drop(state);
            self.rest.stir();
            self.execs.ended(pid, status, at);
            return;
        }
        let memory_kills = match &state.engine {
            Engine::Running(running) => {
                if let Err(error) = running.kill_all() {
                    note(&format!("failed to kill what the container left: {}", chain(&error)));
                }
                oom::kills(running)
            }
            Engine::Created(_) | Engine::Absent => 0,
        };
        let applied = state.life.apply(Event::Ended { status, memory_kills, at });
        let performed =
            applied.map_err(ShimError::from).and_then(|actions| self.perform(&mut state, actions));
        if let Err(error) = performed {
            note(&format!("failed to take the end of process {pid}: {}", chain(&error)));
        }
    }

    fn perform(self: &Arc<Self>, state: &mut State, actions: Vec<Action>) -> Result<()> {
        for action in actions {
            match action {
                Action::Signal(signal) => self.send_to_init(state, signal)?,
                Action::KillAll => self.kill(state)?,
                Action::ArmTimer(deadline) => {
                    let shim = Arc::clone(self);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(deadline.into()).await;
                        shim.time_is(deadline);
                    });
                }
                Action::RecordExit(record) => {
                    tokio::spawn(Arc::clone(self).conclude(record));
                }
            }
        }
        Ok(())
    }

    fn send_to_init(&self, state: &State, signal: u8) -> Result<()> {
        match &state.engine {
            Engine::Running(running) => {
                Ok(running.signal(i32::from(signal), engine::Target::Init)?)
            }
            Engine::Created(created) => send(created.child().pidfd.as_fd(), signal),
            Engine::Absent => Ok(()),
        }
    }

    fn kill(&self, state: &State) -> Result<()> {
        match &state.engine {
            Engine::Running(running) => Ok(running.kill_all()?),
            Engine::Created(created) => send(created.child().pidfd.as_fd(), KILL),
            Engine::Absent => Ok(()),
        }
    }

    fn time_is(self: &Arc<Self>, now: Instant) {
        let mut state = locked(&self.state);
        let applied = state.life.apply(Event::TimeIs(now)).map_err(ShimError::from);
        if let Err(error) = applied.and_then(|actions| self.perform(&mut state, actions)) {
            note(&format!("failed to kill the container: {}", chain(&error)));
        }
    }

    fn thaw(&self, state: &mut State) -> Result<()> {
        let Engine::Running(running) = &state.engine else { return Err(ShimError::NotRunning) };
        running.resume()?;
        state.pausing = Pausing::Runs;
        Ok(())
    }

    /// The last of the output, then the record, then the news.
    async fn conclude(self: Arc<Self>, record: ExitRecord) {
        let mut drains = locked(&self.state).pump.take_drains();
        Pump::ended(&mut drains, GRACE).await;
        {
            let mut state = locked(&self.state);
            state.pump.return_drains(drains);
            state.streams.release();
            if let Some(fan) = &state.streams.fan {
                fan.close();
            }
        }
        if let Err(error) = exits::write(&self.bundle, &record) {
            note(&chain(&error));
        }
        self.exit.send_replace(Some(record));
    }
}

fn far_future() -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    Instant::now() + YEAR
}

/// Sends a signal to one process; one that has ended is left in peace.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn send(process: BorrowedFd<'_>, signal: u8) -> Result<()> {
    cringle_kernel::process::signal(process, i32::from(signal))
        .map_err(|source| ShimError::SendSignal { signal, source })
}
