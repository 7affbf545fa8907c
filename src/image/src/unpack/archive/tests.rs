use super::*;
use crate::testing::tarball::{Head, Tarball, header, set_checksum};
use std::io::BufReader;

/// All entries with their content.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
    // A small buffer, so that everything crosses its border once.
    let mut archive = Archive::new(BufReader::with_capacity(97, bytes));
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = Vec::new();
        loop {
            let piece = archive.content()?;
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(piece);
            let length = piece.len();
            archive.consume(length);
        }
        entries.push((entry, content));
    }
    archive.drain()?;
    Ok(entries)
}

fn one(bytes: &[u8]) -> Entry {
    let mut entries = read(bytes).expect("an archive");
    assert_eq!(entries.len(), 1);
    entries.remove(0).0
}

fn is_malformed(bytes: &[u8]) -> bool {
    matches!(read(bytes), Err(ArchiveError::Malformed(_) | ArchiveError::UnsupportedType(_)))
}

#[test]
fn entries_come_with_their_fields_and_content() {
    let head =
        Head { name: b"dir/file", mode: 0o4755, uid: 7, gid: 8, mtime: 9, ..Head::default() };
    let bytes = Tarball::new()
        .directory("dir/", 0o750)
        .entry(&head, &[b'x'; 700])
        .symlink("link", "../target")
        .hard_link("hard", "dir/file")
        .entry(&Head { name: b"null", kind: b'3', device: (1, 3), ..Head::default() }, b"")
        .entry(&Head { name: b"pipe", kind: b'6', ..Head::default() }, b"")
        .finish();
    let entries = read(&bytes).expect("an archive");
    let kinds: Vec<_> = entries.iter().map(|(entry, _)| entry.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Directory, Kind::File, Kind::Symlink, Kind::HardLink, Kind::Character, Kind::Fifo]
    );
    let (file, content) = &entries[1];
    assert_eq!((file.mode, file.uid, file.gid, file.mtime.seconds), (0o4755, 7, 8, 9));
    assert_eq!((file.size, content.len()), (700, 700));
    assert_eq!(entries[2].0.link, b"../target");
    assert_eq!(entries[4].0.device, (1, 3));
}

#[test]
fn extended_headers_overrule_the_header() {
    let long = "d/".repeat(100) + "file";
    let bytes = Tarball::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"3000000"),
            ("gid", b"4000000"),
            ("mtime", b"-1.25"),
            ("size", b"5"),
            ("SCHILY.xattr.user.a", b"one\ntwo=\0three"),
            ("comment", b"nothing"),
        ])
        .file("short", b"12345")
        .finish();
    let entry = one(&bytes);
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!((entry.uid, entry.gid), (3_000_000, 4_000_000));
    assert_eq!(entry.mtime, Mtime { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"one\ntwo=\0three".to_vec())]);
}

#[test]
fn gnu_long_names_and_prefixes_are_joined() {
    let long = "x".repeat(300);
    let gnu = Tarball::new()
        .entry(
            &Head { name: b"././@LongLink", kind: b'L', ..Head::default() },
            format!("{long}\0").as_bytes(),
        )
        .entry(&Head { name: b"././@LongLink", kind: b'K', ..Head::default() }, b"target\0")
        .symlink("cut", "cut")
        .finish();
    let entry = one(&gnu);
    assert_eq!((entry.path, entry.link), (long.into_bytes(), b"target".to_vec()));
    let mut block = header(&Head { name: b"name", ..Head::default() }, 0);
    block[345..351].copy_from_slice(b"prefix");
    set_checksum(&mut block);
    assert_eq!(one(&Tarball::new().raw(&block).finish()).path, b"prefix/name");
}

#[test]
fn numbers_may_be_in_base_256() {
    let mut block = header(&Head { name: b"f", ..Head::default() }, 0);
    block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x20, 0, 0]);
    block[136..148].copy_from_slice(&[0xff; 12]);
    set_checksum(&mut block);
    let entry = one(&Tarball::new().raw(&block).raw(&[b'x'; 512]).finish());
    assert_eq!((entry.size, entry.uid, entry.mtime.seconds), (3, 0x20_0000, -1));
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn sparse_files_of_every_form_have_the_same_pieces() {
    let regions = [Region { offset: 512, length: 3 }, Region { offset: 4096, length: 2 }];
    let mut old = header(&Head { name: b"s", kind: b'S', ..Head::default() }, 5);
    let numbers = [512, 3, 4096, 2];
    for (index, number) in numbers.iter().enumerate() {
        let at = 386 + index * 12;
        old[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    }
    old[483..495].copy_from_slice(format!("{:011o}\0", 8192).as_bytes());
    old[257..265].copy_from_slice(b"ustar  \0");
    set_checksum(&mut old);
    let mut content = b"abcde".to_vec();
    content.resize(512, 0);
    let mut map = b"2\n512\n3\n4096\n2\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abcde");
    for (form, bytes) in [
        ("old", Tarball::new().raw(&old).raw(&content).finish()),
        (
            "0.0",
            Tarball::new()
                .pax(&[
                    ("GNU.sparse.size", b"8192"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"512"),
                    ("GNU.sparse.numbytes", b"3"),
                    ("GNU.sparse.offset", b"4096"),
                    ("GNU.sparse.numbytes", b"2"),
                ])
                .file("s", b"abcde")
                .finish(),
        ),
        (
            "0.1",
            Tarball::new()
                .pax(&[
                    ("GNU.sparse.size", b"8192"),
                    ("GNU.sparse.map", b"512,3,4096,2"),
                    ("GNU.sparse.name", b"s"),
                ])
                .file("GNUSparseFile.0/s", b"abcde")
                .finish(),
        ),
        (
            "1.0",
            Tarball::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.realsize", b"8192"),
                ])
                .file("GNUSparseFile.0/s", &map)
                .finish(),
        ),
    ] {
        let entries = read(&bytes).unwrap_or_else(|error| panic!("{form}: {error}"));
        let (entry, stored) = &entries[0];
        assert_eq!(entry.path, b"s", "{form}");
        assert_eq!(entry.size, 8192, "{form}");
        assert_eq!(entry.regions.as_deref(), Some(&regions[..]), "{form}");
        assert_eq!(stored, b"abcde", "{form}");
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn malformed_archives_are_refused() {
    let good = Tarball::new().file("file", b"12345").finish();
    let with = |change: fn(&mut [u8; 512])| {
        let mut block = header(&Head { name: b"f", ..Head::default() }, 0);
        change(&mut block);
        set_checksum(&mut block);
        Tarball::new().raw(&block).finish()
    };
    let sparse = |map: &[u8], size: &[u8]| {
        Tarball::new()
            .pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)])
            .file("s", b"abcde")
            .finish()
    };
    let raw_pax = |body: &[u8]| {
        let head = Head { name: b"pax", kind: b'x', ..Head::default() };
        Tarball::new().entry(&head, body).file("f", b"").finish()
    };
    for (case, bytes) in [
        ("a wrong checksum", [&[b'z'][..], &good[1..]].concat()),
        ("cut in a header", good[..300].to_vec()),
        ("cut in content", good[..514].to_vec()),
        ("garbage", vec![b'g'; 2048]),
        ("a lone block of zeros", [&[0; 512][..], &good].concat()),
        ("an unknown type", with(|block| block[156] = b'D')),
        ("a number that is not octal", with(|block| block[124..127].copy_from_slice(b"9x9"))),
        ("a negative size", with(|block| block[124..136].fill(0xff))),
        ("a size beyond numbers", with(|block| block[124..136].fill(0x7f))),
        (
            "an impossible size",
            with(|block| {
                block[124..136].copy_from_slice(&[
                    0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ]);
            }),
        ),
        (
            "a directory with content",
            Tarball::new()
                .entry(&Head { name: b"d", kind: b'5', ..Head::default() }, b"x")
                .finish(),
        ),
        (
            "a link with content",
            Tarball::new()
                .entry(&Head { name: b"l", kind: b'1', ..Head::default() }, b"x")
                .finish(),
        ),
        ("an extended header at the end", Tarball::new().pax(&[("path", b"p")]).finish()),
        (
            "too many extended headers",
            (0..20)
                .fold(Tarball::new(), |tar, _| tar.pax(&[("path", b"p")]))
                .file("f", b"")
                .finish(),
        ),
        ("a record without length", raw_pax(b"path=x\n")),
        ("a record of length 0", raw_pax(b"0 path=x\n")),
        ("a record that is too long", raw_pax(b"99 path=x\n")),
        ("a record without line feed", raw_pax(b"9 path=xy")),
        ("a record without equals", raw_pax(b"7 path\n")),
        ("a size with a sign", Tarball::new().pax(&[("size", b"+5")]).file("f", b"12345").finish()),
        ("a name with NUL", Tarball::new().pax(&[("path", b"a\0b")]).file("f", b"").finish()),
        ("a huge user", Tarball::new().pax(&[("uid", b"4294967296")]).file("f", b"").finish()),
        ("pieces that overlap", sparse(b"0,3,2,2", b"8192")),
        ("pieces out of order", sparse(b"4096,3,0,2", b"8192")),
        ("pieces beyond the end", sparse(b"0,5", b"4")),
        ("pieces that are too few", sparse(b"0,4", b"8192")),
        ("half a piece", sparse(b"0,5,7", b"8192")),
        (
            "a piece at the end of numbers",
            sparse(b"18446744073709551615,5", b"18446744073709551615"),
        ),
        (
            "a global header that renames",
            Tarball::new()
                .entry(&Head { name: b"g", kind: b'g', ..Head::default() }, b"8 path=x\n")
                .file("f", b"")
                .finish(),
        ),
    ] {
        assert!(is_malformed(&bytes), "{case}: {:?}", read(&bytes));
    }
}

#[test]
fn what_claims_to_be_huge_takes_no_memory() {
    for kind in [b'L', b'K', b'x', b'g'] {
        let mut block = header(&Head { name: b"f", kind, ..Head::default() }, 0);
        block[124..136].copy_from_slice(b"10000000000\0");
        set_checksum(&mut block);
        assert!(is_malformed(&Tarball::new().raw(&block).finish()), "{}", char::from(kind));
    }
    let map: Vec<u8> = (0..70_000).flat_map(|at| format!("{},0,", at * 512).into_bytes()).collect();
    let bytes = Tarball::new()
        .pax(&[("GNU.sparse.size", b"99999999"), ("GNU.sparse.map", &map[..map.len() - 1])])
        .file("s", b"")
        .finish();
    assert!(is_malformed(&bytes));
}

#[test]
fn an_archive_may_lack_its_end() {
    for bytes in [
        Vec::new(),
        Tarball::new().file("f", b"1").unfinished(),
        [Tarball::new().file("f", b"1").unfinished(), vec![0; 512]].concat(),
    ] {
        assert!(read(&bytes).is_ok_and(|entries| entries.len() == bytes.len().min(1)));
    }
}

/// What we read of a damaged archive, another reader reads too; or we refuse it.
#[test]
fn mutated_archives_are_read_like_others_read_them_or_refused() {
    let original = Tarball::new()
        .directory("d/", 0o755)
        .file("d/one", &[1; 600])
        .pax(&[("path", b"a/long/name"), ("size", b"3"), ("mtime", b"5.5")])
        .file("short", b"abc")
        .symlink("l", "d/one")
        .file("last", b"z")
        .finish();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let mut accepted = 0;
    for _ in 0..40_000 {
        let mut bytes = original.clone();
        let block = random(bytes.len() / 512) * 512;
        for _ in 0..=random(3) {
            bytes[block + random(512)] = u8::try_from(random(256)).unwrap_or(0);
        }
        // With the right checksum more of them get past the first look.
        if let Some(Ok(head)) = bytes.get_mut(block..block + 512).map(<&mut [u8; 512]>::try_from) {
            set_checksum(head);
        }
        let Ok(ours) = read(&bytes) else { continue };
        // The other one ends a record at the first line feed, whatever length the record says.
        if ours.iter().any(|(entry, _)| entry.path.contains(&b'\n')) {
            continue;
        }
        accepted += 1;
        let ours: Vec<_> = ours.into_iter().map(|(entry, content)| (entry.path, content)).collect();
        let theirs = read_by_other(&bytes);
        let names = |entries: &[(Vec<u8>, Vec<u8>)]| {
            entries
                .iter()
                .map(|(name, content)| (name.escape_ascii().to_string(), content.len()))
                .collect::<Vec<_>>()
        };
        let same = theirs.as_ref().is_none_or(|theirs| *theirs == ours);
        assert!(same, "{:?}\n{:?}", names(&ours), theirs.as_deref().map(names));
    }
    assert!(accepted > 1000, "only {accepted} archives were accepted");
}

fn read_by_other(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut archive = tar::Archive::new(bytes);
    let mut entries = Vec::new();
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).ok()?;
        // It shows global headers as entries.
        if entry.header().entry_type() != tar::EntryType::XGlobalHeader {
            entries.push((entry.path_bytes().into_owned(), content));
        }
    }
    Some(entries)
}
