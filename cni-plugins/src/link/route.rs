//! The messages about routes.

use std::fmt;
use std::net::IpAddr;

use cringle_kernel::netlink::{APPEND, CREATE, EXCLUSIVE, Message, attributes};
use ipnet::IpNet;

use super::address::{AF_INET, family, from_octets, octets};
use crate::spec::result::Route;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const HEADER_LENGTH: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const TABLE_UNSPECIFIED: u8 = 0;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;

/// A route to set, or one found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// What the specification says of it.
    pub route: Route,
    /// The number of the link it leaves by, if found.
    pub link: Option<u32>,
}

impl From<Route> for RouteEntry {
    fn from(route: Route) -> Self {
        Self { route, link: None }
    }
}

impl fmt::Display for RouteEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.route.dst)?;
        self.route.gw.map_or(Ok(()), |gateway| write!(formatter, " via {gateway}"))
    }
}

fn header(family: u8, prefix: u8, table: u8, scope: u8) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..2].copy_from_slice(&[family, prefix]);
    bytes[4..8].copy_from_slice(&[table, PROTOCOL_BOOT, scope, TYPE_UNICAST]);
    bytes
}

pub(super) fn add(index: u32, entry: &RouteEntry) -> Message {
    let route = &entry.route;
    let scope = route.scope.unwrap_or(if route.gw.is_some() || route.dst.addr().is_ipv6() {
        SCOPE_UNIVERSE
    } else {
        SCOPE_LINK
    });
    let table = if route.table.is_some() { TABLE_UNSPECIFIED } else { TABLE_MAIN };
    let bytes = header(family(route.dst.addr()), route.dst.prefix_len(), table, scope);
    // Several IPv6 routes to one destination become one with several ways; for IPv4 a second one is a mistake.
    let flags = if route.dst.addr().is_ipv6() { CREATE | APPEND } else { CREATE | EXCLUSIVE };
    let mut message = Message::new(RTM_NEWROUTE, flags, &bytes);
    if route.dst.prefix_len() > 0 {
        message.bytes(RTA_DST, &octets(route.dst.trunc().addr()));
    }
    if let Some(gateway) = route.gw {
        message.bytes(RTA_GATEWAY, &octets(gateway));
    }
    message.number(RTA_OIF, index);
    if let Some(priority) = route.priority {
        message.number(RTA_PRIORITY, priority);
    }
    if let Some(table) = route.table {
        message.number(RTA_TABLE, table);
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        message.nested(RTA_METRICS, |metrics| {
            for (kind, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
                if let Some(value) = value {
                    metrics.number(kind, value);
                }
            }
        });
    }
    message
}

pub(super) fn all(family: u8) -> Message {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[0] = family;
    Message::new(RTM_GETROUTE, 0, &bytes)
}

pub(super) fn way_to(address: IpAddr) -> Message {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..2].copy_from_slice(&[family(address), prefix]);
    let mut message = Message::new(RTM_GETROUTE, 0, &bytes);
    message.bytes(RTA_DST, &octets(address));
    message
}

pub(super) fn outgoing(payload: &[u8]) -> Option<u32> {
    let [_, _, _, _, _, _, _, kind] = *payload.first_chunk::<8>()?;
    let link = attributes(payload.get(HEADER_LENGTH..)?).of(RTA_OIF)?;
    link.number().filter(|_| kind == TYPE_UNICAST)
}

pub(super) fn parse(payload: &[u8]) -> Option<RouteEntry> {
    let [family, prefix, _, _, table, _, _, kind] = *payload.first_chunk::<8>()?;
    if kind != TYPE_UNICAST || table != TABLE_MAIN {
        return None;
    }
    let found = attributes(payload.get(HEADER_LENGTH..)?);
    let address = |kind| found.clone().of(kind).and_then(|attribute| from_octets(attribute.value));
    let number = |kind| found.clone().of(kind).and_then(|attribute| attribute.number());
    let everywhere: IpAddr = if family == AF_INET { [0; 4].into() } else { [0; 16].into() };
    let dst = IpNet::new(address(RTA_DST).unwrap_or(everywhere), prefix).ok()?;
    let mut route = Route::new(dst, address(RTA_GATEWAY));
    route.priority = number(RTA_PRIORITY);
    Some(RouteEntry { route, link: number(RTA_OIF) })
}
