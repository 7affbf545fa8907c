//! The daemon's socket: nobody can connect before its mode is set, no failed accept ends the service, and no client can
//! make it hold connections without end.

mod connection;

pub(crate) use connection::Connection;

use futures::Stream;
use rustix::fs::{self, Mode};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// How many connections may be open; further ones wait to be accepted until one of these ends. A kubelet has two; cri-tools'
/// suite keeps two for each of its 137 specs. One that rests costs 16 KiB.
const CONNECTIONS: usize = 1024;

/// How long accepting rests when the process has no descriptor left: as long as the queue is not empty, the socket stays
/// readable, so that there is nothing to wait for.
const REST: Duration = Duration::from_millis(50);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The directory cannot be made.
    #[error("failed to make directory \"{}\"", path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something else has the socket's name.
    #[error("failed to replace \"{}\": it is not a socket", .0.display())]
    Replace(PathBuf),
    /// The socket cannot be made.
    #[error("failed to listen on \"{}\"", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Listens on this path, mode 0660, in a directory of mode 0700 if it has to be made. A socket that is there is removed:
/// the caller holds the lock of the instance, so nobody serves on it.
///
/// # Errors
/// If the path cannot be used.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    listen_for(path, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP)
}

/// The same with mode 0600: for root alone.
///
/// # Errors
/// If the path cannot be used.
pub(crate) fn listen_alone(path: &Path) -> Result<UnixListener, ListenError> {
    listen_for(path, Mode::RUSR | Mode::WUSR)
}

fn listen_for(path: &Path, mode: Mode) -> Result<UnixListener, ListenError> {
    if let Some(directory) = path.parent()
        && !directory.exists()
    {
        cringle_store::atomic::private_directory(directory)
            .map_err(|source| ListenError::MakeDirectory { path: directory.to_owned(), source })?;
    }
    if is_taken_by_another_file(path) {
        return Err(ListenError::Replace(path.to_owned()));
    }
    bind(path, mode).map_err(|source| ListenError::Listen { path: path.to_owned(), source })
}

/// The connections made to this socket, for ever.
pub(crate) fn connections(
    listener: UnixListener,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    limited(listener, CONNECTIONS)
}

fn limited(
    listener: UnixListener,
    open: usize,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let places = Arc::new(Semaphore::new(open));
    futures::stream::unfold((listener, places), async |(listener, places)| {
        // Never closed, so there is always a place in the end.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        Some((Ok(accept(&listener, place).await), (listener, places)))
    })
}

async fn accept(listener: &UnixListener, place: OwnedSemaphorePermit) -> Connection {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Connection::new(stream, place),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_taken_by_another_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.file_type().is_socket())
}

fn bind(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Before listen(2) a connect is refused, whatever mode the umask left.
    fs::chmod(path, mode)?;
    net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::os::unix::fs::PermissionsExt;
    use std::pin::pin;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn the_socket_is_for_its_group_and_its_directory_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/test.sock");
        let listener = listen(&path).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        drop(listener);
        drop(listen_alone(&path).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        drop(listen(&path).unwrap());
        assert!(path.exists());
        let mut connections = pin!(connections(listen(&path).unwrap()));
        let client = UnixStream::connect(&path).await.unwrap();
        assert!(connections.next().await.is_some());
        drop(client);

        let file = directory.path().join("file");
        drop(std::fs::File::create(&file).unwrap());
        assert!(matches!(listen(&file), Err(ListenError::Replace(_))));
        assert!(file.exists());
    }

    #[tokio::test]
    async fn a_connection_gives_its_place_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        let mut connections = pin!(limited(listen(&path).unwrap(), 1));
        let mut first = UnixStream::connect(&path).await.unwrap();
        let _second = UnixStream::connect(&path).await.unwrap();
        let accepted = connections.next().await.unwrap();
        assert!(futures::poll!(connections.next()).is_pending());
        drop(accepted);
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        assert!(connections.next().await.is_some());
    }
}
