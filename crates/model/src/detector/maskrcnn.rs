//! Mask R-CNN (He et al., 2017) as torchvision and detectron2 export it, with RPN, RoiAlign and NMS inside the graph: as many
//! rows as it finds objects, up to `count_max`, from one frame at a time.
//!
//! Tensors: boxes `[count, 4]`, left, top, right and bottom in pixels of the tensor; classes `[count]`; scores `[count]`; masks
//! `[count, 1, mask_side, mask_side]`, sigmoid done, each drawn for its box, of the box's class.

use framepipe_frame::raw::Output;
use serde::Deserialize;

use super::{CANDIDATE_COUNT_MAX, Candidates, Context, DrawnMask, Head};
use crate::ManifestError;

/// Most rows and columns of a mask.
const MASK_SIDE_MAX: usize = 256;
/// Most bytes of a frame's masks.
const MASK_BYTES_MAX: usize = 16 << 20;

/// `[detector.head.maskrcnn]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskrcnnSpec {
    /// Name of the box tensor.
    pub boxes: String,
    /// Name of the class tensor.
    pub classes: String,
    /// Name of the score tensor.
    pub scores: String,
    /// Name of the mask tensor.
    pub masks: String,
    /// Most objects that the graph puts out; a frame with more fails.
    pub count_max: usize,
    /// Rows and columns of a mask.
    pub mask_side: usize,
    /// Bytes of a frame's masks (`frame/masks.rs`). One for which there is no room is left out, its box is not: those of the
    /// highest scores come first. The runs of a plain shape take 2 to 4 bytes for each column of its box.
    pub mask_bytes_max: usize,
    /// The class number of the first label; 1 where 0 is the background. A class that has no label is no detection.
    pub first_class: u32,
}

#[derive(Debug)]
pub(super) struct Maskrcnn {
    spec: MaskrcnnSpec,
    label_count: usize,
}

impl MaskrcnnSpec {
    pub(super) fn build(&self, context: &Context<'_>) -> Result<Maskrcnn, ManifestError> {
        for (key, value, max) in [
            ("count_max", self.count_max, CANDIDATE_COUNT_MAX),
            ("mask_side", self.mask_side, MASK_SIDE_MAX),
            ("mask_bytes_max", self.mask_bytes_max, MASK_BYTES_MAX),
        ] {
            let advice = format_args!("give 1 to {max}");
            context.check.require(
                (1..=max).contains(&value),
                format_args!("detector.head.maskrcnn.{key}"),
                value,
                advice,
            )?;
        }
        Ok(Maskrcnn { spec: self.clone(), label_count: context.label_count })
    }
}

impl Maskrcnn {
    fn edges(tensors: &[Output<'_>], row: usize) -> [f32; 4] {
        [0, 1, 2, 3].map(|edge| tensors[0].numbers[row * 4 + edge])
    }
}

impl Head for Maskrcnn {
    fn outputs(&self) -> Vec<String> {
        let MaskrcnnSpec { boxes, classes, scores, masks, .. } = &self.spec;
        [boxes, classes, scores, masks].map(String::clone).to_vec()
    }

    fn raw_shapes(&self) -> Vec<Vec<usize>> {
        let MaskrcnnSpec { count_max: count, mask_side: side, .. } = self.spec;
        vec![vec![count, 4], vec![count], vec![count], vec![count, 1, side, side]]
    }

    fn rows_vary(&self) -> bool {
        true
    }

    fn is_end_to_end(&self) -> bool {
        true
    }

    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>) {
        let (classes, scores) = (tensors[1].numbers, tensors[2].numbers);
        for (row, (class, score)) in classes.iter().zip(scores).enumerate() {
            let class = class.round() - self.spec.first_class as f32;
            if (0.0..self.label_count as f32).contains(&class) {
                candidates.push_row(row, class as usize, *score, Self::edges(tensors, row));
            }
        }
    }

    fn mask_bytes_max(&self) -> usize {
        self.spec.mask_bytes_max
    }

    fn mask<'t>(&self, tensors: &[Output<'t>], row: usize) -> Option<DrawnMask<'t>> {
        let side = self.spec.mask_side;
        let numbers = &tensors[3].numbers[row * side * side..][..side * side];
        Some(DrawnMask { numbers, side, edges: Self::edges(tensors, row) })
    }
}
