//! PortForward: connections to the loopback addresses that a pod's own processes have.
//!
//! The socket is made in the pod's network namespace, by a thread that ends afterwards; a socket stays in the namespace
//! that it was made in, so everything else is the event loop's.

use crate::{Service, ServiceError};
use cringle_domain::id::PodId;
use cringle_domain::namespaces::Sharing;
use cringle_kernel::error::{Result as KernelResult, SystemError};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::socket::{self, Internet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// How long a listener that takes no connection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stack of the thread that makes sockets; it calls a handful of functions.
const STACK: usize = 128 * 1024;

impl Service {
    /// Judges a port-forward before its client connects; gives the full id.
    ///
    /// # Errors
    /// If the pod is not ready.
    pub fn check_port_forward(&self, pod: &str) -> Result<PodId, ServiceError> {
        Ok(self.find_ready_pod(pod)?.pod_id().clone())
    }

    /// Connects to a port of the pod, on its IPv4 loopback address or else on its IPv6 one.
    ///
    /// # Errors
    /// If the pod is not ready, or nobody listens.
    pub async fn connect_in_pod(
        self: &Arc<Self>,
        pod: &PodId,
        port: u16,
    ) -> Result<TcpStream, ServiceError> {
        let record = self.find_ready_pod(pod.as_str())?.record();
        let failed = |source| ServiceError::Forward { pod: pod.clone(), port, source };
        let sockets = match record.spec.namespaces.network {
            Sharing::Node => make_sockets(),
            Sharing::Pod => {
                let path = self.layout.netns(pod);
                on_own_thread(move || sockets_in(&path)).await
            }
        };
        let connecting = connect(sockets.map_err(|error| failed(io::Error::other(error)))?, port);
        let connected = tokio::time::timeout(PATIENCE, connecting).await;
        connected.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(failed)
    }
}

/// A socket of each version; a host without IPv6 has only the first.
struct Sockets(OwnedFd, Option<OwnedFd>);

fn sockets_in(namespace: &Path) -> KernelResult<Sockets> {
    let namespace = namespace::open(namespace, Namespaces::NETWORK)?;
    namespace::join(std::os::fd::AsFd::as_fd(&namespace), Namespaces::NETWORK)?;
    make_sockets()
}

fn make_sockets() -> KernelResult<Sockets> {
    Ok(Sockets(socket::internet(Internet::V4)?, socket::internet(Internet::V6).ok()))
}

async fn on_own_thread<T: Send + 'static>(
    make: impl FnOnce() -> KernelResult<T> + Send + 'static,
) -> KernelResult<T> {
    let (sender, receiver) = oneshot::channel();
    let builder = std::thread::Builder::new().name("port-forward".to_owned()).stack_size(STACK);
    // Nobody to tell if the client is gone; the sockets close then.
    let spawned = builder.spawn(move || drop(sender.send(make())));
    spawned.map_err(|source| SystemError::new("clone", "thread for sockets", source))?;
    receiver.await.unwrap_or_else(|_gone| {
        let ended = io::Error::other("the thread ended without an answer");
        Err(SystemError::new("clone", "thread for sockets", ended))
    })
}

/// The error of the first address is the one that is told: nearly everybody listens there, or on both.
async fn connect(Sockets(first, second): Sockets, port: u16) -> io::Result<TcpStream> {
    let refused = match connect_one(first, (Ipv4Addr::LOCALHOST, port).into()).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    match second {
        None => Err(refused),
        Some(socket) => {
            let address = (Ipv6Addr::LOCALHOST, port).into();
            connect_one(socket, address).await.map_err(|_refused_too| refused)
        }
    }
}

async fn connect_one(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::mpsc::channel;

    /// A network namespace with its loopback up and a listener at `address`, for as long as this is there.
    struct Namespace {
        path: PathBuf,
        port: u16,
        _end: std::sync::mpsc::Sender<()>,
    }

    impl Namespace {
        fn listening(address: &'static str) -> Self {
            let (ready, made) = channel();
            let (end, ended) = channel::<()>();
            std::thread::spawn(move || {
                namespace::unshare(Namespaces::NETWORK).unwrap();
                let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status();
                assert!(up.unwrap().success());
                let listener = TcpListener::bind((address, 0)).unwrap();
                let thread = rustix::thread::gettid().as_raw_pid();
                let path = PathBuf::from(format!("/proc/self/task/{thread}/ns/net"));
                ready.send((path, listener.local_addr().unwrap().port())).unwrap();
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        stream.unwrap().write_all(b"hello").unwrap();
                    }
                });
                // Its owner never sends; the end is that he is gone.
                let _gone = ended.recv();
            });
            let (path, port) = made.recv().unwrap();
            Self { path, port, _end: end }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_reaches_the_loopback_of_that_namespace_only_of_either_version() {
        let own = namespace::own(Namespaces::NETWORK).unwrap();
        for address in ["127.0.0.1", "::1"] {
            let namespace = Namespace::listening(address);
            let path = namespace.path.clone();
            let sockets = on_own_thread(move || sockets_in(&path)).await.unwrap();
            let stream = connect(sockets, namespace.port).await.unwrap().into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut word = [0; 5];
            (&stream).read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
            let here = connect(make_sockets().unwrap(), namespace.port).await;
            assert!(here.is_err(), "the same port outside");
            let path = namespace.path.clone();
            let sockets = on_own_thread(move || sockets_in(&path)).await.unwrap();
            connect(sockets, 1).await.unwrap_err();
        }
        let still = namespace::own(Namespaces::NETWORK).unwrap();
        let inode = |file: &OwnedFd| rustix::fs::fstat(file).unwrap().st_ino;
        assert_eq!(inode(&own), inode(&still));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thousand_at_once_all_get_through_and_what_is_no_namespace_is_an_error() {
        let namespace = Namespace::listening("127.0.0.1");
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let (path, port) = (namespace.path.clone(), namespace.port);
                tokio::spawn(async move {
                    let sockets = on_own_thread(move || sockets_in(&path)).await.unwrap();
                    connect(sockets, port).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let none = on_own_thread(|| sockets_in(Path::new("/dev/null"))).await;
        assert!(none.is_err());
    }
}
