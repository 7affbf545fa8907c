//! Attachments: copies of what the container says, for clients that come and go.
//!
//! Each attachment has a pipe for each stream that it wants, made by the client, who reads the other end. What the pumps
//! read is written there without waiting. When a pipe is full the pump waits for it, but only a little and not for ever, for
//! while it waits the container is not read; then the attachment is cut off and told so. So a client either gets
//! everything that was said since it came, or knows that it does not.

use crate::locked;
use crate::stdio::lines::Stream;
use crate::stdio::pump::write_all;
use crate::watched::watched;
use cringle_proto_shim::control::{Detachment, Report};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;

/// How long a pump waits at a stretch, for all attachments together.
const STRETCH: Duration = Duration::from_millis(100);
/// How long pumps wait for one attachment in all its life.
const PATIENCE: Duration = Duration::from_secs(1);

/// The attachments of one container.
#[derive(Debug, Default)]
pub(crate) struct Fan(Mutex<Listeners>);

/// A fan that several pumps write to.
pub(crate) type SharedFan = Arc<Fan>;

#[derive(Debug, Default)]
struct Listeners {
    attached: Vec<Arc<Attachment>>,
    /// Streams that the container has closed.
    ended: Vec<Stream>,
}

/// One attachment.
#[derive(Debug)]
pub(crate) struct Attachment {
    sinks: Mutex<Vec<(Stream, Arc<AsyncFd<OwnedFd>>)>>,
    patience: Mutex<Duration>,
    reports: UnboundedSender<Report>,
}

/// An attachment whose pipe is full, and what it has of the bytes.
struct Behind {
    attachment: Arc<Attachment>,
    sink: Arc<AsyncFd<OwnedFd>>,
    written: usize,
}

impl Fan {
    /// Adds an attachment, which gets what is said from now on. Its end is told to `reports`.
    ///
    /// # Errors
    /// The event loop refuses a descriptor.
    pub(crate) fn attach(
        &self,
        pipes: Vec<(Stream, OwnedFd)>,
        reports: UnboundedSender<Report>,
    ) -> io::Result<Arc<Attachment>> {
        let mut listeners = locked(&self.0);
        let mut sinks = Vec::new();
        for (stream, pipe) in pipes {
            rustix::io::ioctl_fionbio(&pipe, true)?;
            // Of a stream that has ended the client sees the end at once.
            if !listeners.ended.contains(&stream) {
                sinks.push((stream, Arc::new(watched(pipe)?)));
            }
        }
        let patience = Mutex::new(PATIENCE);
        let attachment = Arc::new(Attachment { sinks: Mutex::new(sinks), patience, reports });
        listeners.attached.push(Arc::clone(&attachment));
        Ok(attachment)
    }

    /// Forgets an attachment whose client has gone.
    pub(crate) fn detach(&self, attachment: &Arc<Attachment>) {
        locked(&self.0).attached.retain(|other| !Arc::ptr_eq(other, attachment));
    }

    /// Whether anybody wants that stream.
    pub(crate) fn is_heard(&self, stream: Stream) -> bool {
        locked(&self.0).attached.iter().any(|attachment| attachment.sink(stream).is_some())
    }

    /// Gives everybody these bytes, or cuts him off.
    pub(crate) async fn spread(&self, stream: Stream, bytes: &[u8]) {
        let until = Instant::now() + STRETCH;
        for behind in self.write_now(stream, bytes) {
            let rest = bytes.get(behind.written..).unwrap_or_default();
            let began = Instant::now();
            let allowed = behind.attachment.patience().min(until.saturating_duration_since(began));
            let written = tokio::time::timeout(allowed, write_all(&behind.sink, rest)).await;
            behind.attachment.spend(began.elapsed());
            match written {
                Ok(Ok(())) => {}
                Ok(Err(_client_closed_it)) => behind.attachment.let_go(stream),
                Err(_elapsed) => {
                    self.detach(&behind.attachment);
                    behind.attachment.end(Detachment::FellBehind);
                }
            }
        }
    }

    /// The container has closed a stream.
    pub(crate) fn stream_ended(&self, stream: Stream) {
        let mut listeners = locked(&self.0);
        listeners.ended.push(stream);
        listeners.attached.iter().for_each(|attachment| attachment.let_go(stream));
    }

    /// The container has ended, and its output was read.
    pub(crate) fn close(&self) {
        for attachment in std::mem::take(&mut locked(&self.0).attached) {
            let why = if attachment.is_waited_for() {
                Detachment::FellBehind
            } else {
                Detachment::ContainerEnded
            };
            attachment.end(why);
        }
    }

    /// Writes what fits; gives those for whom it did not.
    fn write_now(&self, stream: Stream, bytes: &[u8]) -> Vec<Behind> {
        let mut behind = Vec::new();
        for attachment in &locked(&self.0).attached {
            let Some(sink) = attachment.sink(stream) else { continue };
            match rustix::io::write(sink.as_fd(), bytes) {
                Ok(written) if written == bytes.len() => {}
                Err(errno) if errno != Errno::AGAIN && errno != Errno::INTR => {
                    attachment.let_go(stream);
                }
                some @ (Ok(_) | Err(_)) => {
                    let (attachment, written) = (Arc::clone(attachment), some.unwrap_or(0));
                    behind.push(Behind { attachment, sink, written });
                }
            }
        }
        behind
    }
}

impl Attachment {
    fn sink(&self, stream: Stream) -> Option<Arc<AsyncFd<OwnedFd>>> {
        let sinks = locked(&self.sinks);
        sinks.iter().find(|(name, _)| *name == stream).map(|(_, sink)| Arc::clone(sink))
    }

    fn let_go(&self, stream: Stream) {
        locked(&self.sinks).retain(|(name, _)| *name != stream);
    }

    /// Whether a pump holds one of its pipes: only one that waits does.
    fn is_waited_for(&self) -> bool {
        locked(&self.sinks).iter().any(|(_, sink)| Arc::strong_count(sink) > 1)
    }

    fn patience(&self) -> Duration {
        *locked(&self.patience)
    }

    fn spend(&self, time: Duration) {
        let mut patience = locked(&self.patience);
        *patience = patience.saturating_sub(time);
    }

    /// Closes the pipes, then says why.
    fn end(&self, why: Detachment) {
        locked(&self.sinks).clear();
        let _nobody_listens = self.reports.send(Report::AttachmentEnded { why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::{PipeReader, Read};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    struct Client {
        attachment: Arc<Attachment>,
        output: PipeReader,
        reports: UnboundedReceiver<Report>,
    }

    impl Client {
        fn of(fan: &Fan) -> Self {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (sender, reports) = unbounded_channel();
            let attachment = fan.attach(vec![(Stream::Output, writer)], sender).unwrap();
            Self { attachment, output: PipeReader::from(reader), reports }
        }

        fn why_ended(&mut self) -> Option<Detachment> {
            match self.reports.try_recv() {
                Ok(Report::AttachmentEnded { why }) => Some(why),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            }
        }

        /// Takes what there is.
        fn read_now(&mut self, bytes: &mut Vec<u8>) {
            rustix::io::ioctl_fionbio(&self.output, true).unwrap();
            let end = self.output.read_to_end(bytes).unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
        }

        fn everything(mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.output.read_to_end(&mut bytes).unwrap();
            bytes
        }
    }

    #[tokio::test]
    async fn everybody_gets_what_is_said_since_he_came() {
        let fan = Fan::default();
        let early = Client::of(&fan);
        fan.spread(Stream::Output, b"one").await;
        let mut late = Client::of(&fan);
        fan.spread(Stream::Output, b"two").await;
        fan.spread(Stream::Error, b"nobody's").await;
        fan.close();
        assert_eq!(late.why_ended(), Some(Detachment::ContainerEnded));
        assert_eq!((early.everything(), late.everything()), (b"onetwo".to_vec(), b"two".to_vec()));
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off_without_a_gap_and_hurts_nobody_else() {
        let fan = Fan::default();
        let mut slow = Client::of(&fan);
        let mut quick = Client::of(&fan);
        let mut heard = Vec::new();
        let said: Vec<u8> = (0..400_000_u32).flat_map(u32::to_be_bytes).collect();
        for chunk in said.chunks(8000) {
            fan.spread(Stream::Output, chunk).await;
            quick.read_now(&mut heard);
        }
        assert_eq!(slow.why_ended(), Some(Detachment::FellBehind));
        assert_eq!(slow.attachment.sink(Stream::Output).map(drop), None);
        let got = slow.everything();
        assert!(!got.is_empty() && said.starts_with(&got), "{} bytes", got.len());
        assert!(heard == said, "a gap");
        assert_eq!(quick.why_ended(), None);
    }

    #[tokio::test]
    async fn a_stream_that_ended_ends_for_those_who_come_later_too() {
        let fan = Fan::default();
        let early = Client::of(&fan);
        fan.spread(Stream::Output, b"last").await;
        fan.stream_ended(Stream::Output);
        let late = Client::of(&fan);
        assert_eq!((early.everything(), late.everything()), (b"last".to_vec(), Vec::new()));
        assert!(!fan.is_heard(Stream::Output));
    }

    #[tokio::test]
    async fn who_closes_his_pipe_is_no_obstacle() {
        let fan = Fan::default();
        let mut gone = Client::of(&fan);
        gone.output = PipeReader::from(OwnedFd::from(File::open("/dev/null").unwrap()));
        fan.spread(Stream::Output, b"word").await;
        assert!(!fan.is_heard(Stream::Output));
        assert_eq!(gone.why_ended(), None);
        fan.detach(&gone.attachment);
        fan.close();
        assert_eq!(gone.why_ended(), None);
    }
}
