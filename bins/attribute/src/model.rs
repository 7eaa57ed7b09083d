//! One attribute model, with the crops that wait for its next run.

use anyhow::{Result, anyhow};
use framepipe_frame::{
    ErrorCode, FrameError,
    attributes::{self, Entry, entry_bytes},
};
use framepipe_infer::run_or_each_alone;
use framepipe_model::{AttributeHead, Manifest, Turner};
use framepipe_pipeline::{Frame, Item, Pool};
use framepipe_shm::{Counter, ProcessEntry};
use framepipe_vision::{CropSpec, Cropper, Rect, Region, crop_rect};

use crate::{
    backend::{Backend, Made, View},
    crops::Crop,
    waiting::{Origin, Waiting},
};

/// An attribute model, warmed up.
pub struct AttributeModel {
    backend: Backend,
    spec: CropSpec,
    waiting: Waiting,
    /// Where runs and crops are counted.
    entry: &'static ProcessEntry,
    decoder: EntryDecoder,
}

/// What makes entries of the model's outputs.
struct EntryDecoder {
    /// The model's place in the pipeline.
    model: usize,
    head: AttributeHead,
    /// By output: how many numbers its entry has.
    value_counts: Vec<usize>,
    values: Vec<f32>,
    turner: Option<Turner>,
    /// By detection of the latest frame: true where the model found its crop upside down.
    upside_down: Vec<bool>,
}

impl AttributeModel {
    /// The pipeline's attribute model number `model`, opened by `open`, for frames of at most `detections_max` detections.
    pub fn open(
        manifest: &Manifest,
        model: usize,
        detections_max: usize,
        entry: &'static ProcessEntry,
        open: impl FnOnce(&AttributeHead) -> Result<Backend>,
    ) -> Result<Self> {
        let head = AttributeHead::new(manifest)?;
        let backend = open(&head)?;
        let lengths = backend.output_shapes().iter().map(|shape| shape.iter().product());
        let value_counts = lengths.enumerate().map(|(output, length)| head.value_count(output, length));
        let value_counts = value_counts
            .collect::<Result<Vec<usize>, FrameError>>()
            .map_err(|error| anyhow!("{}: {}", manifest.path().display(), error.message))?;
        Ok(Self {
            spec: manifest.input.plan.crop_spec()?,
            waiting: Waiting::new(backend.batch_max()),
            backend,
            entry,
            decoder: EntryDecoder {
                model,
                turner: head.turner(),
                head,
                value_counts,
                values: Vec::new(),
                upside_down: vec![false; detections_max],
            },
        })
    }

    /// Bytes of the entries of one detection.
    pub fn entries_bytes(&self) -> usize {
        self.decoder.value_counts.iter().map(|count| entry_bytes(*count)).sum()
    }

    /// The pixels of a frame of `size` that a crop needs.
    pub fn reads(&self, crop: &Crop, size: (u32, u32)) -> Region {
        Cropper::reads(&self.rect(crop, size), size)
    }

    /// What a crop shows of a frame of `size`.
    fn rect(&self, crop: &Crop, (width, height): (u32, u32)) -> Rect {
        crop_rect(&crop.detection, &self.spec, width, height)
    }

    /// True where the model found the crop of the detection number `detection` upside down, in the frame whose crops it ran
    /// on last.
    pub fn is_upside_down(&self, detection: usize) -> bool {
        self.decoder.upside_down.get(detection).is_some_and(|is_upside_down| *is_upside_down)
    }

    /// Takes a crop of the batch's frame `item`, turned by 180 degrees or not, after running those that wait where there is no
    /// room for more.
    pub fn add(&mut self, crop: &Crop, view: &View<'_>, is_turned: bool, item: usize, batch: &mut [Item<'_, usize>]) {
        if self.waiting.is_full() {
            self.run(batch);
        }
        let rect = self.rect(crop, view.size());
        let of_points = if is_turned { rect.turned() } else { rect };
        let place = self.waiting.add(Origin { item, detection: crop.index, at: crop.at, rect: of_points });
        self.backend.add(place, view, &rect, is_turned);
    }

    /// Runs the crops that wait, and writes their entries or their frames' errors.
    pub fn run(&mut self, batch: &mut [Item<'_, usize>]) {
        let Self { backend, waiting, entry, decoder, .. } = self;
        let count = waiting.origins().len();
        if count == 0 {
            return;
        }
        let failed = run_or_each_alone(count, |range| {
            let made = backend.run(range.clone())?;
            let of_frames = |origin: &&Origin| !batch[origin.item].frame.is_canary();
            let crops = waiting.origins()[range.clone()].iter().filter(of_frames).count() as u64;
            entry.count(Counter::CropRuns, crops.min(1));
            entry.count(Counter::Crops, crops);
            for (sample, origin) in waiting.origins()[range].iter().enumerate() {
                let item = &mut batch[origin.item];
                if item.frame.error.is_none() {
                    item.frame.error = decoder.write(&mut item.frame, item.plan, origin, &made, sample).err();
                }
            }
            Ok::<(), FrameError>(())
        });
        for (crop, error) in failed {
            batch[waiting.origins()[crop].item].frame.error.get_or_insert(error);
        }
        waiting.clear();
    }
}

impl EntryDecoder {
    /// Writes one crop's entries to their place in the frame's slot, of which `used` bytes are in use in the end.
    fn write(
        &mut self,
        frame: &mut Frame<'_>,
        used: usize,
        origin: &Origin,
        made: &Made<'_>,
        sample: usize,
    ) -> Result<(), FrameError> {
        frame.write_output(Pool::Attributes, |slot| {
            let mut at = origin.at;
            for output in 0..self.value_counts.len() {
                let entry = self.entry(origin, output, made.numbers(output, sample))?;
                at = attributes::append(slot, at, entry, &self.values)?;
            }
            Ok((used, ()))
        })
    }

    /// Puts what `numbers` say into `values`, as many as were found at start.
    fn entry(&mut self, origin: &Origin, output: usize, numbers: &[f32]) -> Result<Entry, FrameError> {
        let kind = self.head.decode(output, numbers, &origin.rect, &mut self.values)?;
        let (found, expected) = (self.values.len(), self.value_counts[output]);
        if found != expected {
            let message = format!("an attribute of {found} numbers, where the model's first run had {expected}");
            return Err(FrameError::new(ErrorCode::Inference, message));
        }
        if let Some(turner) = self.turner.filter(|turner| turner.output == output)
            && let Some(is_upside_down) = self.upside_down.get_mut(origin.detection)
        {
            *is_upside_down = turner.is_upside_down(&self.values);
        }
        let (detection, model, output) = (origin.detection as u32, self.model as u32, output as u32);
        Ok(Entry { detection, model, output, kind: kind as u32, count: found as u32 })
    }
}
