//! No frame of a JPEG stream takes memory on the Rust side once its buffers have grown, and libjpeg takes the same for
//! every frame. Both allocators are counted: Rust's, and C's `malloc`, which this binary's own stands before. The C
//! library's names are glibc's.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(unsafe_code, reason = "counts in the allocators")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::c_void,
};

use framepipe_vision::{
    Cropper, DecodeScale, Decoder, FrameView, Header, InputSpec, Limits, Plan, Preprocessor, Rect, Region, Rows, probe,
};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

thread_local! {
    static FROM_RUST: Cell<usize> = const { Cell::new(0) };
    static FROM_MALLOC: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: System does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        FROM_RUST.set(FROM_RUST.get() + 1);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        FROM_RUST.set(FROM_RUST.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        FROM_RUST.set(FROM_RUST.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe extern "C" {
    fn __libc_malloc(bytes: usize) -> *mut c_void;
}

/// Before the C library's: libjpeg's calls and Rust's end here.
#[unsafe(no_mangle)]
extern "C" fn malloc(bytes: usize) -> *mut c_void {
    FROM_MALLOC.set(FROM_MALLOC.get() + 1);
    // SAFETY: glibc's malloc by its other name.
    unsafe { __libc_malloc(bytes) }
}

/// Allocations of Rust's, and `malloc` calls of others, in `work`.
fn counted(work: impl FnOnce()) -> (usize, usize) {
    let before = (FROM_RUST.get(), FROM_MALLOC.get());
    work();
    let (rust, malloc) = (FROM_RUST.get() - before.0, FROM_MALLOC.get() - before.1);
    (rust, malloc - rust.min(malloc))
}

/// A JPEG with an EXIF block; `seed` makes pictures differ.
fn jpeg(seed: usize, subsamp: Subsamp, progressive: bool, format: PixelFormat) -> Vec<u8> {
    let (width, height) = (640, 360);
    let pitch = width * format.size();
    let pixels: Vec<u8> = (0..pitch * height).map(|at| ((at * 7 + at / pitch * (3 + seed)) % 251) as u8).collect();
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsamp).unwrap();
    compressor.set_progressive(progressive).unwrap();
    let image = Image { pixels: &pixels[..], width, pitch, height, format };
    let file = compressor.compress_to_vec(image).unwrap();
    let exif = b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0";
    [&file[..2], exif, &file[2..]].concat()
}

#[test]
fn a_frame_of_a_stream_takes_no_memory_of_rusts_and_always_the_same_of_libjpegs() {
    let limits = Limits::default();
    let mut decoder = Decoder::new(limits).unwrap();
    let kinds = [
        ("4:2:0", Subsamp::Sub2x2, false, PixelFormat::RGB),
        ("4:4:4", Subsamp::None, false, PixelFormat::RGB),
        ("progressive", Subsamp::Sub2x2, true, PixelFormat::RGB),
        ("YCCK", Subsamp::None, false, PixelFormat::CMYK),
    ];
    type Step = fn(&mut Decoder, &[u8], &Header, &mut [u8]);
    let steps: [(&str, Step); 5] = [
        ("probe", |_, bytes, header, _| assert_eq!(probe(bytes, &Limits::default()).unwrap(), *header)),
        ("whole", |decoder, bytes, header, out| decoder.decode_rgb(bytes, header, out).unwrap()),
        ("scaled", |decoder, bytes, header, out| {
            let scale = DecodeScale::Quarter;
            decoder.decode_scaled(bytes, header, scale, &mut out[..header.rgb_bytes(scale)]).unwrap();
        }),
        ("rows", |decoder, bytes, header, _| {
            let mut rows = decoder.rows(bytes, header, DecodeScale::Full).unwrap();
            for y in (0..header.height).step_by(5) {
                rows.row(y).unwrap();
            }
            rows.finish().unwrap();
        }),
        ("region", |decoder, bytes, header, out| {
            let region = Region { left: 100, top: 50, right: 300, bottom: 170 };
            decoder.decode_region(bytes, header, &region, &mut out[..region.rgb_bytes()]).unwrap();
        }),
    ];
    for (kind, subsamp, progressive, format) in kinds {
        let frames = [0, 1, 2, 3].map(|seed| jpeg(seed, subsamp, progressive, format));
        let header = probe(&frames[0], &limits).unwrap();
        assert_eq!(header.orientation, 1);
        let mut out = vec![0; header.rgb_bytes(DecodeScale::Full)];
        for (step, run) in steps {
            run(&mut decoder, &frames[0], &header, &mut out); // warms up
            let counts = [1, 2, 3, 1].map(|frame| counted(|| run(&mut decoder, &frames[frame], &header, &mut out)));
            let (_, of_libjpeg) = counts[0];
            assert_eq!(counts, [(0, of_libjpeg); 4], "{kind}, {step}");
            assert_eq!(of_libjpeg > 0, step != "probe", "{kind}, {step}: {of_libjpeg} of libjpeg's");
            println!("{kind}, {step}: {of_libjpeg} of libjpeg's");
        }
    }
    what_counts_is_counted();
}

/// All operators of a frame's graph, with any filter.
fn plan(operators: &str) -> Plan {
    let graph: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}]")).unwrap();
    graph.compile().unwrap().plan
}

#[test]
fn no_tensor_takes_memory_of_rusts_be_it_of_a_frame_or_of_crops_of_any_size() {
    let limits = Limits::default();
    let mut decoder = Decoder::new(limits).unwrap();
    let frames = [0, 1, 2].map(|seed| jpeg(seed, Subsamp::Sub2x2, false, PixelFormat::RGB));
    let header = probe(&frames[0], &limits).unwrap();
    for filter in ["linear", "area"] {
        let mut preprocessor = Preprocessor::new(plan(&format!(
            r#"{{ op = "decode" }}, {{ op = "orient" }},
            {{ op = "resize", fit = "letterbox", width = 96, height = 96, filter = "{filter}" }},
            {{ op = "normalize", std = 255 }}, {{ op = "layout", order = "nchw" }}"#
        )))
        .unwrap();
        let scale = preprocessor.plan().decode_scale(&header);
        assert_eq!(scale, DecodeScale::Quarter);
        let mut tensor = vec![0f32; preprocessor.plan().tensor_len()];
        let mut run = |bytes: &[u8]| {
            let mut rows = decoder.rows(bytes, &header, scale).unwrap();
            preprocessor.run(&mut rows, bytemuck::cast_slice_mut(&mut tensor)).unwrap();
            rows.finish().unwrap();
        };
        run(&frames[0]); // warms up
        let counts = [1, 2, 0].map(|frame| counted(|| run(&frames[frame])).0);
        assert_eq!(counts, [0; 3], "{filter}");

        let of_crops = plan(&format!(
            r#"{{ op = "crop", detection = "box" }},
            {{ op = "resize", fit = "stretch", width = 64, height = 64, filter = "{filter}" }}"#
        ));
        let mut tensor = vec![0u8; of_crops.tensor_bytes()];
        let mut cropper = Cropper::new(of_crops).unwrap();
        let mut pixels = vec![0; header.rgb_bytes(DecodeScale::Full)];
        decoder.decode_rgb(&frames[0], &header, &mut pixels).unwrap();
        let view = FrameView::rgb(&pixels, header.width, header.height).unwrap();
        let mut crop = |side: f32| {
            cropper.run(&view, &Rect { x0: 10.5, y0: 7.0, x1: 10.5 + side, y1: 7.0 + side / 2.0 }, &mut tensor);
        };
        crop(620.0); // the largest, which shrinks
        crop(20.0); // and one that grows
        let counts = [300.0, 25.0, 619.0].map(|side| counted(|| crop(side)).0);
        assert_eq!(counts, [0; 3], "crops, {filter}");
    }
}

fn what_counts_is_counted() {
    let (rust, _) = counted(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(rust, 1);
}
