//! From a graph's operators to what they come to in one pass. Each operator is taken in turn, with what came before it;
//! what cannot be is that operator's error.

use framepipe_frame::TensorMap;

use super::check::{Fault, GraphError, side};
use super::{Color, DataType, DecodedColor, Filter, Fit, Graph, InputSpec, Layout, Levels, OPERATORS_MAX, Operator};
use crate::aim::{Aim, Placement, Window};
use crate::decode::at_least;
use crate::{CropShape, CropSpec, DecodeScale, FrameView, Header, PixelOrder, ScalePolicy};

/// Largest margin of a crop.
const MARGIN_MAX: f32 = 10.0;

/// A checked graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) source: Source,
    pub(crate) cut: Cut,
    pub(crate) resize: Resize,
    /// Columns and rows about the resized picture's centre.
    pub(crate) center: Option<[u32; 2]>,
    pub(crate) tensor: Tensor,
    pub(crate) graph: Graph,
}

/// A model's input: its tensor's name, and the plan that makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The tensor's name in the model.
    pub tensor: String,
    /// What makes it.
    pub plan: Plan,
}

/// Where the pixels come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// A frame that is decoded for this graph.
    Frame { scale: ScalePolicy, grey: bool, orient: bool },
    /// What lies around a detection in a frame.
    Detection(CropSpec),
}

/// Which of the source's pixels are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cut {
    Whole,
    /// Left, top, right, bottom as parts of the sides.
    Parts([f32; 4]),
    /// Columns and rows about the centre.
    Center([u32; 2]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resize {
    pub(crate) fit: Fit,
    /// Columns and rows; of `shorter_side` its length, twice.
    pub(crate) size: [u32; 2],
    pub(crate) filter: Filter,
}

/// `number = level * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Normal {
    pub(crate) scale: f32,
    pub(crate) offset: f32,
}

/// What the tensor is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) color: Color,
    /// True: all channels show luma.
    pub(crate) luma: bool,
    /// By channel of the tensor.
    pub(crate) normals: [Normal; 3],
    /// Grey level of padding, by channel of the tensor.
    pub(crate) pad: [f32; 3],
    pub(crate) layout: Layout,
    pub(crate) dtype: DataType,
}

impl Tensor {
    pub(crate) fn channels(&self) -> usize {
        self.color.channels()
    }

    pub(crate) fn len(&self) -> usize {
        self.channels() * self.width * self.height
    }
}

impl InputSpec {
    /// Checks the graph and makes a plan of it.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn compile(self) -> Result<Input, GraphError> {
        Ok(Input { plan: self.graph.compile()?, tensor: self.tensor })
    }
}

impl Graph {
    /// Checks the operators, their order and what goes from one to the next, and makes a plan of them.
    ///
    /// # Errors
    /// The first operator that cannot be, and why.
    pub fn compile(&self) -> Result<Plan, GraphError> {
        let count = self.operators.len();
        if !(1..=OPERATORS_MAX).contains(&count) {
            return Err(GraphError { operator: None, fault: Fault::Count(count) });
        }
        let mut draft = Draft::default();
        for (at, operator) in self.operators.iter().enumerate() {
            let add = draft.add(at, operator);
            add.map_err(|fault| GraphError { operator: Some((at, operator.name())), fault })?;
        }
        draft.finish(self.clone()).map_err(|fault| GraphError { operator: None, fault })
    }
}

/// What the operators so far come to.
#[derive(Default)]
struct Draft {
    source: Option<Source>,
    cut: Option<Cut>,
    resize: Option<(Resize, Levels)>,
    /// Channels when `resize` came: `pad` is in their order.
    pad_color: Option<Color>,
    /// True: all became luma after that, and with them `pad`.
    pad_luma: bool,
    center: Option<[u32; 2]>,
    color: Option<Color>,
    luma: bool,
    normals: Option<[Normal; 3]>,
    layout: Option<Layout>,
    dtype: Option<DataType>,
}

impl Draft {
    fn add(&mut self, at: usize, operator: &Operator) -> Result<(), Fault> {
        match operator {
            Operator::Decode { scale, color } => self.decode(at, *scale, *color),
            Operator::Crop { detection: Some(shape), margin, r#box: None, center: None } => {
                self.crop_detection(at, *shape, margin.unwrap_or(0.0))
            }
            _ if self.source.is_none() => Err(Fault::NoPixels),
            Operator::Orient {} => self.orient(at),
            Operator::Crop { detection: None, margin: None, r#box, center } => self.crop(*r#box, *center),
            Operator::Crop { .. } => {
                Err(Fault::Arguments("give exactly one of detection (with a margin), box and center"))
            }
            Operator::Resize { fit, width, height, side, pad, filter } => {
                self.resize(*fit, [*width, *height, *side], pad, *filter)
            }
            Operator::Convert { color } => self.convert(*color),
            Operator::Normalize { scale, mean, std } => self.normalize(*scale, mean, std),
            Operator::Layout { order } => set_once(&mut self.layout, *order),
            Operator::Cast { dtype } => {
                if self.normals.is_some() && *dtype == DataType::U8 {
                    return Err(Fault::NormalizedU8);
                }
                set_once(&mut self.dtype, *dtype)
            }
        }
    }

    fn decode(&mut self, at: usize, scale: ScalePolicy, color: DecodedColor) -> Result<(), Fault> {
        if at > 0 {
            return Err(Fault::NotFirst);
        }
        let grey = color == DecodedColor::Grey;
        self.source = Some(Source::Frame { scale, grey, orient: false });
        self.color = Some(if grey { Color::Grey } else { Color::Rgb });
        self.luma = grey;
        Ok(())
    }

    fn crop_detection(&mut self, at: usize, shape: CropShape, margin: f32) -> Result<(), Fault> {
        if at > 0 {
            return Err(Fault::NotFirst);
        }
        if !(0.0..=MARGIN_MAX).contains(&margin) {
            return Err(Fault::value("margin", margin, format!("give 0 to {MARGIN_MAX}")));
        }
        self.source = Some(Source::Detection(CropSpec { shape, margin }));
        self.color = Some(Color::Rgb);
        Ok(())
    }

    fn orient(&mut self, at: usize) -> Result<(), Fault> {
        match &mut self.source {
            Some(Source::Frame { orient, .. }) if at == 1 => *orient = true,
            _ => return Err(Fault::Order("directly behind decode")),
        }
        Ok(())
    }

    fn crop(&mut self, parts: Option<[f32; 4]>, center: Option<[u32; 2]>) -> Result<(), Fault> {
        self.before_tensor()?;
        if self.resize.is_none() && matches!(self.source, Some(Source::Detection(_))) {
            return Err(Fault::Order("behind resize, in a graph that begins with the crop of a detection"));
        }
        if let Some([width, height]) = center {
            side("center", width)?;
            side("center", height)?;
        }
        if let Some(parts) = parts {
            let [left, top, right, bottom] = parts;
            let inside = parts.iter().all(|part| (0.0..=1.0).contains(part));
            if !inside || left >= right || top >= bottom {
                let advice =
                    "give left, top, right and bottom as parts of the sides: 0 to 1, left < right, top < bottom";
                return Err(Fault::value("box", format!("{parts:?}"), advice));
            }
        }
        match (self.resize.as_ref(), parts, center) {
            (None, Some(parts), None) => set_once(&mut self.cut, Cut::Parts(parts)),
            (None, None, Some(center)) => set_once(&mut self.cut, Cut::Center(center)),
            (Some((resize, _)), None, Some(center)) => {
                if !matches!(resize.fit, Fit::Stretch | Fit::ShorterSide) {
                    return Err(Fault::Arguments("behind resize, works where that is a stretch or shorter_side"));
                }
                if center[0] > resize.size[0] || center[1] > resize.size[1] {
                    let [width, height] = resize.size;
                    let advice = format!("give no more than resize makes, which is {width}x{height}");
                    return Err(Fault::value("center", format!("{center:?}"), advice));
                }
                set_once(&mut self.center, center)
            }
            (Some(_), Some(_), None) => Err(Fault::Order("before resize, where it has a box")),
            _ => Err(Fault::Arguments("give exactly one of detection (with a margin), box and center")),
        }
    }

    fn resize(&mut self, fit: Fit, sizes: [Option<u32>; 3], pad: &Levels, filter: Filter) -> Result<(), Fault> {
        self.before_tensor()?;
        let size = match (fit, sizes) {
            (Fit::ShorterSide, [None, None, Some(length)]) => [side("side", length)?; 2],
            (Fit::ShorterSide, _) => {
                return Err(Fault::Arguments("give side, the shorter side's pixels, and neither width nor height"));
            }
            (_, [Some(width), Some(height), None]) => [side("width", width)?, side("height", height)?],
            _ => return Err(Fault::Arguments("give width and height in pixels, and no side")),
        };
        let color = self.color.expect("there are pixels");
        let of_channels = pad.of(color.channels());
        if !of_channels.is_some_and(|levels| levels.iter().all(|level| (0.0..=255.0).contains(level))) {
            let advice = format!("give a grey level of 0 to 255, or one for each of {} channels", color.channels());
            return Err(Fault::value("pad", format!("{:?}", pad.numbers()), advice));
        }
        self.pad_color = Some(color);
        set_once(&mut self.resize, (Resize { fit, size, filter }, pad.clone()))
    }

    fn convert(&mut self, color: Color) -> Result<(), Fault> {
        self.before_tensor()?;
        self.luma |= color == Color::Grey;
        self.pad_luma |= color == Color::Grey && self.resize.is_some();
        self.color = Some(color);
        Ok(())
    }

    fn normalize(&mut self, scale: f32, mean: &Levels, std: &Levels) -> Result<(), Fault> {
        self.before_tensor()?;
        if self.normals.is_some() {
            return Err(Fault::Twice);
        }
        if !scale.is_normal() {
            return Err(Fault::value("scale", scale, "give a finite number other than 0"));
        }
        let channels = self.color.expect("there are pixels").channels();
        let numbers = |argument, levels: &Levels, fits: fn(f32) -> bool, advice: &str| {
            let of_channels = levels.of(channels).filter(|numbers| numbers.iter().all(|number| fits(*number)));
            let advice = || format!("give {advice}, or one for each of {channels} channels");
            of_channels.ok_or_else(|| Fault::value(argument, format!("{:?}", levels.numbers()), advice()))
        };
        let mean = numbers("mean", mean, f32::is_finite, "a finite number")?;
        // A subnormal divisor would make infinities of ordinary grey levels.
        let std = numbers("std", std, f32::is_normal, "a finite number other than 0")?;
        let normals = std::array::from_fn(|k| Normal { scale: scale / std[k], offset: -mean[k] / std[k] });
        if !normals.iter().all(|normal| (255.0 * normal.scale).is_finite() && normal.offset.is_finite()) {
            return Err(Fault::value("scale", scale, "with this mean and std the numbers are infinite"));
        }
        self.normals = Some(normals);
        Ok(())
    }

    /// What works on levels of pixels in rows must come before what makes a tensor of them.
    fn before_tensor(&self) -> Result<(), Fault> {
        if self.normals.is_some() || self.layout.is_some() || self.dtype.is_some() {
            return Err(Fault::Order("before normalize, layout and cast"));
        }
        Ok(())
    }

    fn finish(self, graph: Graph) -> Result<Plan, Fault> {
        let source = self.source.expect("the first operator gave pixels, or was an error");
        let (resize, pad) = self.resize.ok_or(Fault::SizeVaries("add resize"))?;
        let [width, height] = match (self.center, resize.fit) {
            (Some(center), _) => center,
            (None, Fit::ShorterSide) => {
                return Err(Fault::SizeVaries("behind resize with shorter_side add crop with a center"));
            }
            (None, _) => resize.size,
        };
        let color = self.color.expect("there are pixels");
        let dtype = self.dtype.unwrap_or(if self.normals.is_some() { DataType::F32 } else { DataType::U8 });
        let pad_color = self.pad_color.expect("resize came");
        let pad = pad.of(pad_color.channels()).expect("it was checked");
        let tensor = Tensor {
            width: width as usize,
            height: height as usize,
            color,
            luma: self.luma,
            normals: self.normals.unwrap_or([Normal { scale: 1.0, offset: 0.0 }; 3]),
            pad: converted(pad, pad_color, color, self.pad_luma),
            layout: self.layout.unwrap_or(Layout::Nhwc),
            dtype,
        };
        Ok(Plan { source, cut: self.cut.unwrap_or(Cut::Whole), resize, center: self.center, tensor, graph })
    }
}

fn set_once<T>(to: &mut Option<T>, value: T) -> Result<(), Fault> {
    if to.replace(value).is_some() { Err(Fault::Twice) } else { Ok(()) }
}

/// A pixel's levels in other channels.
pub(crate) fn converted(levels: [f32; 3], from: Color, to: Color, luma: bool) -> [f32; 3] {
    let rgb = match from {
        Color::Rgb => levels,
        Color::Bgr => [levels[2], levels[1], levels[0]],
        Color::Grey => [levels[0]; 3],
    };
    let rgb = if luma && from != Color::Grey { [crate::sample::luma(rgb); 3] } else { rgb };
    if to == Color::Bgr { [rgb[2], rgb[1], rgb[0]] } else { rgb }
}

impl Plan {
    /// The graph that it was made of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Columns of the tensor.
    pub fn width(&self) -> u32 {
        self.tensor.width as u32
    }

    /// Rows of the tensor.
    pub fn height(&self) -> u32 {
        self.tensor.height as u32
    }

    /// Type of the tensor's numbers.
    pub fn dtype(&self) -> DataType {
        self.tensor.dtype
    }

    /// Channels of the tensor: 1 or 3.
    pub fn channels(&self) -> usize {
        self.tensor.channels()
    }

    /// How its numbers lie.
    pub fn layout(&self) -> Layout {
        self.tensor.layout
    }

    /// Sizes of one image's tensor: channels, rows, columns, or rows, columns, channels.
    pub fn shape(&self) -> [usize; 3] {
        let Tensor { width, height, layout, .. } = self.tensor;
        match layout {
            Layout::Nchw => [self.tensor.channels(), height, width],
            Layout::Nhwc => [height, width, self.tensor.channels()],
        }
    }

    /// Numbers in the tensor of one image.
    pub fn tensor_len(&self) -> usize {
        self.tensor.len()
    }

    /// Bytes of the tensor of one image.
    pub fn tensor_bytes(&self) -> usize {
        self.tensor_len() * self.tensor.dtype.bytes()
    }

    /// What an attribute model's graph crops around a detection.
    ///
    /// # Errors
    /// Where the graph begins with decode.
    pub fn crop_spec(&self) -> Result<CropSpec, GraphError> {
        match self.source {
            Source::Detection(spec) => Ok(spec),
            Source::Frame { .. } => Err(self.begins(
                "an attribute model's begins with crop of a detection: { op = \"crop\", detection = \"square\" }",
            )),
        }
    }

    /// Fails unless the graph is of whole frames.
    ///
    /// # Errors
    /// Where the graph begins with crop of a detection.
    pub fn check_frame(&self) -> Result<(), GraphError> {
        match self.source {
            Source::Frame { .. } => Ok(()),
            Source::Detection(_) => Err(self.begins("a detector's begins with decode: { op = \"decode\" }")),
        }
    }

    fn begins(&self, wanted: &'static str) -> GraphError {
        GraphError { operator: None, fault: Fault::Begins { found: self.graph.operators[0].name(), wanted } }
    }

    /// True where the tensor of such a frame is the frame's own bytes: its pixels are as many, in the same order, rows close
    /// together, and nothing is done to their levels.
    pub fn takes_as_is(&self, frame: &FrameView<'_>) -> bool {
        let Tensor { width, height, color, luma, normals, layout, dtype, .. } = self.tensor;
        let is_same_order = match color {
            Color::Rgb => frame.order() == PixelOrder::Rgb && !luma,
            Color::Bgr => frame.order() == PixelOrder::Bgr && !luma,
            Color::Grey => frame.order() == PixelOrder::Grey,
        };
        let size = (frame.width(), frame.height());
        let aim = self.aim(size);
        let is_whole = |window: Window, place: Placement| {
            (window.left, window.top) == (0.0, 0.0)
                && (window.width, window.height) == (width as f64, height as f64)
                && place == Placement { left: 0, top: 0, width, height }
        };
        is_same_order
            && (layout, dtype) == (Layout::Nhwc, DataType::U8)
            && normals == [Normal { scale: 1.0, offset: 0.0 }; 3]
            && size == (self.width(), self.height())
            && is_whole(aim.window, aim.place)
            && frame.is_close_together()
    }

    /// The header as this graph takes it: without orient, images stay as they are stored.
    pub fn header(&self, header: Header) -> Header {
        match self.source {
            Source::Frame { orient: false, .. } => Header { orientation: 1, ..header },
            _ => header,
        }
    }

    /// The scale at which a JPEG may be decoded for this tensor: its picture is not enlarged. `header` is this plan's
    /// ([`Self::header`]).
    pub fn decode_scale(&self, header: &Header) -> DecodeScale {
        match self.source {
            Source::Frame { scale: ScalePolicy::Auto, .. } => {
                let size = header.oriented_size();
                let aim = self.aim(size);
                let needed = |length: u32, part: f64, pixels: usize| {
                    (f64::from(length) * pixels as f64 / part).ceil().min(f64::from(u32::MAX)) as u32
                };
                let width = needed(size.0, aim.window.width, aim.place.width);
                at_least(header, width, needed(size.1, aim.window.height, aim.place.height))
            }
            _ => DecodeScale::Full,
        }
    }

    /// Which part of a whole frame of these pixels is sampled, and where in the tensor it lies.
    pub(crate) fn aim(&self, (width, height): (u32, u32)) -> Aim {
        let cut = |parts: [f64; 4]| {
            let [left, top, right, bottom] = parts;
            Window { left, top, width: right - left, height: bottom - top }
        };
        let (columns, rows) = (f64::from(width), f64::from(height));
        let window = match self.cut {
            Cut::Whole => cut([0.0, 0.0, columns, rows]),
            Cut::Parts([left, top, right, bottom]) => {
                // Whole pixels, and one at least.
                let span = |from: f32, to: f32, length: f64| {
                    let from = (f64::from(from) * length).round().min(length - 1.0);
                    (from, (f64::from(to) * length).round().clamp(from + 1.0, length))
                };
                let ((left, right), (top, bottom)) = (span(left, right, columns), span(top, bottom, rows));
                cut([left, top, right, bottom])
            }
            Cut::Center([width, height]) => {
                let span = |wanted: u32, length: f64| {
                    let wanted = f64::from(wanted).min(length);
                    let from = ((length - wanted) / 2.0).floor();
                    (from, from + wanted)
                };
                let ((left, right), (top, bottom)) = (span(width, columns), span(height, rows));
                cut([left, top, right, bottom])
            }
        };
        Aim::new(window, window, &self.resize, self.center)
    }

    /// The same of a rectangle of a frame, which may lie across its edges.
    pub(crate) fn aim_at(&self, window: Window, (width, height): (u32, u32)) -> Aim {
        let frame = Window { left: 0.0, top: 0.0, width: width.into(), height: height.into() };
        Aim::new(window, frame, &self.resize, self.center)
    }

    /// From the tensor's pixels to those of a whole frame of `size`.
    pub fn tensor_map(&self, size: (u32, u32)) -> TensorMap {
        self.aim(size).tensor_map()
    }
}
