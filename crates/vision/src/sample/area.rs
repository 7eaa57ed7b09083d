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
    /// Sets the tables of columns, by two taps where they are not `across`, and of rows, which none are by area without.
    pub(super) fn aim(&mut self, columns: &Axis, across: bool, rows: Option<&Axis>) {
        columns.set_spans(&mut self.columns, across);
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
        self.clear(pixel_bytes);
        let (first, weights) = self.rows.get(y);
        for (row, weight) in (first..).zip(weights) {
            let row = Self::reached(&self.columns, rows.row(row)?, first_column, pixel_bytes);
            instructions.accumulate(&mut self.sum[..row.len()], row, *weight);
        }
        self.gather(pixel_bytes, line);
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
        self.clear(pixel_bytes);
        let row = Self::reached(&self.columns, row, first_column, pixel_bytes);
        instructions.accumulate(&mut self.sum[..row.len()], row, 1.0);
        self.gather(pixel_bytes, line);
    }

    /// The pixels of a row that some column reads.
    fn reached<'r>(columns: &Spans, row: &'r [u8], first_column: u32, pixel_bytes: usize) -> &'r [u8] {
        let reach = columns.reach();
        &row[(reach.start - first_column) as usize * pixel_bytes..][..reach.len() * pixel_bytes]
    }

    fn clear(&mut self, pixel_bytes: usize) {
        let length = self.columns.reach().len() * pixel_bytes;
        self.sum.resize(self.sum.len().max(length), 0.0);
        self.sum[..length].fill(0.0);
    }

    /// Writes the sum's columns into planes of `line`.
    fn gather(&self, pixel_bytes: usize, line: &mut [f32]) {
        let (sum, reach) = (&self.sum, self.columns.reach());
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
    }
}

/// Adds a row of bytes to a sum, by its weight.
#[inline(always)]
pub(super) fn accumulate_row(sum: &mut [f32], row: &[u8], weight: f32) {
    for (sum, level) in sum.iter_mut().zip(row) {
        *sum += f32::from(*level) * weight;
    }
}
