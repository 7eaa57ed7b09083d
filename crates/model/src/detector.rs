//! From a detector's raw outputs to candidate boxes in source pixels. [`HeadSpec`] is the table of families: a row
//! there and a file here is a new one. NMS comes after, and knows no family.

mod anchor_grid;
mod dbnet;
mod distance;
mod maskrcnn;
mod nanodet;
mod planes;
mod resnet_anchor;
mod rows;
mod rtdetr;
mod ssd;
#[cfg(test)]
mod tests;
mod yolov2;
mod yolov3;
mod yolov8;

use std::fmt::Debug;

use framepipe_frame::detections::Detection;
use framepipe_frame::masks::{Mask, Masks};
use framepipe_frame::raw::{OUTPUT_COUNT_MAX, Output};
use framepipe_frame::{ErrorCode, FrameError, TensorMap};
use framepipe_vision::{Plan, Window, clamp_to, nms, paste_mask};
use serde::Deserialize;

pub use dbnet::DbnetSpec;
pub use maskrcnn::MaskrcnnSpec;
pub use nanodet::NanodetSpec;
pub use resnet_anchor::ResnetAnchorSpec;
pub use rtdetr::RtdetrSpec;
pub use ssd::{EdgeOrder, SsdLevel, SsdSpec};
pub use yolov2::Yolov2Spec;
pub use yolov3::Yolov3Spec;
pub use yolov8::Yolov8Spec;

use crate::manifest::Checker;
use crate::{Manifest, ManifestError};

/// Most labels of one model.
pub(crate) const LABEL_COUNT_MAX: usize = 10_000;
/// Most candidates that go into NMS: its cost grows with their square.
const CANDIDATE_COUNT_MAX: usize = 10_000;

/// The `[detector]` section of a manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// Names of the classes, in the model's order.
    pub labels: Vec<String>,
    /// A candidate's score is above this, 0 to 1.
    pub score_threshold: f32,
    /// NMS drops a box that overlaps a better one by more than this, 0 to 1.
    pub iou_threshold: f32,
    /// So many candidates, the highest scores, go into NMS.
    pub candidates_max: usize,
    /// So many detections, the highest scores, come out.
    pub detections_max: usize,
    /// The family and its numbers.
    pub head: HeadSpec,
}

/// The table of detector families.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadSpec {
    /// NanoDet: class scores, and distances to the four sides as distributions over bins.
    Nanodet(NanodetSpec),
    /// YOLOv2: anchors in cells, objectness, classes by softmax.
    Yolov2(Yolov2Spec),
    /// YOLOv3: anchors in pixels at several strides, objectness, classes by sigmoid; or decoded by the graph.
    Yolov3(Yolov3Spec),
    /// YOLOv8: no anchors; distances as distributions over bins, or decoded by the graph.
    Yolov8(Yolov8Spec),
    /// SSD: offsets from priors, or the boxes of a graph with NMS inside.
    Ssd(SsdSpec),
    /// RT-DETR: one box a query, no NMS.
    Rtdetr(RtdetrSpec),
    /// Mask R-CNN: boxes, classes, scores and masks of a graph with NMS inside.
    Maskrcnn(MaskrcnnSpec),
    /// A ResNet with anchors at several strides, objectness, classes by sigmoid.
    ResnetAnchor(ResnetAnchorSpec),
    /// DBNet: regions of text in a probability map.
    Dbnet(DbnetSpec),
}

impl HeadSpec {
    fn build(&self, context: &Context<'_>) -> Result<Box<dyn Head>, ManifestError> {
        Ok(match self {
            Self::Nanodet(spec) => Box::new(spec.build(context)?),
            Self::Yolov2(spec) => Box::new(spec.build(context)?),
            Self::Yolov3(spec) => Box::new(spec.build(context)?),
            Self::Yolov8(spec) => Box::new(spec.build(context)?),
            Self::Ssd(spec) => Box::new(spec.build(context)?),
            Self::Rtdetr(spec) => Box::new(spec.build(context)?),
            Self::Maskrcnn(spec) => Box::new(spec.build(context)?),
            Self::ResnetAnchor(spec) => Box::new(spec.build(context)?),
            Self::Dbnet(spec) => Box::new(spec.build(context)?),
        })
    }
}

/// A family, ready to decode.
trait Head: Debug + Send + Sync {
    /// Tensor names, in the order in which `decode` wants them.
    fn outputs(&self) -> Vec<String>;
    /// Their shapes, the batch dimension left out.
    fn raw_shapes(&self) -> Vec<Vec<usize>>;
    /// True where the graph puts out as many rows as it finds objects: `raw_shapes` has their most.
    fn rows_vary(&self) -> bool {
        false
    }
    /// True where the graph puts out each object once: NMS has nothing to do.
    fn is_end_to_end(&self) -> bool {
        false
    }
    /// Gives every candidate box to `candidates`. The tensors have the shapes of `raw_shapes`.
    fn decode(&self, tensors: &[Output<'_>], candidates: &mut Candidates<'_>);
    /// Bytes of a frame's masks; 0: the family has none.
    fn mask_bytes_max(&self) -> usize {
        0
    }
    /// The mask in `row` of the tensors, where the family has masks.
    fn mask<'t>(&self, _tensors: &[Output<'t>], _row: usize) -> Option<DrawnMask<'t>> {
        None
    }
}

/// A mask as the network draws it: `side` x `side` numbers for a box, whose edges are in pixels of the tensor.
struct DrawnMask<'t> {
    numbers: &'t [f32],
    side: usize,
    edges: [f32; 4],
}

/// What a head is built for.
struct Context<'a> {
    check: Checker<'a>,
    plan: &'a Plan,
    label_count: usize,
}

impl Context<'_> {
    /// Rows and columns of the grid that `stride` makes of the input.
    fn grid(&self, key: &str, stride: usize) -> Result<(usize, usize), ManifestError> {
        let (width, height) = (self.plan.width() as usize, self.plan.height() as usize);
        let fits = stride > 0 && width.is_multiple_of(stride) && height.is_multiple_of(stride);
        let advice = format_args!("give a number of pixels that divides the input's {width}x{height}");
        self.check.require(fits, key, stride, advice)?;
        Ok((height / stride, width / stride))
    }

    /// Width and height of the tensor, twice: by what shares of it are multiplied.
    fn sides(&self) -> [f32; 4] {
        let (width, height) = (self.plan.width() as f32, self.plan.height() as f32);
        [width, height, width, height]
    }

    /// Rows and columns of the grid of each stride.
    fn grids(&self, key: &str, strides: &[usize]) -> Result<Vec<(usize, usize)>, ManifestError> {
        let advice = format_args!("give 1 to {OUTPUT_COUNT_MAX}");
        self.check.require((1..=OUTPUT_COUNT_MAX).contains(&strides.len()), key, strides, advice)?;
        strides.iter().map(|stride| self.grid(key, *stride)).collect()
    }

    /// One of `values` for each of `count` strides.
    fn one_each<T: Debug>(&self, key: &str, what: &str, values: &[T], count: usize) -> Result<(), ManifestError> {
        let advice = format_args!("give one {what} for each of the {count} strides");
        self.check.require(values.len() == count, key, values, advice)
    }

    /// Widths and heights of anchors that can be multiplied with.
    fn anchors(&self, key: &str, anchors: &[[f32; 2]]) -> Result<(), ManifestError> {
        let are_sizes = anchors.iter().flatten().all(|size| size.is_finite() && *size > 0.0);
        let advice = "give 1 to 64 pairs of width and height, finite and above 0";
        self.check.require(are_sizes && (1..=64).contains(&anchors.len()), key, anchors, advice)
    }
}

/// Where a head puts its boxes: only those that count go on.
struct Candidates<'a> {
    score_threshold: f32,
    map: &'a TensorMap,
    found: &'a mut Vec<Detection>,
}

impl Candidates<'_> {
    /// Takes a box (left, top, right, bottom, in pixels of the tensor) when its score is above the threshold, its
    /// numbers are finite and it has an area.
    fn push(&mut self, class: usize, score: f32, edges: [f32; 4]) {
        self.push_row(0, class, score, edges);
    }

    /// The same, of a row that has a mask.
    fn push_row(&mut self, row: usize, class: usize, score: f32, edges: [f32; 4]) {
        let [x0, y0, x1, y1] = to_source(self.map, edges);
        let is_box = [x0, y0, x1, y1].iter().all(|edge| edge.is_finite()) && x0 < x1 && y0 < y1;
        if score > self.score_threshold && score.is_finite() && is_box {
            self.found.push(Detection { class: class as u32, score: score.min(1.0), x0, y0, x1, y1, row: row as u32 });
        }
    }
}

/// A detector's head, checked against its manifest.
#[derive(Debug)]
pub struct Detector {
    head: Box<dyn Head>,
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
    spec: DetectorSpec,
}

impl Detector {
    /// The head that `manifest` describes.
    ///
    /// # Errors
    /// When the model is no detector, or a value cannot be right.
    pub fn new(manifest: &Manifest) -> Result<Self, ManifestError> {
        let spec = manifest.detector()?;
        let path = manifest.path();
        let check = Checker::new(&path);
        check.require_names("detector.labels", spec.labels.iter().map(String::as_str), 1, LABEL_COUNT_MAX)?;
        for (key, share) in
            [("detector.score_threshold", spec.score_threshold), ("detector.iou_threshold", spec.iou_threshold)]
        {
            check.require((0.0..=1.0).contains(&share), key, share, "give a number from 0 to 1")?;
        }
        let advice = format_args!("give 1 to {CANDIDATE_COUNT_MAX}");
        let candidates = spec.candidates_max;
        check.require(
            (1..=CANDIDATE_COUNT_MAX).contains(&candidates),
            "detector.candidates_max",
            candidates,
            advice,
        )?;
        let advice = format_args!("give 1 to candidates_max, which is {candidates}");
        let detections = spec.detections_max;
        check.require((1..=candidates).contains(&detections), "detector.detections_max", detections, advice)?;

        let head = spec.head.build(&Context { check, plan: &manifest.input.plan, label_count: spec.labels.len() })?;
        let names = head.outputs();
        check.require_names("detector.head", names.iter().map(String::as_str), 1, OUTPUT_COUNT_MAX)?;
        let iou = spec.iou_threshold;
        let advice = "give 1.0, which drops no box: the head puts out each object once";
        check.require(!head.is_end_to_end() || iou == 1.0, "detector.iou_threshold", iou, advice)?;
        Ok(Self { shapes: head.raw_shapes(), names, head, spec: spec.clone() })
    }

    /// Tensor names, in the order in which [`Detector::decode`] wants them.
    pub fn outputs(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// The shapes that these tensors must have, the batch dimension left out.
    pub fn raw_shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// The same shapes where the graph puts out as many rows as it finds objects, up to these; what is missing is filled
    /// up with zeroes.
    pub fn rows_max(&self) -> Option<&[Vec<usize>]> {
        self.head.rows_vary().then_some(self.raw_shapes())
    }

    /// Appends every box whose score is above the threshold to `found`, in source pixels, unsorted, the best class
    /// of each anchor. Boxes may reach beyond the source image; those that are not finite or have no area are left out.
    ///
    /// # Errors
    /// `Inference` when the tensors are not those that the manifest describes.
    pub fn decode(
        &self,
        outputs: &[Output<'_>],
        map: &TensorMap,
        found: &mut Vec<Detection>,
    ) -> Result<(), FrameError> {
        self.check_outputs(outputs)?;
        self.head.decode(outputs, &mut Candidates { score_threshold: self.spec.score_threshold, map, found });
        Ok(())
    }

    /// Puts the boxes worth keeping into `found`, in pixels of a source of `size` and within it, highest score first:
    /// [`Detector::decode`] and NMS. Returns how many `detections_max` left out.
    ///
    /// # Errors
    /// As [`Detector::decode`].
    pub fn find(
        &self,
        outputs: &[Output<'_>],
        map: &TensorMap,
        (width, height): (u32, u32),
        found: &mut Vec<Detection>,
    ) -> Result<usize, FrameError> {
        found.clear();
        self.decode(outputs, map, found)?;
        let DetectorSpec { iou_threshold, candidates_max, detections_max, .. } = self.spec;
        let dropped = nms(found, iou_threshold, candidates_max, detections_max);
        found.iter_mut().for_each(|detection| clamp_to(detection, width, height));
        found.retain(|one| one.x1 > one.x0 && one.y1 > one.y0); // what lay outside the image has no area left
        Ok(dropped)
    }

    /// Bytes of a frame's masks at most; 0: the model draws none.
    pub fn mask_bytes_max(&self) -> usize {
        self.head.mask_bytes_max()
    }

    /// Puts the masks of what [`Detector::find`] left in `found` into `masks`, which has room for
    /// [`Detector::mask_bytes_max`]; those for which there is no room are left out.
    ///
    /// # Errors
    /// As [`Detector::decode`].
    pub fn draw(
        &self,
        outputs: &[Output<'_>],
        map: &TensorMap,
        found: &[Detection],
        masks: &mut Masks,
    ) -> Result<(), FrameError> {
        masks.clear();
        self.check_outputs(outputs)?;
        let mut runs = Vec::new();
        for (index, detection) in found.iter().enumerate() {
            let Some(drawn) = self.head.mask(outputs, detection.row as usize) else { return Ok(()) };
            let window = Window::of(detection);
            let corners = to_source(map, drawn.edges).map(f64::from);
            paste_mask(drawn.numbers, drawn.side, corners, &window, &mut runs);
            let Window { x, y, width, height } = window;
            masks.push(Mask { detection: index as u32, x, y, width, height, run_bytes: 0 }, &runs);
        }
        Ok(())
    }

    fn check_outputs(&self, outputs: &[Output<'_>]) -> Result<(), FrameError> {
        let refuse = |what: String| {
            Err(FrameError::new(
                ErrorCode::Inference,
                format!("{what}: the manifest's [detector.head], labels or [input] do not fit the model"),
            ))
        };
        if outputs.len() != self.shapes.len() {
            return refuse(format!(
                "expected {} output tensors {:?}, got {}",
                self.shapes.len(),
                self.names,
                outputs.len()
            ));
        }
        for ((output, expected), name) in outputs.iter().zip(&self.shapes).zip(&self.names) {
            let length: usize = expected.iter().product();
            if &output.shape != expected || output.numbers.len() != length {
                return refuse(format!(
                    "expected output {name:?} to be {expected:?}, got {:?} with {} numbers",
                    output.shape,
                    output.numbers.len()
                ));
            }
        }
        Ok(())
    }
}

/// Left, top, right and bottom in source pixels of a box in pixels of the tensor.
fn to_source(map: &TensorMap, [left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
    let (x0, y0) = map.to_source(left, top);
    let (x1, y1) = map.to_source(right, bottom);
    [x0, y0, x1, y1]
}

/// Left, top, right and bottom of a box of this centre, width and height.
fn edges([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    let (half_width, half_height) = (width / 2.0, height / 2.0);
    [x - half_width, y - half_height, x + half_width, y + half_height]
}

/// Index and value of the highest number; NaN is never the highest.
pub(crate) fn highest(numbers: impl Iterator<Item = f32>) -> (usize, f32) {
    numbers.enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (index, number)| {
            if number > best.1 { (index, number) } else { best }
        },
    )
}
