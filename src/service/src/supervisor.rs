//! The client of a shim: spawns it, connects again, gives orders, and hears how its container ended.
//!
//! A [`Supervisor`] is one shim. Orders go over the Task service where it has the words and over the control socket
//! otherwise; every one has a deadline, for a shim may hang with its log's disk (D16). What must happen without the shim's
//! help is [`end`]: it needs only the files in the bundle.

mod control;
mod end;
mod error;
mod exec;
mod hooks;
mod launch;
mod pin;
mod program;
mod pulse;
mod room;
mod session;
mod watch;

pub use end::{end, end_with_hooks, kill, read_exit_record};
pub use error::{ExecError, SupervisorError};
pub use exec::ExecOutput;
pub use launch::{Launch, LogTarget, RootfsMount, TerminalMode};
pub use pin::PinError;
pub(crate) use pin::pin;
pub use pin::probe;
pub use program::ShimProgram;
pub use room::{ExecBounds, Place};
pub use session::{End, Link, Opened};

use crate::streams::Streams;
use crate::supervisor::control::Control;
use crate::supervisor::pulse::Pulse;
use crate::supervisor::watch::Watched;
use cringle_domain::process::{Exit, ProcessIdentity, Signal};
use cringle_kernel::{poll, proc};
use cringle_proto_shim::TaskClient;
use cringle_proto_shim::control::{Answer, Order, Phase, State, Target, WantedInput};
use cringle_proto_shim::task::{DeleteRequest, ShutdownRequest, StartRequest};
use oci_spec::runtime::{LinuxResources, Process};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ttrpc::context::{Context, with_duration};

/// How long a shim may take over an order that only touches memory and the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to make and to start a container: volumes may be slow, and so may hooks.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// One shim, for as long as somebody holds this. Clones are the same shim.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Shim>);

struct Shim {
    bundle: PathBuf,
    task: TaskClient,
    process: Arc<OwnedFd>,
    init: Mutex<Option<ProcessIdentity>>,
    pulse: Pulse,
    exit: tokio::sync::watch::Receiver<Watched>,
    watcher: tokio::task::JoinHandle<()>,
}

/// What a shim says of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShimState {
    /// It has none.
    Empty,
    /// It waits to be started.
    Created(ProcessIdentity),
    /// It runs.
    Running(ProcessIdentity),
    /// It ended.
    Exited(Exit),
}

impl Supervisor {
    /// Spawns a shim for the bundle. It has no container yet.
    ///
    /// # Errors
    /// What kept it from being spawned; nothing is left of it but files in the bundle.
    pub async fn launch(program: &ShimProgram, launch: &Launch) -> Result<Self, SupervisorError> {
        let spawned = tokio::task::block_in_place(|| launch::spawn(program, &launch.bundle))?;
        let process = Arc::new(spawned.process);
        let reaping = (spawned.child, Arc::clone(&process));
        let supervisor = Self::attach(&launch.bundle, process, Some(reaping.0));
        match supervisor {
            Ok(supervisor) => Ok(supervisor),
            Err(error) => {
                end(&launch.bundle).await?;
                Err(error)
            }
        }
    }

    /// Connects to the shim that serves the bundle.
    ///
    /// # Errors
    /// It is gone, or does not answer within `patience`.
    pub async fn connect(bundle: &Path, patience: Duration) -> Result<Self, SupervisorError> {
        let process = end::shim_process(bundle)?.ok_or(SupervisorError::Gone)?;
        let mut control = Control::connect(bundle)?;
        tokio::time::timeout(patience, control.ask(Order::State))
            .await
            .map_err(|_elapsed| SupervisorError::Silent { order: "state" })??;
        Self::attach(bundle, Arc::new(process), None)
    }

    /// Connects to a shim whose process is there though it does not answer. What it says later is heard.
    ///
    /// # Errors
    /// It is gone.
    pub fn adopt(bundle: &Path) -> Result<Self, SupervisorError> {
        let process = end::shim_process(bundle)?.ok_or(SupervisorError::Gone)?;
        Self::attach(bundle, Arc::new(process), None)
    }

    fn attach(
        bundle: &Path,
        process: Arc<OwnedFd>,
        child: Option<std::process::Child>,
    ) -> Result<Self, SupervisorError> {
        let task = launch::connect_task(bundle)?;
        let (news, exit) = tokio::sync::watch::channel(Watched::Runs);
        let watcher = watch::Watcher {
            bundle: bundle.to_owned(),
            process: Arc::clone(&process),
            child,
            news,
        };
        let watcher = tokio::spawn(watcher.run());
        let (bundle, init, pulse) = (bundle.to_owned(), Mutex::new(None), Pulse::default());
        Ok(Self(Arc::new(Shim { bundle, task, process, init, pulse, exit, watcher })))
    }

    /// Makes the container; its first process waits to be started.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn create(&self, launch: &Launch) -> Result<ProcessIdentity, SupervisorError> {
        let request = launch::create_request(launch);
        let answer = self.0.task.create(context(START_PATIENCE), &request).await;
        let pid = answer.map_err(|source| SupervisorError::from_task("create", source))?.pid;
        let init = identity(i32::try_from(pid).unwrap_or(0))?;
        *self.init() = Some(init);
        Ok(init)
    }

    /// Starts the container's program.
    ///
    /// # Errors
    /// Why it could not be executed, in the engine's words.
    pub async fn start(&self) -> Result<ProcessIdentity, SupervisorError> {
        let answer = self.0.task.start(context(START_PATIENCE), &StartRequest::new()).await;
        let pid = answer.map_err(|source| SupervisorError::from_task("start", source))?.pid;
        // By now it may have ended and be reaped; who it was is known since it was created.
        if let Some(init) = *self.init() {
            return Ok(init);
        }
        identity(i32::try_from(pid).unwrap_or(0))
    }

    /// What the shim says of its container.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn state(&self) -> Result<ShimState, SupervisorError> {
        // The process may end between the shim's answer and our look at it; the second answer says so then.
        match self.ask_state().await {
            Err(SupervisorError::Process(_)) => self.ask_state().await,
            answer => answer,
        }
    }

    async fn ask_state(&self) -> Result<ShimState, SupervisorError> {
        match self.reported().await?.phase {
            Phase::Empty => Ok(ShimState::Empty),
            Phase::Created { pid } => identity(pid).map(ShimState::Created),
            Phase::Running { pid } => identity(pid).map(ShimState::Running),
            Phase::Exited(record) => Ok(ShimState::Exited(end::exit_of(record))),
        }
    }

    /// What is wrong with the container's log, if anything is.
    ///
    /// # Errors
    /// The shim does not answer.
    pub async fn log_fault(&self) -> Result<Option<String>, SupervisorError> {
        Ok(self.reported().await?.log_fault)
    }

    async fn reported(&self) -> Result<State, SupervisorError> {
        match self.order("state", Order::State).await? {
            Answer::State(state) => Ok(state),
            Answer::Hello { .. }
            | Answer::Done
            | Answer::Started { .. }
            | Answer::Attached { .. } => Err(SupervisorError::Nonsense { order: "state" }),
        }
    }

    /// Asks the container to end with `signal`, and has it killed after `grace`. Returns at once; a second call can only
    /// bring the kill forward.
    ///
    /// # Errors
    /// The shim does not take the order.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Result<(), SupervisorError> {
        let signal = u8::try_from(signal.number()).unwrap_or(15);
        let grace_milliseconds = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.order("stop", Order::Stop { signal, grace_milliseconds }).await.map(drop)
    }

    /// Kills every process of the container.
    ///
    /// # Errors
    /// The shim does not take the order.
    pub async fn kill_all(&self) -> Result<(), SupervisorError> {
        self.order("kill", Order::Signal { target: Target::All, signal: 9 }).await.map(drop)
    }

    /// The container's exit, once there is one; none if the shim is lost before that.
    pub async fn exited(&self) -> Option<Exit> {
        let mut exit = self.0.exit.clone();
        let news = exit.wait_for(|watched| *watched != Watched::Runs).await.ok()?;
        match &*news {
            Watched::Exited(exit) => Some(exit.clone()),
            Watched::Runs | Watched::Lost => None,
        }
    }

    /// Opens the log's file anew; it is there at return.
    ///
    /// # Errors
    /// The container does not run, or the file cannot be opened.
    pub async fn reopen_log(&self) -> Result<(), SupervisorError> {
        self.order("reopen log", Order::ReopenLog).await.map(drop)
    }

    /// Changes the container's limits: all or none.
    ///
    /// # Errors
    /// The limit that the kernel refuses.
    pub async fn update(&self, resources: &LinuxResources) -> Result<(), SupervisorError> {
        let resources = control::raw(resources)?;
        self.order("update", Order::Update { resources }).await.map(drop)
    }

    /// Executes `process` in the container and waits for its end, at most `timeout`, which begins now even if it has to wait
    /// for others. Of each output stream the first bytes are kept, as many as `bounds` allow.
    ///
    /// # Errors
    /// It could not be executed, too many others keep much output, or its time was up: then it is killed with all its
    /// offspring.
    pub async fn exec_sync(
        &self,
        process: &Process,
        timeout: Option<Duration>,
        bounds: &ExecBounds,
    ) -> Result<ExecOutput, ExecError> {
        exec::exec_sync(&self.0, process, timeout, bounds).await
    }

    /// Executes `process` in the container on streams that the caller reads and writes. It is killed with all its offspring
    /// when what this gives is dropped.
    ///
    /// # Errors
    /// It could not be executed.
    pub async fn open_exec(
        &self,
        process: &Process,
        streams: Streams,
    ) -> Result<Opened, ExecError> {
        session::open_exec(&self.0, process, streams).await
    }

    /// Attaches to the container's first process.
    ///
    /// # Errors
    /// It does not run, or its output goes where the shim does not see it.
    pub async fn open_attach(
        &self,
        streams: Streams,
        input: WantedInput,
    ) -> Result<Opened, SupervisorError> {
        session::attach(&self.0, streams, input).await
    }

    /// Tells the shim that the exit is recorded, so that it may forget its record of it.
    ///
    /// # Errors
    /// The shim does not take the order.
    pub async fn acknowledge_exit(&self) -> Result<(), SupervisorError> {
        self.order("acknowledge exit", Order::AcknowledgeExit).await.map(drop)
    }

    /// Takes an ended container off the host and ends the shim. Success if the shim is gone.
    ///
    /// # Errors
    /// The container still runs, something of it does not go, or the shim does not end.
    pub async fn delete(&self) -> Result<(), SupervisorError> {
        if self.is_alive() {
            let patience = if end::owes_hooks(&self.0.bundle) { START_PATIENCE } else { PATIENCE };
            let deleted = self.0.task.delete(context(patience), &DeleteRequest::new()).await;
            if let Err(source) = deleted
                && self.is_alive()
            {
                return Err(SupervisorError::from_task("delete", source));
            }
            // It may be gone before its answer is here; whether it is, we see for ourselves.
            let order = ShutdownRequest { now: true, ..Default::default() };
            let _answer = self.0.task.shutdown(context(PATIENCE), &order).await;
        }
        let gone = watch::ended(&self.0.process);
        match tokio::time::timeout(PATIENCE, gone).await {
            Ok(gone) => gone,
            Err(_elapsed) => Err(SupervisorError::Silent { order: "shutdown" }),
        }
    }

    /// Whether the shim's process is there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !poll::readable(self.0.process.as_fd(), Some(Duration::ZERO)).unwrap_or(true)
    }

    async fn order(&self, name: &'static str, order: Order) -> Result<Answer, SupervisorError> {
        // Outside the wait: a connection that is refused is no sign of life.
        let mut control = Control::connect(&self.0.bundle)?;
        self.0.pulse.wait_for(name, control.ask(order)).await
    }

    fn init(&self) -> std::sync::MutexGuard<'_, Option<ProcessIdentity>> {
        self.0.init.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shim").field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // Not the watcher of our own child: it still has to reap it, and ends with it.
        if *self.exit.borrow() == Watched::Lost {
            self.watcher.abort();
        }
    }
}

/// A process as it is now.
fn identity(pid: i32) -> Result<ProcessIdentity, SupervisorError> {
    let stat = proc::stat(pid).map_err(SupervisorError::Process)?;
    Ok(ProcessIdentity { pid, start_time: stat.start_time })
}

fn context(patience: Duration) -> Context {
    with_duration(patience)
}
