//! Turns RGB8 pixels the right way up (EXIF 2.32, tag 0x0112).

const PIXEL_BYTES: usize = 3;
/// Sides of the squares in which pixels are moved, so that both images stay in cache when rows become columns.
const TILE: usize = 32;

/// Writes `stored` (`width` x `height`) to `out`; for orientations 5 to 8 `out` is `height` x `width`.
pub(crate) fn orient(stored: &[u8], width: usize, height: usize, orientation: u8, out: &mut [u8]) {
    debug_assert_eq!(stored.len(), width * height * PIXEL_BYTES);
    debug_assert_eq!(stored.len(), out.len());
    let (right, bottom) = (width - 1, height - 1);
    let (pixels, _) = stored.as_chunks::<PIXEL_BYTES>();
    let (to, _) = out.as_chunks_mut::<PIXEL_BYTES>();
    match orientation {
        2 => turn(to, width, height, |x, y| pixels[y * width + right - x]),
        3 => turn(to, width, height, |x, y| pixels[(bottom - y) * width + right - x]),
        4 => turn(to, width, height, |x, y| pixels[(bottom - y) * width + x]),
        5 => turn(to, height, width, |x, y| pixels[x * width + y]),
        6 => turn(to, height, width, |x, y| pixels[(bottom - x) * width + y]),
        7 => turn(to, height, width, |x, y| pixels[(bottom - x) * width + right - y]),
        8 => turn(to, height, width, |x, y| pixels[x * width + right - y]),
        _ => out.copy_from_slice(stored),
    }
}

/// Where the upright image's pixels lie in an image of `size` as it is stored: how far the first is from the stored first, and each
/// from its neighbours on the right and below, where stored pixels are `pixel` apart and rows `row`.
///
/// # Panics
/// Where a side is 0.
pub fn upright_steps((width, height): (u32, u32), orientation: u8, pixel: i64, row: i64) -> [i64; 3] {
    let (right, bottom) = (i64::from(width - 1) * pixel, i64::from(height - 1) * row);
    match orientation {
        2 => [right, -pixel, row],
        3 => [right + bottom, -pixel, -row],
        4 => [bottom, pixel, -row],
        5 => [0, row, pixel],
        6 => [bottom, -row, pixel],
        7 => [right + bottom, -row, -pixel],
        8 => [right, row, -pixel],
        _ => [0, pixel, row],
    }
}

fn turn(
    out: &mut [[u8; PIXEL_BYTES]],
    width: usize,
    height: usize,
    stored_at: impl Fn(usize, usize) -> [u8; PIXEL_BYTES],
) {
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            let right = (left + TILE).min(width);
            for y in top..(top + TILE).min(height) {
                let row = &mut out[y * width + left..y * width + right];
                for (x, pixel) in (left..right).zip(row) {
                    *pixel = stored_at(x, y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::noise;

    #[test]
    fn steps_lead_to_the_pixels_that_turning_gives() {
        let (width, height) = (5, 3);
        let stored = noise(1, 3 * width * height);
        let mut upright = vec![0; stored.len()];
        for orientation in 0..=9 {
            orient(&stored, width, height, orientation, &mut upright);
            let columns = if (5..=8).contains(&orientation) { height } else { width };
            let size = (width as u32, height as u32);
            let [first, right, below] = upright_steps(size, orientation, 3, 3 * width as i64);
            for (at, pixel) in upright.chunks(3).enumerate() {
                let from = first + (at % columns) as i64 * right + (at / columns) as i64 * below;
                assert_eq!(stored[from as usize..][..3], *pixel, "pixel {at} of orientation {orientation}");
            }
        }
    }
}
