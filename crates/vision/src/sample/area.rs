//! Means of what each pixel of the tensor covers. Source rows are summed by their weights first, whole and in order, which
//! is the bulk of the work and a loop over bytes that vectorises; only the sum is then gathered along the columns.

use super::instructions::Instructions;
use super::taps::{Axis, Spans};
use crate::rows::Rows;

/// Columns that are gathered together.
pub(super) const GROUP: usize = 4;

/// The tables, and the sum of rows, kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Area {
    columns: Spans,
    groups: Groups,
    rows: Spans,
    /// Weighted sum of the columns that are read, in the source's order of bytes. Behind it are sums of former frames, of which
    /// [`Groups`] takes nothing: they are multiplied by 0, so they must be finite, as sums of bytes by weights are.
    sum: Vec<f32>,
}

impl Area {
    /// Sets the tables of columns, by two taps where they are not `across`, and of rows, which none are by area without.
    pub(super) fn aim(&mut self, columns: &Axis, across: bool, rows: Option<&Axis>) {
        columns.set_spans(&mut self.columns, across);
        self.groups.set(&self.columns);
        if let Some(rows) = rows {
            rows.set_spans(&mut self.rows, true);
        }
    }

    /// Writes row `y` of the placement into planes of `line`, one for each of the source's channels.
    pub(super) fn row<R: Rows>(
        &mut self,
        rows: &mut R,
        y: usize,
        line: &mut [f32],
        instructions: Instructions,
    ) -> Result<(), R::Error> {
        let (pixel_bytes, first_column) = (rows.order().pixel_bytes(), rows.first_column());
        self.make_room(pixel_bytes);
        let (first, weights) = self.rows.get(y);
        debug_assert!(!weights.is_empty(), "the first one begins the sum");
        for (index, weight) in weights.iter().enumerate() {
            let row = reached(&self.columns, rows.row(first + index as u32)?, first_column, pixel_bytes);
            let sum = &mut self.sum[..row.len()];
            if index == 0 {
                instructions.weigh(sum, row, *weight);
            } else {
                instructions.accumulate(sum, row, *weight);
            }
        }
        self.gather(pixel_bytes, line, instructions);
        Ok(())
    }

    /// Writes one source row, which begins at `first_column`, into planes of `line`.
    pub(super) fn line(
        &mut self,
        row: &[u8],
        first_column: u32,
        pixel_bytes: usize,
        line: &mut [f32],
        instructions: Instructions,
    ) {
        self.make_room(pixel_bytes);
        let row = reached(&self.columns, row, first_column, pixel_bytes);
        instructions.weigh(&mut self.sum[..row.len()], row, 1.0);
        self.gather(pixel_bytes, line, instructions);
    }

    fn make_room(&mut self, pixel_bytes: usize) {
        let length = if pixel_bytes == 1 { self.columns.reach().len() } else { self.groups.reads };
        self.sum.resize(self.sum.len().max(length), 0.0);
    }

    /// Writes the sum's columns into planes of `line`.
    fn gather(&self, pixel_bytes: usize, line: &mut [f32], instructions: Instructions) {
        let count = self.columns.len();
        if pixel_bytes == 1 {
            let start = self.columns.reach().start;
            for (x, to) in line[..count].iter_mut().enumerate() {
                let (first, weights) = self.columns.get(x);
                let covered = &self.sum[(first - start) as usize..];
                *to = covered.iter().zip(weights).map(|(level, weight)| level * weight).sum();
            }
            return;
        }
        let (a, rest) = line.split_at_mut(count);
        let (b, rest) = rest.split_at_mut(count);
        instructions.gather(&self.sum, &self.columns, &self.groups, [a, b, &mut rest[..count]]);
    }
}

/// The pixels that some column reads of a row that begins at `first_column`.
fn reached<'r>(columns: &Spans, row: &'r [u8], first_column: u32, pixel_bytes: usize) -> &'r [u8] {
    let reach = columns.reach();
    &row[(reach.start - first_column) as usize * pixel_bytes..][..reach.len() * pixel_bytes]
}

/// Columns by fours, for vectors of one pixel each.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    weights: Vec<[f32; GROUP]>,
    /// Numbers of the sum that are read, one behind the last pixel among them: a vector holds four.
    reads: usize,
}

/// Four columns: as many weights for each as the widest of them has, the others' last ones 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Where in the sum each column's first pixel is.
    pub(super) offsets: [u32; GROUP],
    start: u32,
    count: u32,
}

impl Groups {
    fn set(&mut self, columns: &Spans) {
        self.groups.clear();
        self.weights.clear();
        self.reads = 3 * columns.reach().len() + 1;
        for group in 0..columns.len() / GROUP {
            let spans: [_; GROUP] = std::array::from_fn(|k| columns.get(GROUP * group + k));
            let start = self.weights.len();
            let count = spans.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0);
            let weight = |index| spans.map(|(_, weights)| weights.get(index).copied().unwrap_or(0.0));
            self.weights.extend((0..count).map(weight));
            let offsets = spans.map(|(first, _)| 3 * (first - columns.reach().start));
            for offset in offsets {
                self.reads = self.reads.max(offset as usize + 3 * count + 1);
            }
            self.groups.push(Group { offsets, start: start as u32, count: count as u32 });
        }
    }

    /// The groups of a sum of so many numbers.
    ///
    /// # Panics
    /// Where one of them reads beyond it: a column's pixel with a weight, or the number behind it.
    pub(super) fn of(&self, numbers: usize) -> &[Group] {
        assert!(self.reads <= numbers, "what is read lies in the sum");
        &self.groups
    }

    /// The weights of a group's columns, pixel by pixel.
    #[inline(always)]
    pub(super) fn weights(&self, group: &Group) -> &[[f32; GROUP]] {
        &self.weights[group.start as usize..][..group.count as usize]
    }
}

/// Writes the sums of columns from `x` on, weighted, into three planes.
#[inline(always)]
pub(super) fn gather_pixels(sum: &[f32], columns: &Spans, x: usize, [a, b, c]: [&mut [f32]; 3]) {
    let start = columns.reach().start;
    for (x, ((a, b), c)) in (x..).zip(a.iter_mut().zip(b).zip(c)) {
        let (first, weights) = columns.get(x);
        let covered = &sum[(first - start) as usize * 3..][..weights.len() * 3];
        let mut levels = [0.0f32; 3];
        for (pixel, weight) in covered.as_chunks::<3>().0.iter().zip(weights) {
            for (level, of_pixel) in levels.iter_mut().zip(pixel) {
                *level += of_pixel * weight;
            }
        }
        [*a, *b, *c] = levels;
    }
}

/// Makes a sum of a row of bytes, by its weight.
#[inline(always)]
pub(super) fn weigh_row(sum: &mut [f32], row: &[u8], weight: f32) {
    for (sum, level) in sum.iter_mut().zip(row) {
        *sum = f32::from(*level) * weight;
    }
}

/// Adds a row of bytes to a sum, by its weight.
#[inline(always)]
pub(super) fn accumulate_row(sum: &mut [f32], row: &[u8], weight: f32) {
    for (sum, level) in sum.iter_mut().zip(row) {
        *sum += f32::from(*level) * weight;
    }
}
