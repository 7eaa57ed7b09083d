//! Means of what each pixel of the tensor covers. Source rows are summed by their weights first, whole and in order, which
//! is the bulk of the work and a loop over bytes that vectorises; only the sum is then gathered along the columns.

use super::instructions::Instructions;
use super::taps::{Axis, Spans};
use crate::rows::Rows;

/// The tables, and the sum of rows, kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Area {
    columns: Spans,
    rows: Spans,
    /// Weighted sum of the columns that are read, in the source's order of bytes.
    sum: Vec<f32>,
}

impl Area {
    /// Sets the tables of columns and rows; of an axis that is not sampled by area, two taps.
    pub(super) fn aim(&mut self, [columns, rows]: [(&Axis, bool); 2]) {
        columns.0.set_spans(&mut self.columns, columns.1);
        rows.0.set_spans(&mut self.rows, rows.1);
    }

    /// Writes row `y` of the placement into planes of `line`, one for each of the source's channels.
    pub(super) fn row<R: Rows>(
        &mut self,
        rows: &mut R,
        y: usize,
        line: &mut [f32],
        instructions: Instructions,
    ) -> Result<(), R::Error> {
        let pixel_bytes = rows.order().pixel_bytes();
        let reach = self.columns.reach();
        let skipped = (reach.start - rows.first_column()) as usize * pixel_bytes;
        let length = reach.len() * pixel_bytes;
        self.sum.resize(self.sum.len().max(length), 0.0);
        let sum = &mut self.sum[..length];
        sum.fill(0.0);
        let (first, weights) = self.rows.get(y);
        for (row, weight) in (first..).zip(weights) {
            instructions.accumulate(sum, &rows.row(row)?[skipped..][..length], *weight);
        }
        let count = self.columns.len();
        for x in 0..count {
            let (first, weights) = self.columns.get(x);
            let covered = &sum[(first - reach.start) as usize * pixel_bytes..][..weights.len() * pixel_bytes];
            if pixel_bytes == 1 {
                line[x] = covered.iter().zip(weights).map(|(level, weight)| level * weight).sum();
                continue;
            }
            let mut levels = [0.0f32; 3];
            for (pixel, weight) in covered.as_chunks::<3>().0.iter().zip(weights) {
                for (level, of_pixel) in levels.iter_mut().zip(pixel) {
                    *level += of_pixel * weight;
                }
            }
            for (channel, level) in levels.into_iter().enumerate() {
                line[channel * count + x] = level;
            }
        }
        Ok(())
    }
}

/// Adds a row of bytes to a sum, by its weight.
#[inline(always)]
pub(super) fn accumulate_row(sum: &mut [f32], row: &[u8], weight: f32) {
    for (sum, level) in sum.iter_mut().zip(row) {
        *sum += f32::from(*level) * weight;
    }
}
