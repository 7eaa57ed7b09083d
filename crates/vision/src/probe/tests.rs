//! The headers alone; whole files are tried in `decode/tests.rs`.

use super::*;
use proptest::prelude::*;
use std::slice::from_ref;

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

#[test]
fn a_png_is_turned_by_an_exif_chunk_before_or_behind_its_pixels_whose_crc_is_right() {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let named = [kind, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
    };
    let head = chunk(b"IHDR", &[0, 0, 0, 4, 0, 0, 0, 3, 8, 2, 0, 0, 0]);
    let (pixels, end) = (chunk(b"IDAT", b""), chunk(b"IEND", b""));
    let right = chunk(b"eXIf", &tiff(true, 0, &[(0x0112, 3, 6)]));
    let orientation = |chunks: [&[u8]; 4]| {
        let bytes = [b"\x89PNG\r\n\x1a\n", &chunks.concat()[..]].concat();
        probe(&bytes, &Limits::default()).map(|header| header.orientation).map_err(|error| error.code)
    };
    assert_eq!(orientation([&head, &right, &pixels, &end]), Ok(6));
    assert_eq!(orientation([&head, &pixels, &right, &end]), Ok(6));
    for at in [4, 20, right.len() - 1] {
        let mut wrong = right.clone();
        wrong[at] ^= 0x20;
        let expected = if at == 4 { Ok(1) } else { Err(ErrorCode::CorruptImage) };
        assert_eq!(orientation([&head, &wrong, &pixels, &end]), expected, "byte {at}, before the pixels");
        assert_eq!(orientation([&head, &pixels, &wrong, &end]), expected, "byte {at}, behind the pixels");
    }
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let padding = &[0][..data.len() % 2];
    [kind, &(data.len() as u32).to_le_bytes()[..], data, padding].concat()
}

/// An extended WebP file.
fn extended_webp(flags: u8, (width, height): (u32, u32), chunks: &[Vec<u8>]) -> Vec<u8> {
    let canvas = [&[flags, 0, 0, 0], &(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    let body = [&b"WEBP"[..], &chunk(b"VP8X", &canvas), &chunks.concat()].concat();
    chunk(b"RIFF", &body)
}

/// The head of a lossy WebP image.
fn lossy((width, height): (u16, u16)) -> Vec<u8> {
    chunk(b"VP8 ", &[&[0, 0, 0, 0x9d, 0x01, 0x2a], &width.to_le_bytes()[..], &height.to_le_bytes()].concat())
}

/// The head of a lossless WebP image.
fn lossless((width, height): (u32, u32)) -> Vec<u8> {
    chunk(b"VP8L", &[&[0x2f], &((width - 1) | (height - 1) << 14).to_le_bytes()[..]].concat())
}

/// A frame of an animated WebP file.
fn frame((x, y): (u32, u32), (width, height): (u32, u32), chunks: &[Vec<u8>]) -> Vec<u8> {
    let fields = [x / 2, y / 2, width - 1, height - 1, 100].map(u32::to_le_bytes);
    let fields: Vec<u8> = fields.iter().flat_map(|field| &field[..3]).copied().collect();
    chunk(b"ANMF", &[&fields[..], &[0], &chunks.concat()].concat())
}

fn probed(bytes: &[u8]) -> Result<(u32, u32), ErrorCode> {
    probe(bytes, &Limits::default()).map(|header| (header.width, header.height)).map_err(|error| error.code)
}

#[test]
fn the_image_in_an_extended_webp_is_as_large_as_its_canvas_and_keeps_the_limits() {
    let alpha = chunk(b"ALPH", &[0; 3]);
    for image in [lossy((40, 30)), lossless((40, 30))] {
        assert_eq!(probed(&extended_webp(0, (40, 30), from_ref(&image))), Ok((40, 30)));
        assert_eq!(probed(&extended_webp(0x10, (40, 30), &[alpha.clone(), image.clone()])), Ok((40, 30)));
        for canvas in [(1, 1), (41, 30), (40, 29), (30, 40), (1 << 24, 1 << 24)] {
            assert_eq!(probed(&extended_webp(0, canvas, from_ref(&image))), Err(ErrorCode::CorruptImage), "{canvas:?}");
        }
    }
    let bombs = [(lossy((16383, 16383)), (16383, 16383)), (lossless((16384, 16384)), (16384, 16384))];
    for (image, size) in bombs {
        assert_eq!(probed(&extended_webp(0, (1, 1), from_ref(&image))), Err(ErrorCode::CorruptImage));
        assert_eq!(probed(&extended_webp(0, size, &[image])), Err(ErrorCode::ImageTooLarge));
    }
    let mut cut = lossy((40, 30));
    cut[4] += 2;
    let both = [lossy((40, 30)), lossless((40, 30))];
    for chunks in [&[][..], &[alpha], &both, &[cut], &[chunk(b"VP8 ", &[0; 9])], &[chunk(b"VP8L", &[0x2f])]] {
        assert_eq!(probed(&extended_webp(0, (40, 30), chunks)), Err(ErrorCode::CorruptImage), "{chunks:02x?}");
    }
}

#[test]
fn the_frames_of_an_animated_webp_lie_on_its_canvas_and_the_first_is_as_large_as_its_image() {
    let animated = |chunks: &[Vec<u8>]| probed(&extended_webp(0x02, (40, 30), chunks));
    let alpha = chunk(b"ALPH", &[0; 3]);
    let whole = frame((0, 0), (40, 30), &[lossy((40, 30))]);
    for good in [
        whole.clone(),
        frame((30, 10), (10, 20), &[lossless((10, 20))]),
        frame((0, 0), (40, 30), &[alpha.clone(), lossy((40, 30))]),
    ] {
        assert_eq!(animated(&[chunk(b"ANIM", &[0; 6]), good]), Ok((40, 30)));
    }
    for outside in [
        frame((2, 0), (40, 30), &[lossy((40, 30))]),
        frame((0, 2), (40, 30), &[lossy((40, 30))]),
        frame((0, 0), (16383, 16383), &[lossy((16383, 16383))]),
        frame((0xff_ffff * 2, 0xff_ffff * 2), (1 << 24, 1 << 24), &[lossy((1, 1))]),
    ] {
        assert_eq!(animated(from_ref(&outside)), Err(ErrorCode::CorruptImage));
        assert_eq!(animated(&[whole.clone(), outside]), Err(ErrorCode::CorruptImage), "the second");
    }
    for inner in [
        vec![],
        vec![lossy((16383, 16383))],
        vec![lossless((16384, 16384))],
        vec![alpha.clone(), lossy((16383, 16383))],
        vec![alpha.clone(), chunk(b"JUNK", &lossy((40, 30))[8..])],
        vec![alpha],
    ] {
        assert_eq!(animated(&[frame((0, 0), (40, 30), &inner)]), Err(ErrorCode::CorruptImage), "{inner:02x?}");
    }
    for none in [vec![], vec![lossy((40, 30))], vec![chunk(b"ANMF", &[0; 5])]] {
        assert_eq!(animated(&none), Err(ErrorCode::CorruptImage));
    }
    let huge = extended_webp(0x02, (1 << 24, 1 << 24), &[whole]);
    assert_eq!(probed(&huge), Err(ErrorCode::ImageTooLarge));
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

/// A TIFF block with one directory: entries of tag, kind and value.
fn tiff(is_big_endian: bool, gap: usize, entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let u16 = |number: u16| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
    let u32 = |number: u32| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
    let mut block = if is_big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    block.extend(u16(42));
    block.extend(u32(8 + gap as u32));
    block.resize(8 + gap, 0);
    block.extend(u16(entries.len() as u16));
    for (tag, kind, value) in entries {
        block.extend([u16(*tag), u16(*kind)].concat());
        block.extend(u32(1));
        let value = match kind {
            1 => [*value as u8, 0, 0, 0],
            3 => [u16(*value as u16), [0; 2]].concat().try_into().unwrap(),
            _ => u32(*value),
        };
        block.extend(value);
    }
    block.extend(u32(0));
    block
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_orientation_is_the_one_that_a_second_reader_finds(
        is_big_endian: bool,
        gap in 0usize..20,
        mut entries in prop::collection::vec((0x0100u16..0x0110, 1u16..13, 0u32..300), 0..5),
        orientation in prop::option::weighted(0.9, (prop::sample::select(vec![1u16, 2, 3, 3, 3, 4, 5, 9]), 0u32..11)),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        entries.extend(orientation.map(|(kind, value)| (0x0112, kind, value)));
        let mut block = tiff(is_big_endian, gap, &entries);
        if let Some(cut) = cut {
            block.truncate(cut.index(block.len() + 1));
        }
        let second = ::exif::Reader::new()
            .continue_on_error(true)
            .read_raw(block.clone())
            .or_else(|error| error.distill_partial_result(|_| ()))
            .ok()
            .and_then(|read| read.get_field(::exif::Tag::Orientation, ::exif::In::PRIMARY)?.value.get_uint(0))
            .and_then(|number| u8::try_from(number).ok().filter(|number| (1..=8).contains(number)));
        prop_assert_eq!(exif::orientation(&block), second);
    }

    #[test]
    fn no_block_makes_the_reader_panic(block in prop::collection::vec(any::<u8>(), 0..64), is_big_endian: bool) {
        let mut block = block;
        if block.len() > 8 {
            block[..8].copy_from_slice(&tiff(is_big_endian, 0, &[])[..8]);
        }
        let _ = exif::orientation(&block);
    }
}
