//! A model's inputs, made of images by its own graph of operators: of a detector whole images, of an attribute model crops of
//! what a detector finds, or whole images.

use std::{
    fs::File,
    io::{BufWriter, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use framepipe_frame::{FrameError, detections::Detection, raw};
use framepipe_infer::{CpuModel, ModelFile, Options, Runtime, Samples};
use framepipe_model::{Detector, Manifest, Task};
use framepipe_pipeline::Config;
use framepipe_vision::{Cropper, DecodeScale, Decoder, FrameView, Limits, Plan, Preprocessor, probe};

use super::images::Images;

/// Most crops of one image, highest scores first: the inputs are to differ.
const CROPS_MAX: usize = 4;
/// Longest file of an image.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Between two words of progress.
const PROGRESS: Duration = Duration::from_secs(2);

/// The inputs, in a file without a name: the calibration's before the gate's.
pub struct Inputs {
    pub file: File,
    pub calibration: usize,
    pub gate: usize,
    /// Images that gave any.
    pub images: usize,
}

/// Makes the inputs of a model; `finder` finds what an attribute model sees.
pub fn make(config: &Config, manifest: &Manifest, finder: Option<Manifest>, images: &Images) -> anyhow::Result<Inputs> {
    let place = || format!("cannot keep the inputs in {}", config.models.display());
    let file = tempfile::tempfile_in(&config.models).with_context(place)?;
    let plan = &manifest.input.plan;
    let model = match &manifest.task {
        Task::Detector(_) => Model::Detector(Preprocessor::new(plan.clone())?),
        Task::Attributes(spec) => Model::Attributes {
            cropper: Cropper::new(plan.clone())?,
            finder: finder.map(|finder| Finder::open(config, finder, &spec.applies_to).map(Box::new)).transpose()?,
        },
    };
    let mut maker = Maker {
        decoder: Decoder::new(config.limits)?,
        limits: config.limits,
        plan: plan.clone(),
        model,
        pixels: Vec::new(),
        tensor: aligned(plan),
        out: BufWriter::new(file),
        said: Instant::now(),
        done: 0,
        total: images.calibration.len() + images.gate.len(),
        images: 0,
    };
    let calibration = maker.all(&images.calibration)?;
    let gate = maker.all(&images.gate)?;
    let Maker { out, images, .. } = maker;
    let mut file = out.into_inner().map_err(|error| error.into_error()).with_context(place)?;
    file.rewind().with_context(place)?;
    Ok(Inputs { file, calibration, gate, images })
}

/// Memory for a tensor's bytes, aligned for its numbers.
fn aligned(plan: &Plan) -> Vec<u32> {
    vec![0; plan.tensor_bytes().div_ceil(4)]
}

/// How a model sees an image.
enum Model {
    Detector(Preprocessor),
    Attributes { cropper: Cropper, finder: Option<Box<Finder>> },
}

struct Maker {
    decoder: Decoder,
    limits: Limits,
    plan: Plan,
    model: Model,
    pixels: Vec<u8>,
    tensor: Vec<u32>,
    out: BufWriter<File>,
    said: Instant,
    done: usize,
    total: usize,
    images: usize,
}

impl Maker {
    /// Writes the inputs of some images; says how many there are. An image that cannot be read is left out, and said.
    fn all(&mut self, paths: &[PathBuf]) -> anyhow::Result<usize> {
        let mut count = 0;
        for path in paths {
            self.done += 1;
            let found = match read(path).and_then(|bytes| self.one(&bytes)) {
                Ok(found) => found,
                Err(error) if error.is::<FrameError>() => {
                    eprintln!("quantize: {} is left out: {error:#}", path.display());
                    0
                }
                Err(error) => return Err(error.context(path.display().to_string())),
            };
            count += found;
            self.images += usize::from(found > 0);
            if self.said.elapsed() >= PROGRESS {
                self.said = Instant::now();
                eprintln!("quantize: image {} of {}", self.done, self.total);
            }
        }
        Ok(count)
    }

    /// Writes the inputs that one image gives.
    fn one(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
        let Self { decoder, limits, plan, model, pixels, out, .. } = self;
        let tensor: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut self.tensor)[..plan.tensor_bytes()];
        let header = probe(bytes, limits)?;
        match model {
            Model::Detector(preprocessor) => {
                let header = plan.header(header);
                let scale = plan.decode_scale(&header);
                pixels.resize(header.rgb_bytes(scale), 0);
                decoder.decode_scaled(bytes, &header, scale, pixels)?;
                let mut view = FrameView::scaled_rgb(pixels, header.oriented_size(), scale)?;
                let Ok(_) = preprocessor.run(&mut view, tensor);
                out.write_all(tensor)?;
                Ok(1)
            }
            Model::Attributes { cropper, finder } => {
                let header = finder.as_ref().map_or(header, |finder| finder.preprocessor.plan().header(header));
                pixels.resize(header.rgb_bytes(DecodeScale::Full), 0);
                decoder.decode_rgb(bytes, &header, pixels)?;
                let size = header.oriented_size();
                let view = FrameView::rgb(pixels, size.0, size.1)?;
                let found = match finder {
                    Some(finder) => finder.find(&view, size)?,
                    None => vec![whole(size)],
                };
                for detection in &found {
                    cropper.run(&view, &cropper.rect(detection, size), tensor);
                    out.write_all(tensor)?;
                }
                Ok(found.len())
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    ensure!(length <= FILE_BYTES_MAX, "{length} bytes, and {FILE_BYTES_MAX} are the most: take it out of the folder");
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of an image, as a detection.
fn whole((width, height): (u32, u32)) -> Detection {
    Detection { class: 0, score: 1.0, x0: 0.0, y0: 0.0, x1: width as f32, y1: height as f32, row: 0 }
}

/// A detector that finds what an attribute model is to see.
struct Finder {
    preprocessor: Preprocessor,
    manifest: Manifest,
    head: Detector,
    model: CpuModel,
    tensor: Vec<u32>,
    /// The classes that are cropped.
    classes: Vec<u32>,
    found: Vec<Detection>,
}

impl Finder {
    fn open(config: &Config, manifest: Manifest, applies_to: &[String]) -> anyhow::Result<Self> {
        let head = Detector::new(&manifest)?;
        let runtime = Runtime::load(&config.onnxruntime)?;
        let file = ModelFile { path: &manifest.model_path(), sha256: &manifest.sha256 };
        let options = Options { threads: 1, batch_max: 1 };
        let model = CpuModel::open(&runtime, file, &manifest.input, &head.outputs(), options)?;
        let labels = &manifest.detector()?.labels;
        let classes =
            (0..).zip(labels).filter(|(_, label)| applies_to.contains(label)).map(|(class, _)| class).collect();
        let plan = &manifest.input.plan;
        Ok(Self {
            preprocessor: Preprocessor::new(plan.clone())?,
            tensor: aligned(plan),
            model: model.filled_up(head.rows_max()),
            found: Vec::new(),
            head,
            manifest,
            classes,
        })
    }

    /// The detections that are cropped, in pixels of the frame, highest score first.
    fn find(&mut self, view: &FrameView<'_>, size: (u32, u32)) -> anyhow::Result<Vec<Detection>> {
        let plan = &self.manifest.input.plan;
        let tensor: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut self.tensor)[..plan.tensor_bytes()];
        let Ok(map) = self.preprocessor.run(&mut view.clone(), tensor);
        let outputs = self.model.run(1, Samples::of(plan.dtype(), tensor))?;
        let sample = |output| {
            let (shape, numbers) = outputs.sample(output, 0);
            raw::Output { shape: shape.to_vec(), numbers }
        };
        let tensors: Vec<raw::Output<'_>> = (0..outputs.len()).map(sample).collect();
        self.found.clear();
        self.head.find(&tensors, &map, size, &mut self.found)?;
        let wanted = self.found.iter().filter(|one| self.classes.contains(&one.class));
        Ok(wanted.take(CROPS_MAX).copied().collect())
    }
}
