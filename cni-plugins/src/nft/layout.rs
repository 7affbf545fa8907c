//! What the table looks like.
//!
//! ```text
//! map any4, any6            protocol . port                   : address . port
//! map ip4, ip6              host address . protocol . port    : address . port
//! set hairpin4, hairpin6    container address . way in . way out
//! set self4, self6          container address . the same
//! set masq4, masq6          container address
//! set within4, within6      container address . its bridge
//!
//! prerouting, output  (nat) to this host              → jump hostports
//! hostports                 ip4, any4, ip6, any6      → rewrite the destination
//! postrouting         (nat) redirected, from 127/8    → masquerade
//!                           redirected, in hairpin    → masquerade
//!                           redirected, in self       → masquerade
//!                           in masq, not in within    → masquerade
//! guard               (raw) to 127/8, not from lo     → drop
//! ```
//! The guard is what makes it safe to let packets from 127.0.0.1 out to a bridge (CVE-2020-8558).
//!
//! Who reaches a published port from beside the container is masqueraded, so that answers come back the way the request
//! went. A container that reaches its own port is recognised by its address: where the kernel shows bridged packets to the
//! rules, such a packet has no way in.
//!
//! A container's packets are masqueraded when they leave by anything but its own bridge, so the rule needs no subnet, and
//! networks whose subnets overlap don't get into each other's way. Each element belongs to one container and goes with it.

use cringle_kernel::netlink::{CREATE, EXCLUSIVE, Message, REQUEST};

use super::expression::{
    Comparison, Layer, META_IIFNAME, META_OIFNAME, META_PROTOCOL_FAMILY, META_TRANSPORT, Steps,
};

pub(super) const HEADER_LENGTH: usize = 4;
const SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENERATION: u16 = 1;
const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
pub(super) const DELETE_ELEMENT: u16 = 14;
pub(super) const GET_GENERATION: u16 = 16;
pub(super) const GENERATION_ID: u16 = 1;

/// The sets and maps of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// Ports published on every IPv4 address of the host.
    Any4,
    /// Ports published on every IPv6 address of the host.
    Any6,
    /// Ports published on one IPv4 address.
    Ip4,
    /// Ports published on one IPv6 address.
    Ip6,
    /// Ways by which a container's published port is reached from its own side, IPv4.
    Hairpin4,
    /// The same for IPv6.
    Hairpin6,
    /// Containers that reach their own published ports, IPv4.
    Self4,
    /// The same for IPv6.
    Self6,
    /// Container addresses that others must not see, IPv4.
    Masq4,
    /// The same for IPv6.
    Masq6,
    /// Where those addresses may be seen: their own bridge, IPv4.
    Within4,
    /// The same for IPv6.
    Within6,
}

/// A part of a key or of what a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Address4,
    Address6,
    Protocol,
    Port,
    Interface,
}

impl Field {
    /// The number that the `nft` program knows this kind of value by.
    fn kind(self) -> u32 {
        match self {
            Self::Address4 => 7,
            Self::Address6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// The length in whole registers.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Address4 | Self::Protocol | Self::Port => 4,
            Self::Address6 | Self::Interface => 16,
        }
    }
}

impl Set {
    /// What a published port consists of.
    pub const PORTS: [Self; 4] = [Self::Any4, Self::Any6, Self::Ip4, Self::Ip6];
    /// All that publishing a container's ports touches.
    pub const PUBLISHING: [Self; 8] = [
        Self::Any4,
        Self::Any6,
        Self::Ip4,
        Self::Ip6,
        Self::Hairpin4,
        Self::Hairpin6,
        Self::Self4,
        Self::Self6,
    ];
    /// All that hiding a container's address touches.
    pub const MASQUERADING: [Self; 4] = [Self::Masq4, Self::Masq6, Self::Within4, Self::Within6];
    /// Every set.
    pub const ALL: [Self; 12] = [
        Self::Any4,
        Self::Any6,
        Self::Ip4,
        Self::Ip6,
        Self::Hairpin4,
        Self::Hairpin6,
        Self::Self4,
        Self::Self6,
        Self::Masq4,
        Self::Masq6,
        Self::Within4,
        Self::Within6,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any4 => "any4",
            Self::Any6 => "any6",
            Self::Ip4 => "ip4",
            Self::Ip6 => "ip6",
            Self::Hairpin4 => "hairpin4",
            Self::Hairpin6 => "hairpin6",
            Self::Self4 => "self4",
            Self::Self6 => "self6",
            Self::Masq4 => "masq4",
            Self::Masq6 => "masq6",
            Self::Within4 => "within4",
            Self::Within6 => "within6",
        }
    }

    pub(super) fn key(self) -> &'static [Field] {
        use Field::{Address4, Address6, Interface, Port, Protocol};
        match self {
            Self::Any4 | Self::Any6 => &[Protocol, Port],
            Self::Ip4 => &[Address4, Protocol, Port],
            Self::Ip6 => &[Address6, Protocol, Port],
            Self::Hairpin4 => &[Address4, Interface, Interface],
            Self::Hairpin6 => &[Address6, Interface, Interface],
            Self::Self4 => &[Address4, Address4],
            Self::Self6 => &[Address6, Address6],
            Self::Masq4 => &[Address4],
            Self::Masq6 => &[Address6],
            Self::Within4 => &[Address4, Interface],
            Self::Within6 => &[Address6, Interface],
        }
    }

    pub(super) fn value(self) -> Option<&'static [Field]> {
        match self {
            Self::Any4 | Self::Ip4 => Some(&[Field::Address4, Field::Port]),
            Self::Any6 | Self::Ip6 => Some(&[Field::Address6, Field::Port]),
            Self::Hairpin4 | Self::Hairpin6 | Self::Self4 | Self::Self6 => None,
            Self::Masq4 | Self::Masq6 | Self::Within4 | Self::Within6 => None,
        }
    }
}

pub(super) fn message(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[FAMILY_INET, 0, 0, 0])
}

fn bracket(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, REQUEST, &[0, 0, high, low])
}

/// The opening of a transaction; the kernel refuses it if a generation is given and the ruleset has changed since.
pub(super) fn begin(generation: Option<u32>) -> Message {
    let mut message = bracket(BATCH_BEGIN);
    if let Some(generation) = generation {
        message.network_number(BATCH_GENERATION, generation);
    }
    message
}

pub(super) fn end() -> Message {
    bracket(BATCH_END)
}

pub(super) fn table_message(kind: u16, flags: u16, table: &str) -> Message {
    let mut message = message(kind, flags);
    message.text(1, table);
    message
}

/// The transaction that makes the table.
pub(super) fn create(table: &str) -> Vec<Message> {
    let mut messages = vec![table_message(NEW_TABLE, CREATE | EXCLUSIVE, table)];
    for (id, set) in (1..).zip(Set::ALL) {
        messages.push(set_message(table, set, id));
    }
    messages.extend([
        base_chain(table, "guard", "filter", (PREROUTING, -300)),
        base_chain(table, "prerouting", "nat", (PREROUTING, -100)),
        base_chain(table, "output", "nat", (OUTPUT, -100)),
        base_chain(table, "postrouting", "nat", (POSTROUTING, 100)),
        chain(table, "hostports"),
    ]);
    messages.push(rule(table, "guard", |steps| {
        steps.meta(META_IIFNAME, 0).compare(0, Comparison::NotEqual, &interface("lo"));
        ipv4(steps)
            .payload(Layer::Network, (16, 1), 0)
            .compare(0, Comparison::Equal, &[127])
            .drop();
    }));
    for hook in ["prerouting", "output"] {
        messages.push(rule(table, hook, |steps| {
            steps.is_for_this_host().jump("hostports");
        }));
    }
    messages.extend(redirections(table));
    messages.extend(masquerades(table));
    messages
}

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const SOURCE4: (u32, u32) = (12, 4);
const DESTINATION4: (u32, u32) = (16, 4);
const SOURCE6: (u32, u32) = (8, 16);
const DESTINATION6: (u32, u32) = (24, 16);
const DESTINATION_PORT: (u32, u32) = (2, 2);

fn redirections(table: &str) -> [Message; 4] {
    [
        rule(table, "hostports", |steps| {
            ipv4(steps).payload(Layer::Network, DESTINATION4, 0).meta(META_TRANSPORT, 1);
            steps
                .payload(Layer::Transport, DESTINATION_PORT, 2)
                .map("ip4", 0, 0)
                .redirect(IPV4, 0, 1);
        }),
        rule(table, "hostports", |steps| {
            ipv4(steps).meta(META_TRANSPORT, 0).payload(Layer::Transport, DESTINATION_PORT, 1);
            steps.map("any4", 0, 0).redirect(IPV4, 0, 1);
        }),
        rule(table, "hostports", |steps| {
            ipv6(steps).payload(Layer::Network, DESTINATION6, 0).meta(META_TRANSPORT, 4);
            steps
                .payload(Layer::Transport, DESTINATION_PORT, 5)
                .map("ip6", 0, 0)
                .redirect(IPV6, 0, 4);
        }),
        rule(table, "hostports", |steps| {
            ipv6(steps).meta(META_TRANSPORT, 0).payload(Layer::Transport, DESTINATION_PORT, 1);
            steps.map("any6", 0, 0).redirect(IPV6, 0, 4);
        }),
    ]
}

fn masquerades(table: &str) -> [Message; 7] {
    [
        rule(table, "postrouting", |steps| {
            ipv4(steps).is_redirected().payload(Layer::Network, (12, 1), 0);
            steps.compare(0, Comparison::Equal, &[127]).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv4(steps).is_redirected().payload(Layer::Network, DESTINATION4, 0);
            steps.meta(META_IIFNAME, 1).meta(META_OIFNAME, 5).is_in("hairpin4", 0).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv6(steps).is_redirected().payload(Layer::Network, DESTINATION6, 0);
            steps.meta(META_IIFNAME, 4).meta(META_OIFNAME, 8).is_in("hairpin6", 0).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv4(steps).is_redirected().payload(Layer::Network, SOURCE4, 0);
            steps.payload(Layer::Network, DESTINATION4, 1).is_in("self4", 0).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv6(steps).is_redirected().payload(Layer::Network, SOURCE6, 0);
            steps.payload(Layer::Network, DESTINATION6, 4).is_in("self6", 0).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv4(steps).payload(Layer::Network, SOURCE4, 0).is_in("masq4", 0);
            steps.meta(META_OIFNAME, 1).is_not_in("within4", 0);
            // Not to groups: 224.0.0.0/4.
            steps.payload(Layer::Network, DESTINATION4, 0).mask(0, &[0xf0, 0, 0, 0]);
            steps.compare(0, Comparison::NotEqual, &[0xe0, 0, 0, 0]).masquerade();
        }),
        rule(table, "postrouting", |steps| {
            ipv6(steps).payload(Layer::Network, SOURCE6, 0).is_in("masq6", 0);
            steps.meta(META_OIFNAME, 4).is_not_in("within6", 0);
            // Not to groups: ff00::/8.
            steps
                .payload(Layer::Network, (24, 1), 0)
                .compare(0, Comparison::NotEqual, &[0xff])
                .masquerade();
        }),
    ]
}

fn ipv4<'a, 'b>(steps: &'a mut Steps<'b>) -> &'a mut Steps<'b> {
    steps.meta(META_PROTOCOL_FAMILY, 0).compare(0, Comparison::Equal, &[IPV4])
}

fn ipv6<'a, 'b>(steps: &'a mut Steps<'b>) -> &'a mut Steps<'b> {
    steps.meta(META_PROTOCOL_FAMILY, 0).compare(0, Comparison::Equal, &[IPV6])
}

/// The name of an interface as the kernel keeps it in sets.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}

fn rule(table: &str, chain: &str, fill: impl FnOnce(&mut Steps<'_>)) -> Message {
    let mut rule = message(NEW_RULE, CREATE | cringle_kernel::netlink::APPEND);
    rule.text(1, table).text(2, chain).nested(4, |steps| fill(&mut Steps(steps)));
    rule
}

fn chain(table: &str, name: &str) -> Message {
    let mut chain = message(NEW_CHAIN, CREATE);
    chain.text(1, table).text(3, name);
    chain
}

fn base_chain(table: &str, name: &str, kind: &str, (hook, priority): (u32, i32)) -> Message {
    let mut chain = chain(table, name);
    chain.nested(4, |inner| {
        inner.network_number(1, hook).bytes(2, &priority.to_be_bytes());
    });
    chain.text(7, kind);
    chain
}

fn set_message(table: &str, set: Set, id: u32) -> Message {
    const IS_MAP: u32 = 8;
    let mut message = message(NEW_SET, CREATE);
    let value = set.value();
    message
        .text(1, table)
        .text(2, set.name())
        .network_number(3, if value.is_some() { IS_MAP } else { 0 });
    let (kind, length) = describe(set.key());
    message.network_number(4, kind).network_number(5, length);
    if let Some((kind, length)) = value.map(describe) {
        message.network_number(6, kind).network_number(7, length);
    }
    message.network_number(10, id).bytes(13, &byte_orders(value.is_some()));
    message
}

/// The kind of several fields in a row, and their length.
fn describe(fields: &[Field]) -> (u32, u32) {
    fields.iter().fold((0, 0), |(kind, length), field| {
        (kind << 6 | field.kind(), length + u32::try_from(field.length()).unwrap_or_default())
    })
}

/// A note for the `nft` program: keys and values are in network byte order.
fn byte_orders(is_map: bool) -> Vec<u8> {
    const OF_KEY: u8 = 0;
    const OF_VALUE: u8 = 1;
    const NETWORK_ORDER: u32 = 2;
    let mut note = vec![OF_KEY, 4];
    note.extend_from_slice(&NETWORK_ORDER.to_ne_bytes());
    if is_map {
        note.extend_from_slice(&[OF_VALUE, 4]);
        note.extend_from_slice(&NETWORK_ORDER.to_ne_bytes());
    }
    note
}
