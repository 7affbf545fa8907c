//! The control socket: our daemon's orders and our reports to it.
//!
//! A task for each connection. Reports for a connection queue here until its peer takes them; a peer that does not read
//! holds up nobody else. When a connection ends, what it had executed is killed: there is nobody left to tell.

use crate::container::{Shim, ShimError};
use crate::engine::Stdio;
use crate::exec::{ExecExit, Why};
use crate::watched::watched;
use crate::{chain, exits, note};
use cringle_kernel::socket::{self, Packet};
use cringle_proto_shim::control::{
    Answer, Failure, FailureKind, MAXIMUM_PACKET, Message, Order, Phase, Report, Request, Stream,
    Target, VERSION,
};
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Accepts connections for ever.
pub(crate) async fn serve(shim: Arc<Shim>, listener: AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        match socket::accept(listener.as_fd()) {
            Ok(Some(connection)) => admit(&shim, connection),
            Ok(None) => ready.clear_ready(),
            Err(error) => {
                // Out of descriptors or memory: whoever waits is served when there are some again.
                note(&format!("failed to accept a control connection: {}", chain(&error)));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Only our own user may give orders.
fn admit(shim: &Arc<Shim>, connection: OwnedFd) {
    let allowed = socket::peer_user(connection.as_fd())
        .is_ok_and(|user| user == rustix::process::geteuid().as_raw());
    if !allowed || socket::allow_packets_of(connection.as_fd(), 2 * MAXIMUM_PACKET).is_err() {
        return;
    }
    if let Ok(socket) = watched(connection) {
        let shim = Arc::clone(shim);
        tokio::spawn(async move {
            let (reports, queue) = unbounded_channel();
            let mut connection =
                Connection { shim, socket, reports, execs: Vec::new(), greeted: Greeted::NotYet };
            connection.run(queue).await;
        });
    }
}

struct Connection {
    shim: Arc<Shim>,
    socket: AsyncFd<OwnedFd>,
    reports: UnboundedSender<Report>,
    execs: Vec<String>,
    greeted: Greeted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeted {
    NotYet,
    Already,
}

impl Connection {
    async fn run(&mut self, mut queue: UnboundedReceiver<Report>) {
        loop {
            let done = tokio::select! {
                // The sender is ours, so the queue never ends.
                report = queue.recv() => match report {
                    Some(report) => self.send(&Message::Report(report)).await,
                    None => return,
                },
                packet = receive(&self.socket) => match packet {
                    Ok(Some(packet)) => match self.answer(packet) {
                        Some(message) => self.send(&message).await,
                        None => return,
                    },
                    Ok(None) | Err(_) => return,
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Carries out one order. None: the peer does not speak our language.
    fn answer(&mut self, packet: Packet) -> Option<Message> {
        let request: Request = match serde_json::from_slice(&packet.bytes) {
            Ok(request) => request,
            Err(error) => {
                note(&format!("failed to parse a control message: {error}"));
                return None;
            }
        };
        let result = self.obey(request.order, packet.descriptors);
        Some(Message::Answer { number: request.number, result })
    }

    fn obey(&mut self, order: Order, descriptors: Vec<OwnedFd>) -> Result<Answer, Failure> {
        if let Order::Hello { version } = order {
            return self.greet(version);
        }
        if self.greeted == Greeted::NotYet {
            return Err(failure(FailureKind::Version, "the first message must be Hello"));
        }
        let done = match order {
            Order::Hello { version } => return self.greet(version),
            Order::AcknowledgeExit => self.acknowledge(),
            Order::State => return Ok(Answer::State(self.shim.state())),
            Order::Stop { signal, grace_milliseconds } => {
                self.shim.stop(signal, Duration::from_millis(grace_milliseconds))
            }
            Order::ReopenLog => self.shim.reopen_log(),
            Order::Signal { target: Target::Init, signal } => self.shim.signal(signal),
            Order::Signal { target: Target::All, signal } => self.shim.signal_all(signal),
            Order::Signal { target: Target::Exec(id), signal } => {
                self.shim.execs.signal(&id, signal)
            }
            Order::Update { resources } => self.shim.update(resources.get()),
            Order::Subscribe => {
                self.subscribe();
                Ok(())
            }
            Order::Exec { id, process, timeout_milliseconds, streams } => {
                let stdio = stdio(&streams, descriptors)?;
                let process = serde_json::from_str(process.get())
                    .map_err(|source| ShimError::Parse { what: "process", source });
                let started = process.and_then(|process| self.execute(id, &process, stdio));
                return match started {
                    Ok((pid, id)) => {
                        self.arm(&id, timeout_milliseconds);
                        Ok(Answer::Started { pid })
                    }
                    Err(error) => Err(refusal(&error)),
                };
            }
        };
        done.map(|()| Answer::Done).map_err(|error| refusal(&error))
    }

    fn greet(&mut self, version: u32) -> Result<Answer, Failure> {
        if version != VERSION {
            let text = format!("version {version} was offered, this is version {VERSION}");
            return Err(failure(FailureKind::Version, &text));
        }
        self.greeted = Greeted::Already;
        Ok(Answer::Hello { version: VERSION, pid: rustix::process::getpid().as_raw_pid() })
    }

    fn acknowledge(&self) -> Result<(), ShimError> {
        if let Err(error) = exits::forget(&self.shim.bundle) {
            // It stays, and says the same again to whoever asks.
            note(&chain(&error));
        }
        Ok(())
    }

    /// Reports the state, and the end when it comes.
    fn subscribe(&self) {
        let (shim, reports) = (Arc::clone(&self.shim), self.reports.clone());
        // Subscribed before the state is read, so nothing falls between; after an exit the state says all.
        let mut exit = shim.exit();
        let state = shim.state();
        let exited = matches!(state.phase, Phase::Exited(_)) && exit.borrow().is_some();
        if reports.send(Report::State(state)).is_err() || exited {
            return;
        }
        tokio::spawn(async move {
            if let Some(record) = told(&mut exit, &reports).await {
                let _nobody_listens = reports.send(Report::Exited(record));
            }
        });
    }

    fn execute(
        &mut self,
        id: String,
        process: &Process,
        stdio: Stdio,
    ) -> Result<(i32, String), ShimError> {
        let running = self.shim.running()?;
        let (pid, mut exit) = self.shim.execs.run(&id, &running, process, stdio)?;
        self.execs.push(id.clone());
        self.shim.rest.stir();
        let (shim, reports, exec) = (Arc::clone(&self.shim), self.reports.clone(), id.clone());
        tokio::spawn(async move {
            let Ok(Some(ExecExit { ending, .. })) =
                exit.wait_for(Option::is_some).await.map(|exit| exit.clone())
            else {
                return;
            };
            let _gone_already = shim.execs.forget(&exec);
            let _nobody_listens = reports.send(Report::ExecExited { id: exec, ending });
        });
        Ok((pid, id))
    }

    /// Kills an exec when its time is up.
    fn arm(&self, id: &str, timeout_milliseconds: Option<u64>) {
        let Some(timeout) = timeout_milliseconds.map(Duration::from_millis) else { return };
        let Ok(mut exit) = self.shim.execs.exit(id) else { return };
        let (shim, id) = (Arc::clone(&self.shim), id.to_owned());
        tokio::spawn(async move {
            if tokio::time::timeout(timeout, exit.wait_for(Option::is_some)).await.is_err() {
                shim.execs.kill_tree(&id, Why::TimeIsUp, &shim);
            }
        });
    }

    async fn send(&self, message: &Message) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| {
                socket::send(socket.as_fd(), &bytes, &[]).map_err(|error| error.source)
            });
            if let Ok(sent) = sent {
                return sent;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for id in &self.execs {
            self.shim.execs.kill_tree(id, Why::Abandoned, &self.shim);
        }
    }
}

/// The exit once it is told, unless whom it is for has gone.
async fn told<T: Clone>(
    exit: &mut watch::Receiver<Option<T>>,
    reports: &UnboundedSender<Report>,
) -> Option<T> {
    tokio::select! {
        exit = exit.wait_for(Option::is_some) => exit.ok().and_then(|exit| exit.clone()),
        () = reports.closed() => None,
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Packet>> {
    loop {
        let mut ready = socket.readable().await?;
        let received = ready.try_io(|socket| {
            socket::receive(socket.as_fd(), MAXIMUM_PACKET).map_err(|error| error.source)
        });
        if let Ok(received) = received {
            return received;
        }
    }
}

/// The passed descriptors as an exec's streams; what was not passed is `/dev/null`.
fn stdio(streams: &[Stream], descriptors: Vec<OwnedFd>) -> Result<Stdio, Failure> {
    if streams.len() != descriptors.len() {
        return Err(failure(FailureKind::Malformed, "as many descriptors as streams are wanted"));
    }
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    for (stream, descriptor) in streams.iter().zip(descriptors) {
        let place = match stream {
            Stream::Input => &mut stdin,
            Stream::Output => &mut stdout,
            Stream::Error => &mut stderr,
        };
        *place = Some(descriptor);
    }
    let stdout = stdout.map_or_else(null, Ok)?;
    let stderr = stderr.map_or_else(null, Ok)?;
    Ok(Stdio::Pipes { stdin, stdout, stderr })
}

fn null() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| failure(FailureKind::Refused, &format!("failed to open /dev/null: {errno}")),
    )
}

fn refusal(error: &ShimError) -> Failure {
    failure(error.kind(), &chain(error))
}

fn failure(kind: FailureKind, text: &str) -> Failure {
    Failure { kind, text: text.to_owned() }
}
