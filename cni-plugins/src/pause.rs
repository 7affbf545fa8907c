//! Pauses between two tries of something whose turn nothing announces.

use rustix::event::Timespec;
use rustix::io::Errno;
use std::time::Duration;

/// The pause before the second try; each next one is longer, up to [`LONGEST_PAUSE`].
pub(crate) const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// The longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Does nothing for so long, or until a signal comes.
///
/// # Errors
/// The kernel has no memory for it (poll(2)).
pub(crate) fn pause(time: Duration) -> Result<(), Errno> {
    let time = Timespec::try_from(time).map_err(|_too_long| Errno::INVAL)?;
    match rustix::event::poll(&mut [], Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
