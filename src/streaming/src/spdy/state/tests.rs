//! Tests.

use super::{CONTROL_OUT_CAP, INBOUND_CAP, Phase, State};
use crate::spdy::frame::{Control, Event, Status};
use crate::spdy::headers::Headers;
use crate::spdy::testing::{Deflater, data, events, grow, typed};
use crate::spdy::{ConnectionError, Settings};
use bytes::{Bytes, BytesMut};
use std::io::ErrorKind;
use std::task::{Poll, Waker};
use tokio::io::ReadBuf;

/// A state and its peer, without anything between them.
struct Pair {
    state: State,
    deflater: Deflater,
}

impl Pair {
    fn new() -> Self {
        let state = State::new(&Settings { streams_cap: 1000, idle: None });
        Self { state, deflater: Deflater::new() }
    }

    /// With streams that are accepted and replied to.
    fn with(streams: &[u32]) -> Self {
        let mut pair = Self::new();
        for stream in streams {
            pair.open(*stream).unwrap();
            assert_eq!(pair.accept(), Some(*stream));
            pair.state.reply(*stream, &Headers::new());
        }
        pair.sent();
        pair
    }

    fn open(&mut self, stream: u32) -> Result<(), ConnectionError> {
        let control = self.deflater.open(stream, &typed("data"));
        self.state.receive(Event::Control(control))
    }

    fn accept(&mut self) -> Option<u32> {
        match self.state.accept(Waker::noop()) {
            Poll::Ready(accepted) => accepted.map(|(id, _)| id),
            Poll::Pending => None,
        }
    }

    fn receive(&mut self, event: Event) {
        self.state.receive(event).unwrap();
    }

    fn control(&mut self, control: Control) {
        self.receive(Event::Control(control));
    }

    /// All that is sent until nothing more may be.
    fn sent(&mut self) -> Vec<Event> {
        let (mut all, mut buffer) = (Vec::new(), BytesMut::new());
        loop {
            self.state.fill(&mut buffer);
            if buffer.is_empty() {
                return all;
            }
            all.extend(events(&buffer));
            buffer.clear();
        }
    }

    /// Writes until there is no more room, and gives how much there was.
    fn write(&mut self, stream: u32, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.state.write(stream, &bytes[written..], Waker::noop()) {
                Poll::Ready(Ok(more)) => written += more,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        written
    }

    /// Writes and sends for as long as that goes.
    fn pour(&mut self, stream: u32, bytes: usize) -> usize {
        let (bytes, mut sent) = (vec![7; bytes], 0);
        loop {
            let written = self.write(stream, &bytes[sent..]);
            sent += written;
            let went: usize = self.sent().iter().map(payload).sum();
            if written == 0 && went == 0 {
                return sent;
            }
        }
    }

    fn read(&mut self, stream: u32) -> Result<usize, ErrorKind> {
        let mut room = vec![0; 1 << 20];
        let mut buffer = ReadBuf::new(&mut room);
        match self.state.read(stream, &mut buffer, Waker::noop()) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(fault)) => Err(fault.kind()),
            Poll::Pending => Err(ErrorKind::WouldBlock),
        }
    }
}

fn payload(event: &Event) -> usize {
    match event {
        Event::Data { bytes, .. } => bytes.len(),
        Event::Control(_) => 0,
    }
}

fn reset(stream: u32, status: Status) -> Event {
    Event::Control(Control::RstStream { stream, status: status.code() })
}

fn pings(events: &[Event]) -> Vec<u32> {
    let ping = |event: &Event| match event {
        Event::Control(Control::Ping { id }) => Some(*id),
        Event::Control(_) | Event::Data { .. } => None,
    };
    events.iter().filter_map(ping).collect()
}

#[test]
fn pings_of_the_client_are_answered_and_no_others() {
    let mut pair = Pair::new();
    for id in [1, 4, 0, 7] {
        pair.control(Control::Ping { id });
    }
    assert_eq!(pings(&pair.sent()), [1, 7]);
}

#[test]
fn streams_come_in_order_and_odd() {
    for (first, second) in [(5, 3), (5, 6), (5, 4)] {
        let mut pair = Pair::with(&[first]);
        let outcome = pair.open(second);
        assert!(matches!(outcome, Err(ConnectionError::StreamOrder { .. })), "{second}");
    }
    let mut pair = Pair::with(&[5]);
    pair.open(5).unwrap();
    assert_eq!(pair.sent(), [reset(5, Status::ProtocolError)], "the same stream once more");
}

#[test]
fn streams_over_the_cap_are_refused_until_others_are_done() {
    let mut pair = Pair::new();
    pair.state.streams_cap = 2;
    for stream in [1, 3, 5] {
        pair.open(stream).unwrap();
    }
    assert_eq!(pair.sent(), [reset(5, Status::RefusedStream)]);
    // Resetting what nobody has accepted makes no room: a client that does it over and over must wait for us.
    pair.control(Control::RstStream { stream: 1, status: 5 });
    pair.open(7).unwrap();
    assert_eq!(pair.sent(), [reset(7, Status::RefusedStream)]);
    assert_eq!(pair.accept(), Some(3), "what was reset is not accepted");
    pair.open(9).unwrap();
    assert_eq!((pair.sent(), pair.accept()), (vec![], Some(9)));
}

#[test]
fn refused_streams_keep_the_headers_of_the_next_readable() {
    let mut pair = Pair::new();
    pair.state.streams_cap = 0;
    pair.open(1).unwrap();
    pair.state.streams_cap = 1;
    pair.open(3).unwrap();
    let accepted = pair.state.accept(Waker::noop());
    assert_eq!(accepted, Poll::Ready(Some((3, typed("data")))));
}

#[test]
fn a_stream_with_wrong_headers_is_reset_and_the_next_is_taken() {
    let mut pair = Pair::new();
    let block = pair.deflater.deflate(b"\0\0\0\x01\0\0\0\x01A\0\0\0\x01b");
    pair.control(Control::SynStream { stream: 1, fin: false, unidirectional: false, block });
    pair.open(3).unwrap();
    assert_eq!(pair.sent(), [reset(1, Status::ProtocolError)]);
    assert_eq!(pair.accept(), Some(3));
}

#[test]
fn headers_that_cannot_be_read_end_the_connection() {
    let mut pair = Pair::new();
    let bomb = pair.deflater.deflate(&vec![0; 1 << 20]);
    let lie = Pair::new().deflater.deflate(b"\xff\xff\xff\xff\0\0\0\x01");
    for block in [Bytes::from_static(b"no zlib"), bomb, lie] {
        let control = Control::Headers { stream: 1, fin: false, block };
        let outcome = Pair::new().state.receive(Event::Control(control));
        assert!(matches!(outcome, Err(ConnectionError::Headers(_))), "{outcome:?}");
    }
}

#[test]
fn data_for_streams_that_are_not_there_are_dropped() {
    let mut pair = Pair::with(&[1]);
    pair.receive(data(3, b"x", false));
    assert_eq!(pair.sent(), [reset(3, Status::InvalidStream)], "it was never there");
    pair.state.release(1, Status::Cancel);
    assert_eq!(pair.sent(), [reset(1, Status::Cancel)]);
    pair.receive(data(1, &[0; 100_000], false));
    assert_eq!(pair.sent(), [], "they may have been on their way");
    pair.receive(data(1, &[0; 100_000], true));
    assert_eq!((pair.sent(), pair.state.inbound, pair.state.slots.len()), (vec![], 0, 0));
}

#[test]
fn each_half_of_a_stream_ends_for_itself() {
    let mut pair = Pair::with(&[1]);
    pair.receive(data(1, b"in", true));
    assert_eq!((pair.read(1), pair.read(1), pair.read(1)), (Ok(2), Ok(0), Ok(0)));
    assert_eq!(pair.write(1, b"out"), 3, "ours is still open");
    pair.state.finish(1).unwrap();
    assert_eq!(pair.write(1, b"more"), 0, "and now it is not");
    assert_eq!(pair.sent(), [data(1, b"out", true)]);
    pair.state.finish(1).unwrap();
    pair.state.release(1, Status::Cancel);
    assert_eq!((pair.sent(), pair.state.slots.len()), (vec![], 0), "nothing is left to say");

    let mut pair = Pair::with(&[1]);
    pair.state.finish(1).unwrap();
    assert_eq!(pair.sent(), [data(1, b"", true)]);
    pair.receive(data(1, b"in", false));
    assert_eq!((pair.read(1), pair.read(1)), (Ok(2), Err(ErrorKind::WouldBlock)));
}

#[test]
fn a_stream_may_end_with_the_frame_that_opens_it_or_with_headers() {
    let mut pair = Pair::new();
    let block = pair.deflater.deflate(&typed("error").block());
    pair.control(Control::SynStream { stream: 1, fin: true, unidirectional: true, block });
    assert_eq!((pair.accept(), pair.read(1), pair.write(1, b"x")), (Some(1), Ok(0), 0));
    pair.state.reply(1, &Headers::new());
    pair.state.release(1, Status::Cancel);
    assert_eq!((pair.sent(), pair.state.slots.len()), (vec![], 0), "it wants no reply");

    pair.open(3).unwrap();
    let block = pair.deflater.deflate(&typed("trailer").block());
    pair.control(Control::Headers { stream: 3, fin: true, block });
    assert_eq!(pair.read(3), Ok(0));
}

#[test]
fn data_after_the_end_of_a_stream_reset_it() {
    let mut pair = Pair::with(&[1]);
    pair.receive(data(1, b"in", true));
    pair.receive(data(1, b"more", false));
    assert_eq!(pair.sent(), [reset(1, Status::StreamAlreadyClosed)]);
    assert_eq!(pair.read(1), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_reset_ends_reading_and_writing_and_frees_what_waits() {
    let mut pair = Pair::with(&[1, 3]);
    pair.receive(data(1, b"in", false));
    pair.write(1, b"out");
    pair.control(Control::RstStream { stream: 1, status: 5 });
    assert_eq!((pair.state.inbound, pair.state.outbound), (0, 0));
    assert_eq!((pair.read(1), pair.write(1, b"x")), (Err(ErrorKind::ConnectionReset), 0));
    pair.state.release(1, Status::Cancel);
    assert_eq!((pair.sent(), pair.state.slots.len()), (vec![], 1));
}

#[test]
fn a_stream_that_is_let_go_is_reset_after_what_was_ended_properly() {
    let mut pair = Pair::with(&[1, 3]);
    pair.write(1, b"lost");
    pair.state.release(1, Status::Cancel);
    pair.write(3, b"sent");
    pair.state.finish(3).unwrap();
    pair.state.release(3, Status::Cancel);
    let expected = [reset(1, Status::Cancel), data(3, b"sent", true), reset(3, Status::Cancel)];
    assert_eq!(pair.sent(), expected);
    assert_eq!((pair.state.outbound, pair.state.slots.len()), (0, 0));
}

#[test]
fn streams_send_in_turns() {
    let mut pair = Pair::with(&[1, 3, 5]);
    for stream in [1, 3, 5] {
        pair.write(stream, &[0; 12_000]);
    }
    pair.state.fill(&mut BytesMut::new());
    let mut order = Vec::new();
    for _ in 0..3 {
        for stream in [1, 3, 5] {
            pair.write(stream, &[0; 1000]);
        }
        let sent = pair.sent();
        order.extend(sent.iter().filter_map(|event| match event {
            Event::Data { stream, .. } => Some(*stream),
            Event::Control(_) => None,
        }));
    }
    assert_eq!(order, [1, 3, 5, 1, 3, 5, 1, 3, 5]);
}

#[test]
fn a_peer_that_never_speaks_of_windows_is_asked_once_and_sent_all() {
    let mut pair = Pair::with(&[1, 3]);
    let bytes = vec![7; 100_000];
    let mut written = pair.write(1, &bytes);
    let sent = pair.sent();
    written += pair.write(1, &bytes[written..]);
    let sent: Vec<Event> = sent.into_iter().chain(pair.sent()).collect();
    assert_eq!(sent.iter().map(payload).sum::<usize>(), 65_536);
    written += pair.write(1, &bytes[written..]);
    assert!(written < bytes.len(), "it is held back");
    let sent = pair.sent();
    assert_eq!(pings(&sent), [2], "{sent:?}");
    assert!(pair.state.probe_deadline().is_some(), "and not for ever");
    pair.control(Control::Ping { id: 2 });
    assert_eq!(pair.pour(1, 1 << 20), 1 << 20);
    assert_eq!(pair.pour(3, 1 << 20), 1 << 20);
    assert_eq!(pair.state.probe_deadline(), None);
}

#[test]
fn a_peer_that_does_not_answer_either_is_sent_all() {
    let mut pair = Pair::with(&[1]);
    assert!(pair.pour(1, 1 << 20) < 1 << 20, "it is held back");
    pair.state.probe_is_over();
    assert_eq!(pair.pour(1, 1 << 20), 1 << 20);
}

#[test]
fn a_peer_that_keeps_to_windows_is_sent_what_it_has_room_for() {
    let mut pair = Pair::with(&[1, 3]);
    pair.control(Control::Settings { initial_window: Some(10_000) });
    let held = 32 << 10;
    assert_eq!(pair.pour(1, 1 << 20), 10_000 + held, "the stream's window");
    pair.receive(grow(1, 500));
    let sent = pair.sent();
    assert_eq!(sent, [data(1, &[7; 500], false)]);
    pair.receive(grow(1, 1 << 20));
    pair.receive(grow(3, 1 << 20));
    pair.pour(1, 1 << 20);
    assert_eq!(pair.state.flow.send.room(), 0, "the connection's window");
    pair.pour(3, 100);
    pair.receive(grow(0, 40_000));
    let turns: Vec<(u32, usize)> = pair
        .sent()
        .iter()
        .filter_map(|event| match event {
            Event::Data { stream, bytes, .. } => Some((*stream, bytes.len())),
            Event::Control(_) => None,
        })
        .collect();
    assert_eq!(turns, [(1, 32 << 10), (3, 100)], "{turns:?}");
    assert_eq!(pair.state.flow.probe.as_ref().map(|probe| probe.id), None);
}

#[test]
fn an_end_without_data_needs_no_window() {
    let mut pair = Pair::with(&[1, 3]);
    pair.receive(grow(1, 1));
    pair.pour(1, 1 << 20);
    pair.state.finish(3).unwrap();
    assert_eq!(pair.sent(), [data(3, b"", true)]);
}

#[test]
fn a_window_that_grows_too_large_ends_the_stream_or_the_connection() {
    let mut pair = Pair::with(&[1]);
    pair.receive(grow(1, u32::MAX >> 1));
    assert_eq!(pair.sent(), [reset(1, Status::FlowControlError)]);
    let outcome = pair.state.receive(grow(0, u32::MAX >> 1));
    assert!(matches!(outcome, Err(ConnectionError::Window)), "{outcome:?}");
    let settings = Control::Settings { initial_window: Some(u32::MAX) };
    let outcome = Pair::new().state.receive(Event::Control(settings));
    assert!(matches!(outcome, Err(ConnectionError::Window)), "{outcome:?}");
}

#[test]
fn a_peer_that_keeps_to_windows_is_given_back_what_was_read() {
    let mut pair = Pair::with(&[1, 3]);
    pair.receive(grow(0, 1));
    for _ in 0..3 {
        pair.receive(data(1, &[0; 20_000], false));
    }
    assert_eq!(pair.sent(), [], "nothing was read");
    assert_eq!(pair.read(1), Ok(60_000));
    assert_eq!(pair.sent(), [grow(0, 60_000), grow(1, 60_000)]);
    pair.receive(data(3, &[0; 60_000], false));
    pair.state.release(3, Status::Cancel);
    assert_eq!(
        pair.sent(),
        [grow(0, 60_000), reset(3, Status::Cancel)],
        "what nobody will read is room"
    );
}

#[test]
fn a_peer_that_only_sends_gets_room_for_much_once() {
    let mut pair = Pair::with(&[1]);
    for _ in 0..100 {
        pair.receive(data(1, &[0; 20_000], false));
        pair.read(1).unwrap();
    }
    let settings = Control::Settings { initial_window: Some(1 << 30) };
    assert_eq!(pair.sent(), [Event::Control(settings), grow(0, 1 << 30)]);
}

#[test]
fn a_peer_that_oversteps_is_never_sent_an_update_nor_held_to_its_windows() {
    let mut pair = Pair::with(&[1]);
    for _ in 0..100 {
        pair.receive(data(1, &[0; 70_000], false));
        assert_eq!(pair.read(1), Ok(70_000));
    }
    assert_eq!(pair.sent(), []);
    assert_eq!(pair.pour(1, 1 << 20), 1 << 20);
}

#[test]
fn no_more_is_read_while_readers_are_behind() {
    let mut pair = Pair::with(&[1, 3]);
    pair.receive(data(1, &vec![0; INBOUND_CAP], false));
    assert!(pair.state.is_full());
    pair.read(1).unwrap();
    assert!(!pair.state.is_full());
    pair.receive(data(3, &vec![0; INBOUND_CAP], false));
    assert!(pair.state.is_full());
    pair.state.release(3, Status::Cancel);
    assert!(!pair.state.is_full(), "what nobody reads is no reason");
}

#[test]
fn no_more_is_read_from_a_peer_that_asks_and_does_not_listen() {
    let mut pair = Pair::new();
    let mut asked = 0;
    while !pair.state.is_full() {
        pair.control(Control::Ping { id: 1 });
        asked += 12;
    }
    assert!(asked <= CONTROL_OUT_CAP + 12, "{asked} bytes");
    pair.sent();
    assert!(!pair.state.is_full());
}

#[test]
fn a_thousand_streams_that_nobody_reads_wait_in_little_memory() {
    let streams: Vec<u32> = (0..1000).map(|n| 2 * n + 1).collect();
    let mut pair = Pair::with(&streams);
    pair.control(Control::Settings { initial_window: Some(0) });
    for stream in &streams {
        let written = pair.write(*stream, &[0; 100_000]);
        assert!(written >= 4 << 10, "stream {stream} has only {written} bytes");
    }
    assert!(pair.state.outbound <= 6 << 20, "{} bytes wait", pair.state.outbound);
    assert_eq!(pair.sent(), []);
    pair.receive(grow(1999, 100));
    assert_eq!(pair.sent(), [data(1999, &[0; 100], false)], "one may go on without the others");
}

#[test]
fn after_a_farewell_nothing_is_accepted_and_what_is_there_goes_on() {
    let mut pair = Pair::with(&[1]);
    pair.open(3).unwrap();
    pair.control(Control::GoAway { last: 0, status: 0 });
    assert_eq!(pair.accept(), Some(3), "it came before");
    assert_eq!(pair.state.accept(Waker::noop()), Poll::Ready(None));
    pair.open(5).unwrap();
    assert_eq!(pair.sent(), [reset(5, Status::RefusedStream)]);
    assert_eq!(pair.write(1, b"x"), 1);
}

#[test]
fn after_the_end_what_came_in_is_read_and_nothing_is_written() {
    let mut pair = Pair::with(&[1, 3]);
    pair.receive(data(1, b"cut", false));
    pair.receive(data(3, b"whole", true));
    pair.state.end();
    assert_eq!(pair.state.phase, Phase::Ended);
    assert_eq!((pair.read(1), pair.read(1)), (Ok(3), Err(ErrorKind::ConnectionReset)));
    assert_eq!((pair.read(3), pair.read(3)), (Ok(5), Ok(0)));
    assert_eq!(pair.write(1, b"x"), 0);
    assert!(pair.state.finish(1).is_err(), "the end was not sent");
}
