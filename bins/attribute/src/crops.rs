//! Which detections are cropped for which models, and where in the frame's slot their entries go. All follows from
//! the detections and the manifests, before any model runs: so the slot is taken in the right size, and the entries lie
//! by detection, then model, then output, in whichever order the models run.

use framepipe_frame::detections::Detection;

/// The pipeline's rule for crops.
#[derive(Debug)]
pub struct Crops {
    /// By the detector's class: the models that describe it, in the pipeline's order.
    models_by_class: Vec<Vec<usize>>,
    /// By model: bytes of its entries of one detection.
    entries_bytes: Vec<usize>,
    /// Most detections of one frame that are cropped.
    crops_max: usize,
}

/// One detection's crop for one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// The detection's place in its frame.
    pub index: usize,
    /// The detection.
    pub detection: Detection,
    /// The model's place in the pipeline.
    pub model: usize,
    /// Where in the frame's slot its entries begin.
    pub at: usize,
    /// Where they end.
    pub end: usize,
}

impl Crops {
    /// The rule for a detector of `labels`; by model, what it applies to, and the bytes of its entries.
    pub fn new(labels: &[String], applies_to: &[&[String]], entries_bytes: Vec<usize>, crops_max: usize) -> Self {
        let models_of = |label| (0..applies_to.len()).filter(|model| applies_to[*model].contains(label)).collect();
        Self { models_by_class: labels.iter().map(models_of).collect(), entries_bytes, crops_max }
    }

    /// The crops of one frame, whose detections come highest score first.
    pub fn of(&self, detections: &[Detection]) -> impl Iterator<Item = Crop> {
        let described = detections.iter().enumerate().filter(|(_, detection)| self.is_described(detection));
        let for_models = described.take(self.crops_max).flat_map(|(index, detection)| {
            self.models_by_class[detection.class as usize].iter().map(move |model| (index, detection, *model))
        });
        for_models.scan(0, |end, (index, detection, model)| {
            let at = *end;
            *end += self.entries_bytes[model];
            Some(Crop { index, detection: *detection, model, at, end: *end })
        })
    }

    /// Bytes of one frame's entries.
    pub fn bytes(&self, detections: &[Detection]) -> usize {
        self.of(detections).last().map_or(0, |crop| crop.end)
    }

    /// How many detections that some model describes `crops_max` leaves out.
    pub fn dropped(&self, detections: &[Detection]) -> usize {
        detections.iter().filter(|detection| self.is_described(detection)).count().saturating_sub(self.crops_max)
    }

    fn is_described(&self, detection: &Detection) -> bool {
        self.models_by_class.get(detection.class as usize).is_some_and(|models| !models.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes 0 (car), 1 (face), 2 (person); model 0 describes faces and persons in 10 bytes, model 1 faces in 100.
    fn crops(crops_max: usize) -> Crops {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let (both, faces) = (names(&["person", "face"]), names(&["face"]));
        Crops::new(&names(&["car", "face", "person"]), &[&both, &faces], vec![10, 100], crops_max)
    }

    fn detections(classes: &[u32]) -> Vec<Detection> {
        let detection =
            |class: &u32| Detection { class: *class, score: 0.5, x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0, row: 0 };
        classes.iter().map(detection).collect()
    }

    /// (Detection, model, first byte, last) of each crop.
    fn places(crops: &Crops, classes: &[u32]) -> Vec<(usize, usize, usize, usize)> {
        crops.of(&detections(classes)).map(|crop| (crop.index, crop.model, crop.at, crop.end)).collect()
    }

    #[test]
    fn entries_lie_by_detection_then_model_without_gaps() {
        let expected = [(1, 0, 0, 10), (1, 1, 10, 110), (2, 0, 110, 120), (4, 0, 120, 130), (4, 1, 130, 230)];
        assert_eq!(places(&crops(9), &[0, 1, 2, 0, 1]), expected);
        assert_eq!(crops(9).bytes(&detections(&[0, 1, 2, 0, 1])), 230);
    }

    #[test]
    fn the_first_detections_are_cropped_and_those_that_no_model_describes_do_not_count() {
        let crops = crops(2);
        assert_eq!(places(&crops, &[0, 2, 0, 2, 2, 1]), [(1, 0, 0, 10), (3, 0, 10, 20)]);
        assert_eq!(crops.dropped(&detections(&[0, 2, 0, 2, 2, 1])), 2);
        assert_eq!(crops.dropped(&detections(&[0, 0, 0, 2])), 0);
    }

    #[test]
    fn a_frame_without_described_detections_needs_nothing() {
        assert_eq!(crops(9).bytes(&detections(&[0, 0])), 0);
        assert_eq!(crops(9).bytes(&detections(&[])), 0);
        assert_eq!(crops(9).bytes(&detections(&[3, u32::MAX])), 0, "no class of the detector's");
    }
}
