//! Tests.

use super::{CONTROL_CAP, Control, Decoder, Event, FrameError, put_data};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn one(bytes: &[u8]) -> Result<Option<Event>, FrameError> {
    Decoder::default().next(&mut bytes.into())
}

#[test]
fn frames_are_on_the_wire_as_the_draft_has_them() {
    let block = Bytes::from_static(b"zz");
    let table: &[(Control, &[u8])] = &[
        (
            Control::SynStream {
                stream: 1,
                fin: true,
                unidirectional: false,
                block: block.clone(),
            },
            b"\x80\x03\0\x01\x01\0\0\x0c\0\0\0\x01\0\0\0\0\0\0zz",
        ),
        (
            Control::SynStream {
                stream: 3,
                fin: false,
                unidirectional: true,
                block: block.clone(),
            },
            b"\x80\x03\0\x01\x02\0\0\x0c\0\0\0\x03\0\0\0\0\0\0zz",
        ),
        (
            Control::SynReply { stream: 1, fin: false, block: block.clone() },
            b"\x80\x03\0\x02\0\0\0\x06\0\0\0\x01zz",
        ),
        (
            Control::RstStream { stream: 5, status: 3 },
            b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x03",
        ),
        (
            Control::Settings { initial_window: Some(65536) },
            b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\x01\0\0",
        ),
        (Control::Settings { initial_window: None }, b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0"),
        (Control::Ping { id: 7 }, b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x07"),
        (Control::GoAway { last: 9, status: 1 }, b"\x80\x03\0\x07\0\0\0\x08\0\0\0\x09\0\0\0\x01"),
        (
            Control::Headers { stream: 1, fin: true, block },
            b"\x80\x03\0\x08\x01\0\0\x06\0\0\0\x01zz",
        ),
        (
            Control::WindowUpdate { stream: 0, delta: 32768 },
            b"\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\x80\0",
        ),
    ];
    for (control, bytes) in table {
        let mut put = BytesMut::new();
        control.put(&mut put);
        assert_eq!(put, bytes, "{control:?}");
        assert_eq!(one(bytes).unwrap(), Some(Event::Control(control.clone())));
        for cut in 0..bytes.len() {
            assert_eq!(one(&bytes[..cut]).unwrap(), None, "{control:?} cut at {cut}");
        }
    }
    let mut put = BytesMut::new();
    put_data(&mut put, 11, b"abc", true);
    assert_eq!(&put[..], b"\0\0\0\x0b\x01\0\0\x03abc");
}

#[test]
fn bytes_that_are_no_frames_are_refused() {
    let table: &[(&[u8], &str)] = &[
        (b"\x80\x02\0\x01\0\0\0\x0a", "version 2"),
        (b"\0\0\0\0\0\0\0\x01", "stream 0"),
        (b"\x80\x03\0\x01\xff\xff\xff\xff", "16777215 bytes are over"),
        (b"\x80\x03\0\x01\0\0\0\x09\0\0\0\x01\0\0\0\0\0", "cannot have 9 bytes"),
        (b"\x80\x03\0\x03\0\0\0\x04\0\0\0\x01", "cannot have 4 bytes"),
        (b"\x80\x03\0\x03\0\0\0\x08\0\0\0\0\0\0\0\x01", "stream 0"),
        (b"\x80\x03\0\x06\0\0\0\x05\0\0\0\x01\0", "cannot have 5 bytes"),
        (b"\x80\x03\0\x07\0\0\0\0", "cannot have 0 bytes"),
        // A count that would be 32 GiB of settings.
        (b"\x80\x03\0\x04\0\0\0\x0c\xff\xff\xff\xff\0\0\0\x07\0\x01\0\0", "cannot have 12 bytes"),
        (b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\0\0\0\0\x07\0\x01\0\0", "cannot have 12 bytes"),
    ];
    for (bytes, text) in table {
        let fault = one(bytes).expect_err(text).to_string();
        assert!(fault.contains(text), "{fault}");
    }
}

#[test]
fn unknown_control_frames_are_skipped_in_any_pieces_and_never_kept() {
    let mut bytes = BytesMut::from(&b"\x80\x03\0\x0a\0\xff\xff\xff"[..]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&mut bytes).unwrap(), None);
    let mut left = 0xff_ffff;
    while left > 0 {
        let piece = left.min(60_000);
        left -= piece;
        bytes.resize(piece, 1);
        if left == 0 {
            Control::Ping { id: 1 }.put(&mut bytes);
            assert_eq!(
                decoder.next(&mut bytes).unwrap(),
                Some(Event::Control(Control::Ping { id: 1 }))
            );
        } else {
            assert_eq!(decoder.next(&mut bytes).unwrap(), None);
        }
        assert!(bytes.is_empty(), "{} bytes are kept", bytes.len());
    }
}

#[test]
fn data_go_on_before_their_frame_is_whole() {
    let mut decoder = Decoder::default();
    let mut bytes = BytesMut::from(&b"\0\0\0\x01\x01\xff\xff\xff"[..]);
    assert_eq!(decoder.next(&mut bytes).unwrap(), None);
    bytes.resize(0xff_fffe, 0);
    let Some(Event::Data { stream: 1, bytes: piece, fin: false }) =
        decoder.next(&mut bytes).unwrap()
    else {
        panic!("the first piece is no end");
    };
    assert_eq!(piece.len(), 0xff_fffe);
    bytes.resize(1, 0);
    let last = Event::Data { stream: 1, bytes: BytesMut::from(&b"\0"[..]), fin: true };
    assert_eq!(decoder.next(&mut bytes).unwrap(), Some(last));
}

fn control() -> impl Strategy<Value = Control> {
    let stream = 1..=u32::MAX >> 1;
    let block = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop_oneof![
        (stream.clone(), any::<bool>(), any::<bool>(), block()).prop_map(
            |(stream, fin, unidirectional, block)| Control::SynStream {
                stream,
                fin,
                unidirectional,
                block
            }
        ),
        (stream.clone(), any::<bool>(), block())
            .prop_map(|(stream, fin, block)| Control::SynReply { stream, fin, block }),
        (stream.clone(), any::<bool>(), block())
            .prop_map(|(stream, fin, block)| Control::Headers { stream, fin, block }),
        (stream.clone(), any::<u32>())
            .prop_map(|(stream, status)| Control::RstStream { stream, status }),
        any::<Option<u32>>().prop_map(|initial_window| Control::Settings { initial_window }),
        any::<u32>().prop_map(|id| Control::Ping { id }),
        (stream.clone(), any::<u32>()).prop_map(|(last, status)| Control::GoAway { last, status }),
        (stream.clone(), stream)
            .prop_map(|(stream, delta)| Control::WindowUpdate { stream, delta }),
    ]
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        controls in proptest::collection::vec(control(), 0..8),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 1..64_usize,
    ) {
        let mut wire = BytesMut::new();
        for control in &controls {
            control.put(&mut wire);
            put_data(&mut wire, 5, &payload, false);
        }
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
        let (mut came, mut read) = (Vec::new(), Vec::new());
        for piece in wire.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(event) = decoder.next(&mut buffer).unwrap() {
                match event {
                    Event::Control(control) => came.push(control),
                    Event::Data { bytes, .. } => read.extend_from_slice(&bytes),
                }
            }
        }
        prop_assert_eq!(read, payload.repeat(controls.len()));
        prop_assert_eq!(came, controls);
    }

    #[test]
    fn no_bytes_make_the_decoder_keep_more_than_a_control_frame(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from(&bytes[..]));
        while let Ok(Some(_)) = decoder.next(&mut buffer) {}
        prop_assert!(buffer.len() <= CONTROL_CAP + 8);
    }
}
