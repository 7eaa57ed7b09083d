//! JPEGs of every kind, made here: encoded by TurboJPEG, then patched.

#![allow(dead_code, reason = "each test file uses a part of it")]

use framepipe_jpeg::{Decompressor, JpegError, Options, Pixels, Scale};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

pub const SCALES: [Scale; 4] = [Scale::Full, Scale::Half, Scale::Quarter, Scale::Eighth];

/// A JPEG and what its pixels are given as.
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
    pub pixels: Pixels,
}

/// A shaded picture with noise on it: neighbours differ everywhere, and every frequency is there.
pub fn picture(width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut pixels = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let shade = 200 * [x, y, x + y, y][channel] / (width + height);
                pixels.push((shade + (state >> 24) as usize / 4) as u8);
            }
        }
    }
    pixels
}

pub fn encoded(width: usize, height: usize, format: PixelFormat, subsamp: Subsamp, progressive: bool) -> Vec<u8> {
    let pixels = picture(width, height, format.size());
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(80).unwrap();
    compressor.set_subsamp(subsamp).unwrap();
    compressor.set_progressive(progressive).unwrap();
    let image = Image { pixels: &pixels[..], width, pitch: width * format.size(), height, format };
    compressor.compress_to_vec(image).unwrap()
}

/// Every kind that TurboJPEG writes.
pub fn written(width: usize, height: usize) -> Vec<File> {
    let subsamps = [
        Subsamp::None,
        Subsamp::Sub2x1,
        Subsamp::Sub2x2,
        Subsamp::Sub1x2,
        Subsamp::Sub4x1,
        Subsamp::Sub1x4,
        Subsamp::Gray,
    ];
    let mut files = Vec::new();
    for progressive in [false, true] {
        let kind = if progressive { "progressive" } else { "baseline" };
        for subsamp in subsamps {
            let bytes = encoded(width, height, PixelFormat::RGB, subsamp, progressive);
            files.push(File { name: format!("{kind} {subsamp:?} {width}x{height}"), bytes, pixels: Pixels::Rgb });
        }
        for subsamp in [Subsamp::None, Subsamp::Sub2x2] {
            let bytes = encoded(width, height, PixelFormat::CMYK, subsamp, progressive);
            let mut cmyk = bytes.clone();
            cmyk[position(&bytes, b"Adobe") + 11] = 0;
            let name = format!("{kind} YCCK {subsamp:?} {width}x{height}");
            files.push(File { name: name.replace("YCCK", "CMYK"), bytes: cmyk, pixels: Pixels::Cmyk });
            files.push(File { name, bytes, pixels: Pixels::Cmyk });
        }
    }
    files
}

/// Kinds that it does not write: other sampling factors, restart markers, a progressive file whose last scans were left
/// out, which libjpeg smoothes.
pub fn patched() -> Vec<File> {
    let mut files = Vec::new();
    for factors in [[0x22, 0x21, 0x11], [0x14, 0x12, 0x12], [0x23, 0x11, 0x21], [0x31, 0x11, 0x11], [0x12, 0x11, 0x12]]
    {
        let name = format!("sampling {factors:02x?}");
        files.push(File { name, bytes: resampled(factors, 45, 61), pixels: Pixels::Rgb });
    }
    let mut grey = encoded(45, 70, PixelFormat::RGB, Subsamp::Gray, false);
    let factor = position(&grey, &[0xff, 0xc0]) + 11;
    assert_eq!(grey[factor], 0x11);
    grey[factor] = 0x22;
    files.push(File { name: "grey with factors 2x2".into(), bytes: grey, pixels: Pixels::Rgb });
    for subsamp in [Subsamp::None, Subsamp::Sub2x2] {
        let bytes = with_restarts(subsamp, 5, 7);
        files.push(File { name: format!("restarts {subsamp:?}"), bytes, pixels: Pixels::Rgb });
        let mut bytes = encoded(53, 71, PixelFormat::RGB, subsamp, true);
        let third_scan = scans(&bytes)[2];
        bytes.truncate(third_scan);
        bytes.extend([0xff, 0xd9]);
        files.push(File { name: format!("two scans {subsamp:?}"), bytes, pixels: Pixels::Rgb });
    }
    files
}

/// A grey file whose blocks are taken for those of three components with other sampling factors: what it shows is
/// nonsense, but a valid file.
fn resampled(factors: [u8; 3], width: usize, height: usize) -> Vec<u8> {
    let [h, v] = [4, 0].map(|shift| factors.iter().map(|factor| usize::from(factor >> shift) & 15).max().unwrap());
    let blocks: usize = factors.iter().map(|factor| usize::from((factor >> 4) * (factor & 15))).sum();
    let count = width.div_ceil(8 * h) * height.div_ceil(8 * v) * blocks;
    let grey = encoded(8 * count, 8, PixelFormat::RGB, Subsamp::Gray, false);
    let (frame, scan) = (position(&grey, &[0xff, 0xc0]), position(&grey, &[0xff, 0xda]));
    let [w1, w0] = (width as u16).to_be_bytes();
    let [h1, h0] = (height as u16).to_be_bytes();
    let components = (0u8..3).flat_map(|at| [at + 1, factors[usize::from(at)], 0]);
    let mut bytes = grey[..frame].to_vec();
    bytes.extend([0xff, 0xc0, 0, 17, 8, h1, h0, w1, w0, 3]);
    bytes.extend(components);
    bytes.extend_from_slice(&grey[frame + 13..scan]);
    bytes.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    bytes.extend_from_slice(&grey[scan + 10..]);
    bytes
}

/// A baseline file of `columns` x `rows` MCUs with a restart marker behind each but the last: as many files of one MCU,
/// joined.
pub fn with_restarts(subsamp: Subsamp, columns: usize, rows: usize) -> Vec<u8> {
    let side = if subsamp == Subsamp::None { 8 } else { 16 };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(80).unwrap();
    compressor.set_subsamp(subsamp).unwrap();
    let (width, height) = (columns * side, rows * side);
    let picture = picture(width, height, 3);
    let mut tile = |number: usize| {
        let (left, top) = (number % columns * side, number / columns * side);
        let pixels = &picture[3 * (top * width + left)..];
        let image = Image { pixels, width: side, pitch: 3 * width, height: side, format: PixelFormat::RGB };
        compressor.compress_to_vec(image).unwrap()
    };
    let first = tile(0);
    let (frame, scan) = (position(&first, &[0xff, 0xc0]), position(&first, &[0xff, 0xda]));
    let data = scan + 14;
    let mut bytes = first[..scan].to_vec();
    bytes[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
    bytes.extend([0xff, 0xdd, 0, 4, 0, 1]);
    bytes.extend_from_slice(&first[scan..data]);
    for number in 0..columns * rows {
        let tile = tile(number);
        bytes.extend_from_slice(&tile[data..tile.len() - 2]);
        let is_last = number + 1 == columns * rows;
        bytes.extend([0xff, if is_last { 0xd9 } else { 0xd0 + (number % 8) as u8 }]);
    }
    bytes
}

/// Where the scans' segments begin, tables before them included.
pub fn scans(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut at, mut start) = (2, 2);
    while bytes[at + 1] != 0xd9 {
        if bytes[at + 1] == 0xda {
            starts.push(start);
        }
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if starts.last() == Some(&start) {
            at +=
                (bytes[at..].windows(2)).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7)).unwrap();
            start = at;
        }
    }
    starts
}

pub fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

pub fn inserted(bytes: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    [&bytes[..at], what, &bytes[at..]].concat()
}

pub fn options(scale: Scale, pixels: Pixels) -> Options {
    Options { scale, pixels, scans_max: 100, cpu_ms_max: 0 }
}

/// All pixels, with width and height; read to the end marker.
pub fn whole(decompressor: &mut Decompressor, bytes: &[u8], options: &Options) -> Result<Decoded, JpegError> {
    let mut rows = decompressor.start(bytes, options)?;
    let (width, height, pixel_bytes) = (rows.width() as usize, rows.height() as usize, rows.pixel_bytes());
    let mut pixels = vec![0; width * height * pixel_bytes];
    rows.read(&mut pixels)?;
    rows.finish()?;
    Ok(Decoded { pixels, width, height, pixel_bytes })
}

#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    pub pixels: Vec<u8>,
    pub width: usize,
    pub height: usize,
    pub pixel_bytes: usize,
}

impl Decoded {
    pub fn row(&self, row: usize) -> &[u8] {
        let row_bytes = self.width * self.pixel_bytes;
        &self.pixels[row * row_bytes..][..row_bytes]
    }
}
