//! A graph's operators done one by one, each in the plainest way, on numbers that are never rounded: what each of them makes,
//! to be looked at (`framepipe inspect`) and compared with the one pass of the plan, which must give the same.

use std::time::{Duration, Instant};

use super::plan::{Tensor, converted};
use super::{Color, DataType, DecodedColor, Filter, Fit, Layout, Operator, Plan};
use crate::aim::{Aim, Window};
use crate::{DecodeScale, FrameView, PixelOrder, Rect};

/// What an operator made.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which operator.
    pub operator: Operator,
    /// What it made.
    pub picture: Picture,
    /// How long it took here, where nothing is fast.
    pub took: Duration,
}

/// Pixels, or a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Channels.
    pub color: Color,
    /// How the numbers lie.
    pub layout: Layout,
    /// Their type: u8 for grey levels, which here may have a fraction.
    pub dtype: DataType,
    /// All of them.
    pub numbers: Vec<f32>,
    /// The rectangle that a crop of a detection left, which is no whole pixels; else all.
    window: Window,
}

impl Picture {
    /// Sizes as a tensor has them.
    pub fn shape(&self) -> [usize; 3] {
        match self.layout {
            Layout::Nchw => [self.color.channels(), self.height, self.width],
            Layout::Nhwc => [self.height, self.width, self.color.channels()],
        }
    }

    /// The rectangle of its pixels that the next operator takes.
    pub fn rect(&self) -> Rect {
        let Window { left, top, width, height } = self.window;
        let [x0, y0, x1, y1] = [left, top, left + width, top + height].map(|number| number as f32);
        Rect { x0, y0, x1, y1 }
    }

    /// The number of a channel of a pixel.
    pub fn number(&self, x: usize, y: usize, channel: usize) -> f32 {
        let channels = self.color.channels();
        self.numbers[match self.layout {
            Layout::Nchw => (channel * self.height + y) * self.width + x,
            Layout::Nhwc => (y * self.width + x) * channels + channel,
        }]
    }

    /// The tensor that a plan's one pass made.
    ///
    /// # Panics
    /// Where `tensor` is not [`Plan::tensor_bytes`] long, or not aligned for its numbers.
    pub fn of_tensor(plan: &Plan, tensor: &[u8]) -> Self {
        let Tensor { width, height, color, layout, dtype, .. } = plan.tensor;
        let numbers: Vec<f32> = match dtype {
            DataType::F32 => bytemuck::cast_slice(tensor).to_vec(),
            DataType::U8 => tensor.iter().map(|byte| f32::from(*byte)).collect(),
        };
        assert_eq!(numbers.len(), plan.tensor_len(), "numbers in the tensor");
        Self { layout, dtype, ..Self::made(width, height, color, numbers) }
    }

    /// Of a plan's tensor the grey levels that its numbers were made of: pixels in rows.
    pub fn to_levels(&self, plan: &Plan) -> Self {
        self.drawn(self.width, self.height, |x, y| {
            let (numbers, normals) = (self.levels(x, y), plan.tensor.normals);
            std::array::from_fn(|channel| (numbers[channel] - normals[channel].offset) / normals[channel].scale)
        })
    }

    /// Grey levels as red, green and blue, a byte each; what lies beyond 0 to 255 becomes the nearest of them.
    pub fn to_rgb8(&self) -> Vec<u8> {
        let rgb = self.drawn_in(Color::Rgb);
        rgb.numbers.iter().map(|level| level.round() as u8).collect() // such a cast saturates
    }

    /// A frame's pixels as RGB, in which every graph begins. Of a frame that was decoded at a fraction of its size, the last
    /// pixels may show less than the others.
    fn of_view(view: &FrameView<'_>) -> Self {
        let bytes = (0..view.height()).flat_map(|y| view.row(y));
        let numbers = bytes.map(|byte| f32::from(*byte)).collect();
        let color = match view.order() {
            PixelOrder::Rgb => Color::Rgb,
            PixelOrder::Bgr => Color::Bgr,
            PixelOrder::Grey => Color::Grey,
        };
        let side = f64::from(view.scale().divisor());
        let (width, height) = view.source_size();
        let window = Window { left: 0.0, top: 0.0, width: f64::from(width) / side, height: f64::from(height) / side };
        let pixels = Self::made(view.width() as usize, view.height() as usize, color, numbers);
        Self { window, ..pixels.drawn_in(Color::Rgb) }
    }

    fn of_pixels(width: usize, height: usize, color: Color, pixel: impl Fn(usize, usize) -> [f32; 3]) -> Self {
        let numbers = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let numbers = numbers.flat_map(|(x, y)| pixel(x, y).into_iter().take(color.channels())).collect();
        Self::made(width, height, color, numbers)
    }

    /// Pixels in rows, of grey levels.
    fn made(width: usize, height: usize, color: Color, numbers: Vec<f32>) -> Self {
        let window = Window { left: 0.0, top: 0.0, width: width as f64, height: height as f64 };
        Self { width, height, color, layout: Layout::Nhwc, dtype: DataType::U8, numbers, window }
    }

    fn levels(&self, x: usize, y: usize) -> [f32; 3] {
        std::array::from_fn(|channel| self.number(x, y, channel.min(self.color.channels() - 1)))
    }

    /// A picture of another size, each pixel by itself.
    fn drawn(&self, width: usize, height: usize, pixel: impl Fn(usize, usize) -> [f32; 3]) -> Self {
        Self::of_pixels(width, height, self.color, pixel)
    }

    /// The same in other channels.
    fn drawn_in(&self, color: Color) -> Self {
        let pixel = |x, y| converted(self.levels(x, y), self.color, color, color == Color::Grey);
        Self { window: self.window, ..Self::of_pixels(self.width, self.height, color, pixel) }
    }

    fn part(&self, window: &Window) -> Self {
        let (left, top) = (window.left as usize, window.top as usize);
        self.drawn(window.width as usize, window.height as usize, |x, y| self.levels(left + x, top + y))
    }

    fn resized(&self, aim: &Aim, size: [usize; 2], pad: [f32; 3]) -> Self {
        let Aim { window, place, filter, .. } = *aim;
        let across = Taps::of(window.left, window.width, place.width, self.width, filter);
        let down = Taps::of(window.top, window.height, place.height, self.height, filter);
        self.drawn(size[0], size[1], |x, y| {
            let inside = (place.left..place.left + place.width).contains(&x)
                && (place.top..place.top + place.height).contains(&y);
            if !inside {
                return pad;
            }
            let mut sum = [0.0f64; 3];
            for (row, row_weight) in down.pixels(y - place.top) {
                for (column, weight) in across.pixels(x - place.left) {
                    for (sum, level) in sum.iter_mut().zip(self.levels(column, row)) {
                        *sum += f64::from(level) * weight * row_weight;
                    }
                }
            }
            sum.map(|sum| sum as f32)
        })
    }
}

/// Along one axis, which pixels of the picture one of the smaller picture is made of.
struct Taps {
    from: f64,
    step: f64,
    source: usize,
    is_area: bool,
}

impl Taps {
    fn of(from: f64, extent: f64, count: usize, source: usize, filter: Filter) -> Self {
        let step = extent / count as f64;
        let is_area = match filter {
            Filter::Linear => false,
            Filter::Auto => step > 2.0,
            Filter::Area => step > 1.0,
        };
        Self { from, step, source, is_area }
    }

    fn pixels(&self, index: usize) -> Vec<(usize, f64)> {
        let inside = |at: f64| at.clamp(0.0, (self.source - 1) as f64) as usize;
        if self.is_area {
            let (from, to) = (self.from + index as f64 * self.step, self.from + (index + 1) as f64 * self.step);
            let covered = |pixel: i64| ((pixel + 1) as f64).min(to) - (pixel as f64).max(from);
            let pixels = from.floor() as i64..to.ceil() as i64;
            return pixels.map(|pixel| (inside(pixel as f64), covered(pixel) / self.step)).collect();
        }
        let at = self.from + (index as f64 + 0.5) * self.step - 0.5;
        let second = at - at.floor();
        vec![(inside(at.floor()), 1.0 - second), (inside(at.floor() + 1.0), second)]
    }
}

/// What each of the plan's operators makes of a frame: its pixels as they are stored, decoded at `scale`, `orientation` as
/// EXIF has it. An attribute model's graph takes them the right way up, and `rect` around its detection.
///
/// # Panics
/// Where the plan begins with the crop of a detection and there is no `rect`.
pub fn steps(plan: &Plan, view: &FrameView<'_>, scale: DecodeScale, orientation: u8, rect: Option<&Rect>) -> Vec<Step> {
    let mut walk = Walk { plan, scale, orientation, rect, is_resized: false };
    let mut picture = Picture::of_view(view);
    let mut step = |operator: &Operator| {
        let start = Instant::now();
        picture = walk.step(operator, &picture);
        Step { operator: operator.clone(), picture: picture.clone(), took: start.elapsed() }
    };
    plan.graph().operators.iter().map(&mut step).collect()
}

struct Walk<'a> {
    plan: &'a Plan,
    scale: DecodeScale,
    orientation: u8,
    rect: Option<&'a Rect>,
    is_resized: bool,
}

impl Walk<'_> {
    fn step(&mut self, operator: &Operator, picture: &Picture) -> Picture {
        match operator {
            Operator::Decode { color: DecodedColor::Rgb, .. } => picture.clone(),
            Operator::Decode { color: DecodedColor::Grey, .. } => picture.drawn_in(Color::Grey),
            Operator::Orient {} => oriented(picture, self.orientation),
            Operator::Crop { detection: Some(_), .. } => {
                let rect = self.rect.expect("an attribute model's graph is given a rectangle");
                let [x0, y0, x1, y1] = [rect.x0, rect.y0, rect.x1, rect.y1].map(f64::from);
                let window = Window { left: x0, top: y0, width: x1 - x0, height: y1 - y0 };
                Picture { window, ..picture.clone() }
            }
            Operator::Crop { center: Some(center), .. } if self.is_resized => {
                let [width, height] = center.map(|length| length as usize);
                let (left, top) = ((picture.width - width) / 2, (picture.height - height) / 2);
                picture.drawn(width, height, |x, y| picture.levels(left + x, top + y))
            }
            Operator::Crop { .. } => self.cut(picture),
            Operator::Resize { pad, .. } => {
                self.is_resized = true;
                self.resized(picture, pad.of(picture.color.channels()).expect("it was checked"))
            }
            Operator::Convert { color } => picture.drawn_in(*color),
            Operator::Normalize { .. } => {
                let channels = picture.color.channels();
                let normal = |index: usize| self.plan.tensor.normals[index % channels];
                let numbers = picture.numbers.iter().enumerate();
                let numbers =
                    numbers.map(|(index, level)| level * normal(index).scale + normal(index).offset).collect();
                Picture { dtype: DataType::F32, numbers, ..picture.clone() }
            }
            Operator::Layout { order: Layout::Nhwc } => picture.clone(),
            Operator::Layout { order: Layout::Nchw } => {
                let (pixels, channels) = (picture.height * picture.width, picture.color.channels());
                let places = (0..channels).flat_map(|channel| (0..pixels).map(move |pixel| pixel * channels + channel));
                let numbers = places.map(|at| picture.numbers[at]).collect();
                Picture { layout: Layout::Nchw, numbers, ..picture.clone() }
            }
            Operator::Cast { dtype } => {
                let cast = |number: &f32| if *dtype == DataType::U8 { number.round() } else { *number };
                Picture { dtype: *dtype, numbers: picture.numbers.iter().map(cast).collect(), ..picture.clone() }
            }
        }
    }

    /// The cut is at whole pixels of the source, of which a decoded one may be a part.
    fn cut(&self, picture: &Picture) -> Picture {
        let side = f64::from(self.scale.divisor());
        let source = [picture.window.width, picture.window.height].map(|length| (length * side).round() as u32);
        let aim = self.plan.aim(source.into());
        let (cut, pixels) = (aim.bounds, aim.at_scale(self.scale).bounds);
        let window = Window {
            left: cut.left / side - pixels.left,
            top: cut.top / side - pixels.top,
            width: cut.width / side,
            height: cut.height / side,
        };
        Picture { window, ..picture.part(&pixels) }
    }

    fn resized(&self, picture: &Picture, pad: [f32; 3]) -> Picture {
        let whole = Window { left: 0.0, top: 0.0, width: picture.width as f64, height: picture.height as f64 };
        let aim = Aim::new(picture.window, whole, &self.plan.resize, None);
        let size = match self.plan.resize.fit {
            Fit::ShorterSide => [aim.place.width, aim.place.height],
            Fit::Stretch | Fit::Letterbox | Fit::PadRightBottom => self.plan.resize.size.map(|side| side as usize),
        };
        picture.resized(&aim, size, pad)
    }
}

/// EXIF 2.32, tag 0x0112: where the first row and the first column lie.
fn oriented(picture: &Picture, orientation: u8) -> Picture {
    let (width, height) = (picture.width, picture.height);
    let (right, bottom) = (width - 1, height - 1);
    match orientation {
        2 => picture.drawn(width, height, |x, y| picture.levels(right - x, y)),
        3 => picture.drawn(width, height, |x, y| picture.levels(right - x, bottom - y)),
        4 => picture.drawn(width, height, |x, y| picture.levels(x, bottom - y)),
        5 => picture.drawn(height, width, |x, y| picture.levels(y, x)),
        6 => picture.drawn(height, width, |x, y| picture.levels(y, bottom - x)),
        7 => picture.drawn(height, width, |x, y| picture.levels(right - y, bottom - x)),
        8 => picture.drawn(height, width, |x, y| picture.levels(right - y, x)),
        _ => picture.clone(),
    }
}
