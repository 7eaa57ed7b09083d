//! What preprocessing costs on this GPU, and on a core of this CPU: `preprocess_rates PHOTO.jpg`. The photo is cut or repeated to
//! 1920x1080 and encoded again, at quality 85 with 4:2:0. Needs NVIDIA's driver, and for the rows of nvJPEG its library.
//!
//! Times of the device are between two events on its stream, of many launches one after another; sources rotate, so that they
//! do not stay in the device's cache. Rates of decoding are of the clock on the wall, the pixels awaited.
#![allow(unsafe_code, reason = "names memory of the device")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use framepipe_gpu::{
    Backend, Buffer, Ceilings, Choice, Crop, Cropper, Device, DeviceView, FrameTensor, JpegDecoder, Pinned,
    Preprocessor,
};
use framepipe_vision::{self as vision, Decoder, FrameView, Header, InputSpec, Limits, PixelOrder, Plan, Rect, probe};
use rustix::time::{ClockId, clock_gettime};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
const FRAME_BYTES: usize = 3 * WIDTH as usize * HEIGHT as usize;
/// Frames that rotate: more bytes than any device's cache.
const FRAMES: usize = 32;
const CROPS: usize = 32;
const THREADS: usize = 4;
const LAUNCHES: usize = 300;
const LONG: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let Some(photo) = std::env::args_os().nth(1) else { bail!("give a photo: preprocess_rates PHOTO.jpg") };
    let pixels = photo_1080p(&std::fs::read(&photo).with_context(|| format!("{}", photo.display()))?)?;
    let file = encode(&pixels)?;
    let header = probe(&file, &Limits::default())?;
    println!("1920x1080 of {}: {} bytes as JPEG", photo.display(), file.len());
    on_cpu(&file, &header, &pixels)?;
    let device = Device::open(&Choice::First)?;
    println!("\n{:?}", device.gpu());
    let mut on_cpu = vec![0; FRAME_BYTES];
    Decoder::new(Limits::default())?.decode_rgb(&file, &header, &mut on_cpu)?;
    for backend in [Backend::Default, Backend::Hybrid, Backend::Gpu, Backend::Hardware] {
        if let Err(error) = decoding(&device, backend, &file, &header, &on_cpu) {
            println!("nvJPEG, {backend:?}: {error}");
        }
    }
    kernels(&device, &pixels)
}

/// The photo's pixels as 1920x1080, cut, and repeated where it is smaller.
fn photo_1080p(file: &[u8]) -> Result<Vec<u8>> {
    let header = probe(file, &Limits::default())?;
    let (width, height) = header.oriented_size();
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    Decoder::new(Limits::default())?.decode_rgb(file, &header, &mut rgb)?;
    let at = |x: u32, y: u32| 3 * ((y % height) as usize * width as usize + (x % width) as usize);
    let places = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    Ok(places.flat_map(|(x, y)| rgb[at(x, y)..][..3].to_vec()).collect())
}

fn encode(pixels: &[u8]) -> Result<Vec<u8>> {
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let mut compressor = Compressor::new()?;
    compressor.set_subsamp(Subsamp::Sub2x2)?;
    compressor.set_quality(85)?;
    Ok(compressor.compress_to_vec(Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB })?)
}

fn plan(operators: &str) -> Result<Plan> {
    let spec: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}]"))?;
    Ok(spec.compile()?.plan)
}

fn frame_plan(filter: &str) -> Result<Plan> {
    plan(&format!(
        r#"{{ op = "decode" }}, {{ op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114, filter = "{filter}" }},
        {{ op = "normalize", std = 255 }}, {{ op = "layout", order = "nchw" }}"#
    ))
}

fn crop_plan() -> Result<Plan> {
    plan(
        r#"{ op = "crop", detection = "square" }, { op = "resize", fit = "stretch", width = 224, height = 224 },
        { op = "normalize", std = 255 }, { op = "layout", order = "nchw" }"#,
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
    for _ in 0..10 {
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

fn on_cpu(file: &[u8], header: &Header, pixels: &[u8]) -> Result<()> {
    let mut decoder = Decoder::new(Limits::default())?;
    let mut rgb = vec![0; FRAME_BYTES];
    let (decodes, _) = rate(|| Ok(decoder.decode_rgb(file, header, black_box(&mut rgb))?))?;
    println!("CPU, one core: libjpeg-turbo                {decodes:8.0} decodes/s");
    let (checks, _) = rate(|| Ok(JpegDecoder::check(black_box(file))?))?;
    println!("CPU, one core: check before nvJPEG          {checks:8.0} files/s");
    for filter in ["auto", "linear"] {
        let mut preprocessor = vision::Preprocessor::new(frame_plan(filter)?)?;
        let mut tensor = vec![0f32; preprocessor.plan().tensor_len()];
        let mut view = FrameView::rgb(pixels, WIDTH, HEIGHT)?;
        let (frames, _) = rate(|| {
            let Ok(_) = preprocessor.run(&mut view, bytemuck::cast_slice_mut(black_box(&mut tensor)));
            Ok(())
        })?;
        println!("CPU, one core: frame to 416x416, {filter:7}    {:8.0} us", 1e6 / frames);
    }
    let mut tensor = vec![0f32; crop_plan()?.tensor_len()];
    let mut cropper = vision::Cropper::new(crop_plan()?)?;
    let (view, rects) = (FrameView::rgb(pixels, WIDTH, HEIGHT)?, rects());
    let (runs, _) = rate(|| {
        rects.iter().for_each(|rect| cropper.run(&view, rect, bytemuck::cast_slice_mut(black_box(&mut tensor))));
        Ok(())
    })?;
    println!("CPU, one core: {CROPS} crops to 224x224         {:8.0} us", 1e6 / runs);
    Ok(())
}

fn decoding(device: &Device, backend: Backend, file: &[u8], header: &Header, on_cpu: &[u8]) -> Result<()> {
    let mut decoder = JpegDecoder::open(device, backend)?;
    let pixels = Buffer::new(device, JpegDecoder::bytes(header))?;
    // SAFETY: the buffer holds the pixels.
    let (decodes, cpu_ms) = rate(|| Ok(unsafe { decoder.decode(file, header, pixels.address()) }.map(drop)?))?;
    let mut found = vec![0u8; FRAME_BYTES];
    pixels.read(0, &mut found)?;
    let differences = found.iter().zip(on_cpu).map(|(one, other)| f64::from(one.abs_diff(*other)));
    let difference = differences.sum::<f64>() / found.len() as f64;
    println!(
        "nvJPEG ({}), {backend:?}: one thread      {decodes:8.0} decodes/s, {cpu_ms:.2} CPU ms each; {difference:.3} grey levels off libjpeg-turbo",
        decoder.library()
    );
    let rates: Result<Vec<(f64, f64)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Result<(f64, f64)> {
                    let device = Device::open(&Choice::First)?;
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
    println!("nvJPEG, {backend:?}: {THREADS} threads                   {all:8.0} decodes/s, {cpu_ms:.2} CPU ms each");
    Ok(())
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

fn kernels(device: &Device, pixels: &[u8]) -> Result<()> {
    let frames: Vec<Buffer> = (0..FRAMES).map(|_| Buffer::of(device, pixels)).collect::<Result<_, _>>()?;
    let view = |index: usize| {
        let frame = &frames[index % FRAMES];
        DeviceView::new((frame.address(), frame.bytes()), (WIDTH, HEIGHT), 3 * WIDTH as usize, PixelOrder::Rgb)
    };

    let copy_gb_s = Ceilings::measure(device)?.device_bytes / 1e9;
    println!("\ncopies within the device: {copy_gb_s:.0} GB/s read and written");

    let pinned = Pinned::new(device, FRAME_BYTES)?;
    // SAFETY: the buffer has so many bytes; both stay.
    let us = device_us(device, |call| Ok(unsafe { pinned.send(frames[call % FRAMES].address(), FRAME_BYTES) }?))?;
    println!("1080p RGB to the device: {us:.0} us, {:.1} GB/s", FRAME_BYTES as f64 / us / 1e3);
    for frame in &frames {
        frame.write(0, pixels)?;
    }

    for filter in ["auto", "linear"] {
        for count in [1, 8, 32] {
            let plan = frame_plan(filter)?;
            let tensors = Buffer::new(device, count * plan.tensor_bytes())?;
            // Linear takes two of each 4.6 rows; of those all bytes come.
            let read = if filter == "auto" { FRAME_BYTES } else { 2 * 234 * 3 * WIDTH as usize };
            let bytes = (read + plan.tensor_bytes()) as f64;
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
            let gb_s = bytes / (us / count as f64) / 1e3;
            println!(
                "frame to 416x416, {filter:6}, {count:2} a launch: {:7.1} us a frame, {gb_s:.0} GB/s, {:.0}% of a copy's",
                us / count as f64,
                100.0 * gb_s / copy_gb_s
            );
        }
    }

    let (plan, rects) = (crop_plan()?, rects());
    let tensors = Buffer::new(device, CROPS * plan.tensor_bytes())?;
    let mut cropper = Cropper::new(device, plan.clone(), CROPS, WIDTH)?;
    let us = device_us(device, |call| {
        let mut crops = Vec::with_capacity(CROPS);
        for (index, rect) in rects.iter().enumerate() {
            let tensor = tensors.part(index * plan.tensor_bytes(), plan.tensor_bytes())?;
            crops.push(Crop { view: view(call)?, rect: *rect, is_turned: index % 2 == 1, tensor });
        }
        // SAFETY: as above.
        Ok(unsafe { cropper.run(&crops) }?)
    })?;
    let read: f32 = rects.iter().map(|rect| 3.0 * (rect.x1 - rect.x0) * (rect.y1 - rect.y0)).sum();
    let gb_s = (f64::from(read) + (CROPS * plan.tensor_bytes()) as f64) / us / 1e3;
    println!(
        "{CROPS} crops to 224x224, one launch: {us:.1} us, {gb_s:.0} GB/s, {:.0}% of a copy's",
        100.0 * gb_s / copy_gb_s
    );
    device.synchronize()?;
    Ok(())
}
