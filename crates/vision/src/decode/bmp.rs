//! BMP by the `image` crate. Run lengths are walked before: pixels that they leave out are those of no other decoder, and
//! most often they are missing because the file was cut.

use framepipe_frame::{ErrorCode, FrameError};
use image::codecs::bmp::BmpDecoder;

use super::{
    budget::{Budget, Metered},
    others,
};
use crate::{Header, Limits};

/// Where the file header says that the pixels begin; what the information header says of compression.
const PIXELS_AT: usize = 10;
const INFORMATION_BYTES: usize = 14;
const COMPRESSION: usize = 30;
const RUNS_OF_8_BITS: u32 = 1;
const RUNS_OF_4_BITS: u32 = 2;

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    if !leaves_no_pixel_out(bytes, header) {
        let words = "BMP: its run lengths do not fill every row to its end, and nothing else";
        return Err(FrameError::new(ErrorCode::CorruptImage, words));
    }
    let budget = Budget::new(limits.cpu_ms_max);
    others::read(BmpDecoder::new(Metered::new(bytes, &budget)), header, limits, native, out)
        .map_err(|error| budget.error("BMP").unwrap_or(error))
}

/// True also where there are no run lengths, or no header that says so.
fn leaves_no_pixel_out(bytes: &[u8], header: &Header) -> bool {
    let number = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map(u32::from_le_bytes);
    // The header of 12 bytes has no compression.
    let compression = number(INFORMATION_BYTES).filter(|length| *length >= 40).and_then(|_| number(COMPRESSION));
    let pixels_a_byte = match compression {
        Some(RUNS_OF_8_BITS) => 1,
        Some(RUNS_OF_4_BITS) => 2,
        _ => return true,
    };
    let runs = number(PIXELS_AT).and_then(|at| bytes.get(at as usize..)).unwrap_or_default();
    fills_all_rows(runs, pixels_a_byte, (header.width, header.height))
}

fn fills_all_rows(mut runs: &[u8], pixels_a_byte: usize, (width, height): (u32, u32)) -> bool {
    let (mut x, mut y) = (0, 0);
    while let Some(([first, second], rest)) = runs.split_first_chunk() {
        runs = rest;
        match (first, second) {
            // The end of a row; of the last one it may be left out.
            (0, 0) if x == width => (x, y) = (0, y + 1),
            (0, 1) => return y == height || (y + 1 == height && x == width),
            (0, 0 | 2) => return false,
            (0, count) => {
                // Pixels one by one, in an even count of bytes.
                let taken = usize::from(*count).div_ceil(pixels_a_byte).next_multiple_of(2);
                let Some(rest) = runs.get(taken..) else { return false };
                runs = rest;
                x += u32::from(*count);
            }
            (count, _) => x += u32::from(*count),
        }
        if x > width || y > height || (y == height && x > 0) {
            return false;
        }
    }
    false
}
