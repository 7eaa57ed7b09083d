//! What framepipe does with good, odd and bad files. The files are made here: encoded, then patched.

mod broken;
mod rows;

use image::{DynamicImage, ExtendedColorType, ImageEncoder, RgbImage, metadata::Orientation};
use turbojpeg::{Compressor, PixelFormat, Subsamp};

use super::*;
use crate::generate::noise;
use crate::{JpegColor, probe};

const WIDTH: u32 = 48;
const HEIGHT: u32 = 32;

/// A smooth image with different corners, so that lossy formats keep it and every turn of it differs.
fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(255 * x / width) as u8, (255 * y / height) as u8, (90 + 60 * ((x / 8 + y / 16) % 2)) as u8])
    })
}

fn noisy(width: u32, height: u32) -> RgbImage {
    RgbImage::from_raw(width, height, noise(7, (3 * width * height) as usize)).unwrap()
}

struct JpegOptions {
    subsamp: Subsamp,
    progressive: bool,
    format: PixelFormat,
}

fn jpeg_of(pixels: &[u8], width: u32, height: u32, options: &JpegOptions) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(95).unwrap();
    compressor.set_subsamp(options.subsamp).unwrap();
    compressor.set_progressive(options.progressive).unwrap();
    let (width, height) = (width as usize, height as usize);
    let pitch = width * options.format.size();
    let image = turbojpeg::Image { pixels, width, pitch, height, format: options.format };
    compressor.compress_to_vec(image).unwrap()
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let options = JpegOptions { subsamp: Subsamp::Sub2x2, progressive: false, format: PixelFormat::RGB };
    jpeg_of(image, image.width(), image.height(), &options)
}

fn progressive(image: &RgbImage) -> Vec<u8> {
    let options = JpegOptions { subsamp: Subsamp::None, progressive: true, format: PixelFormat::RGB };
    jpeg_of(image, image.width(), image.height(), &options)
}

/// YCCK with Adobe's marker and inversion, of cyan, magenta, yellow and black ink.
fn ycck(image: &RgbImage, progressive: bool) -> Vec<u8> {
    let pixels: Vec<u8> = image.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let options = JpegOptions { subsamp: Subsamp::None, progressive, format: PixelFormat::CMYK };
    jpeg_of(&pixels, image.width(), image.height(), &options)
}

fn png_of(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    image::codecs::png::PngEncoder::new(&mut file).write_image(pixels, width, height, color).unwrap();
    file
}

fn png(image: &RgbImage) -> Vec<u8> {
    png_of(image, image.width(), image.height(), ExtendedColorType::Rgb8)
}

fn webp(image: &RgbImage) -> Vec<u8> {
    let mut file = Vec::new();
    image::codecs::webp::WebPEncoder::new_lossless(&mut file)
        .write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .unwrap();
    file
}

fn bmp(image: &RgbImage) -> Vec<u8> {
    let mut file = Vec::new();
    image::codecs::bmp::BmpEncoder::new(&mut file)
        .write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .unwrap();
    file
}

/// 13 x 9 pixels, lossy; written by libwebp. Left: about (30, 200, 10).
const LOSSY_WEBP: [u8; 110] = [
    0x52, 0x49, 0x46, 0x46, 0x66, 0x00, 0x00, 0x00, 0x57, 0x45, 0x42, 0x50, 0x56, 0x50, 0x38, 0x20, 0x5a, 0x00, 0x00,
    0x00, 0xb0, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x0d, 0x00, 0x09, 0x00, 0x02, 0x80, 0x42, 0x25, 0xb0, 0x02, 0x74, 0xba,
    0x01, 0x40, 0x01, 0xe6, 0x01, 0xfa, 0x00, 0x0a, 0x48, 0xe4, 0xfe, 0x00, 0x00, 0xc8, 0xf6, 0x6f, 0xdc, 0x75, 0xff,
    0x85, 0xb2, 0x5c, 0x63, 0x9a, 0x35, 0xd4, 0xff, 0x9f, 0xee, 0xf5, 0xfb, 0x86, 0x3f, 0x96, 0xf0, 0x88, 0x28, 0x74,
    0x64, 0xfd, 0x95, 0x45, 0xfe, 0x0d, 0xdd, 0xfd, 0x8c, 0xb7, 0xe9, 0x0f, 0xff, 0xef, 0x05, 0xff, 0xc6, 0x25, 0xc5,
    0x5f, 0xbd, 0x40, 0xe3, 0x45, 0xfc, 0x8f, 0xf3, 0xf1, 0x0b, 0xed, 0x29, 0x95, 0xa0, 0x00,
];

/// A file of every format and kind that is decoded in its own way.
fn every_kind() -> Vec<(&'static str, Vec<u8>)> {
    let image = photo(WIDTH, HEIGHT);
    let grey = JpegOptions { subsamp: Subsamp::Gray, progressive: false, format: PixelFormat::RGB };
    vec![
        ("baseline JPEG", jpeg(&image)),
        ("progressive JPEG", progressive(&image)),
        ("grey JPEG", jpeg_of(&image, WIDTH, HEIGHT, &grey)),
        ("YCCK JPEG", ycck(&image, false)),
        ("progressive YCCK JPEG", ycck(&image, true)),
        ("PNG", png(&image)),
        ("lossless WebP", webp(&image)),
        ("lossy WebP", LOSSY_WEBP.to_vec()),
        ("BMP", bmp(&image)),
    ]
}

fn decode(bytes: &[u8]) -> Result<RgbImage, FrameError> {
    decode_with(bytes, &Limits::default())
}

fn decode_with(bytes: &[u8], limits: &Limits) -> Result<RgbImage, FrameError> {
    let header = probe(bytes, limits)?;
    let (width, height) = header.oriented_size();
    let mut out = vec![0; 3 * width as usize * height as usize];
    Decoder::new(*limits)?.decode_rgb(bytes, &header, &mut out)?;
    Ok(RgbImage::from_raw(width, height, out).unwrap())
}

fn decoded_code(bytes: &[u8]) -> Option<ErrorCode> {
    decode(bytes).err().map(|error| error.code)
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn inserted(bytes: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    [&bytes[..at], what, &bytes[at..]].concat()
}

fn patched(bytes: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    let mut patched = bytes.to_vec();
    patched[at..at + what.len()].copy_from_slice(what);
    patched
}

fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

/// A TIFF block whose first directory holds the orientation alone.
fn exif(orientation: u16) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend(u32::from(orientation).to_le_bytes());
    block.extend([0; 4]);
    block
}

fn jpeg_with_exif(jpeg: &[u8], block: &[u8]) -> Vec<u8> {
    let length = (block.len() + 8) as u16;
    inserted(jpeg, 2, &[&[0xff, 0xe1][..], &length.to_be_bytes(), b"Exif\0\0", block].concat())
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// Behind IHDR, which ends at byte 33.
fn png_with(png: &[u8], chunk: &[u8]) -> Vec<u8> {
    inserted(png, 33, chunk)
}

/// Makes a simple file an extended one with an EXIF chunk behind the image.
fn webp_with_exif(webp: &[u8], width: u32, height: u32, block: &[u8]) -> Vec<u8> {
    let mut canvas = b"VP8X\x0a\0\0\0\x08\0\0\0".to_vec();
    canvas.extend(&(width - 1).to_le_bytes()[..3]);
    canvas.extend(&(height - 1).to_le_bytes()[..3]);
    let exif = [b"EXIF", &(block.len() as u32).to_le_bytes()[..], block].concat();
    let chunks = [&b"WEBP"[..], &canvas, &webp[12..], &exif].concat();
    [b"RIFF", &(chunks.len() as u32).to_le_bytes()[..], &chunks].concat()
}

#[test]
fn lossless_formats_give_the_pixels_and_lossy_ones_come_near() {
    let image = photo(WIDTH, HEIGHT);
    for file in [png(&image), webp(&image), bmp(&image)] {
        assert_eq!(decode(&file).unwrap(), image);
    }
    let smooth = photo(256, 256);
    for file in [jpeg(&smooth), progressive(&smooth)] {
        let found = decode(&file).unwrap();
        let sum: u64 = found.as_raw().iter().zip(smooth.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / found.as_raw().len() as f64;
        assert!(mean < 4.0, "{mean} grey levels off");
    }
    let lossy = decode(&LOSSY_WEBP).unwrap();
    assert_eq!(lossy.dimensions(), (13, 9));
    assert!(
        lossy.get_pixel(1, 1).0.iter().zip([25, 208, 9]).all(|(a, b)| a.abs_diff(b) <= 3),
        "{:?}",
        lossy.get_pixel(1, 1)
    );
}

#[test]
fn grey_and_four_component_jpegs_become_rgb() {
    let image = RgbImage::from_fn(64, 64, |x, y| image::Rgb([4 * x as u8, 4 * y as u8, 128]));
    for file in [ycck(&image, false), ycck(&image, true)] {
        assert_eq!(probe(&file, &Limits::default()).unwrap().format, Format::Jpeg(JpegColor::Cmyk));
        assert!(largest_difference(&decode(&file).unwrap(), &image) < 12, "no black ink: CMY inverted is RGB");
    }
    let grey = JpegOptions { subsamp: Subsamp::Gray, progressive: false, format: PixelFormat::RGB };
    let file = jpeg_of(&image, 64, 64, &grey);
    assert_eq!(probe(&file, &Limits::default()).unwrap().format, Format::Jpeg(JpegColor::Grey));
    for (pixel, from) in decode(&file).unwrap().pixels().zip(image.pixels()) {
        let luma = 0.299 * f32::from(from[0]) + 0.587 * f32::from(from[1]) + 0.114 * f32::from(from[2]);
        assert!(pixel.0.iter().all(|level| (f32::from(*level) - luma).abs() < 8.0), "{pixel:?} instead of {luma}");
    }
}

#[test]
fn four_components_become_the_rgb_of_a_second_decoder() {
    let ink = noise(5, 4 * 40 * 24);
    let options = JpegOptions { subsamp: Subsamp::None, progressive: false, format: PixelFormat::CMYK };
    let file = jpeg_of(&ink, 40, 24, &options);
    // Adobe's marker says 2, YCCK; with 0 the same numbers are CMYK.
    let transform = position(&file, b"Adobe") + 11;
    assert_eq!(file[transform], 2);
    for file in [patched(&file, transform, &[0]), file] {
        let options = zune_core::options::DecoderOptions::default()
            .jpeg_set_out_colorspace(zune_core::colorspace::ColorSpace::RGB);
        let cursor = zune_core::bytestream::ZCursor::new(&file);
        let second = zune_jpeg::JpegDecoder::new_with_options(cursor, options).decode().unwrap();
        let second = RgbImage::from_raw(40, 24, second).unwrap();
        let difference = largest_difference(&decode(&file).unwrap(), &second);
        assert!(difference <= 4, "{difference}");
    }
}

#[test]
fn png_of_every_kind_becomes_rgb8() {
    let bytes = noise(1, 5 * 3 * 8);
    let high = |at: usize| bytes[at & !1 | usize::from(cfg!(target_endian = "little"))];
    type Pick<'a> = Box<dyn Fn(usize) -> [u8; 3] + 'a>;
    let kinds: [(ExtendedColorType, Pick<'_>); 8] = [
        (ExtendedColorType::L8, Box::new(|i| [bytes[i]; 3])),
        (ExtendedColorType::La8, Box::new(|i| [bytes[2 * i]; 3])),
        (ExtendedColorType::Rgb8, Box::new(|i| [bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]])),
        (ExtendedColorType::Rgba8, Box::new(|i| [bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2]])),
        (ExtendedColorType::L16, Box::new(|i| [high(2 * i); 3])),
        (ExtendedColorType::La16, Box::new(|i| [high(4 * i); 3])),
        (ExtendedColorType::Rgb16, Box::new(|i| [high(6 * i), high(6 * i + 2), high(6 * i + 4)])),
        (ExtendedColorType::Rgba16, Box::new(|i| [high(8 * i), high(8 * i + 2), high(8 * i + 4)])),
    ];
    for (color, pick) in kinds {
        let file = png_of(&bytes[..15 * usize::from(color.bits_per_pixel()) / 8], 5, 3, color);
        let found = decode(&file).unwrap();
        let expected: Vec<_> = (0..15).map(pick).collect();
        assert!(found.pixels().map(|pixel| pixel.0).eq(expected), "{color:?}");
    }
    // A palette of two colours, one of them transparent; 1 bit a pixel, 8 x 1.
    let header = png_chunk(b"IHDR", &[0, 0, 0, 8, 0, 0, 0, 1, 1, 3, 0, 0, 0]);
    let palette = png_chunk(b"PLTE", &[10, 20, 30, 200, 210, 220]);
    let transparency = png_chunk(b"tRNS", &[0]);
    // zlib, one stored block: filter 0, then the bits.
    let pixels = png_chunk(b"IDAT", &[0x78, 0x01, 0x01, 2, 0, 0xfd, 0xff, 0, 0b0101_0101, 0x00, 0x57, 0x00, 0x56]);
    let end = png_chunk(b"IEND", &[]);
    let file = [&b"\x89PNG\r\n\x1a\n"[..], &header, &palette, &transparency, &pixels, &end].concat();
    let found = decode(&file).unwrap();
    assert_eq!(found.get_pixel(0, 0).0, [10, 20, 30], "alpha is dropped, not blended");
    assert_eq!(found.get_pixel(1, 0).0, [200, 210, 220]);
}

#[test]
fn bmp_rows_from_top_to_bottom_are_read_so() {
    let image = noisy(5, 4);
    let file = bmp(&image);
    let flipped = patched(&file, 22, &(-4i32).to_le_bytes());
    assert_eq!(decode(&flipped).unwrap(), DynamicImage::from(image).flipv().into_rgb8());
}

#[test]
fn every_orientation_of_every_format_turns_the_pixels() {
    // Wider than a tile, and no multiple of one.
    let image = noisy(71, 37);
    let stored_jpeg = jpeg(&image);
    for number in 1..=8u8 {
        let block = exif(u16::from(number));
        let files = [
            (jpeg_with_exif(&stored_jpeg, &block), decode(&stored_jpeg).unwrap()),
            (png_with(&png(&image), &png_chunk(b"eXIf", &block)), image.clone()),
            (webp_with_exif(&webp(&image), 71, 37, &block), image.clone()),
            (webp_with_exif(&webp(&image), 71, 37, &[b"Exif\0\0", &block[..]].concat()), image.clone()),
        ];
        for (file, stored) in files {
            let mut expected = DynamicImage::from(stored);
            expected.apply_orientation(Orientation::from_exif(number).unwrap());
            let header = probe(&file, &Limits::default()).unwrap();
            assert_eq!((header.width, header.height, header.orientation), (71, 37, number));
            assert_eq!(header.oriented_size(), (expected.width(), expected.height()));
            assert_eq!(decode(&file).unwrap(), expected.into_rgb8(), "orientation {number} of {:?}", header.format);
        }
    }
}

#[test]
fn a_scaled_jpeg_shows_the_mean_of_the_pixels_it_stands_for() {
    let image = photo(203, 101); // no multiple of any scale
    for (number, file) in [jpeg(&image), progressive(&image)].iter().enumerate() {
        for scale in [DecodeScale::Half, DecodeScale::Quarter, DecodeScale::Eighth] {
            let header = probe(file, &Limits::default()).unwrap();
            let mut out = vec![0; header.rgb_bytes(scale)];
            Decoder::new(Limits::default()).unwrap().decode_scaled(file, &header, scale, &mut out).unwrap();
            let (width, side) = (scale.pixels_of(203) as usize, scale.divisor() as usize);
            let whole = decode(file).unwrap();
            let (mut off, mut count) = ([0.0; 3], 0.0);
            for (at, pixel) in out.chunks_exact(3).enumerate() {
                let (left, top) = (at % width * side, at / width * side);
                if left + side > 203 || top + side > 101 {
                    continue; // the edge is repeated in it
                }
                count += 1.0;
                for color in 0..3 {
                    let sum: u32 = (0..side * side)
                        .map(|at| whole.get_pixel((left + at % side) as u32, (top + at / side) as u32)[color])
                        .map(u32::from)
                        .sum();
                    let mean = f64::from(sum) / (side * side) as f64;
                    off[color] += f64::from(pixel[color]) - mean;
                }
            }
            // A picture off by one pixel would be off by 2.5 levels in red and in green.
            assert!(off.iter().all(|sum| f64::abs(sum / count) < 0.5), "file {number}, {scale:?}: {off:?} of {count}");
        }
    }
}

#[test]
fn every_orientation_turns_a_scaled_jpeg_too() {
    let stored = jpeg(&photo(72, 40));
    let decode_half = |file: &[u8]| {
        let header = probe(file, &Limits::default()).unwrap();
        let (width, height) = header.oriented_size();
        let mut out = vec![0; header.rgb_bytes(DecodeScale::Half)];
        Decoder::new(Limits::default()).unwrap().decode_scaled(file, &header, DecodeScale::Half, &mut out).unwrap();
        RgbImage::from_raw(width / 2, height / 2, out).unwrap()
    };
    for number in 1..=8u8 {
        let mut expected = DynamicImage::from(decode_half(&stored));
        expected.apply_orientation(Orientation::from_exif(number).unwrap());
        let file = jpeg_with_exif(&stored, &exif(u16::from(number)));
        assert_eq!(decode_half(&file), expected.into_rgb8(), "orientation {number}");
    }
}

#[test]
fn only_a_jpeg_is_scaled_and_a_cut_one_is_an_error_at_every_scale() {
    let code = |file: &[u8], scale: DecodeScale| {
        let header = probe(file, &Limits::default()).unwrap();
        let mut out = vec![0; header.rgb_bytes(scale)];
        let decoded = Decoder::new(Limits::default()).unwrap().decode_scaled(file, &header, scale, &mut out);
        decoded.err().map(|error| error.code)
    };
    assert_eq!(code(&png(&photo(WIDTH, HEIGHT)), DecodeScale::Half), Some(ErrorCode::Internal));
    let file = jpeg(&noisy(160, 160));
    for scale in [DecodeScale::Full, DecodeScale::Half, DecodeScale::Quarter, DecodeScale::Eighth] {
        assert_eq!(code(&file, scale), None);
        assert_eq!(code(&file[..file.len() / 2], scale), Some(ErrorCode::CorruptImage), "{scale:?}");
    }
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let header = probe(&file, &Limits::default()).unwrap();
    let mut eighth = vec![0; header.rgb_bytes(DecodeScale::Eighth)];
    decoder.decode_scaled(&file, &header, DecodeScale::Eighth, &mut eighth).unwrap();
    let mut whole = vec![0; header.rgb_bytes(DecodeScale::Full)];
    decoder.decode_rgb(&file, &header, &mut whole).unwrap();
    assert_eq!(whole, decode(&file).unwrap().into_raw(), "a scale holds for its own image alone");
}

#[test]
fn exif_that_cannot_be_read_counts_as_upright() {
    let file = jpeg(&photo(WIDTH, HEIGHT));
    let mut far = exif(6);
    far[4] = 200;
    for block in [exif(0), exif(9), b"II*\0".to_vec(), noise(3, 200), far, Vec::new()] {
        let file = jpeg_with_exif(&file, &block);
        assert_eq!(probe(&file, &Limits::default()).unwrap().orientation, 1);
        assert!(decode(&file).is_ok());
    }
    let mut endless = exif(6);
    let link = endless.len() - 4;
    endless[link..].copy_from_slice(&8u32.to_le_bytes());
    assert_eq!(probe(&jpeg_with_exif(&file, &endless), &Limits::default()).unwrap().orientation, 6, "what can be read");
    let limits = Limits { metadata_bytes_max: 20, ..Limits::default() };
    assert_eq!(probe(&jpeg_with_exif(&file, &exif(6)), &limits).unwrap().orientation, 1, "beyond the limit");
}
