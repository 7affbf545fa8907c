//! The form of netlink messages: a header, a fixed part that depends on the type, then attributes padded to four bytes.

pub(super) const HEADER_LENGTH: usize = 16;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// A message in the making.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// A message of that type, with flags besides those that its use implies, and its fixed part.
    #[must_use]
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut body = fixed.to_vec();
        pad(&mut body);
        Self { kind, flags, body }
    }

    /// Adds an attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_LENGTH + value.len()).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        pad(&mut self.body);
        self
    }

    /// Adds a text with the zero that ends it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds a number in the machine's byte order.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order.
    pub fn network_number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.body.len();
        self.bytes(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.body.len() - start).unwrap_or(u16::MAX);
        if let Some(field) = self.body.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }

    /// Adds bytes that are no attribute: the fixed part of a nested message.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.body.extend_from_slice(bytes);
        pad(&mut self.body);
        self
    }

    /// What follows the header.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>, flags: u16, sequence: u32) {
        let length = u32::try_from(HEADER_LENGTH + self.body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(self.flags | flags).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        pad(bytes);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The header of a message from the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
}

impl Header {
    /// The next message of a datagram, its payload, and what follows it.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let header = Self {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?),
        };
        let payload = bytes.get(HEADER_LENGTH..length)?;
        let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload, rest))
    }
}

/// An attribute from the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its type, without the flags.
    pub kind: u16,
    /// What it holds.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as text, up to the zero that ends it; empty if it is none.
    #[must_use]
    pub fn text(&self) -> &'a str {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        self.value.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The value as a number in the machine's byte order.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The value as a number in network byte order.
    #[must_use]
    pub fn network_number(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The attributes inside.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        attributes(self.value)
    }
}

/// The attributes in a piece of a message. Ends early at a malformed one.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

/// The attributes in those bytes.
#[must_use]
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

impl<'a> Attributes<'a> {
    /// The first attribute of that type.
    #[must_use]
    pub fn of(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(*self.rest.first_chunk()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_as_they_were_written() {
        let mut message = Message::new(1, 0, &[9; 3]);
        message.text(3, "eth0").nested(18, |inner| {
            inner.number(1, 7).network_number(2, 8);
        });
        let found: Vec<_> = attributes(&message.body()[4..]).collect();
        assert_eq!((found[0].kind, found[0].text()), (3, "eth0"));
        assert_eq!(found[1].kind, 18);
        assert_eq!(found[1].attributes().of(1).unwrap().number(), Some(7));
        assert_eq!(found[1].attributes().of(2).unwrap().network_number(), Some(8));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[][..], &[1], &[3, 0, 0, 0], &[200, 0, 0, 0, 1], &[0, 0, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn messages_read_back_one_after_another() {
        let mut bytes = Vec::new();
        Message::new(5, 2, &[1, 2, 3, 4]).write(&mut bytes, 1, 77);
        Message::new(6, 0, &[]).write(&mut bytes, 1, 78);
        let (header, payload, rest) = Header::read(&bytes).unwrap();
        assert_eq!(
            (header.kind, header.flags, header.sequence, payload),
            (5, 3, 77, &[1, 2, 3, 4][..])
        );
        let (header, payload, rest) = Header::read(rest).unwrap();
        assert_eq!((header.kind, header.sequence, payload.len(), rest.len()), (6, 78, 0, 0));
        assert!(Header::read(rest).is_none());
    }
}
