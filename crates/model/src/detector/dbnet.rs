//! DBNet for text (Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", 2020), as PaddleOCR exports
//! it: the graph puts out how probable it is that each pixel is in the shrunken middle of a line of text.
//!
//! Tensor: `[1, rows, columns]`, of the input's size, sigmoid done. Pixels above `threshold` that touch, by a side or a corner,
//! are a region. Its score is the mean of its pixels' probabilities; its box is the upright rectangle around it, each side moved
//! outwards by `area * unclip_ratio / perimeter` of that rectangle, which undoes the shrinking. The paper turns the
//! rectangle with the line: here a slanted line has the upright rectangle around it.

use std::sync::Mutex;

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::{Candidates, Context, Head};
use crate::ManifestError;

/// Largest `unclip_ratio`.
const UNCLIP_RATIO_MAX: f32 = 10.0;

/// `[detector.head.dbnet]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbnetSpec {
    /// Name of the probability tensor.
    pub output: String,
    /// A pixel is text when its probability is above this, 0 to 1; 0.3 in the paper.
    pub threshold: f32,
    /// How far a region's box grows; 1.5 in the paper, of the line's own rectangle.
    pub unclip_ratio: f32,
    /// A region of fewer rows or columns is none, in pixels of the tensor. It bounds how many there can be.
    pub side_min: usize,
}

#[derive(Debug)]
pub(super) struct Dbnet {
    spec: DbnetSpec,
    rows: usize,
    columns: usize,
    /// Kept from frame to frame. Nobody waits for it: a process decodes one frame after another.
    regions: Mutex<Regions>,
}

impl DbnetSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Dbnet, ManifestError> {
        let Self { threshold, unclip_ratio, side_min, .. } = self;
        let key = |name: &str| format!("detector.head.dbnet.{name}");
        let (rows, columns) = (context.plan.height() as usize, context.plan.width() as usize);
        let (check, side_max) = (context.check, rows.min(columns));
        check.require(
            context.label_count == 1,
            "detector.labels",
            context.label_count,
            "give one: text, for example",
        )?;
        check.require((0.0..=1.0).contains(threshold), key("threshold"), threshold, "give a number from 0 to 1")?;
        let advice = format_args!("give 0 to {UNCLIP_RATIO_MAX}");
        check.require((0.0..=UNCLIP_RATIO_MAX).contains(unclip_ratio), key("unclip_ratio"), unclip_ratio, advice)?;
        let advice = format_args!("give 1 to {side_max}, the input's shorter side");
        check.require((1..=side_max).contains(side_min), key("side_min"), side_min, advice)?;
        Ok(Dbnet { spec: self.clone(), rows, columns, regions: Mutex::new(Regions::of(columns)) })
    }
}

impl Head for Dbnet {
    fn outputs(&self) -> Vec<String> {
        vec![self.spec.output.clone()]
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![1, self.rows, self.columns]]
    }

    fn is_end_to_end(&self) -> bool {
        true
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        let mut regions = self.regions.lock().expect("a panic ends the process");
        let mut take = |region: &Region| self.take(region, candidates);
        regions.clear();
        for (row, numbers) in tensors[0].numbers.chunks_exact(self.columns).enumerate() {
            regions.add_row(row, numbers, self.spec.threshold, &mut take);
        }
        regions.end(&mut take);
    }
}

impl Dbnet {
    fn take(&self, region: &Region, candidates: &mut Candidates<'_>) {
        let (width, height) = (region.right - region.left, region.bottom - region.top);
        if width.min(height) < self.spec.side_min {
            return;
        }
        let (width, height) = (width as f32, height as f32);
        let distance = width * height * self.spec.unclip_ratio / (2.0 * (width + height));
        let [left, top, right, bottom] = [region.left, region.top, region.right, region.bottom].map(|edge| edge as f32);
        let edges = [left - distance, top - distance, right + distance, bottom + distance];
        candidates.push(0, (region.sum / region.pixels as f64) as f32, edges);
    }
}

/// Pixels that touch.
#[derive(Clone, Copy, Debug)]
struct Region {
    left: usize,
    top: usize,
    /// Behind the last column.
    right: usize,
    /// Behind the last row.
    bottom: usize,
    sum: f64,
    pixels: usize,
    /// The region that it belongs to; itself where it is whole.
    parent: usize,
    /// Its place among the next row's regions.
    next: Option<usize>,
}

/// Neighbouring pixels of a row, from `from` to before `end`.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: usize,
    end: usize,
    region: usize,
}

/// Labels regions row by row, and knows those alone that reach the latest row: at most half as many as there are columns,
/// and as many again while a row is added. So the work is bounded by the pixels, and the memory by the columns, whatever
/// the tensor holds.
#[derive(Debug)]
struct Regions {
    all: Vec<Region>,
    next: Vec<Region>,
    above: Vec<Run>,
    runs: Vec<Run>,
}

impl Regions {
    fn of(columns: usize) -> Self {
        let [all, next] = [Vec::with_capacity(columns + 1), Vec::with_capacity(columns + 1)];
        let [above, runs] = [Vec::with_capacity(columns.div_ceil(2)), Vec::with_capacity(columns.div_ceil(2))];
        Self { all, next, above, runs }
    }

    fn clear(&mut self) {
        self.all.clear();
        self.above.clear();
    }

    /// Adds a row, and gives what does not reach it to `take`. A number that is none (NaN) is no text.
    fn add_row(&mut self, row: usize, numbers: &[f32], threshold: f32, take: &mut impl FnMut(&Region)) {
        self.runs.clear();
        let (mut x, mut first) = (0, 0);
        while let Some(from) = numbers[x..].iter().position(|number| *number > threshold) {
            let from = x + from;
            let end = from + numbers[from..].iter().take_while(|number| **number > threshold).count();
            let region = self.join_above(&mut first, from, end);
            let one = &mut self.all[region];
            (one.left, one.right) = (one.left.min(from), one.right.max(end));
            (one.top, one.bottom) = (one.top.min(row), row + 1);
            one.sum += numbers[from..end].iter().map(|number| f64::from(*number)).sum::<f64>();
            one.pixels += end - from;
            self.runs.push(Run { from, end, region });
            x = end;
        }
        self.advance(take);
    }

    /// Gives what is left to `take`.
    fn end(&mut self, take: &mut impl FnMut(&Region)) {
        self.runs.clear();
        self.advance(take);
    }

    /// The region of what a run touches in the row above, made one, or a new one. `first` is the first run there that may touch.
    fn join_above(&mut self, first: &mut usize, from: usize, end: usize) -> usize {
        *first += self.above[*first..].iter().take_while(|run| run.end < from).count();
        let touching = self.above[*first..].iter().take_while(|run| run.from <= end).count();
        let mut joined = None;
        for index in *first..*first + touching {
            let other = self.root(self.above[index].region);
            joined = Some(joined.map_or(other, |region| self.merge(region, other)));
        }
        joined.unwrap_or_else(|| {
            let (parent, next) = (self.all.len(), None);
            let (left, top) = (usize::MAX, usize::MAX);
            self.all.push(Region { left, top, right: 0, bottom: 0, sum: 0.0, pixels: 0, parent, next });
            parent
        })
    }

    fn merge(&mut self, into: usize, from: usize) -> usize {
        if into != from {
            let Region { left, top, right, bottom, sum, pixels, .. } = self.all[from];
            self.all[from].parent = into;
            let one = &mut self.all[into];
            (one.left, one.top) = (one.left.min(left), one.top.min(top));
            (one.right, one.bottom) = (one.right.max(right), one.bottom.max(bottom));
            (one.sum, one.pixels) = (one.sum + sum, one.pixels + pixels);
        }
        into
    }

    fn root(&mut self, mut region: usize) -> usize {
        while self.all[region].parent != region {
            let above = self.all[self.all[region].parent].parent;
            self.all[region].parent = above; // halves the way for the next one
            region = above;
        }
        region
    }

    /// Makes the latest row the one above: regions that it does not touch are ended.
    fn advance(&mut self, take: &mut impl FnMut(&Region)) {
        self.next.clear();
        for index in 0..self.runs.len() {
            let root = self.root(self.runs[index].region);
            let place = *self.all[root].next.get_or_insert(self.next.len());
            if place == self.next.len() {
                self.next.push(Region { parent: place, next: None, ..self.all[root] });
            }
            self.runs[index].region = place;
        }
        let ended = self.all.iter().enumerate().filter(|(index, one)| one.parent == *index && one.next.is_none());
        ended.for_each(|(_, region)| take(region));
        std::mem::swap(&mut self.all, &mut self.next);
        std::mem::swap(&mut self.above, &mut self.runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most regions in a row there can be, again and again joined into one, and ended.
    #[test]
    fn no_tensor_takes_more_memory_than_was_taken_at_start() {
        let comb: Vec<f32> = (0..65).map(|column| [0.9, 0.1][column % 2]).collect();
        let (full, none) = (vec![0.9; 65], vec![0.0; 65]);
        let patterns: [&[&[f32]]; 4] =
            [&[&comb, &full, &none], &[&comb, &none], &[&comb], &[&comb[1..], &comb[..64], &full]];
        for pattern in patterns {
            let mut regions = Regions::of(65);
            let capacity = |regions: &Regions| {
                let Regions { all, next, above, runs } = regions;
                let mut capacities = [all.capacity(), next.capacity(), above.capacity(), runs.capacity()];
                capacities[..2].sort_unstable();
                capacities
            };
            let start = capacity(&regions);
            let mut found = 0;
            for row in 0..60 {
                regions.add_row(row, pattern[row % pattern.len()], 0.5, &mut |_| found += 1);
            }
            regions.end(&mut |_| found += 1);
            assert_eq!(capacity(&regions), start);
            assert!(found > 0);
        }
    }
}
