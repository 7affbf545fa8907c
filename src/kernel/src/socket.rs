//! Unix sockets below a directory that is given as a descriptor, and packets with descriptors beside them.
//!
//! Addresses go through `/proc/self/fd`, so a long path is no obstacle (sun_path holds 108 bytes) and no component of it is
//! resolved twice. A listening socket gets its permissions before it has a name.

use crate::error::{Result, SystemError};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As one stream.
    Stream,
    /// In packets that keep their borders, in order.
    Packets,
}

/// One packet and the descriptors that came with it.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Most descriptors that one packet may carry.
pub const MAXIMUM_DESCRIPTORS: usize = 8;

/// Whether calls on a socket wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They do.
    Blocks,
    /// They answer EAGAIN instead.
    Returns,
}

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internet {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// A TCP socket in the calling thread's network namespace, bound to nothing. Calls on it do not wait.
///
/// # Errors
/// `socket`: EAFNOSUPPORT if the kernel has not got that version.
pub fn internet(version: Internet) -> Result<OwnedFd> {
    let family = match version {
        Internet::V4 => AddressFamily::INET,
        Internet::V6 => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(rustix::net::ipproto::TCP))
        .map_err(|errno| SystemError::new("socket", "", errno))
}

/// A listening socket named `name` in `directory`, mode 0600 from its first moment. A file of that name is replaced.
///
/// # Errors
/// The call that failed: `socket`, `fchmod`, `unlinkat`, `bind` or `listen`.
pub fn listen(directory: BorrowedFd<'_>, name: &str, kind: Kind) -> Result<OwnedFd> {
    let socket = open(kind, Waiting::Returns)?;
    // The file's mode is the socket's own mode at the time of bind(2), less the umask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))
        .map_err(|errno| SystemError::new("fchmod", quoted(name), errno))?;
    match rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(SystemError::new("unlinkat", quoted(name), errno)),
    }
    rustix::net::bind(&socket, &address(directory, name)?)
        .map_err(|errno| SystemError::new("bind", quoted(name), errno))?;
    rustix::net::listen(&socket, BACKLOG)
        .map_err(|errno| SystemError::new("listen", quoted(name), errno))?;
    Ok(socket)
}

/// How many may wait to be accepted: who connects without waiting is refused when there are more, and a shim has hundreds
/// of clients at once. The kernel cuts it to `net.core.somaxconn`, whose default is the same.
const BACKLOG: i32 = 4096;

/// A connection to the socket named `name` in `directory`.
///
/// # Errors
/// The call that failed: `socket` or `connect`; ECONNREFUSED if nobody listens any more.
pub fn connect(
    directory: BorrowedFd<'_>,
    name: &str,
    kind: Kind,
    waiting: Waiting,
) -> Result<OwnedFd> {
    let socket = open(kind, waiting)?;
    rustix::net::connect(&socket, &address(directory, name)?)
        .map_err(|errno| SystemError::new("connect", quoted(name), errno))?;
    Ok(socket)
}

/// The next connection to `listener`, or none if there is none now. Calls on it do not wait.
///
/// # Errors
/// `accept4`.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match rustix::net::accept_with(listener, flags) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(errno) => Err(SystemError::new("accept4", "", errno)),
    }
}

/// The user that opened the other end.
///
/// # Errors
/// `getsockopt`.
pub fn peer_user(socket: BorrowedFd<'_>) -> Result<u32> {
    sockopt::socket_peercred(socket)
        .map(|credentials| credentials.uid.as_raw())
        .map_err(|errno| SystemError::new("getsockopt", "SO_PEERCRED", errno))
}

/// Lets packets of `size` bytes through: the default bound of a Unix socket is about 200 kB.
///
/// # Errors
/// `setsockopt`.
pub fn allow_packets_of(socket: BorrowedFd<'_>, size: usize) -> Result<()> {
    // The privileged call may exceed net.core.wmem_max; without the privilege the plain one gets as far as that.
    sockopt::set_socket_send_buffer_size_force(socket, size)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, size))
        .map_err(|errno| SystemError::new("setsockopt", "SO_SNDBUF", errno))
}

/// Sends one packet. Never raises SIGPIPE.
///
/// # Errors
/// `sendmsg`: EAGAIN if it would have to wait, EMSGSIZE if it is too large, EPIPE if the peer is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAXIMUM_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(SystemError::new("sendmsg", "too many descriptors", Errno::TOOBIG));
    }
    loop {
        let sent =
            rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SystemError::new("sendmsg", "", errno)),
        }
    }
}

/// Receives one packet of at most `cap` bytes; none if the peer has hung up.
///
/// # Errors
/// `recvmsg`: EAGAIN if there is none now, EMSGSIZE if the next one is larger than `cap` or carries too many descriptors
/// (it is consumed, and what it carried is closed).
pub fn receive(socket: BorrowedFd<'_>, cap: usize) -> Result<Option<Packet>> {
    let size = next_size(socket)?;
    let mut bytes = vec![0; size.min(cap)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAXIMUM_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|errno| SystemError::new("recvmsg", "", errno))?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(SystemError::new("recvmsg", format!("packet of {size} bytes"), Errno::MSGSIZE));
    }
    // An empty packet cannot be told from the end; nobody sends one.
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(Some(Packet { bytes, descriptors }))
}

/// The size of the packet at the head of the queue, which stays there.
fn next_size(socket: BorrowedFd<'_>) -> Result<usize> {
    let mut nothing = [0_u8; 0];
    loop {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        match rustix::net::recv(socket, &mut nothing[..], flags) {
            Ok((_, size)) => return Ok(size),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SystemError::new("recv", "", errno)),
        }
    }
}

fn open(kind: Kind, waiting: Waiting) -> Result<OwnedFd> {
    let socket_type = match kind {
        Kind::Stream => SocketType::STREAM,
        Kind::Packets => SocketType::SEQPACKET,
    };
    let flags = match waiting {
        Waiting::Blocks => SocketFlags::CLOEXEC,
        Waiting::Returns => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    };
    rustix::net::socket_with(AddressFamily::UNIX, socket_type, flags, None)
        .map_err(|errno| SystemError::new("socket", "", errno))
}

fn address(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_fd().as_raw_fd());
    SocketAddrUnix::new(path).map_err(|errno| SystemError::new("bind", quoted(name), errno))
}

fn quoted(name: &str) -> String {
    format!("{name:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cringle-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn pair(name: &str) -> (Scratch, OwnedFd, OwnedFd) {
        let scratch = Scratch::new(name);
        let directory = File::open(&scratch.0).unwrap();
        let listener = listen(directory.as_fd(), "s", Kind::Packets).unwrap();
        let client = connect(directory.as_fd(), "s", Kind::Packets, Waiting::Returns).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        (scratch, client, server)
    }

    #[test]
    fn a_listening_socket_is_for_its_owner_alone() {
        let scratch = Scratch::new("socket-mode");
        let directory = File::open(&scratch.0).unwrap();
        let _listener = listen(directory.as_fd(), "s", Kind::Stream).unwrap();
        let mode = std::fs::metadata(scratch.0.join("s")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_packet_keeps_its_borders_and_brings_its_descriptors() {
        let (_scratch, client, server) = pair("socket-packet");
        let file = File::open("/dev/null").unwrap();
        send(client.as_fd(), b"one", &[file.as_fd()]).unwrap();
        send(client.as_fd(), b"second", &[]).unwrap();
        let first = receive(server.as_fd(), 100).unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.descriptors.len()), (b"one".as_slice(), 1));
        assert_eq!(receive(server.as_fd(), 100).unwrap().unwrap().bytes, b"second");
        assert_eq!(receive(server.as_fd(), 100).unwrap_err().errno(), Some(libc::EAGAIN));
        drop(client);
        assert!(receive(server.as_fd(), 100).unwrap().is_none());
    }

    #[test]
    fn a_packet_over_the_cap_is_refused_and_the_next_one_arrives() {
        let (_scratch, client, server) = pair("socket-cap");
        send(client.as_fd(), &[7; 101], &[]).unwrap();
        send(client.as_fd(), b"next", &[]).unwrap();
        assert_eq!(receive(server.as_fd(), 100).unwrap_err().errno(), Some(libc::EMSGSIZE));
        assert_eq!(receive(server.as_fd(), 100).unwrap().unwrap().bytes, b"next");
    }

    #[test]
    fn a_megabyte_goes_through_once_allowed() {
        let (_scratch, client, server) = pair("socket-megabyte");
        allow_packets_of(client.as_fd(), 2 << 20).unwrap();
        send(client.as_fd(), &vec![1; 1 << 20], &[]).unwrap();
        assert_eq!(receive(server.as_fd(), 1 << 20).unwrap().unwrap().bytes.len(), 1 << 20);
    }

    #[test]
    fn the_peer_is_known() {
        let (_scratch, _client, server) = pair("socket-peer");
        assert_eq!(peer_user(server.as_fd()).unwrap(), rustix::process::geteuid().as_raw());
    }
}
