//! The stream's first half: bytes from the daemon, inflated on a thread of their own and handed over in pieces.
//!
//! Which compression it is, the stream says itself; media types have been wrong before.

use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const PIECE: usize = 256 << 10;
/// Enough pieces that neither side waits for the other's hiccups.
const PIECES: usize = 8;
/// Frames that want a larger window than this (128 MiB) would take too much memory.
const LARGEST_WINDOW_LOG: u32 = 27;
/// Below this size any ratio is fine: it costs nothing.
const RATIO_COUNTS_FROM: u64 = 1 << 30;

/// The archive as it comes out of the compression, hashed on its way.
#[derive(Debug)]
pub(super) struct Inflated {
    pieces: Receiver<io::Result<Vec<u8>>>,
    used_up: Sender<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
    hash: Sha256,
    compressed: Arc<AtomicU64>,
    length: u64,
    ratio: u64,
}

impl Inflated {
    /// Prepares to inflate a stream that may grow at most so many times. The thread seals itself and then waits for
    /// [`Self::begin`]: no byte is read while either thread could still do something else.
    pub(super) fn start(
        stream: File,
        ratio: u64,
        seal: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (pieces_in, pieces) = sync_channel(PIECES);
        let (used_up, empties) = channel();
        let compressed = Arc::new(AtomicU64::new(0));
        let source = Counted { stream, count: Arc::clone(&compressed) };
        // Not joined: it ends when its stream or this reader does, and the process right after.
        std::thread::Builder::new().name("inflate".to_owned()).stack_size(512 << 10).spawn(
            move || match seal() {
                Ok(()) => inflate(source, &pieces_in, &empties),
                // A reader that is gone needs no error.
                Err(error) => drop(pieces_in.send(Err(error))),
            },
        )?;
        Ok(Self {
            pieces,
            used_up,
            piece: Vec::new(),
            position: 0,
            hash: Sha256::new(),
            compressed,
            length: 0,
            ratio,
        })
    }

    /// Lets the thread begin: the first empty piece is the word.
    pub(super) fn begin(&self) {
        // If it ended with an error, then that is what is read first.
        let _ended = self.used_up.send(Vec::new());
    }

    /// The SHA-256 of all that was read.
    pub(super) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let Ok(piece) = self.pieces.recv() else {
            // The thread ended: there is no more.
            self.piece.clear();
            self.position = 0;
            return Ok(());
        };
        let piece = piece?;
        self.hash.update(&piece);
        self.length += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let allowed = self.compressed.load(Ordering::Relaxed).saturating_mul(self.ratio);
        if self.length > RATIO_COUNTS_FROM.max(allowed) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the archive is too many times larger than its compressed form",
            ));
        }
        let used = std::mem::replace(&mut self.piece, piece);
        self.position = 0;
        // If nobody takes it back, it is simply freed.
        let _freed = self.used_up.send(used);
        Ok(())
    }
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Inflated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.piece.len() {
            self.next_piece()?;
        }
        Ok(&self.piece[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position = (self.position + length).min(self.piece.len());
    }
}

/// The compressed stream, counted.
struct Counted {
    stream: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.count.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
        Ok(length)
    }
}

fn inflate(source: Counted, pieces: &SyncSender<io::Result<Vec<u8>>>, empties: &Receiver<Vec<u8>>) {
    // Without a first piece the reader is gone.
    let Ok(mut empty) = empties.recv() else { return };
    let mut reader = match decoder(source) {
        Ok(reader) => reader,
        Err(error) => {
            // A reader that is gone needs no error.
            let _unread = pieces.send(Err(error));
            return;
        }
    };
    loop {
        let mut piece = std::mem::take(&mut empty);
        piece.resize(PIECE, 0);
        let filled = fill(&mut reader, &mut piece);
        let last = !matches!(filled, Ok(length) if length > 0);
        let message = filled.map(|length| {
            piece.truncate(length);
            piece
        });
        if matches!(&message, Ok(piece) if piece.is_empty())
            || pieces.send(message).is_err()
            || last
        {
            return;
        }
        empty = empties.try_recv().unwrap_or_default();
    }
}

/// Reads until the piece is full or the stream ends.
fn fill(reader: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn decoder(source: Counted) -> io::Result<Box<dyn Read>> {
    let mut source = BufReader::with_capacity(PIECE, Magic::read(source)?);
    let magic = source.get_ref().bytes();
    if magic.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)));
    }
    let is_zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        // A skippable frame, which zstd:chunked and seekable files may begin with.
        || (magic.len() == 4 && magic[0] & 0xf0 == 0x50 && magic[1..] == [0x2a, 0x4d, 0x18]);
    if is_zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
        decoder.window_log_max(LARGEST_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    // Surely not an archive, but let the archive's reader say so.
    source.fill_buf()?;
    Ok(Box::new(source))
}

/// A stream whose first four bytes were looked at.
struct Magic<R> {
    bytes: [u8; 4],
    length: usize,
    given: usize,
    rest: R,
}

impl<R: Read> Magic<R> {
    fn read(mut rest: R) -> io::Result<Self> {
        let mut bytes = [0; 4];
        let length = fill(&mut rest, &mut bytes)?;
        Ok(Self { bytes, length, given: 0, rest })
    }

    fn bytes(&self) -> [u8; 4] {
        self.bytes
    }
}

impl<R: Read> Read for Magic<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.length {
            return self.rest.read(buffer);
        }
        let length = buffer.len().min(self.length - self.given);
        buffer[..length].copy_from_slice(&self.bytes[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}
