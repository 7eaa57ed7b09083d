//! Planar video frames to RGB8: NV12 and I420, levels by BT.601 with luma from 16 to 235, as video cameras and decoders
//! give them.
//!
//! ```text
//! red   = 1.164 (y - 16)                     + 1.596 (v - 128)
//! green = 1.164 (y - 16) - 0.391 (u - 128)   - 0.813 (v - 128)
//! blue  = 1.164 (y - 16) + 2.018 (u - 128)
//! ```
//!
//! The arithmetic is OpenCV's (`modules/imgproc/src/color_yuv.simd.hpp`, ITUR_BT_601_*): whole numbers of 2^-20, so that
//! its COLOR_YUV2RGB_NV12 and COLOR_YUV2RGB_I420 give the same bytes. As there, each pair of U and V is repeated for the
//! two by two pixels that share it.

use framepipe_frame::RawFrame;

use crate::{ViewError, sample::Instructions};

/// Bits of the fraction in the factors below.
const SHIFT: u32 = 20;
/// 1.164: luma to every colour.
const LUMA: i32 = 1_220_542;
/// 1.596: V to red.
const V_RED: i32 = 1_673_527;
/// -0.813: V to green.
const V_GREEN: i32 = -852_492;
/// -0.391: U to green.
const U_GREEN: i32 = -409_993;
/// 2.018: U to blue.
const U_BLUE: i32 = 2_116_026;

/// Pairs of U and V in a block.
const PAIRS: usize = 32;
/// Pixels of a row in a block.
const PIXELS: usize = 2 * PAIRS;

/// Borrowed planes of one frame, in which every row was found to lie.
#[derive(Clone, Copy, Debug)]
pub struct YuvView<'a> {
    width: usize,
    height: usize,
    luma: Plane<'a>,
    chroma: Chroma<'a>,
}

/// Rows of bytes; the last one may end before the stride does.
#[derive(Clone, Copy, Debug)]
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
}

/// Where the chroma of two rows of pixels lies.
#[derive(Clone, Copy, Debug)]
enum Chroma<'a> {
    /// U and V in turn.
    Pairs(Plane<'a>),
    /// U, and V.
    Planes(Plane<'a>, Plane<'a>),
}

impl<'a> YuvView<'a> {
    pub(crate) fn nv12(data: &'a [u8], raw: &RawFrame) -> Result<Self, ViewError> {
        check(data, raw)?;
        let stride = raw.stride as usize;
        let (luma, pairs) = data.split_at(stride * raw.height as usize);
        Ok(Self::new(raw, Plane { data: luma, stride }, Chroma::Pairs(Plane { data: pairs, stride })))
    }

    pub(crate) fn i420(data: &'a [u8], raw: &RawFrame) -> Result<Self, ViewError> {
        check(data, raw)?;
        let [luma_stride, stride] = [u64::from(raw.stride), raw.chroma_stride()].map(|stride| stride as usize);
        let (luma, chroma) = data.split_at(luma_stride * raw.height as usize);
        let (u, v) = chroma.split_at(stride * raw.chroma_rows() as usize);
        let chroma = Chroma::Planes(Plane { data: u, stride }, Plane { data: v, stride });
        Ok(Self::new(raw, Plane { data: luma, stride: luma_stride }, chroma))
    }

    fn new(raw: &RawFrame, luma: Plane<'a>, chroma: Chroma<'a>) -> Self {
        Self { width: raw.width as usize, height: raw.height as usize, luma, chroma }
    }

    /// Bytes of the frame as RGB8: at most three times those of its planes.
    pub fn rgb_bytes(&self) -> usize {
        3 * self.width * self.height
    }

    /// Writes the frame as RGB8, rows close together.
    ///
    /// # Panics
    /// Where `rgb` has not [`Self::rgb_bytes`].
    pub fn write_rgb(&self, rgb: &mut [u8]) {
        assert_eq!(rgb.len(), self.rgb_bytes(), "bytes of {}x{} pixels", self.width, self.height);
        Instructions::default().yuv_to_rgb(self, rgb);
    }

    /// See [`Self::write_rgb`].
    #[inline(always)]
    pub(crate) fn write_rows(&self, rgb: &mut [u8]) {
        for (place, rows) in rgb.chunks_mut(2 * 3 * self.width).enumerate() {
            let luma = [2 * place, 2 * place + 1].map(|y| self.luma.row(y.min(self.height - 1), self.width));
            write_pair(luma, self.chroma, place, rows);
        }
    }
}

fn check(data: &[u8], raw: &RawFrame) -> Result<(), ViewError> {
    let RawFrame { width, height, stride, .. } = *raw;
    let stride = u64::from(stride);
    let needed = raw.bytes().ok_or(ViewError::Geometry { width, height, stride })?;
    let found = data.len() as u64;
    if needed > found {
        return Err(ViewError::Bytes { width, height, stride, needed, found });
    }
    Ok(())
}

impl<'a> Plane<'a> {
    /// The first `bytes` of row `y`.
    fn row(&self, y: usize, bytes: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..bytes]
    }
}

impl Chroma<'_> {
    /// `count` of U and V from the pair `first` of row `y` on. In a block that is not full the others are grey.
    #[inline(always)]
    fn block(&self, y: usize, first: usize, count: usize) -> [[u8; PAIRS]; 2] {
        let [mut u, mut v] = [[128; PAIRS]; 2];
        match self {
            Self::Pairs(plane) => {
                let row = &plane.row(y, 2 * (first + count))[2 * first..];
                for ((pair, u), v) in row.as_chunks::<2>().0.iter().zip(&mut u).zip(&mut v) {
                    [*u, *v] = *pair;
                }
            }
            Self::Planes(u_plane, v_plane) => {
                u[..count].copy_from_slice(&u_plane.row(y, first + count)[first..]);
                v[..count].copy_from_slice(&v_plane.row(y, first + count)[first..]);
            }
        }
        [u, v]
    }
}

/// What chroma adds to each colour of a block's pixels, in 2^-20 of a level, with the half that rounds.
struct Tint {
    red: [i32; PIXELS],
    green: [i32; PIXELS],
    blue: [i32; PIXELS],
}

impl Tint {
    #[inline(always)]
    fn of([u, v]: [[u8; PAIRS]; 2]) -> Self {
        const HALF: i32 = 1 << (SHIFT - 1);
        let twice = |[u_factor, v_factor]: [i32; 2]| {
            let mut tints = [0; PIXELS];
            for ((pixels, u), v) in tints.as_chunks_mut::<2>().0.iter_mut().zip(u).zip(v) {
                *pixels = [HALF + u_factor * (i32::from(u) - 128) + v_factor * (i32::from(v) - 128); 2];
            }
            tints
        };
        Self { red: twice([0, V_RED]), green: twice([U_GREEN, V_GREEN]), blue: twice([U_BLUE, 0]) }
    }

    /// Writes the colours of a row's pixels of this block.
    #[inline(always)]
    fn write(&self, luma: &[u8; PIXELS], rgb: &mut [u8; 3 * PIXELS]) {
        // Plane by plane, and only then pixel by pixel: the compiler makes vector instructions of either. Not by an array's
        // `map`, which would be compiled without the caller's AVX2.
        let levels = |tints: &[i32; PIXELS]| {
            let mut levels = [0; PIXELS];
            for ((out, luma), tint) in levels.iter_mut().zip(luma).zip(tints) {
                let luma = i32::from(luma.saturating_sub(16)) * LUMA;
                *out = ((luma + tint) >> SHIFT).clamp(0, 255) as u8;
            }
            levels
        };
        let (red, green, blue) = (levels(&self.red), levels(&self.green), levels(&self.blue));
        for (((pixel, red), green), blue) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [red, green, blue];
        }
    }
}

/// Writes the one or two rows of pixels that share row `y` of the chroma.
#[inline(always)]
fn write_pair(luma: [&[u8]; 2], chroma: Chroma<'_>, y: usize, rgb: &mut [u8]) {
    let width = luma[0].len();
    for first in (0..width).step_by(PIXELS) {
        let count = PIXELS.min(width - first);
        let tint = Tint::of(chroma.block(y, first / 2, count.div_ceil(2)));
        for (luma, row) in luma.iter().zip(rgb.chunks_mut(3 * width)) {
            let (luma, pixels) = (&luma[first..][..count], &mut row[3 * first..][..3 * count]);
            match (luma.as_array(), pixels.as_mut_array()) {
                (Some(luma), Some(pixels)) => tint.write(luma, pixels),
                _ => {
                    let (mut whole_luma, mut whole) = ([0; PIXELS], [0; 3 * PIXELS]);
                    whole_luma[..count].copy_from_slice(luma);
                    tint.write(&whole_luma, &mut whole);
                    pixels.copy_from_slice(&whole[..3 * count]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
