//! Pseudo terminals, made from a given devpts instance, with the slave obtained by descriptor and never by name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Result, SystemError};
use crate::path::Root;

/// Both ends of a pseudo terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The end that a supervisor reads and writes.
    pub master: OwnedFd,
    /// The end that a program runs on.
    pub slave: OwnedFd,
}

/// The size of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// How many lines it has.
    pub rows: u16,
    /// How many characters a line has.
    pub columns: u16,
}

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS: libc::c_long = 0x1cd1;

/// The first and last major number of slaves.
const SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Makes a terminal from the devpts mounted at `/dev/pts` of a root.
///
/// # Errors
/// There is no devpts, or what lies there is something else.
pub fn create(root: &Root) -> Result<Terminal> {
    let path = std::path::Path::new("/dev/pts/ptmx");
    let master = root.file(path, OFlags::RDWR | OFlags::NOFOLLOW)?;
    let filesystem = rustix::fs::fstatfs(&master)
        .map_err(|error| SystemError::new("fstatfs", "/dev/pts/ptmx", error))?;
    if filesystem.f_type != DEVPTS {
        return Err(not_a_terminal());
    }
    rustix::pty::unlockpt(&master)
        .map_err(|error| SystemError::new("ioctl", "TIOCSPTLCK", error))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)
        .map_err(|error| SystemError::new("ioctl", "TIOCGPTPEER", error))?;
    let status = rustix::fs::fstat(&slave).map_err(|error| SystemError::new("fstat", "", error))?;
    let major = rustix::fs::major(status.st_rdev);
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice
        || !SLAVE_MAJORS.contains(&major)
    {
        return Err(not_a_terminal());
    }
    Ok(Terminal { master, slave })
}

/// Sets the size of the window; programs on the terminal are told by a signal.
///
/// # Errors
/// It is no terminal.
pub fn resize(terminal: impl AsFd, size: Size) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
        .map_err(|error| SystemError::new("ioctl", "TIOCSWINSZ", error))
}

/// Makes a terminal the controlling one of the caller's session. The caller leads the session.
///
/// # Errors
/// The caller leads no session, or has a controlling terminal.
pub fn control(terminal: impl AsFd) -> Result<()> {
    // SAFETY: the request takes a number: do not steal the terminal from another session.
    let answer = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if answer < 0 {
        return Err(SystemError::last("ioctl", "TIOCSCTTY"));
    }
    Ok(())
}

fn not_a_terminal() -> SystemError {
    let source = io::Error::from_raw_os_error(libc::ENOTTY);
    SystemError::new("open", "/dev/pts/ptmx", source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_written_to_the_slave_comes_out_of_the_master() {
        let terminal = create(&Root::open(Path::new("/")).unwrap()).unwrap();
        resize(&terminal.master, Size { rows: 24, columns: 80 }).unwrap();
        assert_eq!(rustix::termios::tcgetwinsize(&terminal.slave).unwrap().ws_col, 80);
        rustix::io::write(&terminal.slave, b"word").unwrap();
        let mut text = [0; 8];
        let length = rustix::io::read(&terminal.master, &mut text).unwrap();
        assert_eq!(&text[..length], b"word");
    }

    #[test]
    fn a_file_in_place_of_the_terminal_is_refused() {
        let directory =
            std::env::temp_dir().join(format!("cringle-terminal-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("dev/pts")).unwrap();
        std::fs::File::create(directory.join("dev/pts/ptmx")).unwrap();
        create(&Root::open(&directory).unwrap()).unwrap_err();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
