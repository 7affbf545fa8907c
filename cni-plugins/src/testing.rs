//! Network namespaces for tests: one for the host, on a thread of its own, and files for containers.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use cringle_kernel::namespace::{self, Namespaces};

use crate::context::Context;
use crate::link::{Link, Links};
use crate::netns::Netns;
use crate::plugin::{Command, Request, run};
use crate::spec::Error;
use crate::spec::result::Result as CniResult;

/// Does the work on a thread in a network namespace that ends with it.
pub(crate) fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            namespace::unshare(Namespaces::NETWORK).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A request for interface `eth0` of that container with that configuration.
pub(crate) fn request(container_id: &str, config: &str) -> Request {
    Request {
        container_id: container_id.into(),
        netns: Some("/proc/self/ns/net".into()),
        if_name: "eth0".into(),
        args: String::new(),
        path: Vec::new(),
        config: serde_json::value::RawValue::from_string(config.into()).unwrap(),
    }
}

/// A host: a thread in a network namespace of its own, with a directory for leases, and a context.
pub(crate) struct Host {
    pub(crate) root: tempfile::TempDir,
    pub(crate) context: Context,
}

/// Does the work on a host of its own.
pub(crate) fn on_new_host(work: impl FnOnce(&mut Host) + Send) {
    in_new_netns(|| {
        let mut links = Links::open().unwrap();
        let lo = links.require("lo").unwrap();
        links.set_flags(&lo, Link::UP, Link::UP).unwrap();
        work(&mut Host { root: tempfile::tempdir().unwrap(), context: Context::for_instance("t") });
    });
}

impl Host {
    /// A list of plugins with leases in this host's directory: `DATA` stands for the key that says so.
    pub(crate) fn config(&self, text: &str) -> String {
        text.replace("DATA", &format!(r#""dataDir":"{}""#, self.root.path().display()))
    }

    pub(crate) fn run(
        &mut self,
        command: Command,
        kind: &str,
        pod: &Pod,
        config: &str,
    ) -> Result<CniResult, Error> {
        run(command, kind, &pod.request(&self.config(config)), &mut self.context)
            .map(Option::unwrap_or_default)
    }

    /// The names of the links of that kind.
    pub(crate) fn links_of(&mut self, kind: &str) -> Vec<String> {
        let found = self.context.links().unwrap().all().unwrap();
        found.into_iter().filter(|link| link.kind == kind).map(|link| link.name).collect()
    }

    /// How many addresses of that network are leased.
    pub(crate) fn leases(&self, network: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(self.root.path().join(network)) else { return 0 };
        entries
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_str().unwrap().parse::<IpAddr>().is_ok()
            })
            .count()
    }

    /// The address of the host that neighbours on that bridge see.
    pub(crate) fn ip(&mut self, link: &str) -> IpAddr {
        let links = self.context.links().unwrap();
        let link = links.require(link).unwrap();
        links.addresses(&link).unwrap()[0].address.addr()
    }
}

/// A container: an identifier and a network namespace.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: Netns,
    path: String,
    _descriptor: OwnedFd,
}

impl Pod {
    /// A container whose loopback device is up.
    pub(crate) fn new(id: &str) -> Self {
        let pod = Self::bare(id);
        pod.within(|| {
            let mut links = Links::open().unwrap();
            let lo = links.require("lo").unwrap();
            links.set_flags(&lo, Link::UP, Link::UP).unwrap();
        });
        pod
    }

    /// A container in which nothing has been done yet.
    pub(crate) fn bare(id: &str) -> Self {
        let descriptor = in_new_netns(|| namespace::own(Namespaces::NETWORK).unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd());
        Self {
            id: id.into(),
            netns: Netns::open(path.as_ref()).unwrap(),
            path,
            _descriptor: descriptor,
        }
    }

    pub(crate) fn request(&self, config: &str) -> Request {
        Request { netns: Some(self.path.clone().into()), ..request(&self.id, config) }
    }

    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.within(work).unwrap()
    }

    /// Listens in the container.
    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        self.within(|| TcpListener::bind(address).unwrap())
    }

    /// Connects from the container.
    pub(crate) fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        self.within(|| connect(address))
    }
}

/// Connects from where the calling thread is. A connection that is not made within the time never will be: everything is
/// on this machine.
pub(crate) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(3))
}

/// Who the next connection comes from.
pub(crate) fn accept(listener: &TcpListener) -> IpAddr {
    let (_, from) = listener.accept().unwrap();
    from.ip()
}
