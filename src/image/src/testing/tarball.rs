//! Archives, made byte by byte so that they can be as wrong as a test needs.

use std::io::Write;

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tarball(Vec<u8>);

/// The header fields of an entry.
#[derive(Clone)]
pub(crate) struct Head<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            link: b"",
            device: (0, 0),
        }
    }
}

impl Tarball {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(&Head { name: name.as_bytes(), ..Head::default() }, content)
    }

    pub(crate) fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(&Head { name: name.as_bytes(), kind: b'5', mode, ..Head::default() }, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let head = Head {
            name: name.as_bytes(),
            kind: b'2',
            mode: 0o777,
            link: target.as_bytes(),
            ..Head::default()
        };
        self.entry(&head, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        let head =
            Head { name: name.as_bytes(), kind: b'1', link: target.as_bytes(), ..Head::default() };
        self.entry(&head, b"")
    }

    pub(crate) fn entry(self, head: &Head<'_>, content: &[u8]) -> Self {
        let header = header(head, content.len());
        self.raw(&header).raw(content).padded()
    }

    /// An extended header for the entry after it.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (keyword, value) in records {
            let rest = keyword.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(body, "{length} {keyword}=").expect("written");
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(&Head { name: b"pax", kind: b'x', ..Head::default() }, &body)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn padded(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// What was written so far, without an end.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn header(head: &Head<'_>, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &head.name[..head.name.len().min(100)]);
    put(100, format!("{:07o}\0", head.mode).as_bytes());
    put(108, format!("{:07o}\0", head.uid).as_bytes());
    put(116, format!("{:07o}\0", head.gid).as_bytes());
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", head.mtime).as_bytes());
    put(156, &[head.kind]);
    put(157, &head.link[..head.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", head.device.0).as_bytes());
    put(337, format!("{:07o}\0", head.device.1).as_bytes());
    set_checksum(&mut block);
    block
}

pub(crate) fn set_checksum(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}
