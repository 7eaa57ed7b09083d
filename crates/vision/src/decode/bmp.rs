//! BMP by the `image` crate. Two things are looked at before, which every decoder takes in its own way where they are
//! odd, and which are odd mostly because the file is broken: run lengths that leave pixels out, and masks of colours.

use framepipe_frame::{ErrorCode, FrameError};
use image::codecs::bmp::BmpDecoder;

use super::{
    budget::{Budget, Metered},
    others,
};
use crate::{Header, Limits};

/// Where the headers say at which byte the pixels begin, how long the information header is, and how pixels are packed.
const PIXELS_AT: usize = 10;
const INFORMATION_BYTES: usize = 14;
const BITS_A_PIXEL: usize = 28;
const COMPRESSION: usize = 30;
const MASKS: usize = 54;

const RUNS_OF_8_BITS: u32 = 1;
const RUNS_OF_4_BITS: u32 = 2;
const BY_MASKS: u32 = 3;
const BY_MASKS_WITH_ALPHA: u32 = 6;

/// Red, green and blue of 16 bits.
const MASKS_OF_16_BITS: [[u32; 3]; 2] = [[0x7c00, 0x03e0, 0x001f], [0xf800, 0x07e0, 0x001f]];

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    native: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), FrameError> {
    check_packing(bytes, header)?;
    let budget = Budget::new(limits.cpu_ms_max);
    others::read(BmpDecoder::new(Metered::new(bytes, &budget)), header, native, out)
        .map_err(|error| budget.error("BMP").unwrap_or(error))
}

/// Headers that cannot be read are left to the decoder.
fn check_packing(bytes: &[u8], header: &Header) -> Result<(), FrameError> {
    let number = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map(u32::from_le_bytes);
    // The header of 12 bytes has no compression.
    let compression = number(INFORMATION_BYTES).filter(|length| *length >= 40).and_then(|_| number(COMPRESSION));
    match compression {
        Some(runs @ (RUNS_OF_8_BITS | RUNS_OF_4_BITS)) => {
            let pixels_a_byte = if runs == RUNS_OF_4_BITS { 2 } else { 1 };
            let runs = number(PIXELS_AT).and_then(|at| bytes.get(at as usize..)).unwrap_or_default();
            if !fills_all_rows(runs, pixels_a_byte, (header.width, header.height)) {
                let words = "BMP: its run lengths do not fill every row to its end, and nothing else";
                return Err(FrameError::new(ErrorCode::CorruptImage, words));
            }
        }
        Some(BY_MASKS | BY_MASKS_WITH_ALPHA) => {
            let masks = [0, 4, 8].map(|at| number(MASKS + at).unwrap_or_default());
            let bits = number(BITS_A_PIXEL).unwrap_or_default() & 0xffff;
            if !(MASKS_OF_16_BITS.contains(&masks) && bits == 16 || are_bytes(masks)) {
                let words = format!("BMP: colours by the masks {masks:08x?}; only 5-5-5, 5-6-5 and whole bytes");
                return Err(FrameError::new(ErrorCode::UnsupportedFormat, words));
            }
        }
        _ => {}
    }
    Ok(())
}

/// True for three bytes of 32 bits.
fn are_bytes([red, green, blue]: [u32; 3]) -> bool {
    let is_byte = |mask: u32| (0..4).any(|byte| mask == 0xff << (8 * byte));
    [red, green, blue].into_iter().all(is_byte) && red != green && green != blue && blue != red
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
