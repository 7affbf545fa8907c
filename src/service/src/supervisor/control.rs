//! One connection to a shim's control socket.

use super::SupervisorError;
use super::launch::open_directory;
use cringle_kernel::socket::{self, Kind, Waiting};
use cringle_proto_shim::CONTROL_SOCKET;
use cringle_proto_shim::control::{
    Answer, MAXIMUM_PACKET, Message, Order, Report, Request, UNANSWERED, VERSION,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// A connection. Awaits on it have no deadline of their own: whoever calls sets one.
#[derive(Debug)]
pub(super) struct Control {
    socket: AsyncFd<OwnedFd>,
    next_number: u64,
    greeted: Greeted,
    reports: VecDeque<Report>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeted {
    NotYet,
    Already,
}

impl Control {
    /// Connects to the shim of that bundle.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) fn connect(bundle: &Path) -> Result<Self, SupervisorError> {
        let directory = open_directory(bundle)?;
        let connected =
            socket::connect(directory.as_fd(), CONTROL_SOCKET, Kind::Packets, Waiting::Returns)
                .and_then(|socket| {
                    socket::allow_packets_of(socket.as_fd(), 2 * MAXIMUM_PACKET).map(|()| socket)
                });
        let socket = connected.map_err(SupervisorError::Socket)?;
        let socket = watched(socket).map_err(SupervisorError::Connection)?;
        Ok(Self { socket, next_number: 1, greeted: Greeted::NotYet, reports: VecDeque::new() })
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// The shim refuses, or the connection breaks.
    pub(super) async fn ask(&mut self, order: Order) -> Result<Answer, SupervisorError> {
        self.ask_with(order, &[]).await.map(|(answer, _none)| answer)
    }

    /// Gives an order with descriptors and waits for its answer, which may bring some too.
    ///
    /// # Errors
    /// The shim refuses, or the connection breaks.
    pub(super) async fn ask_with(
        &mut self,
        order: Order,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>), SupervisorError> {
        if self.greeted == Greeted::NotYet {
            self.greeted = Greeted::Already;
            let hello = Order::Hello { version: VERSION };
            self.send(Request { number: UNANSWERED, order: hello }, &[]).await?;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.send(Request { number, order }, descriptors).await?;
        self.answer_to(number).await
    }

    /// The next report.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn report(&mut self) -> Result<Report, SupervisorError> {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return Ok(report);
            }
            match self.message().await?.0 {
                Message::Report(report) => return Ok(report),
                // To a question that nobody waits for any more.
                Message::Answer { .. } => {}
            }
        }
    }

    async fn answer_to(&mut self, wanted: u64) -> Result<(Answer, Vec<OwnedFd>), SupervisorError> {
        loop {
            let (message, descriptors) = self.message().await?;
            match message {
                Message::Answer { number, result } if number == wanted => {
                    let answer = result.map_err(SupervisorError::from_control)?;
                    return Ok((answer, descriptors));
                }
                Message::Answer { number: UNANSWERED, result: Err(refused) } => {
                    return Err(SupervisorError::from_control(refused));
                }
                Message::Answer { .. } => {}
                Message::Report(report) => self.reports.push_back(report),
            }
        }
    }

    async fn send(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SupervisorError> {
        let bytes = serde_json::to_vec(&request).map_err(SupervisorError::Encode)?;
        loop {
            let ready = self.socket.writable().await;
            let mut ready = ready.map_err(SupervisorError::Connection)?;
            let sent = ready.try_io(|socket| {
                socket::send(socket.as_fd(), &bytes, descriptors).map_err(|error| error.source)
            });
            if let Ok(sent) = sent {
                return sent.map_err(SupervisorError::Connection);
            }
        }
    }

    async fn message(&mut self) -> Result<(Message, Vec<OwnedFd>), SupervisorError> {
        loop {
            let ready = self.socket.readable().await;
            let mut ready = ready.map_err(SupervisorError::Connection)?;
            let received = ready.try_io(|socket| {
                socket::receive(socket.as_fd(), MAXIMUM_PACKET).map_err(|error| error.source)
            });
            let Ok(received) = received else { continue };
            let packet = received.map_err(SupervisorError::Connection)?;
            let packet = packet
                .ok_or_else(|| SupervisorError::Connection(io::ErrorKind::UnexpectedEof.into()))?;
            let message = serde_json::from_slice(&packet.bytes)
                .map_err(|error| SupervisorError::Connection(error.into()))?;
            return Ok((message, packet.descriptors));
        }
    }
}

/// A value as the messages carry it.
///
/// # Errors
/// It has no JSON form.
pub(super) fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>, SupervisorError> {
    serde_json::value::to_raw_value(value).map_err(SupervisorError::Encode)
}

/// A descriptor in the event loop.
///
/// # Errors
/// The loop refuses it.
#[expect(
    deprecated,
    reason = "the successor is unsafe for types that may change their descriptor, which an OwnedFd does not"
)]
pub(super) fn watched<T: std::os::fd::AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(descriptor)
}
