//! Files that are cut, wrong, too large or of no kind are typed errors, and soon.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[test]
fn a_truncated_file_is_an_error_wherever_it_is_cut() {
    for (kind, file) in every_kind() {
        assert!(decode(&file).is_ok(), "{kind}");
        let step = (file.len() / 150).max(1);
        let cuts = (0..file.len()).step_by(step).chain([file.len() / 2, file.len() - 2, file.len() - 1]);
        for cut in cuts {
            let error = decode(&file[..cut]).err();
            let error = error.unwrap_or_else(|| panic!("{kind} cut at {cut} of {} is an image", file.len()));
            let unknown = cut < 12 && error.code == ErrorCode::UnsupportedFormat;
            assert!(error.code == ErrorCode::CorruptImage || unknown, "{kind} cut at {cut}: {error}");
        }
    }
}

#[test]
fn half_a_webp_whose_header_was_mended_is_an_error() {
    for file in [webp(&noisy(40, 40)), LOSSY_WEBP.to_vec()] {
        let cut = (file.len() / 2) & !1;
        let mended = patched(&file[..cut], 4, &(cut as u32 - 8).to_le_bytes());
        let mended = patched(&mended, 16, &(cut as u32 - 20).to_le_bytes());
        assert_eq!(decoded_code(&mended), Some(ErrorCode::CorruptImage));
    }
}

#[test]
fn stray_bytes_and_a_broken_profile_are_accepted_where_the_image_is_whole() {
    for file in [jpeg(&photo(WIDTH, HEIGHT)), progressive(&photo(WIDTH, HEIGHT))] {
        let whole = decode(&file).unwrap();
        let tables = position(&file, &[0xff, 0xdb]);
        let between = inserted(&file, tables, b"stray");
        assert_eq!(decode(&between).unwrap(), whole, "between segments");
        let profile = inserted(&file, tables, b"\xff\xe2\0\x12ICC_PROFILE\0\x09\x01ab");
        assert_eq!(decode(&profile).unwrap(), whole, "a profile's part 9 of 1");
        let before_end = inserted(&file, file.len() - 2, &[0; 5]);
        assert_eq!(decode(&before_end).unwrap(), whole, "before the end");
        let both = inserted(&between, between.len() - 2, &[0; 5]);
        assert_eq!(decode(&both).unwrap(), whole, "both");
        assert_eq!(decode(&[&file[..], b"behind the end"].concat()).unwrap(), whole, "behind the end");
        for file in [between, profile, before_end, both] {
            let cut = &file[..file.len() / 2];
            assert_eq!(decoded_code(cut), Some(ErrorCode::CorruptImage), "half of it");
            let ended = [cut, &[0xff, 0xd9]].concat();
            let progressive = file.windows(2).any(|two| two == [0xff, 0xc2]);
            assert!(progressive || decoded_code(&ended) == Some(ErrorCode::CorruptImage), "half of it, ended");
        }
    }
}

#[test]
fn lost_restart_markers_are_no_stray_bytes() {
    // Told to expect a marker every other block, libjpeg skips pixels in search of one and ends at the end marker;
    // its first warning is the same as for bytes before the end.
    let file = jpeg(&photo(WIDTH, HEIGHT));
    let scan = position(&file, &[0xff, 0xda]);
    let file = inserted(&file, scan, &[0xff, 0xdd, 0, 4, 0, 2]);
    let error = decode(&file).unwrap_err();
    assert_eq!(error.code, ErrorCode::CorruptImage);
    assert!(error.message.contains("extraneous bytes before marker 0xd9"), "{error}");
}

#[test]
fn sizes_beyond_the_limits_are_refused_quickly() {
    let image = photo(WIDTH, HEIGHT);
    let file = jpeg(&image);
    let sof = position(&file, &[0xff, 0xc0]) + 5;
    // The image's own header, a signature and 14 bits a side less 1, and the canvas say the same.
    let webp = webp_with_exif(&patched(&webp(&image), 21, &[0xff, 0xff, 0xff, 0x0f]), 1 << 14, 1 << 14, &exif(1));
    let bombs = [
        patched(&file, sof, &[0xff, 0xdc, 0xff, 0xdc]),
        patched(&png(&image), 16, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]),
        patched(&png(&image), 16, &[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]),
        patched(&bmp(&image), 18, &[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0]),
        patched(&bmp(&image), 22, &i32::MIN.to_le_bytes()),
        webp,
    ];
    let began = Instant::now();
    for bomb in &bombs {
        let error = decode(bomb).unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageTooLarge, "{error}");
        assert!(error.message.contains("_max = "), "it names the limit: {error}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_header_that_claims_more_than_the_file_holds_is_an_error() {
    let image = photo(WIDTH, HEIGHT);
    let (baseline, progressive) = (jpeg(&image), progressive(&image));
    let claim = [0x0b, 0xb8, 0x0b, 0xb8];
    for (file, at) in
        [(&baseline, position(&baseline, &[0xff, 0xc0]) + 5), (&progressive, position(&progressive, &[0xff, 0xc2]) + 5)]
    {
        assert_eq!(decoded_code(&patched(file, at, &claim)), Some(ErrorCode::CorruptImage));
    }
}

#[test]
fn sides_of_zero_are_errors() {
    let image = photo(WIDTH, HEIGHT);
    let file = jpeg(&image);
    let sof = position(&file, &[0xff, 0xc0]) + 5;
    for file in [
        patched(&file, sof, &[0, 0]),
        patched(&file, sof + 2, &[0, 0]),
        patched(&png(&image), 16, &[0; 4]),
        patched(&png(&image), 20, &[0; 4]),
        patched(&bmp(&image), 18, &[0; 4]),
        patched(&bmp(&image), 22, &[0; 4]),
        patched(&bmp(&image), 18, &(-5i32).to_le_bytes()),
        patched(&LOSSY_WEBP, 26, &[0, 0]),
    ] {
        assert_eq!(decoded_code(&file), Some(ErrorCode::CorruptImage));
    }
}

#[test]
fn scans_without_end_are_refused_quickly() {
    for file in [progressive(&photo(512, 512)), ycck(&photo(512, 512), true)] {
        let end = file.len() - 2;
        // The first scan again and again, with its tables, and every bit of its coefficients: each is valid.
        let frame = position(&file, &[0xff, 0xc2]);
        let frame_end = frame + 2 + usize::from(u16::from_be_bytes([file[frame + 2], file[frame + 3]]));
        let scan = position(&file, &[0xff, 0xda]);
        let mut valid = file[frame_end..scan + position(&file[scan..], &[0xff, 0xc4])].to_vec();
        let head_end = scan - frame_end + 2 + usize::from(u16::from_be_bytes([file[scan + 2], file[scan + 3]]));
        valid[head_end - 1] = 0;
        // The last one's head, without bytes: each is wrong.
        let last_scan = file.windows(2).rposition(|two| two == [0xff, 0xda]).unwrap();
        let wrong = [&file[last_scan..last_scan + 10], &[0, 0]].concat();
        for (scan, count, code) in
            [(&valid[..], 150, ErrorCode::ImageTooLarge), (&wrong[..], 3000, ErrorCode::CorruptImage)]
        {
            let began = Instant::now();
            let error = decode(&inserted(&file, end, &scan.repeat(count))).unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(error.code, code, "{error}");
            assert_eq!(error.message.contains("scans_max = 100"), code == ErrorCode::ImageTooLarge, "{error}");
        }
        decode(&inserted(&file, end, &valid.repeat(20))).unwrap();
        let limits = Limits { scans_max: 2, ..Limits::default() };
        assert_eq!(decode_with(&file, &limits).unwrap_err().code, ErrorCode::ImageTooLarge);
    }
}

#[test]
fn an_image_that_takes_too_long_is_refused_soon_after() {
    let (large, noisy) = (photo(4000, 3000), noisy(2000, 1500));
    let black = RgbImage::new(8000, 8000);
    let files = [
        ("progressive JPEG", progressive(&large)),
        ("baseline JPEG", jpeg(&large)),
        ("YCCK JPEG", ycck(&large, false)),
        ("PNG", png(&noisy)),
        ("PNG of one colour", png(&black)),
        ("WebP", webp(&noisy)),
    ];
    let strict = Limits { cpu_ms_max: 1, ..Limits::default() };
    for (kind, file) in files {
        let began = Instant::now();
        let header = probe(&file, &strict).unwrap();
        let mut out = vec![0; header.rgb_bytes(DecodeScale::Full)];
        let memory = began.elapsed();
        let error = Decoder::new(strict).unwrap().decode_rgb(&file, &header, &mut out).unwrap_err();
        let taken = began.elapsed() - memory;
        assert_eq!(error.code, ErrorCode::ImageTooLarge, "{kind}: {error}");
        assert!(error.message.contains("cpu_ms_max = 1"), "{kind}: {error}");
        // The other work on this machine is in it.
        assert!(taken < Duration::from_millis(250), "{kind}: {taken:?}");
        for cpu_ms_max in [0, 600_000] {
            let lenient = Limits { cpu_ms_max, ..strict };
            Decoder::new(lenient).unwrap().decode_rgb(&file, &header, &mut out).unwrap();
        }
    }
}

#[test]
fn what_is_no_image_or_of_an_unknown_kind_is_unsupported() {
    for file in
        [&b""[..], b"\xff\xd8", b"GIF89a......", b"a text, not an image\n", b"RIFF\x10\0\0\0WAVEfmt ", b"II*\0\0\0\0\0"]
    {
        assert_eq!(decoded_code(file), Some(ErrorCode::UnsupportedFormat), "{}", file.escape_ascii());
    }
    let file = jpeg(&photo(WIDTH, HEIGHT));
    let sof = position(&file, &[0xff, 0xc0]);
    for (at, what) in [(sof + 1, 0xc3), (sof + 1, 0xc9), (sof + 4, 12), (sof + 9, 2), (sof + 9, 200)] {
        assert_eq!(decoded_code(&patched(&file, at, &[what])), Some(ErrorCode::UnsupportedFormat), "{at} {what}");
    }
    assert_eq!(decoded_code(&patched(&bmp(&photo(8, 8)), 14, &[41])), Some(ErrorCode::UnsupportedFormat));
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let file = png(&noisy(20, 20));
    let at = file.len() / 2;
    assert_eq!(decoded_code(&patched(&file, at, &[!file[at]])), Some(ErrorCode::CorruptImage));
}

#[test]
fn a_png_whose_unpacked_bytes_have_another_sum_is_an_error() {
    let file = png(&noisy(20, 20));
    let data = position(&file, b"IDAT");
    let length = u32::from_be_bytes(*file[data - 4..].first_chunk().unwrap()) as usize;
    let mut wrong = file[data + 4..data + 4 + length].to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    let file = [&file[..data - 4], &png_chunk(b"IDAT", &wrong), &file[data + 8 + length..]].concat();
    assert_eq!(decoded_code(&file), Some(ErrorCode::CorruptImage));
}

#[test]
fn a_png_chunk_that_is_named_by_no_letters_is_an_error() {
    let file = png(&photo(8, 8));
    assert!(decode(&png_with(&file, &png_chunk(b"teSt", b"x"))).is_ok());
    assert_eq!(decoded_code(&png_with(&file, &png_chunk(b"te\xffT", b"x"))), Some(ErrorCode::CorruptImage));
}

#[test]
fn a_webp_chunk_that_is_longer_than_its_file_is_an_error() {
    for file in [webp(&photo(40, 30)), LOSSY_WEBP.to_vec()] {
        assert_eq!(decoded_code(&patched(&file, 18, &[0x7f])), Some(ErrorCode::CorruptImage));
    }
}

/// A BMP of 40 bytes' header. `tables`: colours of 4 bytes, or masks.
fn bmp_of((width, height): (u32, u32), bits: u16, compression: u32, tables: &[u8], pixels: &[u8]) -> Vec<u8> {
    let colors = if bits <= 8 { tables.len() as u32 / 4 } else { 0 };
    let begin = 54 + tables.len() as u32;
    let mut file = b"BM".to_vec();
    file.extend([begin + pixels.len() as u32, 0, begin, 40, width, height].map(u32::to_le_bytes).concat());
    file.extend([1u16.to_le_bytes(), bits.to_le_bytes()].concat());
    file.extend([compression, pixels.len() as u32, 0, 0, colors, 0].map(u32::to_le_bytes).concat());
    [&file, tables, pixels].concat()
}

#[test]
fn run_lengths_of_a_bmp_fill_every_row_or_are_an_error() {
    let colors = [0, 0, 0, 0, 3, 2, 1, 0, 6, 5, 4, 0];
    let decoded = |compression: u32, runs: &[u8]| {
        decode(&bmp_of((5, 2), if compression == 1 { 8 } else { 4 }, compression, &colors, runs))
    };
    // Runs, and pixels one by one with their padding; the first row is the lower one.
    let of_8_bits = decoded(1, &[2, 1, 0, 3, 2, 1, 2, 0, 0, 0, 5, 2, 0, 0, 0, 1]).unwrap();
    let of_4_bits = decoded(2, &[2, 0x11, 0, 3, 0x21, 0x20, 0, 0, 5, 0x22, 0, 1]).unwrap();
    assert_eq!(of_8_bits, of_4_bits);
    assert_eq!(of_8_bits.pixels().map(|pixel| pixel[0] / 3).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 0, 0, 1, 0, 1]);
    let broken: [&[u8]; 8] = [
        &[5, 1, 0, 0, 5, 2],                   // no end
        &[5, 1, 0, 0, 0, 1],                   // a row is missing
        &[5, 1, 0, 0, 4, 2, 0, 1],             // a pixel is
        &[4, 1, 0, 0, 5, 2, 0, 1],             // of the first row
        &[6, 1, 0, 0, 5, 2, 0, 1],             // a run is too long
        &[5, 1, 0, 0, 5, 2, 0, 0, 5, 2, 0, 1], // a row too many
        &[5, 1, 0, 0, 0, 2, 5, 0, 0, 1],       // pixels are stepped over
        &[5, 1, 0, 0, 0, 5, 1, 1],             // cut
    ];
    for runs in broken {
        assert_eq!(decoded(1, runs).unwrap_err().code, ErrorCode::CorruptImage, "{runs:?}");
    }
}

#[test]
fn masks_of_a_bmp_are_those_that_everybody_reads() {
    let decoded = |bits: u16, masks: [u32; 3], pixel: u32| {
        decode(&bmp_of((1, 1), bits, 3, &masks.map(u32::to_le_bytes).concat(), &pixel.to_le_bytes()))
            .map(|image| image.get_pixel(0, 0).0)
            .map_err(|error| error.code)
    };
    assert_eq!(decoded(16, [0xf800, 0x07e0, 0x001f], 0xffe0), Ok([255, 255, 0]));
    assert_eq!(decoded(16, [0x7c00, 0x03e0, 0x001f], 0x7c1f), Ok([255, 0, 255]));
    assert_eq!(decoded(32, [0xff, 0xff00, 0x00ff_0000], 0x0003_0201), Ok([1, 2, 3]));
    assert_eq!(decoded(32, [0xff00_0000, 0x00ff_0000, 0xff00], 0x0102_0300), Ok([1, 2, 3]));
    for masks in [[0x7800, 0x07e0, 0x001f], [0xf800, 0xffff, 0x001f], [0xff, 0xff, 0x00ff_0000], [0; 3]] {
        assert_eq!(decoded(16, masks, 0), Err(ErrorCode::UnsupportedFormat), "{masks:x?}");
        assert_eq!(decoded(32, masks, 0), Err(ErrorCode::UnsupportedFormat), "{masks:x?}");
    }
}

#[test]
fn a_png_may_not_hold_more_metadata_than_the_limit() {
    let text = png_chunk(b"tEXt", &[&b"Comment\0"[..], &[b'x'; 300_000]].concat());
    let file = png_with(&png(&photo(8, 8)), &text);
    assert!(decode(&file).is_ok());
    let limits = Limits { metadata_bytes_max: 1000, side_max: 100, ..Limits::default() };
    let error = decode_with(&file, &limits).unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageTooLarge);
    assert!(error.message.contains("metadata_bytes_max = 1000"), "{error}");
}

#[test]
fn a_header_of_another_file_or_an_output_of_another_size_is_an_error() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let (wide, high) = (photo(40, 20), photo(20, 40));
    let encoders = [jpeg, |image: &RgbImage| ycck(image, false), png, webp, bmp];
    for encode in encoders {
        let header = probe(&encode(&wide), &Limits::default()).unwrap();
        let mut out = vec![0; 2400];
        let error = decoder.decode_rgb(&encode(&high), &header, &mut out).unwrap_err();
        assert_eq!(error.code, ErrorCode::CorruptImage, "{error}");
        let error = decoder.decode_rgb(&encode(&wide), &header, &mut out[1..]).unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal, "{error}");
    }
}

#[test]
fn a_decoder_holds_a_header_to_its_own_limits() {
    let file = png(&photo(40, 20));
    let header = probe(&file, &Limits::default()).unwrap();
    let mut strict = Decoder::new(Limits { pixels_max: 799, ..Limits::default() }).unwrap();
    let error = strict.decode_rgb(&file, &header, &mut [0; 2400]).unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageTooLarge, "{error}");
}

#[test]
fn a_decoder_goes_on_after_errors() {
    let files = every_kind();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (kind, file) in files.iter().chain(&files) {
        let file = &if file.starts_with(&[0xff]) { jpeg_with_exif(file, &exif(6)) } else { file.clone() };
        let header = probe(file, &Limits::default()).unwrap();
        let mut out = vec![0; 3 * (header.width * header.height) as usize];
        let cut = &file[..file.len() - file.len() / 4];
        assert!(decoder.decode_rgb(cut, &header, &mut out).is_err(), "{kind}");
        decoder.decode_rgb(file, &header, &mut out).unwrap();
        assert_eq!(&out, decode(file).unwrap().as_raw(), "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_patched_byte_makes_a_decoder_panic_or_run_on(
        kind in 0usize..9,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, mut file) = every_kind().swap_remove(kind);
        for (at, byte) in patches {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let limits = Limits { pixels_max: 1_000_000, ..Limits::default() };
        let began = Instant::now();
        let _ = decode_with(&file, &limits);
        prop_assert!(began.elapsed() < Duration::from_secs(10));
    }
}
