//! A connection to a plugin: our calls to it and its calls to us, by ttrpc.
//!
//! A task of its own reads and writes, so that a call which is given up leaves no half frame behind. What a plugin can make
//! us hold is bounded: one message of each direction, and calls that wait to be served, by number and size; more is a breach
//! that ends the connection, as is anything that is no message. Either direction ends with the other, so that one who breaks
//! the rules and reads nothing is rid of too.
//!
//! Why not the `ttrpc` crate, which the client of the shims uses: it writes to a stream of bytes, and frames have to follow
//! the borders of messages ([`crate::frame`]); and its server takes any number of requests at once.

use crate::frame::{
    Assembler, FRAME_HEADER, FrameError, Kind, LARGEST_MESSAGE, Message, PLUGIN_SERVICE,
    RUNTIME_SERVICE, encode, frame,
};
use cringle_proto_nri::ttrpc::{Request, Response, Status};
use cringle_proto_nri::{Call, Named, Plugin};
use prost::Message as _;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

/// Calls of a plugin that may wait to be served.
const WAITING_CALLS: usize = 64;
/// Their size together, in units of [`UNIT`]: two of the largest.
const WAITING_UNITS: usize = 2 * LARGEST_MESSAGE / UNIT;
/// What calls are measured in, so that empty ones count too.
const UNIT: usize = 1024;
/// Messages to a plugin that may wait to be written.
const WAITING_MESSAGES: usize = 4;
/// gRPC's code for a method that a server does not have.
pub(crate) const UNIMPLEMENTED: i32 = 12;

/// Why a plugin did not answer, or not so that it helps.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It answered with an error.
    #[error("{}", .0.message)]
    Refused(Status),
    /// The request is larger than a message can be.
    #[error("{0} bytes are more than a message can have")]
    TooLarge(usize),
    /// The connection ended.
    #[error("the connection ended")]
    Closed,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Elapsed(Duration),
    /// Its answer is none.
    #[error("the answer makes no sense")]
    Nonsense(#[source] prost::DecodeError),
}

/// What a plugin did that ended its connection.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error("failed to read from it")]
    Read(#[source] io::Error),
    #[error("failed to write to it")]
    Write(#[source] io::Error),
    #[error("its bytes make no sense")]
    Frame(#[source] FrameError),
    #[error("its message makes no sense")]
    Decode(#[source] prost::DecodeError),
    #[error("it sent a {0:?} where none belongs")]
    Misplaced(Kind),
    #[error("more than {WAITING_CALLS} of its calls wait, or more than {} KiB of them", WAITING_UNITS * UNIT / 1024)]
    Flood,
}

/// A call of a plugin, to be answered with [`Connection::answer`].
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Which call it is.
    pub(crate) stream: u32,
    /// What it calls.
    pub(crate) request: Request,
    /// Its share of what may wait.
    _size: OwnedSemaphorePermit,
}

/// A connection to a plugin. Dropped or closed, it ends; so do the calls that wait for it.
#[derive(Debug)]
pub(crate) struct Connection {
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    next: AtomicU32,
    task: AbortHandle,
}

/// Calls to the plugin that have no answer yet; none at all once the connection has ended.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u32, oneshot::Sender<Response>>>>);

impl Connection {
    /// Starts to read and write. Calls of the plugin come out of the receiver, which ends with the connection.
    pub(crate) fn start(stream: UnixStream) -> (Self, mpsc::Receiver<Incoming>) {
        let (reader, writer) = stream.into_split();
        let (outgoing, messages) = mpsc::channel(WAITING_MESSAGES);
        let (calls, incoming) = mpsc::channel(WAITING_CALLS);
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let task = tokio::spawn(carry(reader, writer, Arc::clone(&waiting), calls, messages));
        let task = task.abort_handle();
        (Self { outgoing, waiting, next: AtomicU32::new(1), task }, incoming)
    }

    /// Calls the plugin.
    ///
    /// # Errors
    /// It refuses, or does not answer in time or at all.
    pub(crate) async fn ask<Q: Call<Plugin>>(
        &self,
        request: &Q,
        patience: Duration,
    ) -> Result<Q::Answer, AskError> {
        let request = Request {
            service: Plugin::NAME.to_owned(),
            method: Q::METHOD.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX),
            metadata: Vec::new(),
        };
        let payload = request.encode_to_vec();
        if payload.len() > LARGEST_MESSAGE {
            return Err(AskError::TooLarge(payload.len()));
        }
        // Calls of a client have odd numbers.
        let stream = self.next.fetch_add(2, Ordering::Relaxed);
        let answer = self.waiting.expect(stream)?;
        let message = Message { kind: Kind::Request, stream, payload };
        let exchange = async {
            let bytes = encode(PLUGIN_SERVICE, &message);
            self.outgoing.send(bytes).await.map_err(|_ended| AskError::Closed)?;
            answer.await.map_err(|_ended| AskError::Closed)
        };
        let Ok(response) = tokio::time::timeout(patience, exchange).await else {
            self.waiting.give_up(stream);
            return Err(AskError::Elapsed(patience));
        };
        let response = response?;
        match response.status.filter(|status| status.code != 0) {
            Some(status) => Err(AskError::Refused(status)),
            None => Q::Answer::decode(response.payload.as_slice()).map_err(AskError::Nonsense),
        }
    }

    /// Answers a call of the plugin. If the connection has ended, nobody waits for it.
    pub(crate) async fn answer(&self, stream: u32, outcome: Result<Vec<u8>, Status>) {
        let response = match outcome {
            Ok(payload) => Response { status: None, payload },
            Err(status) => Response { status: Some(status), payload: Vec::new() },
        };
        let message = Message { kind: Kind::Response, stream, payload: response.encode_to_vec() };
        drop(self.outgoing.send(encode(RUNTIME_SERVICE, &message)).await);
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().is_none()
    }

    /// Ends it.
    pub(crate) fn close(&self) {
        self.waiting.end();
        self.task.abort();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Waiting {
    fn expect(&self, stream: u32) -> Result<oneshot::Receiver<Response>, AskError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        drop(waiting.as_mut().ok_or(AskError::Closed)?.insert(stream, sender));
        Ok(receiver)
    }

    /// Hands an answer to whoever waits for it. Nobody may: a call was given up.
    fn fulfil(&self, stream: u32, response: Response) {
        if let Some(sender) = self.lock().as_mut().and_then(|waiting| waiting.remove(&stream)) {
            drop(sender.send(response));
        }
    }

    fn give_up(&self, stream: u32) {
        drop(self.lock().as_mut().and_then(|waiting| waiting.remove(&stream)));
    }

    fn end(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u32, oneshot::Sender<Response>>>> {
        // Nothing under this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and writes until one of them ends.
async fn carry(
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    waiting: Arc<Waiting>,
    calls: mpsc::Sender<Incoming>,
    messages: mpsc::Receiver<Vec<u8>>,
) {
    let ended = tokio::select! {
        read = read(reader, &waiting, &calls) => read,
        written = write_all(writer, messages) => written.map_err(Breach::Write),
    };
    if let Err(breach) = ended {
        let cause = std::error::Error::source(&breach).map(ToString::to_string);
        tracing::warn!(error = %breach, cause, "an NRI plugin broke its connection");
    }
    waiting.end();
}

async fn write_all(
    mut writer: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(bytes) = messages.recv().await {
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

async fn read(
    mut reader: OwnedReadHalf,
    waiting: &Waiting,
    calls: &mpsc::Sender<Incoming>,
) -> Result<(), Breach> {
    let (mut answers, mut requests) = (Assembler::default(), Assembler::default());
    let room = Arc::new(Semaphore::new(WAITING_UNITS));
    loop {
        let mut header = [0; FRAME_HEADER];
        match reader.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(Breach::Read(error)),
        }
        let (connection, length) = frame(header).map_err(Breach::Frame)?;
        let mut content = (&mut reader).take(length.into());
        let read = match connection {
            PLUGIN_SERVICE => content.read_to_end(answers.room()).await,
            RUNTIME_SERVICE => content.read_to_end(requests.room()).await,
            // Nobody's.
            _ => content.read_to_end(&mut Vec::new()).await,
        };
        if read.map_err(Breach::Read)? < length as usize {
            return Ok(());
        }
        while let Some(message) = answers.message().map_err(Breach::Frame)? {
            let response = of_kind(Kind::Response, message)?;
            let decoded = Response::decode(response.payload.as_slice()).map_err(Breach::Decode)?;
            waiting.fulfil(response.stream, decoded);
        }
        while let Some(message) = requests.message().map_err(Breach::Frame)? {
            let Message { stream, payload, .. } = of_kind(Kind::Request, message)?;
            let request = Request::decode(payload.as_slice()).map_err(Breach::Decode)?;
            let units = u32::try_from(payload.len() / UNIT + 1).unwrap_or(u32::MAX);
            let size = Arc::clone(&room).try_acquire_many_owned(units);
            let incoming = size.map(|size| Incoming { stream, request, _size: size });
            let incoming = incoming.map_err(|_full| Breach::Flood)?;
            calls.try_send(incoming).map_err(|_full| Breach::Flood)?;
        }
    }
}

fn of_kind(kind: Kind, message: Message) -> Result<Message, Breach> {
    if message.kind == kind { Ok(message) } else { Err(Breach::Misplaced(message.kind)) }
}

#[cfg(test)]
mod tests;
