//! What each step from bytes to tensors costs, to see what a change does: `cargo bench -p framepipe-vision`. The ratios that
//! are promised are measured beside OpenCV by `scripts/bench-images`.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use framepipe_frame::{RawFormat, RawFrame, detections::Detection};
use framepipe_vision::{
    Cropper, DecodeScale, Decoder, FrameView, InputSpec, Limits, Plan, Preprocessor, RawView, Rect, Region, nms, probe,
};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;

/// A picture with edges and grain.
fn picture() -> Vec<u8> {
    let mut state = 1u32;
    let grain = |at: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (at / 7 % 200 + (state >> 28)) as u8
    };
    (0..3 * WIDTH * HEIGHT).map(grain).collect()
}

fn jpeg(pixels: &[u8], progressive: bool) -> Vec<u8> {
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_progressive(progressive).unwrap();
    compressor.compress_to_vec(Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB }).unwrap()
}

fn plan(operators: &str) -> Plan {
    let spec: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}]")).unwrap();
    spec.compile().unwrap().plan
}

fn frame_plan(scale: &str, filter: &str, more: &str) -> Plan {
    plan(&format!(
        r#"{{ op = "decode", scale = "{scale}" }}, {{ op = "orient" }},
        {{ op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114, filter = "{filter}" }}{more}"#
    ))
}

/// A plan whose decoder may halve a side at most, since the tensor is not as much lower as it is narrower.
fn stretched_plan() -> Plan {
    plan(&format!(
        r#"{{ op = "decode", scale = "auto" }}, {{ op = "orient" }},
        {{ op = "resize", fit = "stretch", width = 416, height = 416 }}{PLANES}"#
    ))
}

const PLANES: &str = r#", { op = "normalize", std = 255 }, { op = "layout", order = "nchw" }"#;

fn decode(criterion: &mut Criterion) {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let pixels = picture();
    let mut out = vec![0; pixels.len()];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(WIDTH * HEIGHT)));
    for (kind, progressive) in [("baseline", false), ("progressive", true)] {
        let file = jpeg(&pixels, progressive);
        let header = probe(&file, &Limits::default()).unwrap();
        group.bench_function(format!("{kind}, whole"), |bench| {
            bench.iter(|| decoder.decode_rgb(&file, &header, &mut out).unwrap());
        });
        group.bench_function(format!("{kind}, 1/4"), |bench| {
            let scale = DecodeScale::Quarter;
            bench.iter(|| decoder.decode_scaled(&file, &header, scale, &mut out[..header.rgb_bytes(scale)]).unwrap());
        });
        group.bench_function(format!("{kind}, a region of 300x300"), |bench| {
            let region = Region { left: 800, top: 400, right: 1100, bottom: 700 };
            bench.iter(|| {
                decoder.decode_region(&file, &header, &region, &mut out[..region.rgb_bytes()]).unwrap();
            });
        });
    }
    group.finish();
}

fn tensor(criterion: &mut Criterion) {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let pixels = picture();
    let file = jpeg(&pixels, false);
    let header = probe(&file, &Limits::default()).unwrap();
    let mut group = criterion.benchmark_group("tensor of 416x416");
    for (name, plan) in [
        ("exact", frame_plan("exact", "linear", PLANES)),
        ("auto", frame_plan("auto", "auto", PLANES)),
        ("auto, stretched: averaged along the columns", stretched_plan()),
        ("auto, u8 pixels", frame_plan("auto", "auto", "")),
    ] {
        let mut preprocessor = Preprocessor::new(plan).unwrap();
        let scale = preprocessor.plan().decode_scale(&header);
        let mut words = vec![0f32; preprocessor.plan().tensor_bytes().div_ceil(4)];
        group.bench_function(format!("JPEG, {name}"), |bench| {
            let bytes = preprocessor.plan().tensor_bytes();
            bench.iter(|| {
                let mut rows = decoder.rows(&file, &header, scale).unwrap();
                preprocessor.run(&mut rows, &mut bytemuck::cast_slice_mut(&mut words)[..bytes]).unwrap();
                rows.finish().unwrap();
            });
        });
    }
    for filter in ["linear", "area"] {
        let mut preprocessor = Preprocessor::new(frame_plan("exact", filter, PLANES)).unwrap();
        let mut numbers = vec![0f32; preprocessor.plan().tensor_len()];
        group.bench_function(format!("pixels, {filter}"), |bench| {
            let mut view = FrameView::rgb(&pixels, WIDTH, HEIGHT).unwrap();
            bench.iter(|| preprocessor.run(&mut view, bytemuck::cast_slice_mut(&mut numbers)).unwrap());
        });
    }
    group.finish();
}

fn crops(criterion: &mut Criterion) {
    let pixels = picture();
    let view = FrameView::rgb(&pixels, WIDTH, HEIGHT).unwrap();
    let mut group = criterion.benchmark_group("crop of 300x500 to 224x224");
    for filter in ["linear", "area"] {
        let crop = format!(
            r#"{{ op = "crop", detection = "box" }},
            {{ op = "resize", fit = "stretch", width = 224, height = 224, filter = "{filter}" }}{PLANES}"#
        );
        let crop = plan(&crop);
        let mut numbers = vec![0f32; crop.tensor_len()];
        let mut cropper = Cropper::new(crop).unwrap();
        let rect = Rect { x0: 700.5, y0: 300.25, x1: 1000.5, y1: 800.25 };
        group.bench_function(filter, |bench| {
            bench.iter(|| cropper.run(&view, black_box(&rect), bytemuck::cast_slice_mut(&mut numbers)));
        });
    }
    group.finish();
}

fn planes(criterion: &mut Criterion) {
    let raw = RawFrame { format: RawFormat::Nv12 as u32, width: WIDTH, height: HEIGHT, stride: WIDTH };
    let bytes = &picture()[..(WIDTH * HEIGHT * 3 / 2) as usize];
    let mut out = vec![0; (3 * WIDTH * HEIGHT) as usize];
    criterion.bench_function("NV12 to RGB", |bench| {
        let view = RawView::of(bytes, &raw).unwrap().planar().unwrap();
        bench.iter(|| view.write_rgb(&mut out));
    });
}

fn suppression(criterion: &mut Criterion) {
    let candidate = |at: usize| {
        let (x0, y0) = ((at * 37 % 380) as f32, (at * 101 % 380) as f32);
        Detection {
            class: (at % 4) as u32,
            score: (at * 61 % 997) as f32 / 997.0,
            x0,
            y0,
            x1: x0 + 40.0,
            y1: y0 + 60.0,
            row: 0,
        }
    };
    let candidates: Vec<Detection> = (0..1000).map(candidate).collect();
    let mut kept = Vec::with_capacity(candidates.len());
    criterion.bench_function("NMS of 1000", |bench| {
        bench.iter(|| {
            kept.clone_from(&candidates);
            nms(&mut kept, 0.6, 1000, 100)
        });
    });
}

criterion_group!(images, decode, tensor, crops, planes, suppression);
criterion_main!(images);
