//! Which source pixels each pixel of the tensor is made of, along one axis, and how much of each.

use std::ops::Range;

/// The first of two neighbouring source pixels, and the second one's weight.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    pub(super) first: u32,
    pub(super) weight: f32,
}

/// One axis of what is sampled: `count` pixels that span `extent` source pixels from `origin` on, of `source` there are.
/// Beyond `bounds` the nearest pixel inside is repeated.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) origin: f64,
    pub(super) extent: f64,
    pub(super) count: usize,
    pub(super) bounds: Range<u32>,
    pub(super) source: u32,
}

impl Axis {
    /// Source pixels that come to one.
    pub(super) fn ratio(&self) -> f64 {
        self.extent / self.count as f64
    }

    /// Fills `taps` as OpenCV's INTER_LINEAR: half-pixel centres, two pixels. `first + 1` is a source pixel too, unless there
    /// is only one; `first` is counted from `first_column`.
    pub(super) fn set_linear(&self, taps: &mut Vec<Tap>, first_column: u32) {
        taps.clear();
        taps.extend((0..self.count).map(|index| {
            let at = self.center(index);
            let first = (at as u32).min(self.source.saturating_sub(2));
            Tap { first: first - first_column, weight: (at - f64::from(first)) as f32 }
        }));
    }

    fn center(&self, index: usize) -> f64 {
        let at = self.origin + (index as f64 + 0.5) * self.ratio() - 0.5;
        at.clamp(f64::from(self.bounds.start), f64::from(self.bounds.end - 1))
    }

    /// Fills `spans` with the source pixels that each pixel covers, weighted by how much of them (`area`), or with the two
    /// of [`Self::set_linear`].
    pub(super) fn set_spans(&self, spans: &mut Spans, area: bool) {
        spans.spans.clear();
        spans.weights.clear();
        spans.weights.reserve(Spans::weights_max(self.bounds.len(), self.count));
        for index in 0..self.count {
            let start = spans.weights.len();
            let first = if area { self.cover(index, spans) } else { self.straddle(index, spans) };
            spans.spans.push(Span { first, start: start as u32, count: (spans.weights.len() - start) as u32 });
        }
        let end = |span: &Span| span.first + span.count;
        let start = spans.spans.first().map_or(0, |span| span.first);
        spans.reach = start..spans.spans.iter().map(end).max().unwrap_or(0);
    }

    fn straddle(&self, index: usize, spans: &mut Spans) -> u32 {
        let at = self.center(index);
        let first = at as u32;
        let weight = (at - f64::from(first)) as f32;
        spans.weights.push(1.0 - weight);
        if weight > 0.0 {
            spans.weights.push(weight);
        }
        first
    }

    fn cover(&self, index: usize, spans: &mut Spans) -> u32 {
        let from = self.origin + index as f64 * self.ratio();
        let to = self.origin + (index + 1) as f64 * self.ratio();
        let (low, high) = (f64::from(self.bounds.start), f64::from(self.bounds.end));
        // What lies beyond an edge is the edge's pixel.
        let first = from.clamp(low, high - 1.0).floor();
        let end = to.clamp(first + 1.0, high).ceil();
        for pixel in first as u32..end as u32 {
            let left = if f64::from(pixel) == low { from } else { from.max(f64::from(pixel)) };
            let right = if f64::from(pixel) + 1.0 == high { to } else { to.min(f64::from(pixel) + 1.0) };
            spans.weights.push(((right - left) / (to - from)).clamp(0.0, 1.0) as f32);
        }
        first as u32
    }
}

/// Weighted runs of source pixels, one for each pixel of the tensor.
#[derive(Debug, Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    weights: Vec<f32>,
    reach: Range<u32>,
}

/// Source pixels that one of the tensor's is made of, along one axis: `count` from `first` on, by the weights from `start` on. There
/// is at least one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Span {
    /// The first source pixel.
    pub first: u32,
    /// Where its weight is.
    pub start: u32,
    /// How many pixels, and weights.
    pub count: u32,
}

impl Spans {
    /// Most weights of `count` pixels of a source of `source`: neighbours share a pixel at most, and each repeats at most one edge.
    pub(super) fn weights_max(source: usize, count: usize) -> usize {
        source + 3 * count
    }

    /// The first source pixel of the tensor's pixel `index`, and the weights of it and those behind it.
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> (u32, &[f32]) {
        let Span { first, start, count } = self.spans[index];
        (first, &self.weights[start as usize..][..count as usize])
    }

    /// By pixel of the tensor, and the weights of all.
    pub(super) fn parts(&self) -> (&[Span], &[f32]) {
        (&self.spans, &self.weights)
    }

    /// How many pixels of the tensor.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// All source pixels that are read.
    pub(super) fn reach(&self) -> Range<u32> {
        self.reach.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(axis: &Axis, area: bool) -> Vec<(u32, Vec<f32>)> {
        let mut spans = Spans::default();
        axis.set_spans(&mut spans, area);
        (0..axis.count).map(|index| (spans.get(index).0, spans.get(index).1.to_vec())).collect()
    }

    #[test]
    fn taps_lie_at_pixel_centres_and_stop_at_the_bounds() {
        let taps = |origin, extent, count, bounds, source| {
            let mut taps = Vec::new();
            Axis { origin, extent, count, bounds, source }.set_linear(&mut taps, 0);
            taps.iter().map(|tap| (tap.first, tap.weight)).collect::<Vec<_>>()
        };
        assert_eq!(taps(0.0, 4.0, 4, 0..4, 4), [(0, 0.0), (1, 0.0), (2, 0.0), (2, 1.0)]);
        assert_eq!(taps(0.0, 4.0, 2, 0..4, 4), [(0, 0.5), (2, 0.5)]);
        assert_eq!(taps(0.0, 2.0, 4, 0..2, 2), [(0, 0.0), (0, 0.25), (0, 0.75), (0, 1.0)]);
        assert_eq!(taps(-5.0, 2.0, 1, 0..9, 9), [(0, 0.0)]);
        assert_eq!(taps(8.5, 5.0, 1, 0..9, 9), [(7, 1.0)]);
        assert_eq!(taps(0.0, 1.0, 2, 0..1, 1), [(0, 0.0), (0, 0.0)]);
        assert_eq!(taps(2.0, 1.0, 2, 2..3, 9), [(2, 0.0), (2, 0.0)], "bounds of one pixel");
    }

    #[test]
    fn an_area_is_weighted_by_what_it_covers_and_repeats_the_edges() {
        let axis = |origin, extent, count| Axis { origin, extent, count, bounds: 0..6, source: 6 };
        assert_eq!(spans(&axis(0.0, 6.0, 2), true), [(0, vec![1.0 / 3.0; 3]), (3, vec![1.0 / 3.0; 3])]);
        let halves = spans(&axis(0.0, 5.0, 2), true);
        assert_eq!(halves, [(0, vec![0.4, 0.4, 0.2]), (2, vec![0.2, 0.4, 0.4])]);
        assert_eq!(spans(&axis(-4.0, 8.0, 2), true), [(0, vec![1.0]), (0, vec![0.25; 4])]);
        assert_eq!(spans(&axis(4.0, 4.0, 1), true), [(4, vec![0.25, 0.75])]);
        assert_eq!(spans(&axis(100.0, 4.0, 1), true), [(5, vec![1.0])], "all of it beyond the edge");
        assert_eq!(spans(&axis(-1e30, 2e30, 1), true)[0].1.len(), 6, "no more than there are");
        assert_eq!(spans(&axis(0.0, 6.0, 4), false)[1], (1, vec![0.25, 0.75]));
    }
}
