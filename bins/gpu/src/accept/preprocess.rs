//! From an image's bytes to tensors: the kernels against the CPU's pass, and what decoding, copying and resizing take on the GPU
//! and on one core of the CPU.
//!
//! Times of the GPU are those of many calls one after another; sources rotate, so that they do not stay in its cache. Rates of
//! decoding are of the clock on the wall, the pixels awaited.
#![allow(unsafe_code, reason = "names memory of the device")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use framepipe_gpu::{
    Backend, Buffer, Choice, Crop, Cropper, Device, DeviceView, FrameTensor, JpegDecoder, Pinned, Preprocessor,
};
use framepipe_vision::{self as vision, Decoder, FrameView, Header, InputSpec, Limits, PixelOrder, Plan, Rect, probe};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::photo;

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
const FRAME_BYTES: usize = 3 * WIDTH as usize * HEIGHT as usize;
/// Frames that rotate: more bytes than any device's cache.
const FRAMES: usize = 32;
const CROPS: usize = 32;
const THREADS: usize = 4;
const LAUNCHES: usize = 200;
const LONG: Duration = Duration::from_millis(700);
/// Most that a tensor's numbers differ from the CPU's, in grey levels: the largest difference, and the mean.
const TENSOR_APART: [f64; 2] = [1.0, 0.3];
/// Most that nvJPEG's pixels differ from libjpeg-turbo's: in single ones, where a colour changes, they may be far apart.
const JPEG_APART: [f64; 2] = [255.0, 1.5];

/// What came of it.
#[derive(Serialize)]
pub struct Preprocess {
    /// Bytes of the JPEG of 1920x1080.
    pub jpeg_bytes: usize,
    pub rows: Vec<Row>,
    /// Grey levels between what the GPU makes and what the CPU makes.
    pub differences: Vec<Difference>,
    /// Why there are no figures of nvJPEG.
    pub no_nvjpeg: Vec<String>,
}

/// How far two lists of grey levels are apart.
#[derive(Serialize)]
pub struct Difference {
    pub what: String,
    pub largest: f64,
    pub mean: f64,
    /// Most that both may be.
    pub most: [f64; 2],
}

/// One figure.
#[derive(Serialize)]
pub struct Row {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// Milliseconds of the CPU that each takes, where the CPU has a part in it.
    pub cpu_ms: Option<f64>,
}

/// Measures all of it.
pub fn measure(choice: &Choice, device: &Device) -> Result<Preprocess> {
    let pixels = photo::pixels(WIDTH, HEIGHT);
    let file = photo::jpeg(&pixels, WIDTH, HEIGHT)?;
    let header = probe(&file, &Limits::default())?;
    let mut found =
        Preprocess { jpeg_bytes: file.len(), rows: Vec::new(), differences: Vec::new(), no_nvjpeg: Vec::new() };
    found.cpu(&file, &header, &pixels)?;
    let mut decoded = vec![0; FRAME_BYTES];
    Decoder::new(Limits::default())?.decode_rgb(&file, &header, &mut decoded)?;
    for backend in [Backend::Hybrid, Backend::Gpu] {
        if let Err(error) = found.nvjpeg(choice, device, backend, &file, &header, &decoded) {
            found.no_nvjpeg.push(format!("{backend:?}: {error:#}"));
        }
    }
    found.kernels(device, &pixels)?;
    Ok(found)
}

fn plan(operators: &str) -> Result<Plan> {
    let spec: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}]"))?;
    Ok(spec.compile()?.plan)
}

/// A detector's: of grey levels, so that differences are.
fn frame_plan(filter: &str) -> Result<Plan> {
    plan(&format!(
        r#"{{ op = "decode" }}, {{ op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114, filter = "{filter}" }},
        {{ op = "normalize", std = 1 }}, {{ op = "layout", order = "nchw" }}"#
    ))
}

fn crop_plan() -> Result<Plan> {
    plan(
        r#"{ op = "crop", detection = "square" }, { op = "resize", fit = "stretch", width = 224, height = 224 },
        { op = "normalize", std = 1 }, { op = "layout", order = "nchw" }"#,
    )
}

/// Squares of 160 to 470 pixels all over the frame.
fn rects() -> Vec<Rect> {
    let rect = |index: usize| {
        let (side, x0, y0) = (160.0 + 10.0 * index as f32, (index * 37 % 1400) as f32, (index * 53 % 600) as f32);
        Rect { x0, y0, x1: x0 + side, y1: y0 + side }
    };
    (0..CROPS).map(rect).collect()
}

/// Of this thread.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Calls `work` for a while, and says how many times a second, and how many CPU milliseconds each took.
fn rate(mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    for _ in 0..5 {
        work()?;
    }
    let (start, cpu, mut count) = (Instant::now(), cpu_time(), 0);
    while start.elapsed() < LONG {
        work()?;
        count += 1;
    }
    let used = (cpu_time() - cpu).as_secs_f64();
    Ok((f64::from(count) / start.elapsed().as_secs_f64(), 1e3 * used / f64::from(count)))
}

/// Microseconds of the device's time that each of many calls takes, one after another.
fn device_us(device: &Device, mut ask: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    for call in 0..20 {
        ask(call)?;
    }
    device.synchronize()?;
    let start = Instant::now();
    for call in 0..LAUNCHES {
        ask(call)?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / LAUNCHES as f64)
}

impl Preprocess {
    /// What is farther apart than it may be.
    pub fn wrong(&self) -> impl Iterator<Item = String> {
        let is_wrong = |one: &&Difference| !(one.largest <= one.most[0] && one.mean <= one.most[1]);
        self.differences.iter().filter(is_wrong).map(|Difference { what, largest, mean, .. }| {
            format!("{what}: {largest:.3} grey levels off the CPU's, {mean:.3} in the mean")
        })
    }

    fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, cpu_ms: Option<f64>) {
        self.rows.push(Row { what: what.into(), value, unit, cpu_ms });
    }

    fn cpu(&mut self, file: &[u8], header: &Header, pixels: &[u8]) -> Result<()> {
        let mut decoder = Decoder::new(Limits::default())?;
        let mut rgb = vec![0; FRAME_BYTES];
        let (decodes, cpu_ms) = rate(|| Ok(decoder.decode_rgb(file, header, black_box(&mut rgb))?))?;
        self.add("libjpeg-turbo, one core", decodes, "decodes/s", Some(cpu_ms));
        let (checks, cpu_ms) = rate(|| Ok(JpegDecoder::check(black_box(file))?))?;
        self.add("check of a file before nvJPEG, one core", checks, "files/s", Some(cpu_ms));
        for filter in ["auto", "linear"] {
            let mut preprocessor = vision::Preprocessor::new(frame_plan(filter)?)?;
            let mut tensor = vec![0f32; preprocessor.plan().tensor_len()];
            let mut view = FrameView::rgb(pixels, WIDTH, HEIGHT)?;
            let (frames, cpu_ms) = rate(|| {
                let Ok(_) = preprocessor.run(&mut view, bytemuck::cast_slice_mut(black_box(&mut tensor)));
                Ok(())
            })?;
            self.add(format!("frame to 416x416, {filter}, one core"), 1e6 / frames, "us", Some(cpu_ms));
        }
        let mut tensor = vec![0f32; crop_plan()?.tensor_len()];
        let mut cropper = vision::Cropper::new(crop_plan()?)?;
        let (view, rects) = (FrameView::rgb(pixels, WIDTH, HEIGHT)?, rects());
        let (runs, cpu_ms) = rate(|| {
            rects.iter().for_each(|rect| cropper.run(&view, rect, bytemuck::cast_slice_mut(black_box(&mut tensor))));
            Ok(())
        })?;
        self.add(format!("{CROPS} crops to 224x224, one core"), 1e6 / runs, "us", Some(cpu_ms));
        Ok(())
    }

    fn nvjpeg(
        &mut self,
        choice: &Choice,
        device: &Device,
        backend: Backend,
        file: &[u8],
        header: &Header,
        on_cpu: &[u8],
    ) -> Result<()> {
        let mut decoder = JpegDecoder::open(device, backend)?;
        let pixels = Buffer::new(device, JpegDecoder::bytes(header))?;
        // SAFETY: the buffer holds the pixels.
        let (decodes, cpu_ms) = rate(|| Ok(unsafe { decoder.decode(file, header, pixels.address()) }.map(drop)?))?;
        let name = format!("nvJPEG {}, {backend:?}", decoder.library());
        self.add(format!("{name}, one thread"), decodes, "decodes/s", Some(cpu_ms));
        let mut found = vec![0u8; FRAME_BYTES];
        pixels.read(0, &mut found)?;
        let levels = |bytes: &[u8]| bytes.iter().map(|byte| f32::from(*byte)).collect::<Vec<f32>>();
        self.compare(format!("{name} and libjpeg-turbo"), &levels(&found), &levels(on_cpu), JPEG_APART)?;
        let rates: Result<Vec<(f64, f64)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| -> Result<(f64, f64)> {
                        let device = Device::open(choice)?;
                        let mut decoder = JpegDecoder::open(&device, backend)?;
                        let pixels = Buffer::new(&device, JpegDecoder::bytes(header))?;
                        // SAFETY: as above.
                        rate(|| Ok(unsafe { decoder.decode(file, header, pixels.address()) }.map(drop)?))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
        });
        let rates = rates?;
        let all: f64 = rates.iter().map(|(decodes, _)| decodes).sum();
        let cpu_ms = rates.iter().map(|(_, cpu_ms)| cpu_ms).sum::<f64>() / THREADS as f64;
        self.add(format!("{name}, {THREADS} threads"), all, "decodes/s", Some(cpu_ms));
        Ok(())
    }

    /// Takes down how far two lists of grey levels are apart.
    fn compare(&mut self, what: String, ours: &[f32], theirs: &[f32], most: [f64; 2]) -> Result<()> {
        ensure!(ours.len() == theirs.len(), "{what}: {} numbers and {}", ours.len(), theirs.len());
        let apart = || ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()));
        let (largest, mean) = (apart().fold(0.0, f64::max), apart().sum::<f64>() / ours.len() as f64);
        self.differences.push(Difference { what, largest, mean, most });
        Ok(())
    }

    fn kernels(&mut self, device: &Device, pixels: &[u8]) -> Result<()> {
        let frames: Vec<Buffer> = (0..FRAMES).map(|_| Buffer::of(device, pixels)).collect::<Result<_, _>>()?;
        let view = |index: usize| {
            let frame = &frames[index % FRAMES];
            DeviceView::new((frame.address(), frame.bytes()), (WIDTH, HEIGHT), 3 * WIDTH as usize, PixelOrder::Rgb)
        };
        let pinned = Pinned::new(device, FRAME_BYTES)?;
        // SAFETY: the buffer has so many bytes; both stay.
        let us = device_us(device, |call| Ok(unsafe { pinned.send(frames[call % FRAMES].address(), FRAME_BYTES) }?))?;
        self.add("1080p RGB to the device", us, "us", None);
        for frame in &frames {
            frame.write(0, pixels)?;
        }
        for filter in ["auto", "linear"] {
            for count in [1, 32] {
                let plan = frame_plan(filter)?;
                let tensors = Buffer::new(device, count * plan.tensor_bytes())?;
                let mut preprocessor = Preprocessor::new(device, plan.clone(), count, WIDTH)?;
                let (mut maps, mut asked) = (Vec::new(), Vec::new());
                let us = device_us(device, |call| {
                    asked.clear();
                    for index in 0..count {
                        let tensor = tensors.part(index * plan.tensor_bytes(), plan.tensor_bytes())?;
                        asked.push(FrameTensor { view: view(call * count + index)?, tensor });
                    }
                    // SAFETY: sources and tensors are buffers of the device, which stay.
                    Ok(unsafe { preprocessor.run(&asked, &mut maps) }?)
                })?;
                self.add(format!("frame to 416x416, {filter}, {count} a launch"), us / count as f64, "us", None);
                let mut ours = vec![0f32; plan.tensor_len()];
                tensors.read((count - 1) * plan.tensor_bytes(), &mut ours)?;
                let mut theirs = vec![0f32; plan.tensor_len()];
                let mut frame = FrameView::rgb(pixels, WIDTH, HEIGHT)?;
                let Ok(_) = vision::Preprocessor::new(plan)?.run(&mut frame, bytemuck::cast_slice_mut(&mut theirs));
                self.compare(format!("frame to 416x416, {filter}, {count} a launch"), &ours, &theirs, TENSOR_APART)?;
            }
        }
        let (plan, rects) = (crop_plan()?, rects());
        let tensors = Buffer::new(device, CROPS * plan.tensor_bytes())?;
        let mut cropper = Cropper::new(device, plan.clone(), CROPS, WIDTH)?;
        let us = device_us(device, |call| {
            let mut crops = Vec::with_capacity(CROPS);
            for (index, rect) in rects.iter().enumerate() {
                let tensor = tensors.part(index * plan.tensor_bytes(), plan.tensor_bytes())?;
                crops.push(Crop { view: view(call)?, rect: *rect, is_turned: false, tensor });
            }
            // SAFETY: as above.
            Ok(unsafe { cropper.run(&crops) }?)
        })?;
        self.add(format!("{CROPS} crops to 224x224, one launch"), us, "us", None);
        let mut ours = vec![0f32; CROPS * plan.tensor_len()];
        tensors.read(0, &mut ours)?;
        let mut theirs = vec![0f32; CROPS * plan.tensor_len()];
        let frame = FrameView::rgb(pixels, WIDTH, HEIGHT)?;
        let mut on_cpu = vision::Cropper::new(plan.clone())?;
        for (rect, tensor) in rects.iter().zip(theirs.chunks_exact_mut(plan.tensor_len())) {
            on_cpu.run(&frame, rect, bytemuck::cast_slice_mut(tensor));
        }
        self.compare(format!("{CROPS} crops to 224x224"), &ours, &theirs, TENSOR_APART)?;
        Ok(())
    }
}
