//! From a finished job to its result on the wire. The sequence is left out: the journal gives it, the reader fills it in.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use framepipe_cache::Digest;
use framepipe_frame::{
    Descriptor, ErrorCode, FrameError, Request, StageTimes,
    attributes::{self, Kind, NOTHING},
    detections, masks,
};
use framepipe_model::{AttributeHead, Detector, Manifest, ModelRef, OutputSpec};
use framepipe_pipeline::{Config, GATEWAY, Generation, Plan, Pool, Process, STAGES, queue_before};
use framepipe_proto::v1::{self, attribute::Value, frame_result::Outcome};
use framepipe_shm::{Gate, Work, monotonic_ns};

use crate::kept_results;

/// The encoders of the generations that may have frames in flight, by their numbers.
#[derive(Default)]
pub struct Encoders(Mutex<Vec<(u64, Arc<Encoder>)>>);

impl Encoders {
    /// Adds one, and drops those before the newest that no frame in flight needs any more.
    pub fn add(&self, config: &Config, generation: &Generation, gate: &Gate<'_>) -> anyhow::Result<()> {
        let encoder = Arc::new(Encoder::new(&Plan::of(&generation.applied_to(config))?, generation)?);
        let mut encoders = self.lock();
        // One that was given up before it served may come again, with other models.
        encoders.retain(|(number, _)| *number != generation.number);
        let mut needed: BTreeSet<u64> = encoders.iter().map(|(number, _)| *number).max().into_iter().collect();
        gate.for_each_accepted(|request| {
            needed.insert(bytemuck::pod_read_unaligned::<Request>(request).generation);
        });
        encoders.retain(|(number, _)| needed.contains(number));
        encoders.push((generation.number, encoder));
        Ok(())
    }

    /// The generation whose frames enter at this queue; `None` where none does.
    pub fn entering_at(&self, queue: usize) -> Option<u64> {
        let numbers = self.lock().iter().map(|(number, _)| *number).collect::<Vec<_>>();
        numbers.into_iter().filter(|number| queue_before(0, Generation::parity_of(*number)) == queue).max()
    }

    /// The result of a claimed job that reached the gateway at `claimed_ns`.
    pub fn encode(&self, process: &Process, work: &Work<'_>, request: &Request, claimed_ns: u64) -> Encoded {
        let encoder = self.lock().iter().find(|(number, _)| *number == request.generation).map(|(_, it)| it.clone());
        let unknown =
            || FrameError::new(ErrorCode::Internal, format!("no models of generation {}", request.generation));
        match encoder {
            Some(encoder) => encoder.encode(process, work, request, claimed_ns),
            None => Encoded::error(request, &unknown(), claimed_ns),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Arc<Encoder>)>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// What becomes of a finished job.
pub struct Encoded {
    /// Its result.
    pub result: v1::FrameResult,
    /// Where another image of the same content may get it: the key by which that one looks for it.
    pub key: Option<Digest>,
    /// When each stage had the frame.
    pub stages: [StageTimes; GATEWAY],
    /// When the gateway had it, and its result.
    pub delivery: StageTimes,
    /// The models that it was accepted for; none, where they are not known.
    pub models: Arc<[String]>,
}

impl Encoded {
    /// An error of which nothing else is known.
    pub fn error(request: &Request, error: &FrameError, claimed_ns: u64) -> Self {
        Self {
            result: error_result(request, error),
            key: None,
            stages: Default::default(),
            delivery: StageTimes { claimed_ns, published_ns: monotonic_ns() },
            models: Arc::default(),
        }
    }
}

/// What results are made with: the names that the models' manifests give.
struct Encoder {
    titles: Arc<[String]>,
    labels: Vec<String>,
    has_masks: bool,
    models: Vec<Model>,
}

struct Model {
    name: String,
    outputs: Vec<OutputSpec>,
    head: AttributeHead,
}

impl Encoder {
    /// The encoder of a generation's models.
    fn new(plan: &Plan, generation: &Generation) -> anyhow::Result<Self> {
        let head = Detector::new(&plan.detector)?;
        let model = |manifest: &Manifest| {
            let outputs = manifest.attributes()?.outputs.clone();
            anyhow::Ok(Model { name: manifest.name.clone(), outputs, head: AttributeHead::new(manifest)? })
        };
        Ok(Self {
            titles: generation.models().map(ModelRef::to_string).collect(),
            labels: plan.detector.detector()?.labels.clone(),
            has_masks: head.mask_bytes_max() > 0,
            models: plan.attributes.iter().map(model).collect::<anyhow::Result<_>>()?,
        })
    }

    fn encode(&self, process: &Process, work: &Work<'_>, request: &Request, claimed_ns: u64) -> Encoded {
        let mut descriptor: Descriptor = bytemuck::Zeroable::zeroed();
        work.read_descriptor(bytemuck::bytes_of_mut(&mut descriptor));
        let kept = kept_results::of(work);
        let mut key = None;
        let outcome = match (descriptor.check().map(|()| descriptor.error()), kept) {
            (Ok(Some(error)), _) => failure(&error),
            (Ok(None), Some(kept)) => kept_results::read(process, kept, kept_results::key(&descriptor))
                .map_or_else(|error| failure(&error), Outcome::Detections),
            (Ok(None), None) => match self.detections(work, &descriptor) {
                Ok(detections) => {
                    key = kept_results::key(&descriptor);
                    Outcome::Detections(detections)
                }
                Err(error) => broken(request, &error),
            },
            (Err(error), _) => broken(request, &error.into()),
        };
        let delivery = StageTimes { claimed_ns, published_ns: monotonic_ns() };
        let result = v1::FrameResult {
            name: request.name.as_str().into_owned(),
            sequence: 0,
            frame: request.frame,
            batch_index: request.batch_index,
            cached: kept.is_some() && matches!(outcome, Outcome::Detections(_)),
            outcome: Some(outcome),
            times: times(request, &descriptor, delivery),
        };
        let stages = std::array::from_fn(|stage| descriptor.times[stage]);
        Encoded { result, key, stages, delivery, models: self.titles.clone() }
    }

    fn detections(&self, work: &Work<'_>, descriptor: &Descriptor) -> Result<v1::Detections, FrameError> {
        let missing = || FrameError::new(ErrorCode::Internal, "the frame has no detections slot");
        let slot = work.input(Pool::Detections as usize).ok_or_else(missing)?;
        let mut detections: Vec<v1::Detection> =
            detections::read(slot)?.iter().map(|one| self.detection(one)).collect();
        for mask in masks::masks(detections::read_masks(slot)?) {
            let (mask, counts) = mask?;
            let broken = || FrameError::new(ErrorCode::Internal, format!("a mask of nothing: {mask:?}"));
            let masks::Mask { x, y, width, height, .. } = mask;
            detections.get_mut(mask.detection as usize).ok_or_else(broken)?.mask =
                Some(v1::Mask { x, y, width, height, counts });
        }
        let masks_dropped = if self.has_masks { detections.iter().filter(|one| one.mask.is_none()).count() } else { 0 };
        for entry in attributes::entries(work.input(Pool::Attributes as usize).unwrap_or(&[])) {
            let (entry, numbers) = entry?;
            let broken = || FrameError::new(ErrorCode::Internal, format!("an attribute of nothing: {entry:?}"));
            let attribute = self.attribute(&entry, numbers).ok_or_else(broken)?;
            detections.get_mut(entry.detection as usize).ok_or_else(broken)?.attributes.push(attribute);
        }
        Ok(v1::Detections {
            detections,
            image_width: descriptor.source_width,
            image_height: descriptor.source_height,
            detections_dropped: descriptor.detections_dropped,
            crops_dropped: descriptor.crops_dropped,
            masks_dropped: masks_dropped as u32,
        })
    }

    fn detection(&self, one: &detections::Detection) -> v1::Detection {
        v1::Detection {
            class_index: one.class,
            label: self.labels.get(one.class as usize).cloned().unwrap_or_default(),
            score: one.score,
            r#box: Some(v1::Box { x0: one.x0, y0: one.y0, x1: one.x1, y1: one.y1 }),
            attributes: Vec::new(),
            mask: None,
        }
    }

    /// `None` where the entry names no model, output, label, point or character of the pipeline.
    fn attribute(&self, entry: &attributes::Entry, numbers: Vec<f32>) -> Option<v1::Attribute> {
        let model = self.models.get(entry.model as usize)?;
        let output = model.outputs.get(entry.output as usize)?;
        let names = model.head.names(entry.output as usize);
        let value = match (Kind::from_number(entry.kind)?, numbers.as_slice()) {
            (Kind::Class, [class, score]) => Value::Classification(classification(names, *class, *score)?),
            (Kind::Classes, numbers) => {
                let pairs = numbers.chunks_exact(2).take_while(|pair| pair[0] != NOTHING);
                let classes = pairs.map(|pair| classification(names, pair[0], pair[1])).collect::<Option<_>>()?;
                Value::Classifications(v1::Classifications { classes })
            }
            (Kind::Keypoints, numbers) if numbers.len() == 3 * names.len() => {
                let point = |(name, point): (&String, &[f32])| v1::Keypoint {
                    name: name.clone(),
                    x: point[0],
                    y: point[1],
                    score: point[2],
                };
                Value::Keypoints(v1::Keypoints {
                    points: names.iter().zip(numbers.chunks_exact(3)).map(point).collect(),
                })
            }
            (Kind::Text, [score, indices @ ..]) => {
                let indices = indices.iter().take_while(|index| **index != NOTHING);
                let text =
                    indices.map(|index| names.get(*index as usize).map(String::as_str)).collect::<Option<_>>()?;
                Value::Text(v1::Text { text, score: *score })
            }
            (Kind::Number, [number]) => Value::Number(*number),
            (Kind::Vector, _) => Value::Embedding(v1::Embedding { values: numbers }),
            _ => return None,
        };
        Some(v1::Attribute { name: output.name.clone(), model: model.name.clone(), value: Some(value) })
    }
}

fn classification(labels: &[String], class: f32, score: f32) -> Option<v1::Classification> {
    let class_index = class as u32;
    Some(v1::Classification { label: labels.get(class_index as usize)?.clone(), score, class_index })
}

fn failure(error: &FrameError) -> Outcome {
    Outcome::Error(v1::FrameError { code: error.code as i32, message: error.message.clone() })
}

/// What another process wrote makes no sense: no client's fault, but a bug of ours, or memory scribbled over.
fn broken(request: &Request, error: &FrameError) -> Outcome {
    tracing::error!(frame = request.frame, "frame {}: {}", request.frame, error.message);
    failure(error)
}

/// A result that says why there is none.
pub fn error_result(request: &Request, error: &FrameError) -> v1::FrameResult {
    v1::FrameResult {
        name: request.name.as_str().into_owned(),
        frame: request.frame,
        batch_index: request.batch_index,
        cached: false,
        outcome: Some(failure(error)),
        ..v1::FrameResult::default()
    }
}

/// Where the time went: each stage's wait since the one before published, and its own share. They add up to the time
/// from acceptance to the result, to the microsecond: what is rounded is the time since acceptance at each step, and a part is the
/// difference of two of these.
fn times(request: &Request, descriptor: &Descriptor, delivery: StageTimes) -> Vec<v1::StageTime> {
    let since_us = |ns: u64| ns.saturating_sub(request.accepted_ns) / 1000;
    let mut before_us = 0;
    let mut part = |ns: u64| {
        let until_us = since_us(ns).max(before_us);
        until_us - std::mem::replace(&mut before_us, until_us)
    };
    let mut share = |stage: &str, claimed_ns: u64, published_ns: u64| {
        let (queued_us, busy_us) = (part(claimed_ns), part(published_ns));
        v1::StageTime { stage: stage.into(), queued_us, busy_us }
    };
    let passed = STAGES.iter().zip(&descriptor.times[..GATEWAY]).filter(|(_, times)| times.published_ns > 0);
    let mut times: Vec<_> = passed.map(|(row, times)| share(row.name, times.claimed_ns, times.published_ns)).collect();
    times.push(share("gateway", delivery.claimed_ns, delivery.published_ns));
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that was accepted at `accepted_ns` and changed hands every `step_ns`, and its times.
    fn times_of(accepted_ns: u64, step_ns: u64) -> (u64, Vec<v1::StageTime>) {
        let request = Request { accepted_ns, ..bytemuck::Zeroable::zeroed() };
        let mut descriptor: Descriptor = bytemuck::Zeroable::zeroed();
        let mut now_ns = accepted_ns;
        let mut step = || {
            now_ns += step_ns;
            now_ns
        };
        for times in &mut descriptor.times[..GATEWAY] {
            (times.claimed_ns, times.published_ns) = (step(), step());
        }
        let (claimed_ns, now_ns) = (step(), step());
        (now_ns, times(&request, &descriptor, StageTimes { claimed_ns, published_ns: now_ns }))
    }

    #[test]
    fn the_stage_times_add_up_to_the_microsecond_however_short_they_are() {
        let (_, times) = times_of(1_000_000, 2_000_000);
        assert_eq!(times.len(), GATEWAY + 1);
        assert!(times.iter().all(|time| (time.queued_us, time.busy_us) == (2000, 2000)), "{times:?}");
        for (accepted_ns, step_ns) in [(1_000_999, 999), (7, 1_999), (123_456_789, 17_501), (5, 1)] {
            let (now_ns, times) = times_of(accepted_ns, step_ns);
            let sum: u64 = times.iter().map(|time| time.queued_us + time.busy_us).sum();
            assert_eq!(sum, (now_ns - accepted_ns) / 1000, "{times:?}");
        }
    }

    #[test]
    fn times_that_cannot_be_are_no_more_than_the_whole() {
        let request = Request { accepted_ns: 5_000_000, ..bytemuck::Zeroable::zeroed() };
        let mut descriptor: Descriptor = bytemuck::Zeroable::zeroed();
        descriptor.times[1] = StageTimes { claimed_ns: 9_000_000, published_ns: 7_000_000 };
        let times = times(&request, &descriptor, StageTimes { claimed_ns: 6_000_000, published_ns: 10_000_000 });
        let sum: u64 = times.iter().map(|time| time.queued_us + time.busy_us).sum();
        assert_eq!(sum, 5000, "{times:?}");
    }

    #[test]
    fn the_error_codes_of_the_record_are_those_of_the_protocol() {
        for code in ErrorCode::ALL {
            let wire = v1::ErrorCode::try_from(code as i32).expect("the protocol has the number");
            let name = wire.as_str_name().trim_start_matches("ERROR_CODE_").replace('_', "").to_lowercase();
            assert_eq!(name, format!("{code:?}").to_lowercase());
        }
    }
}
