//! The control socket: our daemon's orders and our reports to it.
//!
//! A task for each connection. Reports for a connection queue here until its peer takes them; a peer that does not read
//! holds up nobody else. When a connection ends, what it had executed is killed, for there is nobody left to tell; what it
//! was attached to goes on.

mod streams;

use crate::container::{Attached, Shim, ShimError};
use crate::control::streams::{Reply, presence};
use crate::exec::{ExecExit, Started, Why};
use crate::stdio::fan::Attachment;
use crate::watched::watched;
use crate::{chain, exits, note};
use cringle_kernel::socket::{self, Packet};
use cringle_proto_shim::control::{
    Answer, Failure, FailureKind, MAXIMUM_PACKET, Message, Order, Phase, Report, Request, Stream,
    Target, UNANSWERED, VERSION, WantedInput,
};
use oci_spec::runtime::Process;
use serde_json::value::RawValue;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
            let (execs, attachments) = (Vec::new(), Vec::new());
            let greeted = Greeted::NotYet;
            let mut connection = Connection { shim, socket, reports, execs, attachments, greeted };
            connection.run(queue).await;
        });
    }
}

struct Connection {
    shim: Arc<Shim>,
    socket: AsyncFd<OwnedFd>,
    reports: UnboundedSender<Report>,
    execs: Vec<String>,
    attachments: Vec<Arc<Attachment>>,
    greeted: Greeted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeted {
    NotYet,
    Already,
}

/// The peer does not speak our language.
#[derive(Debug)]
struct Foreign;

impl Connection {
    async fn run(&mut self, mut queue: UnboundedReceiver<Report>) {
        loop {
            let done = tokio::select! {
                // The sender is ours, so the queue never ends.
                report = queue.recv() => match report {
                    Some(report) => self.send(&Message::Report(report), &[]).await,
                    None => return,
                },
                packet = receive(&self.socket) => match packet {
                    Ok(Some(packet)) => match self.answer(packet) {
                        Ok(Some((message, passed))) => self.send(&message, &passed).await,
                        Ok(None) => Ok(()),
                        Err(Foreign) => return,
                    },
                    Ok(None) | Err(_) => return,
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Carries out one order. Gives what is to be answered, if anything.
    fn answer(&mut self, packet: Packet) -> Result<Option<(Message, Vec<OwnedFd>)>, Foreign> {
        let Request { number, order } = serde_json::from_slice(&packet.bytes).map_err(|error| {
            note(&format!("failed to parse a control message: {error}"));
            Foreign
        })?;
        Ok(match self.obey(order, packet.descriptors) {
            Ok(_) if number == UNANSWERED => None,
            Ok(Reply { answer, descriptors }) => {
                Some((Message::Answer { number, result: Ok(answer) }, descriptors))
            }
            Err(failure) => Some((Message::Answer { number, result: Err(failure) }, Vec::new())),
        })
    }

    fn obey(&mut self, order: Order, descriptors: Vec<OwnedFd>) -> Result<Reply, Failure> {
        if let Order::Hello { version } = order {
            return self.greet(version).map(Reply::from);
        }
        if self.greeted == Greeted::NotYet {
            return Err(failure(FailureKind::Version, "the first message must be Hello"));
        }
        let done = match order {
            Order::Hello { version } => return self.greet(version).map(Reply::from),
            Order::AcknowledgeExit => self.acknowledge(),
            Order::State => return Ok(Answer::State(self.shim.state()).into()),
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
                let reply = self.execute(&id, &process, &streams, descriptors)?;
                self.arm(&id, timeout_milliseconds);
                return Ok(reply);
            }
            Order::Attach { streams, input } => return self.attach(&streams, descriptors, input),
        };
        done.map(|()| Answer::Done.into()).map_err(|error| refusal(&error))
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
        id: &str,
        process: &RawValue,
        streams: &[Stream],
        descriptors: Vec<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let process: Process = serde_json::from_str(process.get())
            .map_err(|source| refusal(&ShimError::Parse { what: "process", source }))?;
        let stdio = streams::exec_stdio(&process, streams, descriptors)?;
        let running = self.shim.running().map_err(|error| refusal(&error))?;
        let started = self.shim.execs.run(id, &running, &process, stdio);
        let Started { pid, terminal, mut exit } = started.map_err(|error| refusal(&error))?;
        self.execs.push(id.to_owned());
        self.shim.rest.stir();
        let (shim, reports, exec) = (Arc::clone(&self.shim), self.reports.clone(), id.to_owned());
        tokio::spawn(async move {
            let Ok(Some(ExecExit { ending, .. })) =
                exit.wait_for(Option::is_some).await.map(|exit| exit.clone())
            else {
                return;
            };
            let _gone_already = shim.execs.forget(&exec);
            let _nobody_listens = reports.send(Report::ExecExited { id: exec, ending });
        });
        let answer = Answer::Started { pid, terminal: presence(terminal.as_ref()) };
        Ok(Reply { answer, descriptors: terminal.into_iter().collect() })
    }

    fn attach(
        &mut self,
        streams: &[Stream],
        descriptors: Vec<OwnedFd>,
        wanted: WantedInput,
    ) -> Result<Reply, Failure> {
        let pipes = streams::attached(streams, descriptors)?;
        let attached = self.shim.attach(pipes, wanted, self.reports.clone());
        let Attached { attachment, input, terminal } = attached.map_err(|error| refusal(&error))?;
        self.attachments.push(attachment);
        let answer = Answer::Attached {
            input: presence(input.as_ref()),
            terminal: presence(terminal.as_ref()),
        };
        Ok(Reply { answer, descriptors: input.into_iter().chain(terminal).collect() })
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

    async fn send(&self, message: &Message, passed: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let passed: Vec<BorrowedFd<'_>> = passed.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| {
                socket::send(socket.as_fd(), &bytes, &passed).map_err(|error| error.source)
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
        for attachment in &self.attachments {
            self.shim.detach(attachment);
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

fn refusal(error: &ShimError) -> Failure {
    failure(error.kind(), &chain(error))
}

fn failure(kind: FailureKind, text: &str) -> Failure {
    Failure { kind, text: text.to_owned() }
}
