//! The pixels are TurboJPEG's, whichever rows and columns are left out.

#![allow(clippy::unwrap_used, reason = "a test")]

mod files;

use files::{File, SCALES, encoded, options, patched, position, whole, written};
use framepipe_jpeg::{Decompressor, Pixels, Scale};
use proptest::prelude::*;
use turbojpeg::{Image, PixelFormat, ScalingFactor, Subsamp};

fn turbojpeg_pixels(bytes: &[u8], scale: Scale, pixels: Pixels) -> (Vec<u8>, usize, usize) {
    let mut decompressor = turbojpeg::Decompressor::new().unwrap();
    let factor = match scale {
        Scale::Full => ScalingFactor::ONE,
        Scale::Half => ScalingFactor::ONE_HALF,
        Scale::Quarter => ScalingFactor::ONE_QUARTER,
        Scale::Eighth => ScalingFactor::ONE_EIGHTH,
    };
    decompressor.set_scaling_factor(factor).unwrap();
    let header = decompressor.read_header(bytes).unwrap().scaled(factor);
    let format = match pixels {
        Pixels::Rgb => PixelFormat::RGB,
        Pixels::Grey => PixelFormat::GRAY,
        Pixels::Cmyk => PixelFormat::CMYK,
    };
    let pitch = header.width * format.size();
    let mut out = vec![0; pitch * header.height];
    let image = Image { pixels: &mut out[..], width: header.width, pitch, height: header.height, format };
    decompressor.decompress(bytes, image).unwrap();
    (out, header.width, header.height)
}

#[test]
fn a_whole_image_is_the_one_that_turbojpeg_gives() {
    let mut decompressor = Decompressor::new().unwrap();
    for (width, height) in [(1, 1), (7, 5), (16, 16), (65, 47), (130, 100)] {
        for file in written(width, height) {
            for scale in SCALES {
                for pixels in [file.pixels, Pixels::Grey] {
                    if file.pixels == Pixels::Cmyk && pixels == Pixels::Grey {
                        continue;
                    }
                    let found = whole(&mut decompressor, &file.bytes, &options(scale, pixels)).unwrap();
                    let (expected, width, height) = turbojpeg_pixels(&file.bytes, scale, pixels);
                    assert_eq!((found.width, found.height), (width, height), "{} {scale:?}", file.name);
                    assert!(found.pixels == expected, "{} {scale:?} {pixels:?}", file.name);
                }
            }
        }
    }
}

#[test]
fn an_incomplete_progressive_image_is_the_one_that_turbojpeg_gives() {
    let mut decompressor = Decompressor::new().unwrap();
    for file in patched().iter().filter(|file| file.name.starts_with("two scans") || file.name.starts_with("restarts"))
    {
        for scale in SCALES {
            let found = whole(&mut decompressor, &file.bytes, &options(scale, Pixels::Rgb)).unwrap();
            assert!(found.pixels == turbojpeg_pixels(&file.bytes, scale, Pixels::Rgb).0, "{} {scale:?}", file.name);
        }
    }
}

fn every_file() -> Vec<File> {
    let mut files = written(37, 75);
    files.extend(written(16, 33));
    files.extend(patched());
    files
}

#[test]
fn rows_after_any_two_gaps_are_those_of_the_whole_image() {
    let mut decompressor = Decompressor::new().unwrap();
    for file in every_file() {
        for scale in SCALES {
            let options = options(scale, file.pixels);
            let expected = whole(&mut decompressor, &file.bytes, &options).unwrap();
            let mut row = vec![0; expected.width * expected.pixel_bytes];
            for first in 0..expected.height {
                for second in first + 1..expected.height {
                    let mut rows = decompressor.start(&file.bytes, &options).unwrap();
                    for (at, wanted) in [(0, first), (first + 1, second)] {
                        rows.skip((wanted - at) as u32);
                        rows.read(&mut row).unwrap();
                        assert!(row == expected.row(wanted), "{} {scale:?}: {wanted} of {first}, {second}", file.name);
                    }
                    if first % 7 == 0 {
                        let mut rest = vec![0; (expected.height - second - 1) * row.len()];
                        rows.read(&mut rest).unwrap();
                        assert!(rest == expected.pixels[(second + 1) * row.len()..], "{} {scale:?}", file.name);
                    }
                    rows.finish().unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_after_any_gaps_are_those_of_the_whole_image(
        file in any::<prop::sample::Index>(),
        scale in 0usize..4,
        steps in prop::collection::vec((prop_oneof![0u32..4, 0u32..40], 1u32..7), 1..30),
    ) {
        let mut files = every_file();
        let file = files.swap_remove(file.index(files.len()));
        let options = options(SCALES[scale], file.pixels);
        let mut decompressor = Decompressor::new().unwrap();
        let expected = whole(&mut decompressor, &file.bytes, &options).unwrap();
        let row_bytes = expected.width * expected.pixel_bytes;
        let mut rows = decompressor.start(&file.bytes, &options).unwrap();
        for (gap, count) in steps {
            // In two steps: they must add up.
            rows.skip(gap.min(rows.height() - rows.next_row()) / 2);
            rows.skip((gap - gap / 2).min(rows.height() - rows.next_row()));
            let at = rows.next_row() as usize;
            let count = (count as usize).min(expected.height - at);
            let mut pixels = vec![0; count * row_bytes];
            rows.read(&mut pixels).unwrap();
            prop_assert!(pixels == expected.pixels[at * row_bytes..][..pixels.len()], "{} at {at}", file.name);
        }
        rows.finish().unwrap();
    }
}

#[test]
fn within_columns_the_pixels_are_those_of_the_whole_image() {
    let mut decompressor = Decompressor::new().unwrap();
    let mut files = written(149, 21);
    files.extend(patched());
    for file in files {
        for scale in SCALES {
            let options = options(scale, file.pixels);
            let expected = whole(&mut decompressor, &file.bytes, &options).unwrap();
            for left in (0..expected.width).step_by(5) {
                for width in [1, 2, 9, 40, expected.width] {
                    let width = width.min(expected.width - left);
                    let mut rows = decompressor.start(&file.bytes, &options).unwrap();
                    let group = rows.column_group();
                    // What the ends are made with: two blocks for smoothing, a pixel for the upsampling of colours.
                    let wide_left = (left as u32).saturating_sub(3 * group);
                    let wide_right = ((left + width) as u32 + 3 * group).min(rows.width());
                    let (from, wide) = rows.crop(wide_left, wide_right - wide_left).unwrap();
                    assert_eq!((from, from + wide), (wide_left / group * group, wide_right));
                    assert_eq!(rows.width(), wide);
                    let mut row = vec![0; rows.row_bytes()];
                    for y in (0..expected.height).step_by(3) {
                        rows.skip(y as u32 - rows.next_row());
                        rows.read(&mut row).unwrap();
                        let bytes = |from: usize| from * expected.pixel_bytes..(from + width) * expected.pixel_bytes;
                        assert!(
                            row[bytes(left - from as usize)] == expected.row(y)[bytes(left)],
                            "{} {scale:?}: {width} from {left} in row {y}",
                            file.name
                        );
                    }
                    rows.finish().unwrap();
                }
            }
        }
    }
}

#[test]
fn an_image_does_not_depend_on_the_one_before() {
    let mut decompressor = Decompressor::new().unwrap();
    let mut decode = |bytes: &[u8]| whole(&mut decompressor, bytes, &options(Scale::Full, Pixels::Rgb));
    let file = encoded(40, 40, PixelFormat::RGB, Subsamp::Sub2x2, false);
    let expected = decode(&file).unwrap();
    // As in motion JPEG: without Huffman tables it is read with the standard's, which TurboJPEG writes.
    let mut bare = file.clone();
    while let Some(at) = bare.windows(2).position(|two| two == [0xff, 0xc4]) {
        let length = usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]]));
        bare.drain(at..at + 2 + length);
    }
    let other = encoded(40, 40, PixelFormat::RGB, Subsamp::Sub2x2, true);
    decode(&other).unwrap();
    assert_eq!(decode(&bare).unwrap(), expected, "read with the tables of the progressive file");
    let tables = position(&file, &[0xff, 0xdb]);
    let mut without = file;
    without[tables + 1] = 0xfe; // a comment
    assert!(decode(&without).is_err(), "quantised with the tables of the last file");
}
