//! The headers alone; whole files are tried in `decode/tests.rs`.

use super::*;
use proptest::prelude::*;

#[test]
fn orientations_of_5_and_more_swap_the_sides() {
    for (orientation, size) in [(1, (4, 3)), (4, (4, 3)), (5, (3, 4)), (8, (3, 4))] {
        let header = Header { format: Format::Png, width: 4, height: 3, orientation };
        assert_eq!(header.oriented_size(), size);
    }
}

#[test]
fn an_error_says_what_the_bytes_begin_with() {
    let error = probe(b"<svg></svg>", &Limits::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedFormat);
    assert!(error.message.contains("3c, 73, 76, 67"), "{}", error.message);
}

#[test]
fn megabytes_of_filling_are_walked_quickly() {
    let mut stray = vec![0xff, 0xd8, 0xff];
    stray.resize(20 << 20, 0xff);
    let mut chunks = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0CRC!".to_vec();
    chunks.extend(b"\0\0\0\0teSTCRC!".repeat(1 << 20));
    let began = std::time::Instant::now();
    for bytes in [stray, chunks] {
        assert_eq!(probe(&bytes, &Limits::default()).unwrap_err().code, ErrorCode::CorruptImage);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn no_bytes_behind_a_magic_make_it_panic(
        magic in prop_oneof![
            Just(&b"\xff\xd8\xff"[..]),
            Just(&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..]),
            Just(&b"RIFF\x08\0\0\0WEBPVP8 "[..]),
            Just(&b"RIFF\x08\0\0\0WEBPVP8L"[..]),
            Just(&b"RIFF\x08\0\0\0WEBPVP8X"[..]),
            Just(&b"BM"[..]),
        ],
        tail in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0xff), 1 => Just(0)], 0..200),
    ) {
        let _ = probe(&[magic, &tail].concat(), &Limits::default());
    }
}
