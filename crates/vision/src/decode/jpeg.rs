//! JPEG by libjpeg-turbo, row by row. Of the four-component kinds it gives CMYK, which becomes RGB here.
//!
//! What is missing or broken is an error; stray bytes between segments or before the end marker harm no pixel, and
//! cameras do write them. The pixels are the same whichever rows and columns are left out.

use framepipe_frame::{ErrorCode, FrameError};
use framepipe_jpeg::{Decompressor, JpegError, Options, Pixels, Rows};

use super::{DecodeScale, budget, check_same_size, others::first_bytes};
use crate::{Format, Header, JpegColor, Limits, PixelOrder, Region};

const RGB_BYTES: usize = 3;
const CMYK_BYTES: usize = 4;
/// Groups of columns on both sides of a region that its pixels are made with: two blocks, by which libjpeg smoothes an
/// incomplete progressive image, and one of which colours are upsampled.
const GROUPS_BESIDE: u32 = 3;

#[derive(Debug)]
pub(super) struct Jpeg {
    decompressor: Decompressor,
    scans_max: u32,
    cpu_ms_max: u32,
    /// A row of RGB8.
    row: Vec<u8>,
    /// A row of a CMYK image's four components.
    ink: Vec<u8>,
}

impl Jpeg {
    pub(super) fn new(limits: &Limits) -> Result<Self, FrameError> {
        Ok(Self {
            decompressor: Decompressor::new().map_err(frame_error)?,
            scans_max: limits.scans_max.max(1),
            cpu_ms_max: limits.cpu_ms_max,
            row: Vec::new(),
            ink: Vec::new(),
        })
    }

    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        scale: DecodeScale,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        let (mut rows, _) = self.start(bytes, header, scale)?;
        rows.read(out)?;
        rows.finish()
    }

    pub(super) fn rows<'d>(
        &'d mut self,
        bytes: &'d [u8],
        header: &Header,
        scale: DecodeScale,
    ) -> Result<JpegRows<'d>, FrameError> {
        let (rows, row) = self.start(bytes, header, scale)?;
        let row = cached_row(row, RGB_BYTES * rows.rows.width() as usize);
        Ok(JpegRows { rows, row, held: None, scale })
    }

    pub(super) fn decode_region(
        &mut self,
        bytes: &[u8],
        header: &Header,
        region: &Region,
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        let (mut rows, row) = self.start(bytes, header, DecodeScale::Full)?;
        let beside = GROUPS_BESIDE * rows.rows.column_group();
        let left = region.left.saturating_sub(beside);
        let right = region.right.saturating_add(beside).min(header.width);
        let (left, width) = rows.rows.crop(left, right - left).map_err(frame_error)?;
        let row = cached_row(row, RGB_BYTES * width as usize);
        let (from, row_bytes) = (RGB_BYTES * (region.left - left) as usize, RGB_BYTES * region.width() as usize);
        rows.rows.skip(region.top);
        for to in out.chunks_exact_mut(row_bytes) {
            rows.read(row)?;
            to.copy_from_slice(&row[from..from + row_bytes]);
        }
        Ok(())
    }

    /// The image's rows, and the memory of one.
    fn start<'d>(
        &'d mut self,
        bytes: &'d [u8],
        header: &Header,
        scale: DecodeScale,
    ) -> Result<(RgbRows<'d>, &'d mut Vec<u8>), FrameError> {
        let is_cmyk = header.format == Format::Jpeg(JpegColor::Cmyk);
        let options = Options {
            scale,
            pixels: if is_cmyk { Pixels::Cmyk } else { Pixels::Rgb },
            scans_max: self.scans_max,
            cpu_ms_max: self.cpu_ms_max,
        };
        let rows = self.decompressor.start(bytes, &options).map_err(frame_error)?;
        let (width, height) = rows.stored_size();
        check_same_size(header, width as usize, height as usize)?;
        Ok((RgbRows { rows, ink: is_cmyk.then_some(&mut self.ink) }, &mut self.row))
    }
}

/// Rows of RGB8, whatever the file's colours.
#[derive(Debug)]
struct RgbRows<'d> {
    rows: Rows<'d>,
    ink: Option<&'d mut Vec<u8>>,
}

impl RgbRows<'_> {
    /// Fills `out` with the next rows.
    fn read(&mut self, out: &mut [u8]) -> Result<(), FrameError> {
        let Some(ink) = &mut self.ink else {
            return self.rows.read(out).map_err(frame_error);
        };
        let width = self.rows.width() as usize;
        let ink = first_bytes(ink, CMYK_BYTES * width);
        for row in out.chunks_exact_mut(RGB_BYTES * width) {
            self.rows.read(ink).map_err(frame_error)?;
            cmyk_to_rgb(ink, row);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), FrameError> {
        self.rows.finish().map(drop).map_err(frame_error)
    }
}

/// A JPEG's rows as RGB8, those that are asked for: [`crate::Decoder::rows`].
#[derive(Debug)]
pub struct JpegRows<'d> {
    rows: RgbRows<'d>,
    row: &'d mut [u8],
    /// Which row `row` is.
    held: Option<u32>,
    scale: DecodeScale,
}

impl JpegRows<'_> {
    /// Reads the rest of the file, without its pixels: whatever rows were asked for, the image is whole.
    ///
    /// # Errors
    /// As [`crate::Decoder::decode_rgb`].
    pub fn finish(self) -> Result<(), FrameError> {
        self.rows.finish()
    }
}

/// Rows that are left out between two cost less.
impl crate::Rows for JpegRows<'_> {
    type Error = FrameError;

    fn size(&self) -> (u32, u32) {
        (self.rows.rows.width(), self.rows.rows.height())
    }

    fn source_size(&self) -> (u32, u32) {
        self.rows.rows.stored_size()
    }

    fn scale(&self) -> DecodeScale {
        self.scale
    }

    fn order(&self) -> PixelOrder {
        PixelOrder::Rgb
    }

    /// # Errors
    /// As [`crate::Decoder::decode_rgb`]; [`ErrorCode::Internal`] for a row above the last one or below the image.
    fn row(&mut self, y: u32) -> Result<&[u8], FrameError> {
        if self.held != Some(y) {
            let next = self.rows.rows.next_row();
            let height = self.rows.rows.height();
            if y < next || y >= height {
                let words = format!("row {y} of {height} where {next} is next");
                return Err(FrameError::new(ErrorCode::Internal, words));
            }
            self.held = None;
            self.rows.rows.skip(y - next);
            self.rows.read(self.row)?;
            self.held = Some(y);
        }
        Ok(self.row)
    }
}

/// Memory for a row that is read at once. It does not begin where a vector of AVX2 is aligned: there libjpeg-turbo writes past
/// the caches (`jdcolext-avx2.asm`, vmovntdq), and reading it back takes many times as long.
fn cached_row(memory: &mut Vec<u8>, len: usize) -> &mut [u8] {
    const VECTOR: usize = 32;
    let room = first_bytes(memory, len + 2 * VECTOR);
    let at = VECTOR + VECTOR / 2 - room.as_ptr().addr() % VECTOR;
    &mut room[at..at + len]
}

fn frame_error(error: JpegError) -> FrameError {
    match error {
        JpegError::Corrupt(words) => FrameError::new(ErrorCode::CorruptImage, format!("JPEG: {words}")),
        JpegError::TooManyScans { max } => {
            FrameError::new(ErrorCode::ImageTooLarge, format!("JPEG: more scans than scans_max = {max}"))
        }
        JpegError::OutOfTime { cpu_ms_max } => budget::out_of_time("JPEG", cpu_ms_max),
        JpegError::Memory => FrameError::new(ErrorCode::Internal, error.to_string()),
    }
}

/// Four components to RGB without a colour profile: ink as Adobe writes it, inverted, so that 255 is none. What is
/// left of the light is what the colour's ink leaves of what the black leaves.
fn cmyk_to_rgb(ink: &[u8], out: &mut [u8]) {
    let (ink, _) = ink.as_chunks::<CMYK_BYTES>();
    let (out, _) = out.as_chunks_mut::<RGB_BYTES>();
    for (rgb, [c, m, y, k]) in out.iter_mut().zip(ink) {
        // + 127: to the nearest.
        *rgb = [c, m, y].map(|left| ((u32::from(*left) * u32::from(*k) + 127) / 255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_never_aligned_as_a_vector_is() {
        let mut memories: [Vec<u8>; 8] = std::array::from_fn(|k| Vec::with_capacity(100 * k));
        for memory in &mut memories {
            for len in [5760, 30, 0, 6001] {
                let row = cached_row(memory, len);
                assert_eq!((row.len(), row.as_ptr().addr() % 32), (len, 16));
            }
        }
    }
}
