//! A detector's raw outputs become the boxes worth keeping, in source pixels, highest score first.

use anyhow::Result;
use framepipe_frame::{
    FrameError,
    detections::{self, Detection},
    raw,
};
use framepipe_model::{Detector, DetectorSpec};
use framepipe_pipeline::{Frame, Item, Needs, Plan, Pool, Process, Stage};
use framepipe_vision::{clamp_to, nms};

/// The stage: the detector's head, and its candidate boxes.
pub struct Postprocess {
    head: Detector,
    spec: DetectorSpec,
    found: Vec<Detection>,
}

impl Postprocess {
    /// Prepares for the detector's outputs.
    pub fn open(process: &Process) -> Result<Self> {
        let manifest = Plan::of(&process.order.config)?.detector;
        let spec = manifest.detector()?.clone();
        Ok(Self { head: Detector::new(&manifest)?, found: Vec::with_capacity(spec.candidates_max), spec })
    }

    fn postprocess(&mut self, frame: &mut Frame<'_>) -> Result<(), FrameError> {
        let outputs = raw::read(frame.input(Pool::Raw)?)?;
        let Self { head, spec, found } = self;
        found.clear();
        head.decode(&outputs, &frame.descriptor.tensor_map, found)?;
        let dropped = nms(found, spec.iou_threshold, spec.candidates_max, spec.detections_max);
        for detection in found.iter_mut() {
            clamp_to(detection, frame.descriptor.source_width, frame.descriptor.source_height);
        }
        found.retain(|one| one.x1 > one.x0 && one.y1 > one.y0); // what lay outside the image has no area left
        frame.descriptor.detections_dropped = dropped as u32;
        frame.write_output(Pool::Detections, |slot| Ok((detections::write(slot, found)?, ())))
    }
}

impl Stage for Postprocess {
    type Plan = ();

    fn plan(&mut self, _: &mut Frame<'_>) -> Result<(Needs, ()), FrameError> {
        Ok((Needs::NONE.and(Pool::Detections, detections::slot_bytes(self.spec.detections_max)), ()))
    }

    fn process(&mut self, batch: &mut [Item<'_, ()>]) {
        for item in batch {
            item.frame.error = self.postprocess(&mut item.frame).err();
        }
    }
}
