//! Some rows of a JPEG, and parts of it, are those of the whole image.

use super::*;
use crate::Rows;

/// Every kind of JPEG, of a picture that differs everywhere.
fn noisy_jpegs(width: u32, height: u32) -> Vec<Vec<u8>> {
    let image = noisy(width, height);
    let mut files = vec![ycck(&image, false), ycck(&image, true)];
    for subsamp in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Gray] {
        for progressive in [false, true] {
            files.push(jpeg_of(&image, width, height, &JpegOptions { subsamp, progressive, format: PixelFormat::RGB }));
        }
    }
    files
}

#[test]
fn rows_on_demand_are_those_of_the_whole_image() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (number, file) in noisy_jpegs(101, 203).iter().enumerate() {
        let header = probe(file, &Limits::default()).unwrap();
        for scale in [DecodeScale::Full, DecodeScale::Half, DecodeScale::Quarter, DecodeScale::Eighth] {
            let mut whole = vec![0; header.rgb_bytes(scale)];
            decoder.decode_scaled(file, &header, scale, &mut whole).unwrap();
            for seed in 0..20 {
                let gaps = noise(seed, 203);
                let most = [2, 7, 40, 255][seed as usize % 4];
                let mut rows = decoder.rows(file, &header, scale).unwrap();
                assert_eq!(rows.size(), (scale.pixels_of(101), scale.pixels_of(203)));
                let (width, height) = rows.size();
                let row_bytes = 3 * width as usize;
                let mut y = u32::from(gaps[0]) % most;
                for gap in &gaps {
                    if y >= height {
                        break;
                    }
                    let expected = &whole[y as usize * row_bytes..][..row_bytes];
                    assert!(rows.row(y).unwrap() == expected, "file {number} {scale:?}: row {y}");
                    // 0: the same again.
                    y += u32::from(*gap) % most;
                }
                rows.finish().unwrap();
            }
        }
    }
}

#[test]
fn rows_are_asked_for_from_the_top_and_of_upright_jpegs() {
    let file = jpeg(&photo(WIDTH, HEIGHT));
    let header = probe(&file, &Limits::default()).unwrap();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let code = |result: Result<&[u8], FrameError>| result.err().map(|error| error.code);
    let mut rows = decoder.rows(&file, &header, DecodeScale::Full).unwrap();
    assert_eq!(code(rows.row(5)), None);
    assert_eq!(code(rows.row(4)), Some(ErrorCode::Internal));
    assert_eq!(code(rows.row(HEIGHT)), Some(ErrorCode::Internal));
    assert_eq!(code(rows.row(5)), None, "still held");
    assert_eq!(code(rows.row(HEIGHT - 1)), None);
    rows.finish().unwrap();
    let turned = jpeg_with_exif(&file, &exif(6));
    let turned_header = probe(&turned, &Limits::default()).unwrap();
    let error = decoder.rows(&turned, &turned_header, DecodeScale::Full).unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
    let png = png(&photo(WIDTH, HEIGHT));
    let png_header = probe(&png, &Limits::default()).unwrap();
    assert_eq!(decoder.rows(&png, &png_header, DecodeScale::Full).unwrap_err().code, ErrorCode::Internal);
    let other = jpeg(&photo(HEIGHT, WIDTH));
    assert_eq!(decoder.rows(&other, &header, DecodeScale::Full).unwrap_err().code, ErrorCode::CorruptImage);
}

#[test]
fn rows_of_a_cut_file_end_in_an_error() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for file in noisy_jpegs(64, 64) {
        let header = probe(&file, &Limits::default()).unwrap();
        for cut in [file.len() / 2, file.len() - 2] {
            let mut read = || {
                let mut rows = decoder.rows(&file[..cut], &header, DecodeScale::Full)?;
                rows.row(3)?;
                rows.finish()
            };
            assert_eq!(read().unwrap_err().code, ErrorCode::CorruptImage);
        }
        // What failed goes on failing.
        let Ok(mut rows) = decoder.rows(&file[..file.len() / 2], &header, DecodeScale::Full) else {
            continue;
        };
        rows.row(0).unwrap();
        for _ in 0..2 {
            assert_eq!(rows.row(63).unwrap_err().code, ErrorCode::CorruptImage);
        }
        assert_eq!(rows.finish().unwrap_err().code, ErrorCode::CorruptImage);
    }
}

#[test]
fn a_region_is_that_of_the_whole_image() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    for (number, file) in noisy_jpegs(203, 101).iter().enumerate() {
        let header = probe(file, &Limits::default()).unwrap();
        let mut whole = vec![0; header.rgb_bytes(DecodeScale::Full)];
        decoder.decode_rgb(file, &header, &mut whole).unwrap();
        for seed in noise(number as u64, 400).chunks_exact(4) {
            let [left, top, width, height] = [0, 1, 2, 3].map(|at| u32::from(seed[at]));
            let (left, top) = (left % 203, top % 101);
            let (right, bottom) = (left + 1 + width % (203 - left), top + 1 + height % (101 - top));
            let region = Region { left, top, right, bottom };
            let mut out = vec![0; region.rgb_bytes()];
            decoder.decode_region(file, &header, &region, &mut out).unwrap();
            for (row, found) in out.chunks_exact(3 * region.width() as usize).enumerate() {
                let from = 3 * ((top as usize + row) * 203 + left as usize);
                assert!(found == &whole[from..from + found.len()], "file {number}: {region:?} row {row}");
            }
        }
    }
}

#[test]
fn a_region_outside_the_image_or_of_another_size_is_an_error() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let file = jpeg(&photo(WIDTH, HEIGHT));
    let header = probe(&file, &Limits::default()).unwrap();
    let mut decode = |left, top, right, bottom, len: usize| {
        let region = Region { left, top, right, bottom };
        decoder.decode_region(&file, &header, &region, &mut vec![0; len]).err().map(|error| error.code)
    };
    assert_eq!(decode(0, 0, WIDTH, HEIGHT, (3 * WIDTH * HEIGHT) as usize), None);
    assert_eq!(decode(WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT, 3), None);
    for (left, top, right, bottom, len) in [
        (0, 0, 0, 5, 0),
        (0, 0, 5, 0, 0),
        (2, 0, 1, 1, 0),
        (WIDTH, 0, WIDTH + 1, 1, 3),
        (WIDTH - 1, 0, WIDTH + 1, 1, 6),
        (0, HEIGHT - 1, 1, HEIGHT + 1, 6),
        (u32::MAX - 1, 0, u32::MAX, 1, 3),
        (0, 0, 2, 2, 11),
    ] {
        assert_eq!(decode(left, top, right, bottom, len), Some(ErrorCode::Internal), "{left} {top} {right} {bottom}");
    }
}
