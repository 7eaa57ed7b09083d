//! One tensor: what each operator of its graph makes, what the one pass makes, and how far they differ.

use std::time::{Duration, Instant};

use framepipe_vision::{
    DataType, Kernel, Plan,
    graph::{
        Operator,
        steps::{Picture, Step},
    },
};
use image::RgbImage;

use crate::report::{ChannelRow, Difference, OperatorRow, PassRow, Shape};

/// Runs of which a time is the median.
const RUNS: usize = 3;

/// What was seen of one tensor.
pub struct Inspection {
    /// The one pass.
    pub one_pass: OnePass,
    /// The operators.
    pub one_by_one: OneByOne,
}

/// A tensor's bytes, aligned for its numbers.
pub struct Tensor {
    words: Vec<u32>,
    bytes: usize,
}

impl Tensor {
    fn new(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(4)], bytes }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }
}

/// What each operator made.
pub struct OneByOne {
    steps: Vec<Step>,
    times: Vec<Duration>,
}

impl OneByOne {
    /// Does the operators several times.
    pub fn run(mut steps: impl FnMut() -> anyhow::Result<Vec<Step>>) -> anyhow::Result<Self> {
        let mut made = Vec::new();
        let times = median(|| {
            made.clear(); // before the next: they may be large
            made = steps()?;
            Ok(made.iter().map(|step| step.took).collect())
        })?;
        Ok(Self { steps: made, times })
    }
}

/// What the one pass made.
pub struct OnePass {
    /// The tensor.
    pub tensor: Tensor,
    kernel: Kernel,
    took: Duration,
}

impl OnePass {
    /// Makes the plan's tensor several times.
    pub fn run(plan: &Plan, mut pass: impl FnMut(&mut [u8]) -> anyhow::Result<Kernel>) -> anyhow::Result<Self> {
        let mut tensor = Tensor::new(plan.tensor_bytes());
        let mut kernel = None;
        let took = median(|| {
            let start = Instant::now();
            kernel = Some(pass(tensor.bytes_mut())?);
            Ok(vec![start.elapsed()])
        })?[0];
        Ok(Self { tensor, kernel: kernel.expect("it was run"), took })
    }
}

impl Inspection {
    /// What each operator made, in order.
    pub fn steps(&self) -> &[Step] {
        &self.one_by_one.steps
    }

    /// The operators' rows. `first` is what the first of them took; the pictures that show them are added later.
    pub fn operators(&self, first: Option<Shape>) -> Vec<OperatorRow> {
        let mut before = first;
        let rows = self.one_by_one.steps.iter().zip(&self.one_by_one.times).map(|(step, took)| {
            let after = after(step);
            let before = before.replace(after);
            let (name, arguments) = (step.operator.name(), arguments(&step.operator));
            OperatorRow { name, arguments, before, after, ms: ms(*took), picture: None }
        });
        rows.collect()
    }

    /// The tensor that the model sees, as a picture.
    pub fn picture(&self, plan: &Plan) -> RgbImage {
        to_image(&Picture::of_tensor(plan, self.one_pass.tensor.bytes()).to_levels(plan))
    }

    /// The one pass's row; its picture is `picture`.
    pub fn row(&self, plan: &Plan, picture: String) -> PassRow {
        let tensor = Picture::of_tensor(plan, self.one_pass.tensor.bytes());
        let expected = &self.steps().last().expect("a graph has operators").picture;
        let difference = difference(&tensor.to_levels(plan), &expected.to_levels(plan));
        let OnePass { kernel, took, .. } = self.one_pass;
        PassRow { kernel, ms: ms(took), channels: channels(&tensor), difference, picture }
    }
}

/// The medians of what [`RUNS`] runs gave.
fn median(mut run: impl FnMut() -> anyhow::Result<Vec<Duration>>) -> anyhow::Result<Vec<Duration>> {
    let runs = (0..RUNS).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |at: usize| {
        let mut times: Vec<Duration> = runs.iter().map(|run| run[at]).collect();
        times.sort();
        times[RUNS / 2]
    };
    Ok((0..runs[0].len()).map(of).collect())
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Grey levels as a picture.
pub fn to_image(levels: &Picture) -> RgbImage {
    let (width, height) = (levels.width as u32, levels.height as u32);
    RgbImage::from_raw(width, height, levels.to_rgb8()).expect("three bytes a pixel")
}

/// Sizes after an operator. What a crop of a detection leaves is no whole pixels.
fn after(step: &Step) -> Shape {
    let Picture { dtype, .. } = step.picture;
    let mut shape = step.picture.shape();
    if let Operator::Crop { detection: Some(_), .. } = step.operator {
        let rect = step.picture.rect();
        shape = [(rect.y1 - rect.y0).round() as usize, (rect.x1 - rect.x0).round() as usize, shape[2]];
    }
    Shape { shape, dtype }
}

/// The arguments as a manifest has them, defaults too.
fn arguments(operator: &Operator) -> String {
    // By way of text: numbers keep the digits that were written.
    let text = serde_json::to_string(operator).expect("operators are plain data");
    let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("it was just written");
    let arguments = table.iter().filter(|(name, value)| *name != "op" && !value.is_null());
    let words = arguments.map(|(name, value)| format!("{name}={}", value.to_string().replace('"', "")));
    words.collect::<Vec<_>>().join(" ")
}

fn channels(tensor: &Picture) -> Vec<ChannelRow> {
    use framepipe_vision::graph::Color;
    let names: &[&str] = match tensor.color {
        Color::Rgb => &["red", "green", "blue"],
        Color::Bgr => &["blue", "green", "red"],
        Color::Grey => &["grey"],
    };
    let row = |(channel, name): (usize, &&'static str)| {
        let pixels = (0..tensor.height).flat_map(|y| (0..tensor.width).map(move |x| (x, y)));
        let (mut min, mut max, mut sum) = (f32::INFINITY, f32::NEG_INFINITY, 0.0);
        for (x, y) in pixels {
            let number = tensor.number(x, y, channel);
            (min, max, sum) = (min.min(number), max.max(number), sum + f64::from(number));
        }
        ChannelRow { name, min, mean: (sum / (tensor.width * tensor.height) as f64) as f32, max }
    };
    names.iter().enumerate().map(row).collect()
}

/// How far two pictures' grey levels are apart.
fn difference(found: &Picture, expected: &Picture) -> Difference {
    let apart = found.numbers.iter().zip(&expected.numbers).map(|(found, expected)| (found - expected).abs());
    let (max, sum) = apart.fold((0.0f32, 0.0), |(max, sum), apart| (max.max(apart), sum + f64::from(apart)));
    Difference { max, mean: (sum / found.numbers.len() as f64) as f32 }
}

impl Shape {
    /// Of a frame's pixels.
    pub fn of_frame((width, height): (u32, u32)) -> Self {
        Self { shape: [height as usize, width as usize, 3], dtype: DataType::U8 }
    }
}
