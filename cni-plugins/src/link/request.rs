//! The messages about links.

use std::os::fd::{AsRawFd, BorrowedFd};

use cringle_kernel::netlink::{CREATE, EXCLUSIVE, Message};

use super::Link;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

pub(super) const LINK_HEADER_LENGTH: usize = 16;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;

/// A pair of virtual devices to make.
#[derive(Debug)]
pub struct Veth<'a> {
    /// The name on this side.
    pub name: &'a str,
    /// The hardware address on this side.
    pub mac: [u8; 6],
    /// The MTU of both sides; the kernel's default if absent.
    pub mtu: Option<u32>,
    /// The bridge that this side becomes a port of.
    pub master: u32,
    /// The name on the other side.
    pub peer_name: &'a str,
    /// The hardware address on the other side.
    pub peer_mac: [u8; 6],
    /// The network namespace of the other side.
    pub peer_netns: BorrowedFd<'a>,
}

/// The settings of a bridge's port that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgePort {
    /// Whether a packet may leave by the port it came from.
    pub hairpin: bool,
    /// Whether the port may not reach other isolated ports.
    pub isolated: bool,
}

/// A macvlan to make.
#[derive(Debug)]
pub struct Macvlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The link that it rides on.
    pub parent: u32,
    /// The mode, as the kernel numbers it.
    pub mode: u32,
    /// Its MTU; that of the parent if absent.
    pub mtu: Option<u32>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The length of its queue for broadcasts; the kernel's default if absent.
    pub broadcast_queue: Option<u32>,
    /// The network namespace to make it in.
    pub netns: BorrowedFd<'a>,
}

fn header(index: u32, flags: u32, mask: u32) -> [u8; LINK_HEADER_LENGTH] {
    let mut bytes = [0; LINK_HEADER_LENGTH];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

pub(super) fn link_by_name(name: &str) -> Message {
    let mut message = Message::new(RTM_GETLINK, 0, &header(0, 0, 0));
    message.text(IFLA_IFNAME, name);
    message
}

pub(super) fn link_by_index(index: u32) -> Message {
    Message::new(RTM_GETLINK, 0, &header(index, 0, 0))
}

pub(super) fn every_link() -> Message {
    Message::new(RTM_GETLINK, 0, &header(0, 0, 0))
}

pub(super) fn bridge(name: &str, mac: [u8; 6], mtu: Option<u32>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header(0, Link::UP, Link::UP));
    message.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac);
    if let Some(mtu) = mtu {
        message.number(IFLA_MTU, mtu);
    }
    message.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge").nested(IFLA_INFO_DATA, |data| {
            // A new port must pass packets at once.
            data.number(IFLA_BR_STP_STATE, 0).number(IFLA_BR_FORWARD_DELAY, 0);
        });
    });
    message
}

pub(super) fn veth(veth: &Veth<'_>) -> Message {
    // This side may be up from the start; the peer may not, as it has no other side while it is being made.
    let mut message = Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header(0, Link::UP, Link::UP));
    message
        .text(IFLA_IFNAME, veth.name)
        .bytes(IFLA_ADDRESS, &veth.mac)
        .number(IFLA_MASTER, veth.master);
    if let Some(mtu) = veth.mtu {
        message.number(IFLA_MTU, mtu);
    }
    message.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.raw(&header(0, 0, 0))
                    .text(IFLA_IFNAME, veth.peer_name)
                    .bytes(IFLA_ADDRESS, &veth.peer_mac);
                if let Some(mtu) = veth.mtu {
                    peer.number(IFLA_MTU, mtu);
                }
                netns(peer, veth.peer_netns);
            });
        });
    });
    message
}

pub(super) fn macvlan(macvlan: &Macvlan<'_>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header(0, 0, 0));
    message
        .text(IFLA_IFNAME, macvlan.name)
        .bytes(IFLA_ADDRESS, &macvlan.mac)
        .number(IFLA_LINK, macvlan.parent);
    if let Some(mtu) = macvlan.mtu {
        message.number(IFLA_MTU, mtu);
    }
    netns(&mut message, macvlan.netns);
    message.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "macvlan").nested(IFLA_INFO_DATA, |data| {
            data.number(IFLA_MACVLAN_MODE, macvlan.mode);
            if let Some(length) = macvlan.broadcast_queue {
                data.number(IFLA_MACVLAN_BC_QUEUE_LEN, length);
            }
        });
    });
    message
}

fn netns(message: &mut Message, netns: BorrowedFd<'_>) {
    message.bytes(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
}

pub(super) fn port(name: &str, alias: &str, port: BridgePort) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &header(0, 0, 0));
    message.text(IFLA_IFNAME, name).bytes(IFLA_IFALIAS, alias.as_bytes());
    if port.hairpin || port.isolated {
        message.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge").nested(IFLA_INFO_SLAVE_DATA, |data| {
                data.bytes(IFLA_BRPORT_MODE, &[u8::from(port.hairpin)]);
                data.bytes(IFLA_BRPORT_ISOLATED, &[u8::from(port.isolated)]);
            });
        });
    }
    message
}

pub(super) fn flags(index: u32, flags: u32, mask: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &header(index, flags, mask))
}

pub(super) fn attributes(index: u32, mac: Option<[u8; 6]>, mtu: Option<u32>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &header(index, 0, 0));
    if let Some(mac) = mac {
        message.bytes(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = mtu {
        message.number(IFLA_MTU, mtu);
    }
    message
}

pub(super) fn delete(index: u32) -> Message {
    Message::new(RTM_DELLINK, 0, &header(index, 0, 0))
}
