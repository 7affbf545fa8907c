//! Tests.

use super::{BLOCK_CAP, COUNT_CAP, HeaderError, Headers, Inflater, Packer};
use crate::spdy::testing::{Deflater, typed};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

#[test]
fn blocks_of_a_connection_are_inflated_one_after_the_other() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
    for kind in ["error", "stdin", "stdout", "stderr", "resize", "stdout"] {
        let deflated = deflater.deflate(&typed(kind).block());
        let headers = Headers::parse(&inflater.inflate(&deflated).unwrap()).unwrap();
        assert_eq!(headers.get("streamtype"), Some(kind));
        assert_eq!(headers.get("port"), None);
    }
}

#[test]
fn a_block_in_the_bytes_of_another_implementation_is_read() {
    // What zlib makes of "streamtype: error" with the dictionary, at its best level.
    let bytes = b"\x78\xf9\xe3\xc6\xa7\xc2\x02\xa6\x23\x46\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\
        \xac\xa9\xa0\x80\x06\x00\x00\x00\xff\xff";
    let outcome = Inflater::default().inflate(bytes);
    assert_eq!(Headers::parse(&outcome.unwrap()).unwrap(), typed("error"));
}

#[test]
fn what_is_packed_is_inflated_by_any_zlib() {
    let (mut packer, mut inflater) = (Packer::default(), Inflater::default());
    let long = Headers::new().with("a", &"x".repeat(9000));
    for headers in [Headers::new(), typed("stdout"), long, Headers::new()] {
        let inflated = inflater.inflate(&packer.pack(&headers)).unwrap();
        assert_eq!(Headers::parse(&inflated).unwrap(), headers);
    }
}

#[test]
fn several_values_of_a_name_are_one_value_with_nul_between_them() {
    let headers = Headers::new().with("X-Name", "first\0second");
    let read = Headers::parse(&headers.block()).unwrap();
    assert_eq!(read.get("x-name"), Some("first"));
    assert_eq!(read.iter().collect::<Vec<_>>(), [("x-name", "first\0second")]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let table: &[&[u8]] = &[
        b"",
        b"\0\0\0",
        b"\0\0\0\x01",
        b"\0\0\0\x01\0\0\0\x05a",
        b"\0\0\0\x01\xff\xff\xff\xffa",
        b"\0\0\0\x01\0\0\0\x01a",
        b"\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff",
        b"\0\0\0\x7f\0\0\0\x01a\0\0\0\x01b",
        b"\0\0\0\0a",
        b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01bc",
    ];
    for block in table {
        let outcome = Headers::parse(block);
        assert!(matches!(outcome, Err(HeaderError::Lengths)), "{outcome:?} of {block:?}");
    }
    let outcome = Headers::parse(b"\xff\xff\xff\xff\0\0\0\x01a\0\0\0\x01b");
    assert!(matches!(outcome, Err(HeaderError::TooLarge)), "{outcome:?}");
}

#[test]
fn names_that_may_not_be_are_refused() {
    let table: &[&[u8]] = &[
        b"\0\0\0\x01\0\0\0\x01A\0\0\0\x01b",
        b"\0\0\0\x01\0\0\0\0\0\0\0\x01b",
        b"\0\0\0\x02\0\0\0\x01a\0\0\0\x01b\0\0\0\x01a\0\0\0\x01c",
        b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\x01b",
        b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01\xff",
    ];
    for block in table {
        let outcome = Headers::parse(block);
        assert!(matches!(outcome, Err(HeaderError::Name { .. })), "{outcome:?} of {block:?}");
    }
}

#[test]
fn a_bomb_is_not_inflated() {
    let mut deflater = Deflater::new();
    let bomb = deflater.deflate(&vec![0; 60 << 20]);
    assert!(bomb.len() < 64 << 10, "{} bytes fit into a control frame", bomb.len());
    let outcome = Inflater::default().inflate(&bomb);
    assert!(matches!(outcome, Err(HeaderError::TooLarge)), "{outcome:?}");
}

#[test]
fn a_block_may_be_as_long_as_its_cap_and_have_as_many_headers() {
    let fitting = Headers::new().with("a", &"x".repeat(BLOCK_CAP - 13));
    let deflated = Deflater::new().deflate(&fitting.block());
    assert_eq!(Inflater::default().inflate(&deflated).unwrap().len(), BLOCK_CAP);
    let larger = Headers::new().with("a", &"x".repeat(BLOCK_CAP - 12));
    let outcome = Inflater::default().inflate(&Deflater::new().deflate(&larger.block()));
    assert!(matches!(outcome, Err(HeaderError::TooLarge)), "{outcome:?}");

    let many = (0..COUNT_CAP).fold(Headers::new(), |many, n| many.with(&format!("n{n}"), ""));
    assert_eq!(Headers::parse(&many.block()).unwrap(), many);
    let outcome = Headers::parse(&many.with("more", "").block());
    assert!(matches!(outcome, Err(HeaderError::TooLarge)), "{outcome:?}");
}

#[test]
fn blocks_that_are_not_of_this_zlib_stream_are_refused() {
    let mut without = Vec::with_capacity(100);
    let mut compress = Compress::new(Compression::best(), true);
    compress.set_dictionary(b"another dictionary").unwrap();
    compress.compress_vec(b"\0\0\0\0", &mut without, FlushCompress::Sync).unwrap();
    let outcome = Inflater::default().inflate(&without);
    assert!(matches!(outcome, Err(HeaderError::Inflate(_))), "{outcome:?}");

    let outcome = Inflater::default().inflate(b"Streamtype: stdin");
    assert!(matches!(outcome, Err(HeaderError::Inflate(_))), "{outcome:?}");

    let mut ended = Vec::with_capacity(100);
    Compress::new(Compression::best(), true)
        .compress_vec(b"\0\0\0\0", &mut ended, FlushCompress::Finish)
        .unwrap();
    let outcome = Inflater::default().inflate(&ended);
    assert!(matches!(outcome, Err(HeaderError::Cut)), "{outcome:?}");
}

proptest! {
    #[test]
    fn headers_come_out_as_they_went_in(
        named in proptest::collection::btree_map("[a-z-]{1,20}", "\\PC{0,40}", 0..20),
    ) {
        let headers = named.iter().fold(Headers::new(), |all, (name, value)| all.with(name, value));
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
        for _ in 0..2 {
            let inflated = inflater.inflate(&deflater.deflate(&headers.block())).unwrap();
            prop_assert_eq!(&Headers::parse(&inflated).unwrap(), &headers);
        }
    }

    #[test]
    fn any_bytes_are_headers_or_a_fault(block in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(headers) = Headers::parse(&block) {
            prop_assert_eq!(&headers.block()[..], &block[..]);
        }
    }
}
