//! Preprocessing on a GPU beside the CPU's: kernels, and nvJPEG. Each test says that it does nothing where there is no GPU;
//! `FRAMEPIPE_GPU_TESTS=require` makes that a failure.
#![allow(unsafe_code, reason = "names memory of the device")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod compare;

use compare::{assert_close, bytes, room};
use framepipe_gpu::{
    Backend, Buffer, Choice, Crop, Cropper, Device, DeviceView, FrameTensor, GpuError, JpegDecoder, JpegFault,
    NvJpegError, Preprocessor,
};
use framepipe_vision as vision;
use framepipe_vision::{
    Decoder, Format, JpegColor, Limits, Plan, Rect,
    generate::{Frame, any_crop_plan, any_plan, frames, noise},
    probe,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// Most that nvJPEG's pixels differ from libjpeg-turbo's, in grey levels: their colours may be upsampled in other ways.
const JPEG_MEAN_MAX: f64 = 1.5;

fn may_skip(reason: &dyn std::fmt::Display) {
    assert!(std::env::var("FRAMEPIPE_GPU_TESTS").as_deref() != Ok("require"), "{reason}");
    eprintln!("skipped: {reason}");
}

/// The GPU, if there is one.
fn device() -> Option<Device> {
    match Device::open(&Choice::First) {
        Ok(device) => {
            // NVIDIA's libraries would not find the context again, if the last test but one ended it.
            std::mem::forget(device.clone());
            Some(device)
        }
        Err(GpuError::Unavailable(reason)) => {
            may_skip(&reason);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn view(frame: &Frame, buffer: &Buffer) -> DeviceView {
    let order = frame.view().order();
    let place = (buffer.address(), buffer.bytes());
    DeviceView::new(place, (frame.raw.width, frame.raw.height), frame.raw.stride as usize, order).unwrap()
}

fn run(cases: u32, mut check: impl FnMut(&mut TestRunner) -> Result<(), TestCaseError>) {
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    for _ in 0..cases {
        check(&mut runner).unwrap();
    }
}

fn one<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

#[test]
fn frames_have_the_tensors_of_the_cpu() {
    let Some(device) = device() else { return };
    run(150, |runner| {
        let frames = one(runner, prop::collection::vec(frames(300), 1..5));
        let plan = one(runner, any_plan(120));
        let sources: Vec<Buffer> = frames.iter().map(|frame| Buffer::of(&device, &frame.data).unwrap()).collect();
        let tensors = Buffer::new(&device, frames.len() * plan.tensor_bytes().next_multiple_of(256)).unwrap();
        let at = |index: usize| index * plan.tensor_bytes().next_multiple_of(256);
        tensors.write(0, &vec![u8::MAX; tensors.bytes()]).unwrap();
        let mut preprocessor = Preprocessor::new(&device, plan.clone(), frames.len(), 300).unwrap();
        let mut maps = Vec::new();
        // The second time with tables that are kept.
        for _ in 0..2 {
            let asked: Vec<FrameTensor> = frames
                .iter()
                .zip(&sources)
                .enumerate()
                .map(|(index, (frame, source))| FrameTensor {
                    view: view(frame, source),
                    tensor: tensors.part(at(index), plan.tensor_bytes()).unwrap(),
                })
                .collect();
            // SAFETY: sources and tensors are buffers of the device, which outlive the work.
            unsafe { preprocessor.run(&asked, &mut maps) }.unwrap();
        }
        let mut on_cpu = vision::Preprocessor::new(plan.clone()).unwrap();
        for (index, frame) in frames.iter().enumerate() {
            let (mut found, mut expected) = (room(&plan), room(&plan));
            tensors.read(at(index), bytes(&plan, &mut found)).unwrap();
            let Ok(map) = on_cpu.run(&mut frame.view(), bytes(&plan, &mut expected));
            assert_eq!(maps[index], map);
            assert_close(&plan, &mut found, &mut expected)?;
        }
        Ok(())
    });
}

#[test]
fn crops_have_the_tensors_of_the_cpu() {
    let Some(device) = device() else { return };
    let side = || -40.0f32..340.0;
    run(150, |runner| {
        let frame = one(runner, frames(300));
        let plan = one(runner, any_crop_plan(120));
        let rects =
            one(runner, prop::collection::vec((side(), side(), 0.1f32..300.0, 0.1f32..300.0, any::<bool>()), 1..33));
        let source = Buffer::of(&device, &frame.data).unwrap();
        let at = |index: usize| index * plan.tensor_bytes().next_multiple_of(256);
        let tensors = Buffer::new(&device, at(rects.len())).unwrap();
        tensors.write(0, &vec![u8::MAX; tensors.bytes()]).unwrap();
        let crops: Vec<Crop> = rects
            .iter()
            .enumerate()
            .map(|(index, &(x0, y0, width, height, is_turned))| Crop {
                view: view(&frame, &source),
                rect: Rect { x0, y0, x1: x0 + width, y1: y0 + height },
                is_turned,
                tensor: tensors.part(at(index), plan.tensor_bytes()).unwrap(),
            })
            .collect();
        let mut cropper = Cropper::new(&device, plan.clone(), crops.len(), 300).unwrap();
        // SAFETY: as above.
        unsafe { cropper.run(&crops) }.unwrap();
        let mut on_cpu = vision::Cropper::new(plan.clone()).unwrap();
        for (index, crop) in crops.iter().enumerate() {
            let (mut found, mut expected) = (room(&plan), room(&plan));
            tensors.read(at(index), bytes(&plan, &mut found)).unwrap();
            on_cpu.run(&frame.view(), &crop.rect, bytes(&plan, &mut expected));
            if crop.is_turned {
                on_cpu.turn(&crop.rect, (frame.raw.width, frame.raw.height), bytes(&plan, &mut expected));
            }
            assert_close(&plan, &mut found, &mut expected)?;
        }
        Ok(())
    });
}

#[test]
fn a_large_frame_and_launches_one_after_another() {
    let Some(device) = device() else { return };
    let graph = r#"tensor = "images"
        graph = [{ op = "decode" }, { op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114 },
        { op = "normalize", std = 255 }, { op = "layout", order = "nchw" }]"#;
    let plan: Plan = toml::from_str::<vision::InputSpec>(graph).unwrap().compile().unwrap().plan;
    let (width, height) = (4000, 3000);
    let mut preprocessor = Preprocessor::new(&device, plan.clone(), 1, 4000).unwrap();
    let frames: Vec<Frame> =
        (0..5).map(|seed| Frame::rgb(width, height, noise(seed, 3 * (width * height) as usize))).collect();
    let sources: Vec<Buffer> = frames.iter().map(|frame| Buffer::of(&device, &frame.data).unwrap()).collect();
    let tensors: Vec<Buffer> = frames.iter().map(|_| Buffer::new(&device, plan.tensor_bytes()).unwrap()).collect();
    // More than there are batches' memories, without waiting.
    for ((frame, source), tensor) in frames.iter().zip(&sources).zip(&tensors) {
        let asked = FrameTensor { view: view(frame, source), tensor: tensor.address() };
        // SAFETY: as above.
        unsafe { preprocessor.run(&[asked], &mut Vec::new()) }.unwrap();
    }
    let mut on_cpu = vision::Preprocessor::new(plan.clone()).unwrap();
    for (frame, tensor) in frames.iter().zip(&tensors) {
        let (mut found, mut expected) = (room(&plan), room(&plan));
        tensor.read(0, bytes(&plan, &mut found)).unwrap();
        let Ok(_) = on_cpu.run(&mut frame.view(), bytes(&plan, &mut expected));
        assert_close(&plan, &mut found, &mut expected).unwrap();
    }
}

#[test]
fn a_wrong_plan_and_too_many_are_errors() {
    let Some(device) = device() else { return };
    let mut runner = TestRunner::deterministic();
    let (frame_plan, crop_plan) = (one(&mut runner, any_plan(20)), one(&mut runner, any_crop_plan(20)));
    assert!(matches!(Preprocessor::new(&device, crop_plan.clone(), 1, 10), Err(GpuError::Argument(_))));
    assert!(matches!(Cropper::new(&device, frame_plan.clone(), 1, 10), Err(GpuError::Argument(_))));
    assert!(matches!(Cropper::new(&device, crop_plan, 0, 10), Err(GpuError::Argument(_))));
    let frame = Frame::rgb(5, 5, noise(1, 75));
    let (source, tensor) =
        (Buffer::of(&device, &frame.data).unwrap(), Buffer::new(&device, frame_plan.tensor_bytes()).unwrap());
    let mut preprocessor = Preprocessor::new(&device, frame_plan, 1, 10).unwrap();
    let asked = FrameTensor { view: view(&frame, &source), tensor: tensor.address() };
    // SAFETY: as above.
    assert!(matches!(unsafe { preprocessor.run(&[asked; 2], &mut Vec::new()) }, Err(GpuError::Argument(_))));
    // SAFETY: as above.
    unsafe { preprocessor.run(&[asked], &mut Vec::new()) }.unwrap();
    device.synchronize().unwrap();
}

/// A decoder on the GPU, if there is one.
fn decoder(device: &Device, backend: Backend) -> Option<JpegDecoder> {
    match JpegDecoder::open(device, backend) {
        Ok(decoder) => {
            eprintln!("{}, {backend:?}", decoder.library());
            Some(decoder)
        }
        Err(error @ NvJpegError::Missing(_)) => {
            may_skip(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A picture of smooth colours with edges, as photos are.
fn picture(width: usize, height: usize) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let disc =
            (x as i64 - width as i64 / 3).pow(2) + (y as i64 - height as i64 / 2).pow(2) < (height as i64 / 4).pow(2);
        let wave = (127.0 + 100.0 * (x as f32 / 17.0).sin() * (y as f32 / 23.0).cos()) as u8;
        if disc { [230, 40, 30] } else { [wave, (x * 255 / width) as u8, (y * 255 / height) as u8] }
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

fn jpeg(width: usize, height: usize, subsampling: Subsamp, is_progressive: bool) -> Vec<u8> {
    let pixels = picture(width, height);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_quality(90).unwrap();
    compressor.set_progressive(is_progressive).unwrap();
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(image).unwrap()
}

/// The pixels as RGB8 that the device makes of a file, and those of the CPU.
fn decoded(device: &Device, decoder: &mut JpegDecoder, file: &[u8]) -> (Result<Vec<u8>, JpegFault>, Option<Vec<u8>>) {
    let Ok(header) = probe(file, &Limits::default()) else {
        return (Err(JpegFault::NotForGpu("no header".into())), None);
    };
    let header = vision::Header { orientation: 1, ..header };
    let mut expected = vec![0; 3 * header.width as usize * header.height as usize];
    let on_cpu =
        Decoder::new(Limits::default()).unwrap().decode_rgb(file, &header, &mut expected).is_ok().then_some(expected);
    let buffer = Buffer::new(device, JpegDecoder::bytes(&header)).unwrap();
    // SAFETY: the buffer holds the pixels.
    let found = unsafe { decoder.decode(file, &header, buffer.address()) }.map(|_| {
        let mut pixels = vec![0; JpegDecoder::bytes(&header)];
        buffer.read(0, &mut pixels).unwrap();
        match header.format {
            Format::Jpeg(JpegColor::Grey) => pixels.into_iter().flat_map(|level| [level; 3]).collect(),
            _ => pixels,
        }
    });
    (found, on_cpu)
}

fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| f64::from(one.abs_diff(*other))).sum::<f64>() / one.len() as f64
}

#[test]
fn nvjpegs_pixels_are_libjpegs() {
    let Some(device) = device() else { return };
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../photos");
    let photos = std::fs::read_dir(photos).into_iter().flatten().map(|entry| entry.unwrap().path());
    let photos: Vec<_> = photos.filter(|path| path.extension().is_some_and(|extension| extension == "jpg")).collect();
    for backend in [Backend::Default, Backend::Hybrid, Backend::Gpu] {
        let Some(mut decoder) = decoder(&device, backend) else { return };
        let drawn = [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Gray]
            .map(|subsampling| (format!("{subsampling:?}"), jpeg(641, 479, subsampling, false)));
        let photos = photos.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap()));
        for (name, file) in drawn.into_iter().chain(photos) {
            let (found, expected) = decoded(&device, &mut decoder, &file);
            let difference =
                mean_difference(&found.unwrap_or_else(|fault| panic!("{name}: {fault}")), &expected.unwrap());
            eprintln!("{backend:?}: {name}: {difference:.3} grey levels");
            assert!(difference <= JPEG_MEAN_MAX, "{name}");
        }
        let header = probe(&jpeg(64, 48, Subsamp::Sub2x2, true), &Limits::default()).unwrap();
        // SAFETY: nothing is written: the file is refused before.
        let progressive = unsafe { decoder.decode(&jpeg(64, 48, Subsamp::Sub2x2, true), &header, 0) };
        assert!(matches!(progressive, Err(JpegFault::NotForGpu(_))), "{progressive:?}");
    }
}

#[test]
fn what_is_broken_is_refused_where_the_cpu_refuses_it() {
    let Some(device) = device() else { return };
    for backend in [Backend::Default, Backend::Hybrid, Backend::Gpu] {
        let Some(mut decoder) = decoder(&device, backend) else { return };
        let file = jpeg(320, 240, Subsamp::Sub2x2, false);
        let start = file.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for length in (0..file.len()).step_by(file.len() / 60) {
            let (found, _) = decoded(&device, &mut decoder, &file[..length]);
            assert!(matches!(found, Err(JpegFault::NotForGpu(_))), "{length} bytes: {:?}", found.err());
        }
        let (mut refused, mut left, mut alike, mut differ) = (0, 0, 0, 0);
        let random = noise(11, 4 * 2000);
        for numbers in random.as_chunks::<4>().0 {
            let at = start + usize::from(u16::from_le_bytes([numbers[0], numbers[1]])) % (file.len() - start - 2);
            let mut broken = file.clone();
            match numbers[2] % 4 {
                0 => broken[at] ^= numbers[3].max(1),
                1 => broken[at] ^= 1 << (numbers[3] % 8),
                // Data are missing, and the end marker is there.
                2 => drop(broken.drain(at..file.len() - 2)),
                _ => drop(broken.drain(at..(at + 40).min(file.len() - 2))),
            }
            match decoded(&device, &mut decoder, &broken) {
                (Err(JpegFault::Gpu(error)), _) => panic!("{error}"),
                (Ok(_), None) => panic!("byte {at}, {numbers:?}: it has pixels, and none on the CPU"),
                (Err(JpegFault::NotForGpu(_)), None) => refused += 1,
                (Err(JpegFault::NotForGpu(_)), Some(_)) => left += 1,
                (Ok(found), Some(expected)) if mean_difference(&found, &expected) <= JPEG_MEAN_MAX => alike += 1,
                (Ok(_), Some(_)) => differ += 1,
            }
        }
        eprintln!(
            "{backend:?}: of 2000 broken files {refused} are refused by both, {left} left to the CPU, which takes them, {alike} have \
             the same pixels, {differ} others"
        );
        assert!(refused > 500 && alike > 100, "the damage is of many kinds");
        // The decoder goes on.
        let (found, expected) = decoded(&device, &mut decoder, &file);
        assert!(mean_difference(&found.unwrap(), &expected.unwrap()) <= JPEG_MEAN_MAX);
    }
}

#[test]
fn a_decoded_photo_has_the_tensor_of_the_cpu() {
    let Some(device) = device() else { return };
    let Some(mut decoder) = decoder(&device, Backend::Default) else { return };
    let graph = r#"tensor = "images"
        graph = [{ op = "decode" }, { op = "orient" }, { op = "resize", fit = "letterbox", width = 416, height = 416, pad = 114 },
        { op = "layout", order = "nchw" }, { op = "cast", dtype = "f32" }]"#;
    let plan: Plan = toml::from_str::<vision::InputSpec>(graph).unwrap().compile().unwrap().plan;
    let file = jpeg(1280, 720, Subsamp::Sub2x2, false);
    for orientation in [1, 6] {
        let header = vision::Header { orientation, ..probe(&file, &Limits::default()).unwrap() };
        let pixels = Buffer::new(&device, JpegDecoder::bytes(&header)).unwrap();
        let tensor = Buffer::new(&device, plan.tensor_bytes()).unwrap();
        let mut preprocessor = Preprocessor::new(&device, plan.clone(), 1, 2000).unwrap();
        // SAFETY: as above.
        unsafe {
            let view = decoder.decode(&file, &header, pixels.address()).unwrap();
            preprocessor.run(&[FrameTensor { view, tensor: tensor.address() }], &mut Vec::new()).unwrap();
        }
        let (mut found, mut expected) = (room(&plan), room(&plan));
        tensor.read(0, bytes(&plan, &mut found)).unwrap();
        let mut rgb = vec![0; 3 * 1280 * 720];
        Decoder::new(Limits::default()).unwrap().decode_rgb(&file, &header, &mut rgb).unwrap();
        let (width, height) = header.oriented_size();
        let mut upright = vision::FrameView::rgb(&rgb, width, height).unwrap();
        let Ok(_) = vision::Preprocessor::new(plan.clone()).unwrap().run(&mut upright, bytes(&plan, &mut expected));
        let sum: f64 = found.iter().zip(&expected).map(|(found, expected)| f64::from((found - expected).abs())).sum();
        assert!(sum / found.len() as f64 <= JPEG_MEAN_MAX, "{} grey levels", sum / found.len() as f64);
    }
    assert_eq!(decoder.library().split('.').next(), Some("libnvjpeg"));
}
