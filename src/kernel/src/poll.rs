//! Waiting for descriptors, with a deadline.

use crate::error::{Result, SystemError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Waits until `descriptor` can be read or has ended. False if the time is up first; absent time: for ever.
///
/// # Errors
/// `ppoll`.
pub fn readable(descriptor: BorrowedFd<'_>, time: Option<Duration>) -> Result<bool> {
    wait(descriptor, PollFlags::IN, time)
}

/// Waits until `descriptor` can be written or has ended. False if the time is up first; absent time: for ever.
///
/// # Errors
/// `ppoll`.
pub fn writable(descriptor: BorrowedFd<'_>, time: Option<Duration>) -> Result<bool> {
    wait(descriptor, PollFlags::OUT, time)
}

fn wait(descriptor: BorrowedFd<'_>, events: PollFlags, time: Option<Duration>) -> Result<bool> {
    let end = time.map(|time| Instant::now() + time);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(LONGEST));
        let mut entries = [PollFd::from_borrowed_fd(descriptor, events)];
        match rustix::event::poll(&mut entries, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SystemError::new("ppoll", "", errno)),
        }
    }
}

/// What a duration too long for the kernel's type is cut to.
const LONGEST: Timespec = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_empty_pipe_is_not_readable_until_it_has_a_byte_or_an_end() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert!(!readable(reader.as_fd(), Some(Duration::ZERO)).unwrap());
        assert!(writable(writer.as_fd(), None).unwrap());
        rustix::io::write(&writer, b"x").unwrap();
        assert!(readable(reader.as_fd(), None).unwrap());
        rustix::io::read(&reader, &mut [0; 8][..]).unwrap();
        drop(writer);
        assert!(readable(reader.as_fd(), None).unwrap());
    }
}
