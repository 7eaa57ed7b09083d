//! What the kernel does, as data: for others who sample the same way, which GPUs do. Which pixels and how much of each is
//! decided here and in `taps.rs` for both.

use framepipe_frame::TensorMap;

use super::taps::{Axis, Span, Spans};
use super::{LINEAR_RATIO_MAX, LUMA};
use crate::aim::{Aim, Placement};
use crate::crop::window;
use crate::graph::plan::Tensor;
use crate::graph::{Filter, Plan};
use crate::{DecodeScale, PixelOrder, Rect};

/// The two axes of an aim, and how each is sampled.
#[derive(Debug)]
pub(super) struct Axes {
    pub(super) columns: Axis,
    pub(super) rows: Axis,
    /// True: by the mean of what a pixel covers.
    pub(super) across: bool,
    pub(super) down: bool,
}

impl Axes {
    /// Of what `aim` says, in pixels of a source of `size`.
    pub(super) fn of(aim: &Aim, (width, height): (u32, u32)) -> Self {
        let bounds = |from: f64, length: f64, source: u32| {
            let start = (from as u32).min(source - 1);
            start..((from + length) as u32).clamp(start + 1, source)
        };
        let columns = Axis {
            origin: aim.window.left,
            extent: aim.window.width,
            count: aim.place.width,
            bounds: bounds(aim.bounds.left, aim.bounds.width, width),
            source: width,
        };
        let rows = Axis {
            origin: aim.window.top,
            extent: aim.window.height,
            count: aim.place.height,
            bounds: bounds(aim.bounds.top, aim.bounds.height, height),
            source: height,
        };
        let by_area = |axis: &Axis| match aim.filter {
            Filter::Linear => false,
            Filter::Auto => axis.ratio() > LINEAR_RATIO_MAX,
            Filter::Area => axis.ratio() > 1.0,
        };
        Self { across: by_area(&columns), down: by_area(&rows), columns, rows }
    }
}

/// Weighted runs of source pixels for each column and each row of the picture that lies in a tensor: a number of the picture is the
/// sum of a column's run of a row's run. Filled again and again, without allocating once the largest has been seen.
#[derive(Debug, Default)]
pub struct SampleTables {
    place: Placement,
    columns: Spans,
    rows: Spans,
}

impl SampleTables {
    /// Column and row of the tensor where the picture begins, and its columns and rows. Around it is padding.
    pub fn place(&self) -> [u32; 4] {
        let Placement { left, top, width, height } = self.place;
        [left, top, width, height].map(|number| number as u32)
    }

    /// By column: its run of the source's columns, and all runs' weights.
    pub fn columns(&self) -> (&[Span], &[f32]) {
        self.columns.parts()
    }

    /// By row: its run of the source's rows, and all runs' weights.
    pub fn rows(&self) -> (&[Span], &[f32]) {
        self.rows.parts()
    }

    /// Most bytes of runs and weights that tables for `plan` have, of frames whose longest side is `side_max`.
    pub fn bytes_max(plan: &Plan, side_max: u32) -> usize {
        let axis =
            |count: usize| count * size_of::<Span>() + Spans::weights_max(side_max as usize, count) * size_of::<f32>();
        axis(plan.tensor.width) + axis(plan.tensor.height)
    }

    fn set(&mut self, aim: &Aim, size: (u32, u32)) {
        let axes = Axes::of(aim, size);
        self.place = aim.place;
        axes.columns.set_spans(&mut self.columns, axes.across);
        axes.rows.set_spans(&mut self.rows, axes.down);
    }
}

/// What makes a tensor's numbers of a source pixel's levels, and what its padding is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// By channel of the tensor, and byte of the source's pixel: what that level is multiplied by. Of a grey source the
    /// first alone counts; of a grey tensor the first row.
    pub levels: [[f32; 3]; 3],
    /// By channel: what is added.
    pub offsets: [f32; 3],
    /// By channel: the padding's number.
    pub padding: [f32; 3],
}

impl Plan {
    /// How a whole frame is sampled whose pixels are given at `scale` of `source`, its columns and rows when it is the
    /// right way up. Gives the way back from the tensor to the frame.
    ///
    /// # Panics
    /// Where a side is 0.
    pub fn sample_frame(&self, source: (u32, u32), scale: DecodeScale, tables: &mut SampleTables) -> TensorMap {
        let aim = self.aim(source);
        tables.set(&aim.at_scale(scale), (scale.pixels_of(source.0), scale.pixels_of(source.1)));
        aim.tensor_map()
    }

    /// How the crop of `rect` is sampled, in a frame of `size`: as [`crate::Cropper::run`] does.
    ///
    /// # Panics
    /// Where a side is 0.
    pub fn sample_crop(&self, rect: &Rect, size: (u32, u32), tables: &mut SampleTables) {
        tables.set(&self.aim_at(window(rect, size), size), size);
    }

    /// What makes the tensor's numbers of levels of pixels in `order`.
    pub fn mix(&self, order: PixelOrder) -> Mix {
        let Tensor { normals, pad, luma, .. } = self.tensor;
        let channel_of = |channel: usize, byte: usize| match (order, luma) {
            (PixelOrder::Grey, _) => f32::from(u8::from(byte == 0)),
            (PixelOrder::Rgb, true) => LUMA[byte],
            (PixelOrder::Bgr, true) => LUMA[2 - byte],
            (_, false) => f32::from(u8::from(byte == self.tensor.line_of(channel, order, 3))),
        };
        Mix {
            levels: std::array::from_fn(|channel| {
                std::array::from_fn(|byte| channel_of(channel, byte) * normals[channel].scale)
            }),
            offsets: normals.map(|normal| normal.offset),
            padding: std::array::from_fn(|channel| pad[channel] * normals[channel].scale + normals[channel].offset),
        }
    }
}
