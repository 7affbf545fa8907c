//! The gate of a container whose creator does not stay: a socket in the bundle at which its init waits.
//!
//! Its file is there exactly as long as the gate is closed. Whoever connects and says Go hears on that connection what `start`
//! would hear.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use cringle_kernel::socket::{self, Kind, Waiting};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::error::{Attempting as _, EngineError, Result};
use super::sync::{End, Heard};

const FILE: &str = "gate.sock";

/// Makes the gate.
///
/// # Errors
/// The socket can't be made.
pub(super) fn listen(bundle: &Path) -> Result<OwnedFd> {
    let attempt = || "make the gate".to_owned();
    let gate =
        socket::listen(open_directory(bundle)?.as_fd(), FILE, Kind::Packets).attempting(attempt)?;
    rustix::io::ioctl_fionbio(&gate, false).attempting(attempt)?;
    Ok(gate)
}

/// Child-side: waits until somebody opens the gate; whoever connects and leaves without a word does not.
pub(super) fn pass(gate: &OwnedFd) -> Option<End> {
    loop {
        match rustix::net::accept_with(gate, SocketFlags::CLOEXEC) {
            Ok(connection) => {
                let end = End::from_descriptor(connection);
                if end.may_go() {
                    return Some(end);
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => return None,
        }
    }
}

/// Opens the gate and waits for the program to run.
///
/// # Errors
/// Nobody waits there, or why the program does not run.
pub(super) fn open(bundle: &Path) -> Result<()> {
    let directory = open_directory(bundle)?;
    let connected = socket::connect(directory.as_fd(), FILE, Kind::Packets, Waiting::Blocks);
    let connection = match connected {
        Err(error)
            if matches!(
                error.errno().map(Errno::from_raw_os_error),
                Some(Errno::NOENT | Errno::CONNREFUSED)
            ) =>
        {
            return Err(EngineError::Phase("not waiting to be started"));
        }
        other => other.attempting(|| "open the gate".to_owned())?,
    };
    let end = End::from_descriptor(connection);
    end.go()?;
    let heard = end.hear();
    remove(bundle)?;
    match heard? {
        Heard::Closed => Ok(()),
        Heard::Ready(_) | Heard::Paused => Err(EngineError::Phase("ready twice")),
    }
}

/// Whether an init may wait there.
pub(super) fn is_closed(bundle: &Path) -> bool {
    bundle.join(FILE).exists()
}

/// Removes the gate; one that is gone is fine.
///
/// # Errors
/// The file can't be removed.
pub(super) fn remove(bundle: &Path) -> Result<()> {
    match rustix::fs::unlink(bundle.join(FILE)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).attempting(|| "remove the gate".to_owned()),
    }
}

fn open_directory(bundle: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(bundle, flags, Mode::empty()).attempting(|| format!("open bundle {bundle:?}"))
}
