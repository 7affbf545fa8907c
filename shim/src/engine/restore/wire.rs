//! The form of CRIU's images, as far as it matters here: eight bytes of marks, the length of a message, and the message, in the
//! wire form of protocol buffers.
//!
//! Why not its types: of its hundreds of messages three are looked at, and none has more than numbers and bytes.

/// The kinds of fields.
const NUMBER: u64 = 0;
const BYTES: u64 = 2;

/// A field's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text, or another message.
    Bytes(&'a [u8]),
}

/// A message that is made.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Adds a number.
    pub(super) fn number(&mut self, field: u64, value: u64) {
        self.put(field << 3 | NUMBER);
        self.put(value);
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.put(field << 3 | BYTES);
        self.put(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend(value);
    }

    /// As an image with these marks.
    pub(super) fn image(self, marks: [u8; 8]) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&marks[..], &length.to_le_bytes(), &self.0].concat()
    }

    fn put(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The only message of an image. With more after it, another reader might take that for one too.
pub(super) fn message(image: &[u8]) -> Option<&[u8]> {
    let (_marks, rest) = image.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    (rest.len() == length).then_some(rest)
}

/// The fields of a message, in their order.
pub(super) fn fields(mut text: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !text.is_empty() {
        let key = number(&mut text)?;
        let value = match key & 7 {
            NUMBER => Value::Number(number(&mut text)?),
            BYTES => {
                let length = usize::try_from(number(&mut text)?).ok()?;
                let (bytes, rest) = text.split_at_checked(length)?;
                text = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        fields.push((key >> 3, value));
    }
    Some(fields)
}

fn number(text: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (byte, rest) = text.split_first()?;
        *text = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut made = Message::default();
        for value in [0, 127, 128, u64::MAX] {
            made.number(3, value);
        }
        made.bytes(20, &[9; 300]);
        let image = made.image([1; 8]);
        let read = fields(message(&image).unwrap()).unwrap();
        let numbers = [0, 127, 128, u64::MAX].map(|value| (3, Value::Number(value)));
        assert_eq!(read[..4], numbers);
        assert_eq!(read[4], (20, Value::Bytes(&[9; 300])));
        assert_eq!(message(&[image.as_slice(), b"x"].concat()), None);
        assert_eq!(fields(&[0xff; 20]), None);
    }
}
