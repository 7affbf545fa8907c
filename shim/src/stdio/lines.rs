//! Bytes of a stream cut into CRI log lines (F-146). Pure.
//!
//! `<time> <stream> <tag> <content>\n`, where the tag is `P` for a piece of a line longer than [`LONGEST`] and `F` for its
//! end. What a stream has begun without a newline waits here, so that a line is written whole even if it came in pieces;
//! the end of the stream ends the line.

use crate::clock::Stamp;

/// Longest content of one log line, in bytes.
pub(crate) const LONGEST: usize = 16 * 1024;

/// The stream's name in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, and everything a terminal shows.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Output => b"stdout",
            Self::Error => b"stderr",
        }
    }
}

/// The line that a stream has begun.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: Stream,
    begun: Vec<u8>,
    pieces_written: bool,
}

impl Lines {
    /// A stream that has said nothing yet.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, begun: Vec::new(), pieces_written: false }
    }

    /// Takes the stream's next bytes and appends to `log` the lines that they complete.
    pub(crate) fn take(&mut self, mut bytes: &[u8], stamp: &Stamp, log: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.complete(line, stamp, log);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.hold(bytes, stamp, log);
    }

    /// The stream has ended: ends the line it has begun.
    pub(crate) fn finish(&mut self, stamp: &Stamp, log: &mut Vec<u8>) {
        if !self.begun.is_empty() || self.pieces_written {
            self.complete(&[], stamp, log);
        }
    }

    /// Writes the begun line with `end` as its end.
    fn complete(&mut self, end: &[u8], stamp: &Stamp, log: &mut Vec<u8>) {
        if self.begun.is_empty() {
            let rest = self.write_pieces(end, stamp, log);
            self.write(b'F', rest, stamp, log);
        } else {
            self.hold(end, stamp, log);
            let line = std::mem::take(&mut self.begun);
            self.write(b'F', &line, stamp, log);
        }
        self.pieces_written = false;
    }

    /// Keeps bytes of a line whose end is not known yet, and writes pieces as soon as it is sure that they are not the end.
    fn hold(&mut self, bytes: &[u8], stamp: &Stamp, log: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if self.begun.is_empty() {
            let rest = self.write_pieces(bytes, stamp, log);
            self.begun.extend_from_slice(rest);
            return;
        }
        let (fits, more) = bytes.split_at(bytes.len().min(LONGEST - self.begun.len()));
        self.begun.extend_from_slice(fits);
        if !more.is_empty() {
            let piece = std::mem::take(&mut self.begun);
            self.write(b'P', &piece, stamp, log);
            self.pieces_written = true;
            self.hold(more, stamp, log);
        }
    }

    /// Writes all full pieces of `line` that more of it follows; gives what is left, at most [`LONGEST`] bytes.
    fn write_pieces<'line>(
        &mut self,
        mut line: &'line [u8],
        stamp: &Stamp,
        log: &mut Vec<u8>,
    ) -> &'line [u8] {
        while line.len() > LONGEST {
            let (piece, rest) = line.split_at(LONGEST);
            self.write(b'P', piece, stamp, log);
            self.pieces_written = true;
            line = rest;
        }
        line
    }

    fn write(&self, tag: u8, content: &[u8], stamp: &Stamp, log: &mut Vec<u8>) {
        line(self.stream, tag, content, stamp, log);
    }
}

/// Appends one log line.
pub(crate) fn line(stream: Stream, tag: u8, content: &[u8], stamp: &Stamp, log: &mut Vec<u8>) {
    log.extend_from_slice(stamp.as_bytes());
    log.push(b' ');
    log.extend_from_slice(stream.name());
    log.extend_from_slice(&[b' ', tag, b' ']);
    log.extend_from_slice(content);
    log.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp::from_nanoseconds(1)
    }

    /// Feeds the pieces, ends the stream, and gives (tag, length) of each line, after a check of the rest of its form.
    fn tags(pieces: &[&[u8]]) -> Vec<(u8, usize)> {
        let mut log = Vec::new();
        let mut lines = Lines::new(Stream::Output);
        for piece in pieces {
            lines.take(piece, &stamp(), &mut log);
        }
        lines.finish(&stamp(), &mut log);
        log.split_inclusive(|&byte| byte == b'\n')
            .map(|line| {
                let rest = line.strip_prefix(b"1970-01-01T00:00:00.000000001Z stdout ").unwrap();
                assert_eq!(rest.last(), Some(&b'\n'));
                (rest[0], rest.len() - 3)
            })
            .collect()
    }

    #[test]
    fn a_line_has_time_stream_tag_and_content() {
        let mut log = Vec::new();
        let mut lines = Lines::new(Stream::Error);
        lines.take(b"hello\n\nworld", &stamp(), &mut log);
        lines.finish(&stamp(), &mut log);
        let expected = "1970-01-01T00:00:00.000000001Z stderr F hello\n\
                        1970-01-01T00:00:00.000000001Z stderr F \n\
                        1970-01-01T00:00:00.000000001Z stderr F world\n";
        assert_eq!(String::from_utf8(log).unwrap(), expected);
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_written_whole() {
        assert_eq!(tags(&[b"he", b"ll", b"o\nwor", b"ld\n"]), [(b'F', 5), (b'F', 5)]);
    }

    #[test]
    fn a_line_longer_than_the_longest_is_split_however_it_arrives() {
        let sizes: [(usize, &[(u8, usize)]); 5] = [
            (LONGEST - 1, &[(b'F', LONGEST - 1)]),
            (LONGEST, &[(b'F', LONGEST)]),
            (LONGEST + 1, &[(b'P', LONGEST), (b'F', 1)]),
            (2 * LONGEST, &[(b'P', LONGEST), (b'F', LONGEST)]),
            (2 * LONGEST + 5, &[(b'P', LONGEST), (b'P', LONGEST), (b'F', 5)]),
        ];
        for (size, expected) in sizes {
            let mut text = vec![b'x'; size];
            text.push(b'\n');
            assert_eq!(tags(&[&text]), expected, "{size} at once");
            for step in [1, 7, 4096, LONGEST - 1, LONGEST, LONGEST + 1] {
                let pieces: Vec<_> = text.chunks(step).collect();
                assert_eq!(tags(&pieces), expected, "{size} by {step}");
            }
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_the_line_and_nothing_else() {
        assert_eq!(tags(&[b"abc"]), [(b'F', 3)]);
        assert_eq!(tags(&[b"abc\n"]), [(b'F', 3)]);
        assert_eq!(tags(&[]), []);
        let long = vec![b'x'; LONGEST + 1];
        assert_eq!(tags(&[&long]), [(b'P', LONGEST), (b'F', 1)]);
    }
}
