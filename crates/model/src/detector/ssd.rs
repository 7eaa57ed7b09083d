//! SSD (Liu et al., 2016): each box is an offset from one of many priors, which the manifest describes as Caffe's PriorBox
//! layers do; or a graph that has done everything, NMS included.
//!
//! | form | tensors |
//! |---|---|
//! | `priors` | offsets `[priors, 4]` (centre x, centre y, width, height) and scores `[priors, 1 + classes]`, the first being the background |
//! | `exported` | boxes `[count, 4]`, classes `[count]`, scores `[count]`, and how many of them count, a number (with the batch `[batch]`, not `[batch, 1]`) |
//!
//! ```text
//! x = prior_x + offset_x * variance[0] * prior_width        width = prior_width * exp(offset_width * variance[2])
//! y = prior_y + offset_y * variance[1] * prior_height       height likewise with variance[3]
//! ```
//!
//! The priors of a cell, whose centre is `((column + 0.5) * step, (row + 0.5) * step)`: for each smallest size s a square
//! of it, with a largest size l a square of sqrt(s * l), and for each aspect ratio a one of (s * sqrt(a), s / sqrt(a)) and
//! one of (s / sqrt(a), s * sqrt(a)).

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::rows::Rows;
use super::{CANDIDATE_COUNT_MAX, Candidates, Context, Head, edges};
use crate::{Activation, ManifestError};

/// Most priors of a model.
const PRIOR_COUNT_MAX: usize = 1_000_000;
const KEY: &str = "detector.head.ssd";

/// `[detector.head.ssd.priors]` or `[detector.head.ssd.exported]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SsdSpec {
    /// Offsets from priors.
    Priors {
        /// Name of the offset tensor.
        boxes: String,
        /// Name of the score tensor.
        scores: String,
        /// What makes scores of the score tensor's numbers.
        activation: Activation,
        /// Factors of x, y, width and height.
        variances: [f32; 4],
        /// True: priors are cut at the tensor's edges.
        clip: bool,
        /// The grids of cells, in the model's order.
        levels: Vec<SsdLevel>,
    },
    /// The boxes of a graph with NMS inside.
    Exported {
        /// Name of the box tensor.
        boxes: String,
        /// Name of the class tensor.
        classes: String,
        /// Name of the score tensor.
        scores: String,
        /// Name of the tensor that says how many boxes count; without it, all do.
        count: Option<String>,
        /// Boxes that there is room for.
        count_max: usize,
        /// True: the graph puts out as many boxes as it finds, with no batch or a batch of 1. It is run on one frame at a
        /// time; a frame with more than `count_max` fails.
        #[serde(default)]
        rows_vary: bool,
        /// The order of a box's edges.
        order: EdgeOrder,
        /// True: edges are shares of the tensor's sides; false: pixels of it.
        normalized: bool,
        /// The class number of the first label. A class that has no label is no detection.
        first_class: u32,
    },
}

/// One `[[detector.head.ssd.priors.levels]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsdLevel {
    /// Rows and columns of cells.
    pub grid: [usize; 2],
    /// Pixels of the tensor from one cell to the next.
    pub step: f32,
    /// Smallest sizes in pixels of the tensor.
    pub min_sizes: Vec<f32>,
    /// Largest sizes, one for each smallest, or none.
    #[serde(default)]
    pub max_sizes: Vec<f32>,
    /// Aspect ratios beside 1; each stands for its inverse too.
    #[serde(default)]
    pub aspect_ratios: Vec<f32>,
}

/// The order of a box's edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeOrder {
    /// Left, top, right, bottom.
    Xyxy,
    /// Top, left, bottom, right.
    Yxyx,
}

#[derive(Debug)]
pub(super) enum Ssd {
    Priors(Priors),
    Exported(Exported),
}

#[derive(Debug)]
pub(super) struct Priors {
    names: [String; 2],
    rows: Rows,
    variances: [f32; 4],
    /// Centre x, centre y, width, height.
    priors: Vec<[f32; 4]>,
}

#[derive(Debug)]
pub(super) struct Exported {
    names: Vec<String>,
    count_max: usize,
    rows_vary: bool,
    order: EdgeOrder,
    /// What an edge of each direction is multiplied with: left, top, right, bottom.
    sides: [f32; 4],
    first_class: u32,
    label_count: usize,
}

impl SsdSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Ssd, ManifestError> {
        let check = context.check;
        match self {
            Self::Priors { boxes, scores, activation, variances, clip, levels } => {
                let are_factors = variances.iter().all(|factor| factor.is_finite() && *factor > 0.0);
                let advice = "give four finite numbers above 0";
                check.require(are_factors, format_args!("{KEY}.priors.variances"), variances, advice)?;
                let clip = clip.then(|| context.sides());
                let classes = context.label_count;
                Ok(Ssd::Priors(Priors {
                    names: [boxes.clone(), scores.clone()],
                    rows: Rows {
                        activation: *activation,
                        width: 1 + classes,
                        classes: 1..1 + classes,
                        background: Some(0),
                    },
                    variances: *variances,
                    priors: priors(context, levels, clip)?,
                }))
            }
            Self::Exported { boxes, classes, scores, count, count_max, rows_vary, order, normalized, first_class } => {
                let advice = format_args!("give 1 to {CANDIDATE_COUNT_MAX}");
                let is_count = (1..=CANDIDATE_COUNT_MAX).contains(count_max);
                check.require(is_count, format_args!("{KEY}.exported.count_max"), count_max, advice)?;
                Ok(Ssd::Exported(Exported {
                    names: [boxes, classes, scores].into_iter().chain(count).cloned().collect(),
                    count_max: *count_max,
                    rows_vary: *rows_vary,
                    order: *order,
                    sides: if *normalized { context.sides() } else { [1.0; 4] },
                    first_class: *first_class,
                    label_count: context.label_count,
                }))
            }
        }
    }
}

/// The priors of all levels; `clip` has the sides at which they are cut.
fn priors(context: &Context<'_>, levels: &[SsdLevel], clip: Option<[f32; 4]>) -> Result<Vec<[f32; 4]>, ManifestError> {
    let check = context.check;
    check.require(!levels.is_empty(), format_args!("{KEY}.priors.levels"), levels, "give one at least")?;
    let mut priors = Vec::new();
    for (index, level) in levels.iter().enumerate() {
        let key = format!("{KEY}.priors.levels[{index}]");
        let sizes = level.sizes(context, &key)?;
        let [rows, columns] = level.grid;
        let count = rows.checked_mul(columns).and_then(|cells| cells.checked_mul(sizes.len()));
        let fits = count.is_some_and(|count| (1..=PRIOR_COUNT_MAX - priors.len()).contains(&count));
        let advice = format_args!("give rows and columns, so that there are 1 to {PRIOR_COUNT_MAX} priors in all");
        check.require(fits, format_args!("{key}.grid"), level.grid, advice)?;
        for cell in 0..rows * columns {
            let x = ((cell % columns) as f32 + 0.5) * level.step;
            let y = ((cell / columns) as f32 + 0.5) * level.step;
            priors.extend(sizes.iter().map(|[width, height]| cut([x, y, *width, *height], clip)));
        }
    }
    Ok(priors)
}

/// The part of a prior within the tensor's `sides`.
fn cut(prior: [f32; 4], sides: Option<[f32; 4]>) -> [f32; 4] {
    let Some(sides) = sides else { return prior };
    let edges = edges(prior);
    let [left, top, right, bottom] = [0, 1, 2, 3].map(|index| edges[index].clamp(0.0, sides[index]));
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

impl SsdLevel {
    /// Widths and heights of a cell's priors, in order.
    fn sizes(&self, context: &Context<'_>, key: &str) -> Result<Vec<[f32; 2]>, ManifestError> {
        let check = context.check;
        let positive = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite() && *number > 0.0);
        check.require(positive(&[self.step]), format_args!("{key}.step"), self.step, "give pixels, above 0")?;
        for (name, numbers, count_min) in [
            ("min_sizes", &self.min_sizes, 1),
            ("max_sizes", &self.max_sizes, 0),
            ("aspect_ratios", &self.aspect_ratios, 0),
        ] {
            let fits = positive(numbers) && (count_min..=16).contains(&numbers.len());
            let advice = format_args!("give {count_min} to 16 finite numbers above 0");
            check.require(fits, format_args!("{key}.{name}"), numbers, advice)?;
        }
        let is_each = self.max_sizes.is_empty() || self.max_sizes.len() == self.min_sizes.len();
        let advice = format_args!("give none, or one for each of the {} min_sizes", self.min_sizes.len());
        check.require(is_each, format_args!("{key}.max_sizes"), &self.max_sizes, advice)?;
        let mut sizes = Vec::new();
        for (index, min) in self.min_sizes.iter().enumerate() {
            sizes.push([*min; 2]);
            sizes.extend(self.max_sizes.get(index).map(|max| [(min * max).sqrt(); 2]));
            for ratio in self.aspect_ratios.iter().map(|ratio| ratio.sqrt()) {
                sizes.extend([[min * ratio, min / ratio], [min / ratio, min * ratio]]);
            }
        }
        Ok(sizes)
    }
}

impl Head for Ssd {
    fn outputs(&self) -> Vec<String> {
        match self {
            Self::Priors(priors) => priors.names.to_vec(),
            Self::Exported(exported) => exported.names.clone(),
        }
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Priors(Priors { priors, rows, .. }) => vec![vec![priors.len(), 4], vec![priors.len(), rows.width]],
            Self::Exported(Exported { names, count_max, .. }) => {
                let shapes = [vec![*count_max, 4], vec![*count_max], vec![*count_max], vec![]];
                shapes.into_iter().take(names.len()).collect()
            }
        }
    }

    fn rows_vary(&self) -> bool {
        matches!(self, Self::Exported(Exported { rows_vary: true, .. }))
    }

    fn is_end_to_end(&self) -> bool {
        matches!(self, Self::Exported(_))
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        match self {
            Self::Priors(priors) => priors.decode(tensors[0].numbers, tensors[1].numbers, candidates),
            Self::Exported(exported) => exported.decode(tensors, candidates),
        }
    }
}

impl Priors {
    fn decode(&self, offsets: &[f32], scores: &[f32], candidates: &mut Candidates<'_>) {
        self.rows.best_above(scores, candidates.score_threshold, |index, class, score| {
            let [x, y, width, height] = self.priors[index];
            let [to_x, to_y, log_width, log_height] =
                [0, 1, 2, 3].map(|number| offsets[index * 4 + number] * self.variances[number]);
            let place = [x + to_x * width, y + to_y * height, width * log_width.exp(), height * log_height.exp()];
            candidates.push(class, score, edges(place));
        });
    }
}

impl Exported {
    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        let (boxes, classes, scores) = (tensors[0].numbers, tensors[1].numbers, tensors[2].numbers);
        // A number that is none counts nothing: `as` makes 0 of it.
        let count = tensors.get(3).map_or(self.count_max, |count| count.numbers[0].round() as usize);
        for (index, score) in scores.iter().enumerate().take(count) {
            let class = classes[index].round() - self.first_class as f32;
            if (0.0..self.label_count as f32).contains(&class) {
                candidates.push(class as usize, *score, self.place(&boxes[index * 4..][..4]));
            }
        }
    }

    /// Left, top, right and bottom in pixels of the tensor.
    fn place(&self, numbers: &[f32]) -> [f32; 4] {
        let order = match self.order {
            EdgeOrder::Xyxy => [0, 1, 2, 3],
            EdgeOrder::Yxyx => [1, 0, 3, 2],
        };
        [0, 1, 2, 3].map(|edge| numbers[order[edge]] * self.sides[edge])
    }
}
