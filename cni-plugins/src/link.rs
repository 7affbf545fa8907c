//! Links, addresses and routes of one network namespace, over a route netlink socket that stays bound to it.

mod address;
mod request;
mod route;

pub use address::Address;
pub use request::{BridgePort, Macvlan, Veth};
pub use route::RouteEntry;

use std::net::IpAddr;

use cringle_kernel::netlink::{Message, NetlinkError, Protocol, Socket, attributes};
use ipnet::IpNet;

/// Why something about links could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection to the kernel.
    #[error("failed to open a netlink socket")]
    Open(#[source] NetlinkError),
    /// A link or a table could not be read.
    #[error("failed to read {object}")]
    Read {
        /// What should have been read.
        object: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// A change was refused.
    #[error("failed to {attempt}")]
    Change {
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// The link is not there.
    #[error("failed to find link {0:?}")]
    Missing(String),
}

impl LinkError {
    /// The error number, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Read { source, .. } | Self::Change { source, .. } => {
                source.errno()
            }
            Self::Missing(_) => None,
        }
    }
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; empty if it has none.
    pub mac: Vec<u8>,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge or the like that it is a port of.
    pub master: Option<u32>,
    /// Its free text.
    pub alias: String,
    /// Its driver; empty for a real device.
    pub kind: String,
    /// The flags of the device.
    pub flags: u32,
}

impl Link {
    /// The flag of a link that is up.
    pub const UP: u32 = 0x1;
    /// The flag of a link that sees every packet.
    pub const PROMISCUOUS: u32 = 0x100;

    /// Whether all of these flags are set.
    #[must_use]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// The hardware address as text.
    #[must_use]
    pub fn mac_text(&self) -> String {
        mac_text(&self.mac)
    }
}

/// The links, addresses and routes of the namespace that the connection was opened in.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Opens a connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no descriptor for it.
    pub fn open() -> Result<Self, LinkError> {
        Socket::open(Protocol::Route).map(|socket| Self { socket }).map_err(LinkError::Open)
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn by_name(&mut self, name: &str) -> Result<Option<Link>, LinkError> {
        let answer = self.socket.ask(&request::link_by_name(name));
        self.one(answer, || format!("link {name:?}"))
    }

    /// The link of that number, if there is one.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn by_index(&mut self, index: u32) -> Result<Option<Link>, LinkError> {
        let answer = self.socket.ask(&request::link_by_index(index));
        self.one(answer, || format!("link number {index}"))
    }

    /// The link of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn require(&mut self, name: &str) -> Result<Link, LinkError> {
        self.by_name(name)?.ok_or_else(|| LinkError::Missing(name.into()))
    }

    fn one(
        &self,
        answer: Result<cringle_kernel::netlink::Answer, NetlinkError>,
        object: impl FnOnce() -> String,
    ) -> Result<Option<Link>, LinkError> {
        match answer {
            Ok(answer) => Ok(parse(&answer.payload)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(LinkError::Read { object: object(), source }),
        }
    }

    /// Every link.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn all(&mut self) -> Result<Vec<Link>, LinkError> {
        let answers = self
            .socket
            .dump(&request::every_link())
            .map_err(|source| LinkError::Read { object: "the links".into(), source })?;
        Ok(answers.iter().filter_map(|answer| parse(&answer.payload)).collect())
    }

    /// Makes a bridge with that hardware address, and sets it up. The address is set explicitly so that the bridge keeps
    /// it whatever ports come and go, and nothing else on the host thinks it has to choose one.
    ///
    /// # Errors
    /// If the kernel refuses; `EEXIST` if a link of that name is there.
    pub fn create_bridge(
        &mut self,
        name: &str,
        mac: [u8; 6],
        mtu: Option<u32>,
    ) -> Result<(), LinkError> {
        self.change(&[request::bridge(name, mac, mtu)], || format!("create bridge {name:?}"))
    }

    /// Makes a pair of virtual devices, with the peer born in its namespace.
    ///
    /// # Errors
    /// If the kernel refuses; `EEXIST` if either name is taken.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> Result<(), LinkError> {
        self.change(&[request::veth(veth)], || {
            format!("create link {:?} with peer {:?}", veth.name, veth.peer_name)
        })
    }

    /// Makes a macvlan in its namespace.
    ///
    /// # Errors
    /// If the kernel refuses; `EEXIST` if the name is taken there.
    pub fn create_macvlan(&mut self, macvlan: &Macvlan<'_>) -> Result<(), LinkError> {
        self.change(&[request::macvlan(macvlan)], || format!("create macvlan {:?}", macvlan.name))
    }

    /// Gives the link its alias and the settings of a bridge's port.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_port(&mut self, name: &str, alias: &str, port: BridgePort) -> Result<(), LinkError> {
        self.change(&[request::port(name, alias, port)], || format!("set up bridge port {name:?}"))
    }

    /// Sets or clears flags of a link.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_flags(&mut self, link: &Link, flags: u32, mask: u32) -> Result<(), LinkError> {
        self.change(&[request::flags(link.index, flags, mask)], || {
            format!("change flags of link {:?}", link.name)
        })
    }

    /// Gives the link that hardware address, MTU or alias.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_attributes(
        &mut self,
        link: &Link,
        mac: Option<[u8; 6]>,
        mtu: Option<u32>,
    ) -> Result<(), LinkError> {
        self.change(&[request::attributes(link.index, mac, mtu)], || {
            format!("change link {:?}", link.name)
        })
    }

    /// Removes the link; success if it is gone already.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete(&mut self, link: &Link) -> Result<(), LinkError> {
        match self.socket.apply(&[request::delete(link.index)]) {
            Err(error) if !is_gone(&error) => Err(LinkError::Change {
                attempt: format!("delete link {:?}", link.name),
                source: error,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes many links; those that are gone already count as removed.
    ///
    /// # Errors
    /// The first refusal, after trying all.
    pub fn delete_all(&mut self, links: &[Link]) -> Result<(), LinkError> {
        links.iter().map(|link| self.delete(link)).fold(Ok(()), Result::and)
    }

    /// Sets the link up and gives it addresses and routes, in one go.
    ///
    /// # Errors
    /// The first refusal, which says what was refused.
    pub fn configure(
        &mut self,
        link: &Link,
        addresses: &[IpNet],
        routes: &[RouteEntry],
    ) -> Result<(), LinkError> {
        let mut messages = vec![request::flags(link.index, Link::UP, Link::UP)];
        messages.extend(addresses.iter().map(|address| address::add(link.index, *address)));
        messages.extend(routes.iter().map(|route| route::add(link.index, route)));
        self.change_each(&messages, |place| match place.checked_sub(1) {
            None => format!("set link {:?} up", link.name),
            Some(index) => {
                match (addresses.get(index), routes.get(index.saturating_sub(addresses.len()))) {
                    (Some(address), _) => format!("add address {address} to {:?}", link.name),
                    (None, Some(route)) => format!("add route {route}"),
                    (None, None) => format!("configure link {:?}", link.name),
                }
            }
        })
    }

    /// The addresses of the link.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn addresses(&mut self, link: &Link) -> Result<Vec<Address>, LinkError> {
        let read = |source| LinkError::Read {
            object: format!("the addresses of {:?}", link.name),
            source,
        };
        let mut found = Vec::new();
        for family in address::FAMILIES {
            let answers = match self.socket.dump(&address::all(family, link.index)) {
                Err(error) if is_gone(&error) => continue,
                outcome => outcome.map_err(read)?,
            };
            let parsed = answers.iter().filter_map(|answer| address::parse(&answer.payload));
            found.extend(parsed.filter(|address| address.index == link.index));
        }
        Ok(found)
    }

    /// Takes an address from the link.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_address(&mut self, link: &Link, address: IpNet) -> Result<(), LinkError> {
        let attempt = || format!("remove address {address} from {:?}", link.name);
        self.change(&[address::remove(link.index, address)], attempt)
    }

    /// Every unicast route of the main table.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, LinkError> {
        let mut found = Vec::new();
        for family in address::FAMILIES {
            let answers = self
                .socket
                .dump(&route::all(family))
                .map_err(|source| LinkError::Read { object: "the routes".into(), source })?;
            found.extend(answers.iter().filter_map(|answer| route::parse(&answer.payload)));
        }
        Ok(found)
    }

    /// The number of the link that packets to that address leave by, if there is a way.
    ///
    /// # Errors
    /// If the kernel doesn't answer.
    pub fn way_to(&mut self, address: IpAddr) -> Result<Option<u32>, LinkError> {
        match self.socket.ask(&route::way_to(address)) {
            Ok(answer) => Ok(route::outgoing(&answer.payload)),
            Err(NetlinkError::Refused { .. }) => Ok(None),
            Err(source) => Err(LinkError::Read { object: format!("the way to {address}"), source }),
        }
    }

    fn change(
        &mut self,
        messages: &[Message],
        attempt: impl Fn() -> String,
    ) -> Result<(), LinkError> {
        self.change_each(messages, |_| attempt())
    }

    fn change_each(
        &mut self,
        messages: &[Message],
        attempt: impl Fn(usize) -> String,
    ) -> Result<(), LinkError> {
        let outcomes = self
            .socket
            .apply_each(messages)
            .map_err(|source| LinkError::Change { attempt: attempt(0), source })?;
        for (place, outcome) in outcomes.into_iter().enumerate() {
            outcome.map_err(|source| LinkError::Change { attempt: attempt(place), source })?;
        }
        Ok(())
    }
}

fn is_gone(error: &NetlinkError) -> bool {
    let errno = error.errno().map(rustix::io::Errno::from_raw_os_error);
    matches!(
        errno,
        Some(rustix::io::Errno::NODEV | rustix::io::Errno::NOENT | rustix::io::Errno::NXIO)
    )
}

fn parse(payload: &[u8]) -> Option<Link> {
    let number = |range| {
        payload.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u32::from_ne_bytes)
    };
    let mut link = Link { index: number(4..8)?, flags: number(8..12)?, ..Link::default() };
    for attribute in attributes(payload.get(request::LINK_HEADER_LENGTH..)?) {
        match attribute.kind {
            request::IFLA_ADDRESS => link.mac = attribute.value.to_vec(),
            request::IFLA_IFNAME => attribute.text().clone_into(&mut link.name),
            request::IFLA_MTU => link.mtu = attribute.number().unwrap_or_default(),
            request::IFLA_MASTER => link.master = attribute.number(),
            request::IFLA_IFALIAS => attribute.text().clone_into(&mut link.alias),
            request::IFLA_LINKINFO => {
                if let Some(kind) = attribute.attributes().of(request::IFLA_INFO_KIND) {
                    kind.text().clone_into(&mut link.kind);
                }
            }
            _ => {}
        }
    }
    Some(link)
}

/// The hardware address as text.
#[must_use]
pub fn mac_text(mac: &[u8]) -> String {
    let parts: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// The hardware address in that text.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// A hardware address of our own choice, marked as locally given.
///
/// # Errors
/// If the kernel has no randomness yet.
pub fn random_mac() -> Result<[u8; 6], rustix::io::Errno> {
    let mut mac = [0; 6];
    rustix::rand::getrandom(&mut mac, rustix::rand::GetRandomFlags::empty())?;
    mac[0] = (mac[0] & 0xfe) | 0x02;
    Ok(mac)
}
