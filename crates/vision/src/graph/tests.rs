//! Graphs that cannot be, and that a plan's one pass gives what its operators give one by one.

use super::steps::{Picture, Step, steps};
use super::*;
use crate::generate::{Frame, any_crop_plan, any_plan, frames, noise, rest};
use crate::{Cropper, DecodeScale, FrameView, Header, JpegColor, PixelOrder, Preprocessor, RawView, Rect, Rows};
use framepipe_frame::{RawFormat, RawFrame};
use proptest::prelude::*;

/// The plan of a graph as a manifest has it.
pub(crate) fn compile(operators: &str) -> Result<Plan, GraphError> {
    let spec: InputSpec = toml::from_str(&format!("tensor = \"images\"\ngraph = [{operators}]")).unwrap();
    spec.compile().map(|input| input.plan)
}

/// Decode and stretch to planes of f32; `more` goes into the resize.
pub(crate) fn plain(width: u32, height: u32, more: &str) -> Plan {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    compile(&format!(
        r#"{{ op = "decode" }}, {{ op = "orient" }},
        {{ op = "resize", fit = "stretch", width = {width}, height = {height}{more} }},
        {{ op = "layout", order = "nchw" }}, {{ op = "cast", dtype = "f32" }}"#
    ))
    .unwrap()
}

/// Rows that are given as a file has them: from the top down, the latest again where that is asked for.
struct InOrder<'a> {
    view: FrameView<'a>,
    latest: u32,
}

impl<'a> InOrder<'a> {
    fn of(view: FrameView<'a>) -> Self {
        Self { view, latest: 0 }
    }
}

impl Rows for InOrder<'_> {
    type Error = std::convert::Infallible;

    fn size(&self) -> (u32, u32) {
        Rows::size(&self.view)
    }

    fn source_size(&self) -> (u32, u32) {
        Rows::source_size(&self.view)
    }

    fn scale(&self) -> DecodeScale {
        Rows::scale(&self.view)
    }

    fn order(&self) -> PixelOrder {
        Rows::order(&self.view)
    }

    fn row(&mut self, y: u32) -> Result<&[u8], Self::Error> {
        assert!(y >= self.latest, "row {y} after {}", self.latest);
        self.latest = y;
        Rows::row(&mut self.view, y)
    }
}

/// The tensor's numbers, made in one pass.
pub(crate) fn numbers(plan: &Plan, write: impl FnOnce(&mut [u8])) -> Vec<f32> {
    let mut words = vec![f32::NAN; plan.tensor_bytes().div_ceil(4)];
    let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..plan.tensor_bytes()];
    write(bytes);
    match plan.dtype() {
        DataType::U8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
        DataType::F32 => words,
    }
}

/// Fails unless each number is the one that the operators give one by one, within a hundredth of a grey level, or half of
/// one where it was rounded.
fn assert_same(found: &[f32], expected: &Picture, plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert_eq!(expected.shape(), plan.shape());
    prop_assert_eq!(expected.dtype, plan.dtype());
    prop_assert_eq!(found.len(), expected.numbers.len());
    let most = plan.tensor.normals[0].scale.abs().max(1e-3) * 0.01;
    let most = if plan.dtype() == DataType::U8 { 0.51 } else { most };
    for (at, (found, expected)) in found.iter().zip(&expected.numbers).enumerate() {
        prop_assert!((found - expected).abs() < most, "number {}: {} instead of {}", at, found, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn one_pass_gives_what_the_operators_give_one_by_one(frame in frames(40), plan in any_plan(40)) {
        let view = frame.view();
        let mut preprocessor = Preprocessor::new(plan.clone()).unwrap();
        let found = numbers(&plan, |tensor| {
            let Ok(_) = preprocessor.run(&mut InOrder::of(frame.view()), tensor);
        });
        let steps = steps(&plan, &view, DecodeScale::Full, 1, None);
        assert_same(&found, &steps.last().unwrap().picture, &plan)?;
    }

    #[test]
    fn of_a_frame_decoded_at_a_fraction_of_its_size_too(
        source in (1u32..90, 1u32..90),
        scale in prop_oneof![Just(DecodeScale::Half), Just(DecodeScale::Quarter), Just(DecodeScale::Eighth)],
        rest in rest(40, true),
    ) {
        let decode = Operator::Decode { scale: Default::default(), color: DecodedColor::Rgb };
        let plan = Graph { operators: std::iter::once(decode).chain(rest).collect() }.compile().unwrap();
        let pixels = noise(1, 3 * scale.pixels_of(source.0) as usize * scale.pixels_of(source.1) as usize);
        let view = FrameView::scaled_rgb(&pixels, source, scale).unwrap();
        let steps = steps(&plan, &view, scale, 1, None);
        let mut preprocessor = Preprocessor::new(plan.clone()).unwrap();
        let found = numbers(&plan, |tensor| {
            let Ok(_) = preprocessor.run(&mut InOrder::of(view), tensor);
        });
        assert_same(&found, &steps.last().unwrap().picture, &plan)?;
    }

    #[test]
    fn a_tensors_levels_are_those_that_its_numbers_were_made_of(frame in frames(40), plan in any_plan(40)) {
        let mut words = vec![0u32; plan.tensor_bytes().div_ceil(4)];
        let tensor = &mut bytemuck::cast_slice_mut(&mut words)[..plan.tensor_bytes()];
        let Ok(_) = Preprocessor::new(plan.clone()).unwrap().run(&mut frame.view(), tensor);
        let levels = Picture::of_tensor(&plan, tensor).to_levels(&plan);
        let steps = steps(&plan, &frame.view(), DecodeScale::Full, 1, None);
        let of_pixels = |step: &&Step| !matches!(step.operator.name(), "normalize" | "layout" | "cast");
        let expected = &steps.iter().rfind(of_pixels).unwrap().picture;
        prop_assert_eq!((levels.width, levels.height, levels.color), (expected.width, expected.height, expected.color));
        let most = if plan.dtype() == DataType::U8 { 0.51 } else { 0.05 };
        for (at, (found, expected)) in levels.numbers.iter().zip(&expected.numbers).enumerate() {
            prop_assert!((found - expected).abs() < most, "level {}: {} instead of {}", at, found, expected);
        }
        let rgb = levels.to_rgb8();
        let order = if levels.color == Color::Bgr { [2, 1, 0] } else { [0, 1, 2] };
        for (at, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
            let of = |k: usize| levels.number(at % levels.width, at / levels.width, order[k].min(levels.color.channels() - 1));
            prop_assert_eq!(pixel.map(f32::from), std::array::from_fn(|k| of(k).round().clamp(0.0, 255.0)));
        }
    }

    #[test]
    fn a_crop_in_one_pass_gives_what_its_operators_give_one_by_one(
        frame in frames(30),
        plan in any_crop_plan(30),
        corner in (-20.0f32..40.0, -20.0f32..40.0),
        size in (0.1f32..50.0, 0.1f32..50.0),
    ) {
        let rect = Rect { x0: corner.0, y0: corner.1, x1: corner.0 + size.0, y1: corner.1 + size.1 };
        let view = frame.view();
        let found = numbers(&plan, |tensor| Cropper::new(plan.clone()).unwrap().run(&view, &rect, tensor));
        let steps = steps(&plan, &view, DecodeScale::Full, 1, Some(&rect));
        assert_same(&found, &steps.last().unwrap().picture, &plan)?;
    }

    #[test]
    fn a_tensors_point_leads_back_to_the_pixel_that_it_shows(
        plan in any_plan(60),
        width in 2u32..200,
        height in 2u32..200,
    ) {
        // Levels that say where they are: columns in red, rows in green.
        let level = |at: u32, count: u32| (255.0 * f64::from(at) / f64::from(count - 1)).round() as u8;
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [level(x, width), level(y, height), 0]));
        let frame = Frame::rgb(width, height, pixels.collect());
        let shown = plan.aim((width, height));
        let map = plan.tensor_map((width, height));
        let [x, y] = [shown.place.left + shown.place.width / 2, shown.place.top + shown.place.height / 2];
        let (source_x, source_y) = map.to_source(x as f32 + 0.5, y as f32 + 0.5);
        prop_assert!(source_x >= 0.0 && source_x <= width as f32 && source_y >= 0.0 && source_y <= height as f32);
        let tensor = plan::Tensor {
            luma: false,
            color: Color::Rgb,
            dtype: DataType::F32,
            layout: Layout::Nchw,
            normals: [plan::Normal { scale: 1.0, offset: 0.0 }; 3],
            ..plan.tensor
        };
        let plain = Plan { tensor, ..plan.clone() };
        let mut preprocessor = Preprocessor::new(plain.clone()).unwrap();
        let found = numbers(&plain, |tensor| {
            let Ok(_) = preprocessor.run(&mut frame.view(), tensor);
        });
        let at = y * plain.tensor.width + x;
        let plane = plain.tensor.width * plain.tensor.height;
        // At the picture's edges a tap is clamped: half a tensor's pixel, and the rounding of the levels.
        let slack = |scale: f32, count: u32| 0.5 * scale.max(1.0) + count as f32 / 255.0 + 0.01;
        let back = |number: f32, count: u32| number / 255.0 * (count - 1) as f32 + 0.5;
        let (found_x, found_y) = (back(found[at], width), back(found[plane + at], height));
        prop_assert!((found_x - source_x).abs() <= slack(map.scale_x, width), "{} {}", found_x, source_x);
        prop_assert!((found_y - source_y).abs() <= slack(map.scale_y, height), "{} {}", found_y, source_y);
    }
}

#[test]
fn a_graph_is_read_and_written_and_unknown_keys_are_errors() {
    let text = r#"{ op = "decode", scale = "exact" }, { op = "orient" },
        { op = "crop", box = [0, 0.5, 1, 1] },
        { op = "resize", fit = "letterbox", width = 416, height = 320, pad = [1, 2, 3] }, { op = "convert", color = "bgr" },
        { op = "normalize", mean = [1, 2, 3.5], std = 58 }, { op = "layout", order = "nchw" }"#;
    let plan = compile(text).unwrap();
    assert_eq!((plan.width(), plan.height(), plan.dtype(), plan.shape()), (416, 320, DataType::F32, [3, 320, 416]));
    assert_eq!(plan.tensor.pad, [3.0, 2.0, 1.0], "in the order of the tensor's channels");
    assert_eq!(plan.tensor_bytes(), 416 * 320 * 12);
    let spec = InputSpec { tensor: "images".into(), graph: plan.graph().clone() };
    assert_eq!(toml::from_str::<InputSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    for (from, to) in [
        ("scale =", "scales ="),
        ("\"orient\"", "\"turn\""),
        ("letterbox", "box"),
        ("\"orient\"", "\"orient\", by = 3"),
    ] {
        let text = format!("tensor = \"images\"\ngraph = [{}]", text.replace(from, to));
        assert!(toml::from_str::<InputSpec>(&text).is_err(), "{to}");
    }
}

const DECODE: &str = r#"{ op = "decode" }"#;
const RESIZE: &str = r#"{ op = "resize", fit = "stretch", width = 8, height = 8 }"#;
const NORMALIZE: &str = r#"{ op = "normalize", std = 255 }"#;
const LAYOUT: &str = r#"{ op = "layout", order = "nchw" }"#;
const CENTER: &str = r#"{ op = "crop", center = [4, 4] }"#;
const SQUARE: &str = r#"{ op = "crop", detection = "square", margin = 0.1 }"#;

#[test]
fn a_graph_that_cannot_be_names_its_operator_and_what_to_change() {
    let op = |text: &str| format!("{{ op = {text} }}");
    let resize = |text: &str| op(&format!("\"resize\", {text}"));
    let cases: Vec<(Vec<String>, &str)> = vec![
        (vec![], "graph: 0 operators"),
        (vec![RESIZE.into()], "graph[0] (resize): has no pixels to work on"),
        (vec![CENTER.into(), RESIZE.into()], "graph[0] (crop): has no pixels"),
        (vec![DECODE.into(), DECODE.into()], "graph[1] (decode): must be the first"),
        (vec![DECODE.into(), SQUARE.into()], "graph[1] (crop): must be the first"),
        (vec![DECODE.into(), RESIZE.into(), op("\"orient\"")], "graph[2] (orient): must stand directly behind decode"),
        (vec![SQUARE.into(), op("\"orient\"")], "graph[1] (orient)"),
        (vec![SQUARE.into(), CENTER.into(), RESIZE.into()], "graph[1] (crop): must stand behind resize"),
        (vec![DECODE.into()], "graph: ends with pixels of a size that varies: add resize"),
        (vec![DECODE.into(), resize("fit = \"shorter_side\", side = 8")], "behind resize with shorter_side add crop"),
        (vec![DECODE.into(), resize("fit = \"shorter_side\", width = 8, height = 8")], "graph[1] (resize): give side"),
        (vec![DECODE.into(), resize("fit = \"stretch\", width = 8")], "give width and height"),
        (vec![DECODE.into(), resize("fit = \"stretch\", width = 0, height = 8")], "width = 0: give 1 to 8192"),
        (vec![DECODE.into(), resize("fit = \"stretch\", width = 8, height = 9000")], "height = 9000"),
        (vec![DECODE.into(), resize("fit = \"stretch\", width = 8, height = 8, pad = 256")], "pad = [256.0]"),
        (vec![DECODE.into(), resize("fit = \"stretch\", width = 8, height = 8, pad = [1, 2]")], "each of 3 channels"),
        (vec![DECODE.into(), RESIZE.into(), RESIZE.into()], "graph[2] (resize): stands there twice"),
        (vec![DECODE.into(), RESIZE.into(), LAYOUT.into(), LAYOUT.into()], "graph[3] (layout): stands there twice"),
        (vec![DECODE.into(), RESIZE.into(), NORMALIZE.into(), NORMALIZE.into()], "graph[3] (normalize)"),
        (vec![DECODE.into(), RESIZE.into(), LAYOUT.into(), NORMALIZE.into()], "must stand before normalize, layout"),
        (vec![DECODE.into(), NORMALIZE.into(), RESIZE.into()], "graph[2] (resize): must stand before normalize"),
        (vec![DECODE.into(), RESIZE.into(), op("\"normalize\", std = 0")], "graph[2] (normalize): std = [0.0]"),
        (vec![DECODE.into(), RESIZE.into(), op("\"normalize\", std = [1, nan, 1]")], "std = [1.0, NaN, 1.0]"),
        (vec![DECODE.into(), RESIZE.into(), op("\"normalize\", mean = inf")], "mean = [inf]"),
        (vec![DECODE.into(), RESIZE.into(), op("\"normalize\", scale = 0")], "scale = 0"),
        (vec![DECODE.into(), RESIZE.into(), op("\"normalize\", scale = 1e38, std = 1e-37")], "infinite"),
        (
            vec![
                DECODE.into(),
                RESIZE.into(),
                op("\"convert\", color = \"grey\""),
                op("\"normalize\", mean = [1, 2, 3]"),
            ],
            "each of 1 channels",
        ),
        (
            vec![DECODE.into(), RESIZE.into(), NORMALIZE.into(), op("\"cast\", dtype = \"u8\"")],
            "graph[3] (cast): u8 holds",
        ),
        (vec![DECODE.into(), op("\"crop\", box = [0.5, 0, 0.5, 1]"), RESIZE.into()], "graph[1] (crop): box = [0.5"),
        (vec![DECODE.into(), op("\"crop\", box = [0, 0, 1.5, 1]"), RESIZE.into()], "parts of the sides"),
        (vec![DECODE.into(), op("\"crop\""), RESIZE.into()], "exactly one of detection"),
        (
            vec![DECODE.into(), op("\"crop\", center = [4, 4], box = [0, 0, 1, 1]"), RESIZE.into()],
            "exactly one of detection",
        ),
        (vec![DECODE.into(), CENTER.into(), CENTER.into(), RESIZE.into()], "graph[2] (crop): stands there twice"),
        (
            vec![DECODE.into(), RESIZE.into(), op("\"crop\", center = [9, 4]")],
            "no more than resize makes, which is 8x8",
        ),
        (vec![DECODE.into(), RESIZE.into(), op("\"crop\", box = [0, 0, 1, 1]")], "must stand before resize"),
        (
            vec![DECODE.into(), resize("fit = \"letterbox\", width = 8, height = 8"), CENTER.into()],
            "stretch or shorter_side",
        ),
        (vec![op("\"crop\", detection = \"box\", margin = 11"), RESIZE.into()], "graph[0] (crop): margin = 11"),
        (vec![op("\"crop\", detection = \"box\", margin = -0.1"), RESIZE.into()], "margin = -0.1"),
        (vec![DECODE.into(); 17], "17 operators"),
    ];
    for (operators, expected) in cases {
        let text = operators.join(", ");
        let words = compile(&text).expect_err(&text).to_string();
        assert!(words.contains(expected), "{text}: {words}");
    }
    let frame = compile(&format!("{DECODE}, {RESIZE}")).unwrap();
    let words = Cropper::new(frame).unwrap_err().to_string();
    assert!(words.contains("begins with decode, and an attribute model's begins with crop"), "{words}");
    let crop = compile(&format!("{SQUARE}, {RESIZE}")).unwrap();
    let words = Preprocessor::new(crop).unwrap_err().to_string();
    assert!(words.contains("begins with crop, and a detector's begins with decode"), "{words}");
}

#[test]
fn what_a_graph_leaves_out_is_taken_as_it_comes() {
    let plan = compile(&format!("{DECODE}, {RESIZE}")).unwrap();
    assert_eq!((plan.dtype(), plan.shape()), (DataType::U8, [8, 8, 3]), "bytes of pixels, as they are decoded");
    let plan = compile(&format!("{DECODE}, {RESIZE}, {NORMALIZE}")).unwrap();
    assert_eq!(plan.dtype(), DataType::F32, "normalize makes floats");
    let header = Header { format: crate::Format::Jpeg(JpegColor::Ycbcr), width: 8, height: 4, orientation: 6 };
    assert_eq!(plan.header(header).oriented_size(), (8, 4), "without orient the image stays as it is stored");
    let oriented = compile(&format!("{DECODE}, {{ op = \"orient\" }}, {RESIZE}")).unwrap();
    assert_eq!(oriented.header(header).oriented_size(), (4, 8));
}

#[test]
fn a_frame_is_taken_as_it_is_where_nothing_is_to_be_done_to_it_and_nowhere_else() {
    let bytes = noise(1, 6 * 4 * 3);
    let raw = RawFrame { format: RawFormat::Rgb24 as u32, width: 6, height: 4, stride: 18 };
    let grey = RawFrame { format: RawFormat::Gray8 as u32, stride: 6, ..raw };
    let takes = |operators: &str, raw: &RawFrame| {
        let mut view = RawView::of(&bytes, raw).unwrap().packed().unwrap();
        let plan = compile(&format!(r#"{{ op = "decode" }}, {operators}"#)).unwrap();
        let takes = plan.takes_as_is(&view);
        if takes {
            let mut tensor = vec![0; plan.tensor_bytes()];
            let Ok(_) = Preprocessor::new(plan).unwrap().run(&mut view, &mut tensor);
            assert_eq!(tensor, bytes[..tensor.len()], "{operators} of {raw:?}");
        }
        takes
    };
    let stretch = r#"{ op = "resize", fit = "stretch", width = 6, height = 4 }"#;
    let letterbox = r#"{ op = "resize", fit = "letterbox", width = 6, height = 4 }"#;
    let with = |more: &str| format!("{stretch}, {more}");
    assert!(takes(stretch, &raw) && takes(letterbox, &raw));
    assert!(takes(&with(r#"{ op = "layout", order = "nhwc" }"#), &raw));
    for (operators, raw) in [
        (stretch.to_owned(), RawFrame { format: RawFormat::Bgr24 as u32, ..raw }),
        (stretch.to_owned(), RawFrame { height: 3, stride: 20, ..raw }),
        (letterbox.to_owned(), RawFrame { height: 3, ..raw }),
        (stretch.to_owned(), grey),
        (r#"{ op = "resize", fit = "stretch", width = 6, height = 3 }"#.to_owned(), raw),
        (with(r#"{ op = "layout", order = "nchw" }"#), raw),
        (with(r#"{ op = "cast", dtype = "f32" }"#), raw),
        (with(r#"{ op = "convert", color = "bgr" }"#), raw),
        (format!(r#"{{ op = "crop", box = [0, 0, 0.5, 1] }}, {stretch}"#), raw),
    ] {
        assert!(!takes(&operators, &raw), "{operators} of {raw:?}");
    }
}

#[test]
fn the_scale_of_decoding_follows_what_is_left_of_the_image() {
    let header =
        |width, height| Header { format: crate::Format::Jpeg(JpegColor::Ycbcr), width, height, orientation: 1 };
    let plan = |first: &str, more: &str| {
        compile(&format!("{first}, {more} {{ op = \"resize\", fit = \"stretch\", width = 100, height = 100 }}"))
            .unwrap()
    };
    assert_eq!(plan(DECODE, "").decode_scale(&header(800, 800)), DecodeScale::Eighth);
    assert_eq!(plan(DECODE, "").decode_scale(&header(800, 799)), DecodeScale::Quarter);
    let half = r#"{ op = "crop", box = [0, 0, 0.5, 0.5] },"#;
    assert_eq!(plan(DECODE, half).decode_scale(&header(800, 800)), DecodeScale::Quarter);
    let exact = r#"{ op = "decode", scale = "exact" }"#;
    assert_eq!(plan(exact, "").decode_scale(&header(800, 800)), DecodeScale::Full);
}

#[test]
fn turning_one_by_one_is_what_the_decoder_does() {
    let (width, height) = (7, 5);
    let frame = Frame::rgb(width, height, noise(5, 105));
    let plan = compile(&format!("{DECODE}, {{ op = \"orient\" }}, {RESIZE}")).unwrap();
    for orientation in 1..=8 {
        let steps = steps(&plan, &frame.view(), DecodeScale::Full, orientation, None);
        let mut turned = vec![0; 105];
        crate::decode::orient::orient(&frame.data, 7, 5, orientation, &mut turned);
        let expected: Vec<f32> = turned.iter().map(|byte| f32::from(*byte)).collect();
        assert_eq!(steps[1].picture.numbers, expected, "orientation {orientation}");
        let size = if orientation > 4 { (5, 7) } else { (7, 5) };
        assert_eq!((steps[1].picture.width, steps[1].picture.height), size);
    }
}
