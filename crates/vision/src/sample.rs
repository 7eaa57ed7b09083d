//! The one kernel: a rectangle of the source, sampled, normalised and laid out, in one pass.
//!
//! Two ways to sample. *Linear* is OpenCV's INTER_LINEAR: half-pixel centres, two taps, clamped at the edges. A source
//! row that is needed is interpolated along its columns once, into a line of f32 planes; two such lines are kept, since
//! neighbouring rows of the tensor mostly need the same ones. A row of the tensor is the blend of two lines. *Area*
//! (`sample/area.rs`) is the mean of what a pixel covers. Where source and placement have the same size nothing is
//! interpolated: see [`Sampler::copy`]. Source rows are asked for from the top down, and only those that are needed.

mod area;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod instructions;
mod tables;
mod taps;

use std::ops::Range;

use area::Area;
pub(crate) use instructions::Instructions;
use serde::Serialize;
use tables::Axes;
pub use tables::{Mix, SampleTables};
pub use taps::Span;
use taps::Tap;

use crate::PixelOrder;
use crate::aim::{Aim, Placement};
use crate::graph::plan::{Normal, Tensor};
use crate::graph::{Color, DataType, Layout};
use crate::rows::Rows;

/// Source pixels to one of the tensor's beyond which two of them show too little of what it covers.
const LINEAR_RATIO_MAX: f64 = 2.0;

/// Parts of red, green and blue in the luma of ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Luma of ITU-R BT.601.
#[inline(always)]
pub(crate) fn luma([red, green, blue]: [f32; 3]) -> f32 {
    LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
}

/// A number that a tensor is made of.
pub(crate) trait Number: Copy {
    /// The number of a grey level between two whole ones.
    fn of_level(level: f32, normal: Normal) -> Self;

    /// The number of a whole grey level, 0 to 255.
    fn of_byte(level: u32, normal: Normal) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn of_level(level: f32, normal: Normal) -> Self {
        level * normal.scale + normal.offset
    }

    #[inline(always)]
    fn of_byte(level: u32, normal: Normal) -> Self {
        // Through i32: the conversion from u32 is not one instruction.
        Self::of_level(level as i32 as f32, normal)
    }
}

impl Number for u8 {
    #[inline(always)]
    fn of_level(level: f32, _: Normal) -> Self {
        // 2^23 leaves no bits for a fraction, so the sum is rounded and its lowest byte is the level. A cast
        // would have to check its range, at half the speed.
        (level + 8_388_608.0).to_bits() as u8
    }

    #[inline(always)]
    fn of_byte(level: u32, _: Normal) -> Self {
        level as u8
    }
}

impl Tensor {
    /// Writes the padding around `place`.
    fn fill_padding<T: Number>(&self, place: &Placement, out: &mut [T]) {
        let pixel: [T; 3] = std::array::from_fn(|k| T::of_level(self.pad[k], self.normals[k]));
        match self.layout {
            Layout::Nchw => {
                for (plane, number) in out.chunks_exact_mut(self.width * self.height).zip(pixel) {
                    fill_around(plane, self.width, place, &[number]);
                }
            }
            Layout::Nhwc => fill_around(out, self.width, place, &pixel[..self.channels()]),
        }
    }

    /// Turns what lies in `place` by 180 degrees, in a tensor that is written.
    pub(crate) fn turn(&self, place: &Placement, bytes: &mut [u8]) {
        match self.dtype {
            DataType::F32 => self.turn_numbers::<f32>(place, bytemuck::cast_slice_mut(bytes)),
            DataType::U8 => self.turn_numbers(place, bytes),
        }
    }

    fn turn_numbers<T: Copy>(&self, place: &Placement, numbers: &mut [T]) {
        let pixel = if self.layout == Layout::Nhwc { self.channels() } else { 1 };
        let count = place.width * place.height;
        let at = |index: usize| {
            let row = self.row(place, index / place.width, pixel).start;
            row + index % place.width * pixel
        };
        for plane in numbers.chunks_exact_mut(self.width * self.height * pixel) {
            for index in 0..count / 2 {
                let (one, other) = (at(index), at(count - 1 - index));
                (0..pixel).for_each(|channel| plane.swap(one + channel, other + channel));
            }
        }
    }

    /// Which line of a source in `order`, of `lines` there are, the tensor's channel shows.
    fn line_of(&self, channel: usize, order: PixelOrder, lines: usize) -> usize {
        let reversed = matches!((order, self.color), (PixelOrder::Rgb, Color::Bgr) | (PixelOrder::Bgr, Color::Rgb));
        match lines {
            1 => 0,
            _ if reversed => lines - 1 - channel,
            _ => channel,
        }
    }

    /// Where the placement's row `y` lies in rows of `pixel` numbers a pixel.
    fn row(&self, place: &Placement, y: usize, pixel: usize) -> Range<usize> {
        let start = (place.top + y) * self.width + place.left;
        start * pixel..(start + place.width) * pixel
    }
}

/// Fills rows of `width` pixels around `place`.
fn fill_around<T: Copy>(rows: &mut [T], width: usize, place: &Placement, pixel: &[T]) {
    let fill = |numbers: &mut [T]| match pixel {
        [number] => numbers.fill(*number),
        _ => numbers.chunks_exact_mut(pixel.len()).for_each(|to| to.copy_from_slice(pixel)),
    };
    let row = width * pixel.len();
    fill(&mut rows[..place.top * row]);
    fill(&mut rows[(place.top + place.height) * row..]);
    if place.width == width {
        return;
    }
    for row in rows.chunks_exact_mut(row).skip(place.top).take(place.height) {
        fill(&mut row[..place.left * pixel.len()]);
        fill(&mut row[(place.left + place.width) * pixel.len()..]);
    }
}

/// In [`Sampler::held`]: no source row.
const NO_ROW: u32 = u32::MAX;

/// How the aim is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Pixels of the tensor are the source's, from this column and row on.
    Copy { left: u32, top: u32 },
    #[default]
    Linear,
    /// The mean of what is covered: of which axes. The other one, if any, is linear.
    Area { across: bool, down: bool },
}

/// How the kernel makes pixels along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// They are the source's.
    Copy,
    /// Of two source pixels.
    Linear,
    /// Of all that they cover.
    Area,
}

/// What the kernel does for an aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Along the columns.
    pub across: Sampling,
    /// Along the rows.
    pub down: Sampling,
    /// True where it uses AVX2.
    pub avx2: bool,
}

/// The kernel's tables and lines, kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    way: Way,
    place: Placement,
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// Source rows, interpolated along their columns or averaged, each in planes of the placement's width.
    lines: [Vec<f32>; 2],
    /// Which source rows the lines are.
    held: [u32; 2],
    area: Area,
    instructions: Instructions,
}

impl Sampler {
    /// Sets the tables for sampling what `aim` says, in pixels of `rows`.
    pub(crate) fn aim(&mut self, aim: &Aim, rows: &impl Rows) {
        let Axes { columns, rows: down, across: area_across, down: area_down } = Axes::of(aim, rows.size());
        self.place = aim.place;
        self.way = if aim.is_copy() {
            Way::Copy { left: aim.window.left as u32, top: aim.window.top as u32 }
        } else if area_across || area_down {
            self.area.aim(&columns, area_across, area_down.then_some(&down));
            Way::Area { across: area_across, down: area_down }
        } else {
            Way::Linear
        };
        if !matches!(self.way, Way::Area { .. }) {
            columns.set_linear(&mut self.columns, rows.first_column());
        }
        if !matches!(self.way, Way::Area { down: true, .. }) {
            down.set_linear(&mut self.rows, 0);
        }
        for line in &mut self.lines {
            line.resize(line.len().max(3 * aim.place.width), 0.0);
        }
    }

    /// What was found best for the latest aim.
    pub(crate) fn kernel(&self) -> Kernel {
        let by = |is_area| if is_area { Sampling::Area } else { Sampling::Linear };
        let (across, down) = match self.way {
            Way::Copy { .. } => (Sampling::Copy, Sampling::Copy),
            Way::Linear => (Sampling::Linear, Sampling::Linear),
            Way::Area { across, down } => (by(across), by(down)),
        };
        Kernel { across, down, avx2: self.instructions.has_avx2() }
    }

    /// Writes the whole tensor: the samples that [`Self::aim`] set, and padding around them.
    ///
    /// # Errors
    /// Where a row cannot be had.
    ///
    /// # Panics
    /// Where the tensor has another length, or is not aligned for its numbers.
    pub(crate) fn write<R: Rows>(&mut self, rows: &mut R, tensor: &Tensor, bytes: &mut [u8]) -> Result<(), R::Error> {
        match tensor.dtype {
            DataType::F32 => self.run::<R, f32>(rows, tensor, bytemuck::cast_slice_mut(bytes)),
            DataType::U8 => self.run::<R, u8>(rows, tensor, bytes),
        }
    }

    fn run<R: Rows, T: Number>(&mut self, rows: &mut R, tensor: &Tensor, out: &mut [T]) -> Result<(), R::Error> {
        assert_eq!(out.len(), tensor.len(), "numbers in the tensor");
        tensor.fill_padding(&self.place, out);
        let is_luma = tensor.luma && rows.order() != PixelOrder::Grey;
        match self.way {
            Way::Copy { left, top } if tensor.layout == Layout::Nchw && !is_luma => {
                self.copy(rows, tensor, (left, top), out)
            }
            Way::Area { down: true, .. } => self.run_area(rows, tensor, out),
            Way::Copy { .. } | Way::Linear | Way::Area { .. } => self.run_linear(rows, tensor, out),
        }
    }

    fn run_linear<R: Rows, T: Number>(&mut self, rows: &mut R, tensor: &Tensor, out: &mut [T]) -> Result<(), R::Error> {
        let order = rows.order();
        let is_luma = tensor.luma && order != PixelOrder::Grey;
        let count = if is_luma { 1 } else { order.pixel_bytes() };
        self.held = [NO_ROW; 2];
        for y in 0..self.place.height {
            let Tap { first, weight } = self.rows[y];
            self.hold(rows, first, weight, is_luma)?;
            let [upper, lower] = &self.lines;
            write_row(tensor, &self.place, y, (order, count), [upper, lower], weight, self.instructions, out);
        }
        Ok(())
    }

    /// Makes the first line the source row `first`, and the second the row below it unless it weighs nothing.
    fn hold<R: Rows>(&mut self, rows: &mut R, first: u32, weight: f32, is_luma: bool) -> Result<(), R::Error> {
        if self.held[1] == first {
            self.lines.swap(0, 1);
            self.held.swap(0, 1);
        }
        let below = if weight == 0.0 { self.held[1] } else { first + 1 };
        for (line, row) in [first, below].into_iter().enumerate() {
            if self.held[line] != row {
                let line_of = &mut self.lines[line];
                let (order, first_column, width) = (rows.order(), rows.first_column(), rows.size().0);
                let pixels = rows.row(row)?;
                if let Way::Area { .. } = self.way {
                    self.area.line(pixels, first_column, order.pixel_bytes(), line_of, self.instructions);
                } else {
                    interpolate(order, width, pixels, &self.columns, line_of, self.instructions);
                }
                if is_luma {
                    make_luma(line_of, self.place.width, order);
                }
                self.held[line] = row;
            }
        }
        Ok(())
    }

    fn run_area<R: Rows, T: Number>(&mut self, rows: &mut R, tensor: &Tensor, out: &mut [T]) -> Result<(), R::Error> {
        let order = rows.order();
        let is_luma = tensor.luma && order != PixelOrder::Grey;
        let count = if is_luma { 1 } else { order.pixel_bytes() };
        for y in 0..self.place.height {
            let line = &mut self.lines[0];
            self.area.row(rows, y, line, self.instructions)?;
            if is_luma {
                make_luma(line, self.place.width, order);
            }
            write_row(tensor, &self.place, y, (order, count), [line, line], 0.0, self.instructions, out);
        }
        Ok(())
    }

    /// Writes planes from a source of the placement's size: pixels are only normalised and split.
    fn copy<R: Rows, T: Number>(
        &self,
        rows: &mut R,
        tensor: &Tensor,
        (left, top): (u32, u32),
        out: &mut [T],
    ) -> Result<(), R::Error> {
        let (order, place) = (rows.order(), &self.place);
        let first = (left - rows.first_column()) as usize * order.pixel_bytes();
        for y in 0..place.height {
            let range = tensor.row(place, y, 1);
            let row = &rows.row(top + y as u32)?[first..][..place.width * order.pixel_bytes()];
            let planes = out.chunks_exact_mut(tensor.width * tensor.height);
            if order == PixelOrder::Grey {
                for (plane, normal) in planes.zip(tensor.normals) {
                    for (number, level) in plane[range.clone()].iter_mut().zip(row) {
                        *number = T::of_byte(u32::from(*level), normal);
                    }
                }
                continue;
            }
            let mut planes = planes.map(|plane| &mut plane[range.clone()]);
            let mut next = || planes.next().expect("a tensor of colours has three planes");
            let mut planes = [next(), next(), next()];
            let mut normals = tensor.normals;
            if tensor.line_of(0, order, 3) == 2 {
                planes.reverse();
                normals.reverse();
            }
            self.instructions.split(row, planes, normals);
        }
        Ok(())
    }
}

/// Writes the placement's row `y`: a blend of two lines of `count` planes, of pixels in `order`.
#[allow(clippy::too_many_arguments, reason = "what a row is made of, and where it goes")]
fn write_row<T: Number>(
    tensor: &Tensor,
    place: &Placement,
    y: usize,
    (order, count): (PixelOrder, usize),
    lines: [&[f32]; 2],
    weight: f32,
    instructions: Instructions,
    out: &mut [T],
) {
    let channels = tensor.channels();
    let lines_of = |channel: usize| {
        let start = tensor.line_of(channel, order, count) * place.width;
        lines.map(|line| &line[start..start + place.width])
    };
    match tensor.layout {
        Layout::Nchw => {
            let range = tensor.row(place, y, 1);
            for (channel, plane) in out.chunks_exact_mut(tensor.width * tensor.height).enumerate() {
                let numbers = &mut plane[range.clone()];
                instructions.blend(numbers, lines_of(channel), weight, tensor.normals[channel]);
            }
        }
        Layout::Nhwc => {
            let row = &mut out[tensor.row(place, y, channels)];
            for channel in 0..channels {
                let [upper, lower] = lines_of(channel);
                let numbers = row.iter_mut().skip(channel).step_by(channels);
                for ((number, upper), lower) in numbers.zip(upper).zip(lower) {
                    *number = T::of_level(upper + (lower - upper) * weight, tensor.normals[channel]);
                }
            }
        }
    }
}

/// Interpolates a source row along its columns, into one plane of `line` for each channel.
fn interpolate(
    order: PixelOrder,
    width: u32,
    row: &[u8],
    columns: &[Tap],
    line: &mut [f32],
    instructions: Instructions,
) {
    // Of an image one pixel wide both taps are that pixel.
    let mut twice = [0; 6];
    let row = if width > 1 {
        row
    } else {
        twice[..row.len()].copy_from_slice(row);
        twice[row.len()..2 * row.len()].copy_from_slice(row);
        &twice
    };
    if order == PixelOrder::Grey {
        for (tap, level) in columns.iter().zip(line) {
            let [first, second] = pair(row, tap.first as usize);
            *level = between(first, second, tap.weight);
        }
        return;
    }
    let (a, rest) = line.split_at_mut(columns.len());
    let (b, rest) = rest.split_at_mut(columns.len());
    instructions.interpolate(row, columns, [a, b, &mut rest[..columns.len()]]);
}

/// Makes the first plane of a line of colours their luma.
fn make_luma(line: &mut [f32], width: usize, order: PixelOrder) {
    let (first, rest) = line.split_at_mut(width);
    let (second, third) = rest.split_at(width);
    for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
        *first = match order {
            PixelOrder::Bgr => luma([*third, *second, *first]),
            PixelOrder::Rgb | PixelOrder::Grey => luma([*first, *second, *third]),
        };
    }
}

/// Interpolates a row of 3-byte pixels into planes.
fn interpolate_pixels(row: &[u8], columns: &[Tap], [a, b, c]: [&mut [f32]; 3]) {
    for (((tap, a), b), c) in columns.iter().zip(a).zip(b).zip(c) {
        let [a0, b0, c0, a1, b1, c1] = pair(row, 3 * tap.first as usize);
        *a = between(a0, a1, tap.weight);
        *b = between(b0, b1, tap.weight);
        *c = between(c0, c1, tap.weight);
    }
}

#[inline(always)]
fn between(first: u8, second: u8, weight: f32) -> f32 {
    let first = f32::from(first);
    first + (f32::from(second) - first) * weight
}

/// Blends two lines into a row of a plane, and normalises it.
#[inline(always)]
fn blend_row<T: Number>(numbers: &mut [T], [upper, lower]: [&[f32]; 2], weight: f32, normal: Normal) {
    for ((number, upper), lower) in numbers.iter_mut().zip(upper).zip(lower) {
        *number = T::of_level(upper + (lower - upper) * weight, normal);
    }
}

#[inline(always)]
fn pair<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    *row[at..].first_chunk().expect("a tap and its neighbour lie in the row")
}

/// Splits a row of 3-byte pixels into planes. Four pixels at a time as words: the compiler makes vector
/// instructions of this, which it does not of single bytes (baseline x86-64: 0.18 ms instead of 0.32 for 416x416).
#[inline(always)]
fn split_row<T: Number>(row: &[u8], [a, b, c]: [&mut [T]; 3], [na, nb, nc]: [Normal; 3]) {
    let (groups, rest) = row.as_chunks::<12>();
    let (a_groups, a_rest) = a.as_chunks_mut::<4>();
    let (b_groups, b_rest) = b.as_chunks_mut::<4>();
    let (c_groups, c_rest) = c.as_chunks_mut::<4>();
    for (((group, a), b), c) in groups.iter().zip(a_groups).zip(b_groups).zip(c_groups) {
        let word = |at: usize| u32::from_le_bytes([group[at], group[at + 1], group[at + 2], group[at + 3]]);
        // The last word would end behind the group, so it is the one before, shifted.
        let pixels = [word(0), word(3), word(6), word(8) >> 8];
        *a = pixels.map(|pixel| T::of_byte(pixel & 0xff, na));
        *b = pixels.map(|pixel| T::of_byte((pixel >> 8) & 0xff, nb));
        *c = pixels.map(|pixel| T::of_byte((pixel >> 16) & 0xff, nc));
    }
    let (pixels, _) = rest.as_chunks::<3>();
    for (((pixel, a), b), c) in pixels.iter().zip(a_rest).zip(b_rest).zip(c_rest) {
        *a = T::of_byte(u32::from(pixel[0]), na);
        *b = T::of_byte(u32::from(pixel[1]), nb);
        *c = T::of_byte(u32::from(pixel[2]), nc);
    }
}

#[cfg(test)]
pub(crate) mod tests;
