//! What an image costs on the way to a tensor: a child of `scripts/bench-images`, which measures OpenCV beside it.
//!
//! For each line `STEP TIMES IMAGE [FILE]` on standard input it answers with one line: CPU milliseconds of one, the mean of
//! TIMES. Into FILE it writes the tensor, to be compared.

use std::{fmt, io::Write as _, str::FromStr};

use anyhow::{Context as _, bail};
use framepipe_temporary::clock;
use framepipe_vision::{
    Cropper, DecodeScale, Decoder, FrameView, Header, InputSpec, Limits, Plan, Preprocessor, Rect, probe,
};
use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

/// What is measured.
#[derive(Clone, Copy)]
enum Step {
    /// Bytes to a 416x416 letterbox tensor of f32, at full size: all that preprocess does to an image that is not kept.
    Exact,
    /// The same at the scale that the tensor needs.
    Auto,
    /// As [`Self::Exact`], of an image whose decoded frame is kept for crops.
    Kept,
    /// Its second half: the decoded frame to the tensor.
    Resize,
    /// Three crops of the decoded frame to 224x224.
    Crops,
    /// libjpeg-turbo's decode at 1/8: little else than reading the entropy-coded bytes, which nobody can leave out.
    Floor,
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "exact" => Self::Exact,
            "auto" => Self::Auto,
            "kept" => Self::Kept,
            "resize" => Self::Resize,
            "crops" => Self::Crops,
            "floor" => Self::Floor,
            _ => bail!("{word}: give exact, auto, kept, resize, crops or floor"),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Auto => "auto",
            Self::Kept => "kept",
            Self::Resize => "resize",
            Self::Crops => "crops",
            Self::Floor => "floor",
        })
    }
}

/// A child's `main`.
pub fn serve() -> anyhow::Result<()> {
    let mut bench = Bench::new()?;
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().context("a line is STEP TIMES IMAGE [FILE]");
        let (step, times, path): (Step, u32, &str) = (word()?.parse()?, word()?.parse()?, word()?);
        let bytes = std::fs::read(path).with_context(|| path.to_owned())?;
        let ms = bench.run(step, times, &bytes).with_context(|| format!("{step} of {path}"))?;
        if let Some(path) = words.next() {
            std::fs::write(path, bytemuck::cast_slice(&bench.tensor)).with_context(|| path.to_owned())?;
        }
        println!("{ms}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Everything that is kept from image to image, as in the stages.
struct Bench {
    limits: Limits,
    decoder: Decoder,
    exact: Preprocessor,
    auto: Preprocessor,
    cropper: Cropper,
    entropy: Decompressor,
    pixels: Vec<u8>,
    tensor: Vec<f32>,
    crops: Vec<f32>,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let limits = Limits::default();
        let [exact, auto] = [("exact", "linear"), ("auto", "auto")].map(|(scale, filter)| {
            plan(&format!(
                r#"{{ op = "decode", scale = {scale:?} }}, {{ op = "orient" }},
                {{ op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114, filter = {filter:?} }}"#
            ))
        });
        let crop = plan(
            r#"{ op = "crop", detection = "box" },
            { op = "resize", fit = "stretch", width = 224, height = 224, filter = "linear" }"#,
        )?;
        let exact = exact?;
        let mut entropy = Decompressor::new()?;
        entropy.set_scaling_factor(ScalingFactor::ONE_EIGHTH)?;
        Ok(Self {
            limits,
            decoder: Decoder::new(limits)?,
            tensor: vec![0.0; exact.tensor_len()],
            crops: vec![0.0; 3 * crop.tensor_len()],
            exact: Preprocessor::new(exact)?,
            auto: Preprocessor::new(auto?)?,
            cropper: Cropper::new(crop)?,
            entropy,
            pixels: Vec::new(),
        })
    }

    fn run(&mut self, step: Step, times: u32, bytes: &[u8]) -> anyhow::Result<f64> {
        let header = probe(bytes, &self.limits)?;
        self.decode(bytes)?; // warms up, and is what resize and crops begin with
        let own = std::process::id();
        let start = clock::cpu_ns(own)?;
        for _ in 0..times {
            match step {
                Step::Exact => self.sample(bytes, DecodeScale::Full)?,
                Step::Auto => self.sample(bytes, self.auto.plan().decode_scale(&header))?,
                Step::Kept => {
                    let header = self.decode(bytes)?;
                    self.resize(&header)?;
                }
                Step::Resize => self.resize(&header)?,
                Step::Crops => self.crop(&header)?,
                Step::Floor => self.read_entropy(bytes)?,
            }
        }
        Ok((clock::cpu_ns(own)? - start) as f64 / 1e6 / f64::from(times.max(1)))
    }

    fn sample(&mut self, bytes: &[u8], scale: DecodeScale) -> anyhow::Result<()> {
        let header = probe(bytes, &self.limits)?;
        let preprocessor = if scale == DecodeScale::Full { &mut self.exact } else { &mut self.auto };
        let mut rows = self.decoder.rows(bytes, &header, scale)?;
        preprocessor.run(&mut rows, bytemuck::cast_slice_mut(&mut self.tensor))?;
        Ok(rows.finish()?)
    }

    fn decode(&mut self, bytes: &[u8]) -> anyhow::Result<Header> {
        let header = probe(bytes, &self.limits)?;
        let rgb_bytes = header.rgb_bytes(DecodeScale::Full);
        self.pixels.resize(self.pixels.len().max(rgb_bytes), 0);
        self.decoder.decode_rgb(bytes, &header, &mut self.pixels[..rgb_bytes])?;
        Ok(header)
    }

    fn resize(&mut self, header: &Header) -> anyhow::Result<()> {
        let (width, height) = header.oriented_size();
        let mut view = FrameView::rgb(&self.pixels, width, height)?;
        let Ok(_) = self.exact.run(&mut view, bytemuck::cast_slice_mut(&mut self.tensor));
        Ok(())
    }

    /// Of boxes as a detector finds them: a tall one, a wide one, a large one, spread over the frame.
    fn crop(&mut self, header: &Header) -> anyhow::Result<()> {
        let (width, height) = header.oriented_size();
        let view = FrameView::rgb(&self.pixels, width, height)?;
        let (w, h) = (width as f32, height as f32);
        let boxes = [[0.05, 0.2, 0.12, 0.6], [0.4, 0.5, 0.65, 0.7], [0.7, 0.1, 0.95, 0.9]];
        let numbers = self.crops.len() / 3;
        let crops = self.crops.chunks_exact_mut(numbers);
        for ([x0, y0, x1, y1], crop) in boxes.into_iter().zip(crops) {
            let rect = Rect { x0: x0 * w, y0: y0 * h, x1: x1 * w, y1: y1 * h };
            self.cropper.run(&view, &rect, bytemuck::cast_slice_mut(crop));
        }
        Ok(())
    }

    fn read_entropy(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let scaled = self.entropy.read_header(bytes)?.scaled(ScalingFactor::ONE_EIGHTH);
        let (width, height) = (scaled.width, scaled.height);
        let pixels = &mut self.pixels[..3 * width * height];
        self.entropy.decompress(bytes, Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB })?;
        Ok(())
    }
}

/// To planes of f32, from 0 to 1.
fn plan(operators: &str) -> anyhow::Result<Plan> {
    let more = r#"{ op = "normalize", std = 255 }, { op = "layout", order = "nchw" }"#;
    let spec: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}, {more}]"))?;
    Ok(spec.compile()?.plan)
}
