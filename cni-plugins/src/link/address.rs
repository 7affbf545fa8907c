//! The messages about addresses.

use std::net::IpAddr;

use cringle_kernel::netlink::{CREATE, EXCLUSIVE, Message, attributes};
use ipnet::IpNet;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const HEADER_LENGTH: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// Use the address at once, without asking the neighbours whether someone has it: whoever gave it out knows that no one has.
const NO_DUPLICATE_DETECTION: u8 = 0x02;
const SCOPE_LINK: u8 = 253;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const FAMILIES: [u8; 2] = [AF_INET, AF_INET6];

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub index: u32,
    /// The address and the length of its prefix.
    pub address: IpNet,
    /// Whether it means something on this link only.
    pub is_link_local: bool,
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn from_octets(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn header(index: u32, address: IpNet, flags: u8) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..4].copy_from_slice(&[family(address.addr()), address.prefix_len(), flags, 0]);
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

pub(super) fn add(index: u32, address: IpNet) -> Message {
    let flags = if address.addr().is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
    let mut message = Message::new(RTM_NEWADDR, CREATE | EXCLUSIVE, &header(index, address, flags));
    let octets = octets(address.addr());
    message.bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets);
    if let IpNet::V4(net) = address
        && net.prefix_len() < 31
    {
        message.bytes(IFA_BROADCAST, &net.broadcast().octets());
    }
    message
}

pub(super) fn remove(index: u32, address: IpNet) -> Message {
    let mut message = Message::new(RTM_DELADDR, 0, &header(index, address, 0));
    let octets = octets(address.addr());
    message.bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets);
    message
}

pub(super) fn all(family: u8, index: u32) -> Message {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[0] = family;
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    Message::new(RTM_GETADDR, 0, &bytes)
}

pub(super) fn parse(payload: &[u8]) -> Option<Address> {
    let [_, prefix, _, scope] = *payload.first_chunk::<4>()?;
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let found = attributes(payload.get(HEADER_LENGTH..)?);
    // IPv4 has the own address in LOCAL; IPv6 has it in ADDRESS, and LOCAL only on point-to-point links.
    let own = found.clone().of(IFA_LOCAL).or_else(|| found.of(IFA_ADDRESS))?;
    let address = IpNet::new(from_octets(own.value)?, prefix).ok()?;
    Some(Address { index, address, is_link_local: scope == SCOPE_LINK })
}
