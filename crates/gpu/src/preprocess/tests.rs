//! The kernel's source compiled for the host, and run on the records that a GPU is given, against framepipe-vision on the CPU.

use std::{path::Path, process::Command, sync::OnceLock};

use framepipe_frame::RawFormat;
use framepipe_vision::{
    Cropper, DecodeScale, FrameView, PixelOrder, Plan, Preprocessor, Rect, SampleTables,
    generate::{Frame, any_crop_plan, any_plan, frames, noise},
};
use libloading::os::unix::{Library, Symbol};
use proptest::prelude::*;

use super::batch::{Batch, Shape};
use super::sampler::grid;
use super::*;
use compare::{assert_close, bytes, room};

#[path = "../../tests/compare/mod.rs"]
mod compare;

type Kernel = unsafe extern "C" fn(*const Shape, u32, u32, u32);

/// The kernel, compiled by the C++ compiler of this machine ($CXX, or c++).
fn kernel() -> Kernel {
    static KERNEL: OnceLock<Symbol<Kernel>> = OnceLock::new();
    let symbol = KERNEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("kernels.so");
        let compiler = std::env::var("CXX").unwrap_or("c++".into());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/preprocess_on_host.cpp");
        let options = ["-O2", "-std=c++17", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-shared", "-fPIC", "-o"];
        let done = Command::new(&compiler).args(options).arg(&library).arg(source).status();
        assert!(done.is_ok_and(|status| status.success()), "{compiler}, a C++ compiler, is needed (set CXX)");
        // SAFETY: a library of functions without initialisers, that was compiled just now.
        let library = unsafe { Library::new(&library) }.unwrap();
        // SAFETY: the function has this type in its source. It stays loaded.
        let symbol = unsafe { library.get(b"sample_pixels_on_host\0") }.unwrap();
        std::mem::forget(library);
        symbol
    });
    **symbol
}

/// Runs the kernel on what `fill` adds, as a GPU would.
fn launch(plan: &Plan, count_max: usize, side_max: u32, fill: impl FnOnce(&mut Batch<'_>)) {
    let mut memory = vec![0u64; Batch::bytes_max(plan, count_max, side_max).div_ceil(8)];
    let base = memory.as_ptr().addr() as u64;
    let mut batch = Batch::new(bytemuck::cast_slice_mut(&mut memory), base, count_max);
    fill(&mut batch);
    let count = batch.count() as u32;
    let shape = Shape::of(plan, base);
    let [across, down, count] = grid(&shape, count);
    // SAFETY: the records were made by what makes them for GPUs, of memory that is there.
    unsafe { kernel()(&shape, across, down, count) };
}

fn view(frame: &Frame) -> DeviceView {
    let order = match RawFormat::from_number(frame.raw.format).unwrap() {
        RawFormat::Rgb24 => PixelOrder::Rgb,
        RawFormat::Bgr24 => PixelOrder::Bgr,
        _ => PixelOrder::Grey,
    };
    let bytes = (frame.data.as_ptr().addr() as u64, frame.data.len());
    DeviceView::new(bytes, (frame.raw.width, frame.raw.height), frame.raw.stride as usize, order).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn frames_in_one_launch_have_the_tensors_of_the_cpu(
        frames in prop::collection::vec(frames(50), 1..4),
        plan in any_plan(60),
    ) {
        let mut found: Vec<Vec<f32>> = frames.iter().map(|_| room(&plan)).collect();
        let mut tables = SampleTables::default();
        launch(&plan, 4, 50, |batch| {
            for (frame, tensor) in frames.iter().zip(&mut found) {
                let (view, tensor) = (view(frame), tensor.as_mut_ptr().addr() as u64);
                plan.sample_frame(view.upright_size(), view.scale(), &mut tables);
                batch.add(&plan, &view, &tables, tensor, false).unwrap();
            }
        });
        let mut preprocessor = Preprocessor::new(plan.clone()).unwrap();
        for (frame, found) in frames.iter().zip(&mut found) {
            let mut expected = room(&plan);
            let Ok(_) = preprocessor.run(&mut frame.view(), bytes(&plan, &mut expected));
            assert_close(&plan, found, &mut expected)?;
        }
    }

    #[test]
    fn crops_in_one_launch_have_the_tensors_of_the_cpu(
        frame in frames(50),
        plan in any_crop_plan(40),
        crops in prop::collection::vec(((-20.0f32..60.0, -20.0f32..60.0), (0.1f32..70.0, 0.1f32..70.0), any::<bool>()), 1..5),
    ) {
        let size = (frame.raw.width, frame.raw.height);
        let rect = |((x0, y0), (width, height), _): &((f32, f32), (f32, f32), bool)| {
            Rect { x0: *x0, y0: *y0, x1: x0 + width, y1: y0 + height }
        };
        let mut found: Vec<Vec<f32>> = crops.iter().map(|_| room(&plan)).collect();
        let mut tables = SampleTables::default();
        launch(&plan, 5, 50, |batch| {
            for (crop, tensor) in crops.iter().zip(&mut found) {
                plan.sample_crop(&rect(crop), size, &mut tables);
                batch.add(&plan, &view(&frame), &tables, tensor.as_mut_ptr().addr() as u64, crop.2).unwrap();
            }
        });
        let mut cropper = Cropper::new(plan.clone()).unwrap();
        for (crop, found) in crops.iter().zip(&mut found) {
            let mut expected = room(&plan);
            cropper.run(&frame.view(), &rect(crop), bytes(&plan, &mut expected));
            if crop.2 {
                cropper.turn(&rect(crop), size, bytes(&plan, &mut expected));
            }
            assert_close(&plan, found, &mut expected)?;
        }
    }

    #[test]
    fn a_frame_that_was_decoded_at_a_fraction_of_its_size_too(
        size in (1u32..200, 1u32..200),
        scale in prop_oneof![Just(DecodeScale::Half), Just(DecodeScale::Quarter), Just(DecodeScale::Eighth)],
        plan in any_plan(40),
    ) {
        let pixels = noise(5, 3 * scale.pixels_of(size.0) as usize * scale.pixels_of(size.1) as usize);
        let on_device = DeviceView::scaled_rgb((pixels.as_ptr().addr() as u64, pixels.len()), size, scale).unwrap();
        let (mut found, mut expected) = (room(&plan), room(&plan));
        let mut tables = SampleTables::default();
        let map = plan.sample_frame(on_device.upright_size(), scale, &mut tables);
        launch(&plan, 1, 200, |batch| {
            batch.add(&plan, &on_device, &tables, found.as_mut_ptr().addr() as u64, false).unwrap();
        });
        let mut rows = FrameView::scaled_rgb(&pixels, size, scale).unwrap();
        let Ok(expected_map) = Preprocessor::new(plan.clone()).unwrap().run(&mut rows, bytes(&plan, &mut expected));
        prop_assert_eq!(map, expected_map);
        assert_close(&plan, &mut found, &mut expected)?;
    }

    #[test]
    fn a_frame_that_is_not_upright_is_turned_as_it_is_read(
        (width, height) in (1u32..40, 1u32..40),
        orientation in 1u8..=8,
        plan in any_plan(40),
    ) {
        let stored = Frame::rgb(width, height, noise(6, 3 * (width * height) as usize));
        let on_device = view(&stored).oriented(orientation);
        let (columns, rows) = on_device.upright_size();
        // EXIF 2.32, tag 0x0112: at which stored row and column an upright pixel lies.
        let (right, bottom) = (width - 1, height - 1);
        let pixels = (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))).flat_map(|(x, y)| {
            let (column, row) = match orientation {
                2 => (right - x, y),
                3 => (right - x, bottom - y),
                4 => (x, bottom - y),
                5 => (y, x),
                6 => (y, bottom - x),
                7 => (right - y, bottom - x),
                8 => (right - y, x),
                _ => (x, y),
            };
            let at = 3 * (row * width + column) as usize;
            stored.data[at..at + 3].to_vec()
        });
        let upright = Frame::rgb(columns, rows, pixels.collect());
        let (mut found, mut expected) = (room(&plan), room(&plan));
        let mut tables = SampleTables::default();
        plan.sample_frame((columns, rows), DecodeScale::Full, &mut tables);
        launch(&plan, 1, 40, |batch| {
            batch.add(&plan, &on_device, &tables, found.as_mut_ptr().addr() as u64, false).unwrap();
        });
        let Ok(_) = Preprocessor::new(plan.clone()).unwrap().run(&mut upright.view(), bytes(&plan, &mut expected));
        assert_close(&plan, &mut found, &mut expected)?;
    }
}

#[test]
fn pixels_beyond_their_bytes_and_more_than_a_batch_holds_are_errors() {
    let rgb = |bytes, width, height, pitch| DeviceView::new((0x1000, bytes), (width, height), pitch, PixelOrder::Rgb);
    assert!(rgb(30, 5, 2, 15).is_ok());
    for bad in
        [rgb(29, 5, 2, 15), rgb(30, 5, 2, 14), rgb(30, 0, 2, 15), rgb(30, 5, 0, 15), rgb(30, 5, u32::MAX, usize::MAX)]
    {
        assert!(matches!(bad, Err(crate::GpuError::Argument(_))), "{bad:?}");
    }
    let plan = {
        let spec: framepipe_vision::InputSpec = toml::from_str(
            r#"tensor = "images"
            graph = [{ op = "decode" }, { op = "resize", fit = "stretch", width = 4, height = 4, filter = "area" }, { op = "cast", dtype = "f32" }]"#,
        )
        .unwrap();
        spec.compile().unwrap().plan
    };
    let mut memory = vec![0; Batch::bytes_max(&plan, 1, 5)];
    let mut tables = SampleTables::default();
    plan.sample_frame((5, 2), DecodeScale::Full, &mut tables);
    let view = rgb(30, 5, 2, 15).unwrap();
    let mut batch = Batch::new(&mut memory, 0, 1);
    assert!(batch.add(&plan, &view, &tables, 0x1001, false).is_err(), "not aligned");
    assert!(batch.add(&plan, &view, &tables, 0x1000, false).is_ok());
    assert!(batch.add(&plan, &view, &tables, 0x1000, false).is_err(), "full");
    let wide = DeviceView::new((0x1000, 15_000), (5000, 1), 15_000, PixelOrder::Rgb).unwrap();
    plan.sample_frame((5000, 1), DecodeScale::Full, &mut tables);
    let mut batch = Batch::new(&mut memory, 0, 1);
    let refused = batch.add(&plan, &wide, &tables, 0x1000, false).is_err();
    assert!(refused, "longer than the tables have room for");
}
