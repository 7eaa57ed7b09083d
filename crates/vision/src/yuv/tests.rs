use super::*;
use crate::RawView;
use crate::generate::noise;
use framepipe_frame::RawFormat;
use proptest::prelude::*;

/// A planar frame with its bytes.
#[derive(Clone, Debug)]
struct Frame {
    data: Vec<u8>,
    raw: RawFrame,
}

impl Frame {
    fn of(format: RawFormat, width: u32, height: u32, gap: u32, seed: u64) -> Self {
        let stride = format.row_bytes(width) as u32 + gap;
        let raw = RawFrame { format: format as u32, width, height, stride };
        Self { data: noise(seed, raw.bytes().expect("it can be") as usize), raw }
    }

    fn view(&self) -> YuvView<'_> {
        RawView::of(&self.data, &self.raw).and_then(RawView::planar).expect("the strategy makes frames")
    }

    fn rgb(&self) -> Vec<u8> {
        let mut rgb = vec![0; self.view().rgb_bytes()];
        self.view().write_rgb(&mut rgb);
        rgb
    }

    /// Luma, U and V of a pixel, found by the layout's words alone.
    fn levels(&self, x: usize, y: usize) -> [f64; 3] {
        let (stride, height) = (self.raw.stride as usize, self.raw.height as usize);
        let luma = y * stride + x;
        let (u, v) = if self.raw.format == RawFormat::Nv12 as u32 {
            let pair = (height + y / 2) * stride + x / 2 * 2;
            (pair, pair + 1)
        } else {
            let (half, rows) = (stride.div_ceil(2), height.div_ceil(2));
            let u = height * stride + y / 2 * half + x / 2;
            (u, u + rows * half)
        };
        [luma, u, v].map(|at| f64::from(self.data[at]))
    }
}

/// The colours by BT.601 itself, not by OpenCV's rounded factors: Kr 0.299 and Kb 0.114; luma 16 to 235, chroma 16 to 240.
fn bt601([y, u, v]: [f64; 3]) -> [f64; 3] {
    let (kr, kb) = (0.299, 0.114);
    let kg = 1.0 - kr - kb;
    let (y, u, v) = ((y - 16.0).max(0.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0);
    let (red, blue) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
    let green = (y - kr * red - kb * blue) / kg;
    [red, green, blue].map(|colour| (255.0 * colour).clamp(0.0, 255.0))
}

fn frames(side_max: u32) -> impl Strategy<Value = Frame> {
    let format = prop_oneof![Just(RawFormat::Nv12), Just(RawFormat::I420)];
    (format, 1..=side_max, 1..=side_max, 0u32..5, any::<u64>())
        .prop_map(|(format, width, height, gap, seed)| Frame::of(format, width, height, gap, seed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sides reach over two blocks and a half, so that full ones and rests come together.
    #[test]
    fn each_pixel_is_its_naive_twins_within_a_level(frame in frames(160)) {
        let rgb = frame.rgb();
        let width = frame.raw.width as usize;
        for (place, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (place % width, place / width);
            let expected = bt601(frame.levels(x, y));
            for (level, expected) in pixel.iter().zip(expected) {
                prop_assert!((f64::from(*level) - expected).abs() <= 1.0, "{x},{y}: {pixel:?}, not {expected}");
            }
        }
    }

    #[test]
    fn every_cpu_gives_the_same_bytes(frame in frames(160)) {
        let mut portable = vec![0; frame.view().rgb_bytes()];
        Instructions::portable().yuv_to_rgb(&frame.view(), &mut portable);
        prop_assert_eq!(frame.rgb(), portable);
    }
}

/// Computed with cvtColor of opencv-python-headless 4.12.0, COLOR_YUV2RGB_NV12 and COLOR_YUV2RGB_I420 alike.
#[test]
fn colours_are_opencvs_to_the_last_bit() {
    let pinned: [([u8; 3], [u8; 3]); 11] = [
        ([16, 128, 128], [0, 0, 0]),
        ([235, 128, 128], [255, 255, 255]),
        ([81, 90, 240], [254, 0, 0]),
        ([145, 54, 34], [0, 255, 1]),
        ([41, 240, 110], [0, 0, 255]),
        ([0, 0, 0], [0, 154, 0]),
        ([255, 255, 255], [255, 125, 255]),
        ([126, 200, 30], [0, 180, 255]),
        ([200, 77, 190], [255, 184, 111]),
        ([17, 129, 127], [0, 2, 3]),
        ([99, 3, 251], [255, 45, 0]),
    ];
    for ([y, u, v], expected) in pinned {
        for format in [RawFormat::Nv12, RawFormat::I420] {
            let raw = RawFrame { format: format as u32, width: 2, height: 2, stride: 2 };
            let frame = Frame { data: vec![y, y, y, y, u, v], raw };
            assert_eq!(frame.rgb(), [expected; 4].concat(), "{format:?} of {y} {u} {v}");
        }
    }
}

#[test]
fn two_by_two_pixels_share_their_chroma_and_the_last_of_an_odd_side_has_its_own() {
    // Each square of pixels has a U of its own, which its blue tells.
    let raw = RawFrame { format: RawFormat::I420 as u32, width: 3, height: 3, stride: 3 };
    let mut data = vec![100; 9];
    data.extend([128, 140, 150, 160]);
    data.extend([128; 4]);
    let rgb = Frame { data, raw }.rgb();
    let blue: Vec<u8> = rgb.as_chunks::<3>().0.iter().map(|pixel| pixel[2]).collect();
    let [a, b, c, d] = [98, 122, 142, 162];
    assert_eq!(blue, [a, a, b, a, a, b, c, c, d]);
}

#[test]
fn planes_that_are_no_frame_are_typed_errors() {
    for format in [RawFormat::Nv12, RawFormat::I420] {
        let frame = Frame::of(format, 6, 3, 4, 1);
        assert_eq!(frame.view().rgb_bytes(), 54);
        let of = |data, raw: &RawFrame| RawView::of(data, raw).map(|_| ()).expect_err("it is no frame");
        let short = &frame.data[..frame.data.len() - 1];
        let (needed, found) = (frame.data.len() as u64, short.len() as u64);
        let expected = ViewError::Bytes { width: 6, height: 3, stride: 10, needed, found };
        assert_eq!(of(short, &frame.raw), expected, "the last row needs no stride behind it, but all of its pixels");
        for bad in [
            RawFrame { width: 0, ..frame.raw },
            RawFrame { height: 0, ..frame.raw },
            RawFrame { stride: 5, ..frame.raw },
            RawFrame { width: u32::MAX, ..frame.raw },
        ] {
            assert!(matches!(of(&frame.data, &bad), ViewError::Geometry { .. }), "{bad:?}");
        }
        let huge = RawFrame { width: u32::MAX - 1, height: u32::MAX, stride: u32::MAX, ..frame.raw };
        assert!(matches!(of(&frame.data, &huge), ViewError::Bytes { needed: u64::MAX, .. }), "saturated");
    }
    let odd = RawFrame { format: RawFormat::Nv12 as u32, width: 5, height: 2, stride: 5 };
    assert!(matches!(RawView::of(&[0; 64], &odd), Err(ViewError::Geometry { .. })), "the last pair is whole");
}
