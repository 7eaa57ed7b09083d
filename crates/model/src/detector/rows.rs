//! Class scores that lie in rows, one a box: `[boxes, classes]`, a background among them or not.

use std::ops::Range;

use super::highest;
use crate::Activation;

/// What a row's numbers mean.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) activation: Activation,
    /// Numbers of a row.
    pub(super) width: usize,
    /// Those that are classes.
    pub(super) classes: Range<usize>,
    /// The one that says that there is nothing.
    pub(super) background: Option<usize>,
}

impl Rows {
    /// Gives the box, the class and the score of each row whose best class may be above `threshold`. NaN is never the
    /// best, and makes a softmax's score NaN.
    pub(super) fn best_above(&self, numbers: &[f32], threshold: f32, mut take: impl FnMut(usize, usize, f32)) {
        let number_min = self.activation.number_min(threshold);
        for (row, numbers) in numbers.chunks_exact(self.width).enumerate() {
            let (class, best) = highest(numbers[self.classes.clone()].iter().copied());
            // A softmax's score is at most the sigmoid of what its number has more than another.
            let lead = match (self.activation, self.background) {
                (Activation::Softmax, Some(background)) => best - numbers[background],
                _ => best,
            };
            if lead > number_min {
                take(row, class, self.activation.score(best, numbers));
            }
        }
    }
}
