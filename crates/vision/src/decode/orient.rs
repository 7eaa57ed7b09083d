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
