//! A mask that a network draws for an object's box, at one small size for all boxes, becomes pixels of the source.
//!
//! As detectron2's `paste_masks_in_image` does: the pixel of column x lies in column u of the mask,
//!
//! ```text
//! u = (x + 0.5 - x0) / (x1 - x0) * side - 0.5        v likewise of its row
//! ```
//!
//! and has a value interpolated between the four numbers around (u, v), which are 0 outside the mask. It is the object's where
//! that is 0.5 at least.
//!
//! Down a column the value goes straight from one row of the mask to the next, so that its runs of pixels are found without
//! looking at each: the time is that of the width times the mask's side, nearly however high the box.

use framepipe_frame::detections::Detection;

/// From here on a pixel is the object's.
const VALUE_MIN: f64 = 0.5;

/// Whole pixels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Window {
    /// The pixels that a box touches, which lies in its image and has an area.
    pub fn of(detection: &Detection) -> Self {
        let (x, y) = (detection.x0.floor() as u32, detection.y0.floor() as u32);
        Self { x, y, width: detection.x1.ceil() as u32 - x, height: detection.y1.ceil() as u32 - y }
    }
}

/// Where a pixel lies between two rows (or columns) of the mask: `index` and the next, the first being the zeroes before it.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    share: f64,
}

impl Place {
    fn of(pixel: u32, start: f64, end: f64, side: usize) -> Self {
        let place = (f64::from(pixel) + 0.5 - start) / (end - start) * side as f64 + 0.5;
        let place = place.clamp(0.0, (side + 1) as f64);
        let index = (place as usize).min(side);
        Self { index, share: place - index as f64 }
    }

    fn between(self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.share
    }
}

/// Replaces `runs` by the run lengths of the pixels of `window`, column by column, beginning with those that are not the
/// object's: `mask` has `side` x `side` numbers, for the box (x0, y0, x1, y1).
pub fn paste(mask: &[f32], side: usize, [x0, y0, x1, y1]: [f64; 4], window: &Window, runs: &mut Vec<u32>) {
    runs.clear();
    let rows: Vec<Place> = (window.y..window.y + window.height).map(|y| Place::of(y, y0, y1, side)).collect();
    let bands: Vec<&[Place]> = rows.chunk_by(|a, b| a.index == b.index).collect();
    let at = |row: usize, column: usize| {
        let is_inside = (1..=side).contains(&row) && (1..=side).contains(&column);
        if is_inside { f64::from(mask[(row - 1) * side + column - 1]) } else { 0.0 }
    };
    let mut column = vec![0.0; side + 2];
    let (mut is_object, mut length) = (false, 0);
    let mut extend = |value: bool, pixels: usize| {
        if pixels > 0 && value != is_object {
            runs.push(std::mem::take(&mut length));
            is_object = value;
        }
        length += pixels as u32;
    };
    for x in window.x..window.x + window.width {
        let place = Place::of(x, x0, x1, side);
        for (row, value) in column.iter_mut().enumerate() {
            *value = place.between(at(row, place.index), at(row, place.index + 1));
        }
        for rows in &bands {
            let (above, below) = (column[rows[0].index], column[rows[0].index + 1]);
            let is_object = |row: &Place| row.between(above, below) >= VALUE_MIN;
            let (first, last) = (is_object(&rows[0]), is_object(&rows[rows.len() - 1]));
            let change = if first == last { rows.len() } else { rows.partition_point(|row| is_object(row) == first) };
            extend(first, change);
            extend(!first, rows.len() - change);
        }
    }
    runs.push(length);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Each pixel by itself, column by column.
    fn twin(mask: &[f32], side: usize, [x0, y0, x1, y1]: [f64; 4], window: &Window) -> Vec<bool> {
        let at = |row: i64, column: i64| {
            let is_inside = (0..side as i64).contains(&row) && (0..side as i64).contains(&column);
            if is_inside { f64::from(mask[row as usize * side + column as usize]) } else { 0.0 }
        };
        let value = |x: u32, y: u32| {
            let u = (f64::from(x) + 0.5 - x0) / (x1 - x0) * side as f64 - 0.5;
            let v = (f64::from(y) + 0.5 - y0) / (y1 - y0) * side as f64 - 0.5;
            let (left, top) = (u.floor(), v.floor());
            let across = |row: i64| at(row, left as i64) * (1.0 - (u - left)) + at(row, left as i64 + 1) * (u - left);
            across(top as i64) * (1.0 - (v - top)) + across(top as i64 + 1) * (v - top)
        };
        let columns = window.x..window.x + window.width;
        columns
            .flat_map(|x| (window.y..window.y + window.height).map(move |y| (x, y)))
            .map(|(x, y)| value(x, y) >= 0.5)
            .collect()
    }

    fn pixels(runs: &[u32]) -> Vec<bool> {
        let runs = runs.iter().enumerate();
        runs.flat_map(|(index, run)| std::iter::repeat_n(index % 2 == 1, *run as usize)).collect()
    }

    #[test]
    fn a_full_mask_fills_its_box_but_for_the_pixels_that_it_only_touches() {
        let detection = Detection { class: 0, score: 1.0, x0: 2.0, y0: 3.0, x1: 6.0, y1: 5.25, row: 0 };
        let window = Window::of(&detection);
        assert_eq!(window, Window { x: 2, y: 3, width: 4, height: 3 });
        let mut runs = vec![9];
        // The last row's pixels have their centres at 5.5, 0.25 beyond the box.
        paste(&[1.0; 4], 2, [2.0, 3.0, 6.0, 5.25], &window, &mut runs);
        assert_eq!(runs, [0, 2, 1, 2, 1, 2, 1, 2, 1]);
        paste(&[f32::NAN; 4], 2, [2.0, 3.0, 6.0, 5.25], &window, &mut runs);
        assert_eq!(runs, [12]);
    }

    proptest! {
        #[test]
        fn runs_are_those_of_each_pixel_by_itself(
            side in 1usize..6,
            numbers in vec(0f32..1.0, 36),
            (x0, y0, width, height) in (-20f64..20.0, -20f64..20.0, 0.5f64..60.0, 0.5f64..60.0),
            (x, y, columns, rows) in (0u32..9, 0u32..9, 1u32..40, 1u32..40),
        ) {
            let window = Window { x, y, width: columns, height: rows };
            let corners = [x0, y0, x0 + width, y0 + height];
            let mut runs = Vec::new();
            paste(&numbers, side, corners, &window, &mut runs);
            prop_assert!(runs[1..].iter().all(|run| *run > 0), "{:?}", runs);
            prop_assert_eq!(pixels(&runs), twin(&numbers, side, corners, &window));
        }
    }
}
