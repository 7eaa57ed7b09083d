//! Class scores that lie in planes, one a class: `[classes, cells]`.

use std::ops::Range;

/// So many cells are looked at together: their best classes stay in registers while the planes pass.
const BLOCK: usize = 64;

/// Gives the cell, the class and the number of each cell whose highest number is above `number_min`; NaN is never the
/// highest. `planes` are whole classes of `cells` numbers.
pub(super) fn best_above(planes: &[f32], cells: usize, number_min: f32, mut take: impl FnMut(usize, usize, f32)) {
    for begin in (0..cells).step_by(BLOCK) {
        let block = begin..cells.min(begin + BLOCK);
        best_of_block(planes, cells, block, number_min, &mut take);
    }
}

fn best_of_block(
    planes: &[f32],
    cells: usize,
    block: Range<usize>,
    number_min: f32,
    take: &mut impl FnMut(usize, usize, f32),
) {
    let mut best = [f32::NEG_INFINITY; BLOCK];
    let mut classes = [0u32; BLOCK];
    for (class, plane) in planes.chunks_exact(cells).enumerate() {
        for ((number, best), best_class) in plane[block.clone()].iter().zip(&mut best).zip(&mut classes) {
            // Both are written whatever the number is, so that the compiler compares whole vectors.
            let is_better = *number > *best;
            *best = if is_better { *number } else { *best };
            *best_class = if is_better { class as u32 } else { *best_class };
        }
    }
    for (cell, (number, class)) in block.zip(best.into_iter().zip(classes)) {
        if number > number_min {
            take(cell, class as usize, number);
        }
    }
}
