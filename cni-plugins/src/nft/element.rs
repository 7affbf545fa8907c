//! Elements of the sets: a key, for maps a value, and the owner.

use std::net::IpAddr;

use cringle_kernel::netlink::{CREATE, EXCLUSIVE, Message, attributes};

use super::layout::{self, DELETE_ELEMENT, Field, GET_ELEMENT, HEADER_LENGTH, NEW_ELEMENT, Set};

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_NOTE: u16 = 6;
const DATA_VALUE: u16 = 1;
const NOTE_COMMENT: u8 = 0;
/// The kernel keeps 256 bytes; two say what it is and how long, one ends the text.
const OWNER_LENGTH: usize = 253;

/// An element of one of the sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    /// The set it is in.
    pub set: Set,
    /// Its key, in whole registers.
    pub key: Vec<u8>,
    /// What a map has for the key; empty in a set.
    pub value: Vec<u8>,
    /// Who it belongs to.
    pub owner: String,
}

/// A part of a key or of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// An address.
    Address(IpAddr),
    /// A transport protocol by its number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// The name of an interface.
    Interface(&'a str),
}

impl Element {
    /// An element with that key and, for a map, that value.
    #[must_use]
    pub fn new(set: Set, key: &[KeyPart<'_>], value: &[KeyPart<'_>], owner: &str) -> Self {
        Self { set, key: encode(key), value: encode(value), owner: owner.into() }
    }

    /// Whether the kernel can keep the owner's name.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.owner.len() <= OWNER_LENGTH
    }

    /// The element in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words = self.set.name().to_owned();
        let mut rest = self.key.as_slice();
        for field in self.set.key() {
            let Some((bytes, next)) = rest.split_at_checked(field.length()) else { break };
            words.push(' ');
            words.push_str(&decode(*field, bytes));
            rest = next;
        }
        words
    }

    /// The host port of a published one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let at = self.key.len().checked_sub(4)?;
        let is_port = self.set.key().last() == Some(&Field::Port);
        self.key
            .get(at..at + 2)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_be_bytes)
            .filter(|_| is_port)
    }

    /// The protocol of a published port.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        let at = self.key.len().checked_sub(8)?;
        self.key.get(at).copied().filter(|_| self.set.key().contains(&Field::Protocol))
    }

    /// The address that a published port leads to.
    #[must_use]
    pub fn target(&self) -> Option<IpAddr> {
        let length = self.set.value()?.first()?.length();
        address(self.value.get(..length)?)
    }

    /// The last interface in the key, if it has one.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        let at = self
            .key
            .len()
            .checked_sub(16)
            .filter(|_| self.set.key().contains(&Field::Interface))?;
        let bytes = self.key.get(at..)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end)?).ok()
    }

    pub(super) fn add(&self, table: &str) -> Message {
        list(NEW_ELEMENT, CREATE | EXCLUSIVE, (table, self.set), |element| {
            value(element, ELEMENT_KEY, &self.key);
            if !self.value.is_empty() {
                value(element, ELEMENT_DATA, &self.value);
            }
            let length = u8::try_from(self.owner.len() + 1).unwrap_or(u8::MAX);
            let mut note = vec![NOTE_COMMENT, length];
            note.extend_from_slice(self.owner.as_bytes());
            note.push(0);
            element.bytes(ELEMENT_NOTE, &note);
        })
    }

    pub(super) fn remove(&self, table: &str) -> Message {
        list(DELETE_ELEMENT, 0, (table, self.set), |element| value(element, ELEMENT_KEY, &self.key))
    }
}

fn list(
    kind: u16,
    flags: u16,
    (table, set): (&str, Set),
    fill: impl FnOnce(&mut Message),
) -> Message {
    let mut message = layout::message(kind, flags);
    message.text(LIST_TABLE, table).text(LIST_SET, set.name()).nested(LIST_ELEMENTS, |elements| {
        elements.nested(LIST_ELEMENT, fill);
    });
    message
}

fn value(message: &mut Message, kind: u16, bytes: &[u8]) {
    message.nested(kind, |inner| {
        inner.bytes(DATA_VALUE, bytes);
    });
}

pub(super) fn all(table: &str, set: Set) -> Message {
    let mut message = layout::message(GET_ELEMENT, 0);
    message.text(LIST_TABLE, table).text(LIST_SET, set.name());
    message
}

pub(super) fn parse(set: Set, payload: &[u8]) -> Vec<Element> {
    let Some(elements) =
        attributes(payload.get(HEADER_LENGTH..).unwrap_or_default()).of(LIST_ELEMENTS)
    else {
        return Vec::new();
    };
    let parse = |element: cringle_kernel::netlink::Attribute<'_>| {
        let value = |kind| {
            element
                .attributes()
                .of(kind)?
                .attributes()
                .of(DATA_VALUE)
                .map(|data| data.value.to_vec())
        };
        let note = element
            .attributes()
            .of(ELEMENT_NOTE)
            .map(|note| comment(note.value))
            .unwrap_or_default();
        Some(Element {
            set,
            key: value(ELEMENT_KEY)?,
            value: value(ELEMENT_DATA).unwrap_or_default(),
            owner: note,
        })
    };
    elements.attributes().filter_map(parse).collect()
}

fn comment(mut note: &[u8]) -> String {
    while let Some((&[kind, length], rest)) = note.split_first_chunk() {
        let Some((text, rest)) = rest.split_at_checked(length.into()) else { break };
        if kind == NOTE_COMMENT {
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            return String::from_utf8_lossy(text).into_owned();
        }
        note = rest;
    }
    String::new()
}

fn encode(parts: &[KeyPart<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            KeyPart::Address(IpAddr::V4(address)) => bytes.extend_from_slice(&address.octets()),
            KeyPart::Address(IpAddr::V6(address)) => bytes.extend_from_slice(&address.octets()),
            KeyPart::Protocol(number) => bytes.push(*number),
            KeyPart::Port(number) => bytes.extend_from_slice(&number.to_be_bytes()),
            KeyPart::Interface(name) => bytes.extend_from_slice(&layout::interface(name)),
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .ok()
        .or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn decode(field: Field, bytes: &[u8]) -> String {
    match (field, bytes) {
        (Field::Address4 | Field::Address6, bytes) => {
            address(bytes).map(|found| found.to_string()).unwrap_or_default()
        }
        (Field::Protocol, [6, ..]) => "tcp".into(),
        (Field::Protocol, [17, ..]) => "udp".into(),
        (Field::Protocol, [132, ..]) => "sctp".into(),
        (Field::Port, [high, low, ..]) => u16::from_be_bytes([*high, *low]).to_string(),
        (Field::Protocol | Field::Port | Field::Interface, bytes) => {
            String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
        }
    }
}
