//! The one kernel: a rectangle of the source, sampled bilinearly, normalised and split into planes, in one pass.
//!
//! Siting is OpenCV's INTER_LINEAR: half-pixel centres, two taps, clamped at the image's edges. A source row that
//! is needed is interpolated along its columns once, into a line of f32 planes; two such lines are kept, since
//! neighbouring rows of the tensor mostly need the same ones. A row of the tensor is the blend of two lines.
//! Where source and placement have the same size nothing is interpolated: see [`copy`].

#[cfg(target_arch = "x86_64")]
mod avx2;
mod instructions;

use std::ops::Range;

pub(crate) use instructions::Instructions;

use crate::placement::Placement;
use crate::{Color, DataType, FrameView, InputSpec, PixelOrder};

/// A rectangle of the source in continuous coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// `number = level * scale + offset`, which is `(level - mean) / std`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal {
    scale: f32,
    offset: f32,
}

/// A number that a tensor is made of.
pub(crate) trait Number: Copy {
    const TYPE: DataType;

    /// The number of a grey level between two whole ones.
    fn of_level(level: f32, normal: Normal) -> Self;

    /// The number of a whole grey level, 0 to 255.
    fn of_byte(level: u32, normal: Normal) -> Self;
}

impl Number for f32 {
    const TYPE: DataType = DataType::F32;

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
    const TYPE: DataType = DataType::U8;

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

/// What a spec asks of every tensor: size, order, normalisation, padding.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) width: usize,
    pub(crate) height: usize,
    dtype: DataType,
    color: Color,
    normals: [Normal; 3],
    pad: [f32; 3],
}

/// One plane of a tensor, where its source channel finds it.
struct Plane<'a, T> {
    numbers: &'a mut [T],
    normal: Normal,
}

impl Target {
    /// `spec` was checked.
    pub(crate) fn new(spec: &InputSpec) -> Self {
        let normals = std::array::from_fn(|channel| Normal {
            scale: 1.0 / spec.std[channel],
            offset: -spec.mean[channel] / spec.std[channel],
        });
        Self {
            width: spec.width as usize,
            height: spec.height as usize,
            dtype: spec.dtype,
            color: spec.color,
            normals,
            pad: spec.pad,
        }
    }

    /// Writes the padding around `place`.
    fn fill_padding<T: Number>(&self, place: &Placement, out: &mut [T]) {
        for (channel, plane) in out.chunks_exact_mut(self.width * self.height).enumerate() {
            let number = T::of_level(self.pad[channel], self.normals[channel]);
            plane[..place.top * self.width].fill(number);
            plane[(place.top + place.height) * self.width..].fill(number);
            if place.width == self.width {
                continue;
            }
            for row in plane.chunks_exact_mut(self.width).skip(place.top).take(place.height) {
                row[..place.left].fill(number);
                row[place.left + place.width..].fill(number);
            }
        }
    }

    /// The tensor's planes in the order in which pixels of `order` bring their channels.
    fn planes<'a, T>(&self, order: PixelOrder, out: &'a mut [T]) -> [Plane<'a, T>; 3] {
        let (first, rest) = out.split_at_mut(self.width * self.height);
        let (second, third) = rest.split_at_mut(self.width * self.height);
        let [a, b, c] = self.normals;
        let mut planes = [
            Plane { numbers: first, normal: a },
            Plane { numbers: second, normal: b },
            Plane { numbers: third, normal: c },
        ];
        if matches!((order, self.color), (PixelOrder::Rgb, Color::Bgr) | (PixelOrder::Bgr, Color::Rgb)) {
            planes.reverse();
        }
        planes
    }

    /// Where the placement's row `y` lies in a plane.
    fn row(&self, place: &Placement, y: usize) -> Range<usize> {
        let start = (place.top + y) * self.width + place.left;
        start..start + place.width
    }

    fn check<T: Number>(&self, out: &[T]) {
        assert_eq!(self.dtype, T::TYPE, "the spec's dtype and the function called");
        assert_eq!(out.len(), 3 * self.width * self.height, "numbers in the tensor");
    }
}

/// The first of two neighbouring source pixels, and the second one's weight.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    first: u32,
    weight: f32,
}

/// Fills `taps` for `count` pixels that span `extent` source pixels from `origin` on, of `source` there are.
/// `first + 1` is a source pixel too, unless there is only one.
fn set_taps(taps: &mut Vec<Tap>, origin: f64, extent: f64, count: usize, source: usize) {
    let last = (source - 1) as f64;
    let step = extent / count as f64;
    taps.clear();
    taps.extend((0..count).map(|index| {
        let at = (origin + (index as f64 + 0.5) * step - 0.5).clamp(0.0, last);
        let first = (at as usize).min(source.saturating_sub(2));
        Tap { first: first as u32, weight: (at - first as f64) as f32 }
    }));
}

/// In [`Sampler::held`]: no source row.
const NO_ROW: u32 = u32::MAX;

/// The kernel's tables and lines, kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// Interpolated source rows, each in planes of `columns.len()`.
    lines: [Vec<f32>; 2],
    /// Which source rows the lines are.
    held: [u32; 2],
    instructions: Instructions,
}

impl Sampler {
    /// Sets the tables for sampling `window` of a source of `source` pixels into `place`.
    pub(crate) fn aim(&mut self, window: &Window, source: (u32, u32), place: &Placement) {
        set_taps(&mut self.columns, window.left, window.width, place.width, source.0 as usize);
        set_taps(&mut self.rows, window.top, window.height, place.height, source.1 as usize);
        for line in &mut self.lines {
            line.resize(3 * place.width, 0.0);
        }
    }

    /// Writes the whole tensor: the samples that [`Self::aim`] set, and padding around `place`, the same as there.
    pub(crate) fn run<T: Number>(&mut self, view: &FrameView<'_>, target: &Target, place: &Placement, out: &mut [T]) {
        target.check(out);
        target.fill_padding(place, out);
        let mut planes = target.planes(view.order(), out);
        let grey = view.order() == PixelOrder::Grey;
        self.held = [NO_ROW; 2];
        for y in 0..place.height {
            let weight = self.rows[y].weight;
            self.hold(view, self.rows[y].first, weight);
            let [upper, lower] = &self.lines;
            let range = target.row(place, y);
            for (channel, plane) in planes.iter_mut().enumerate() {
                let start = if grey { 0 } else { channel * place.width };
                let lines = [upper, lower].map(|line| &line[start..start + place.width]);
                self.instructions.blend(&mut plane.numbers[range.clone()], lines, weight, plane.normal);
            }
        }
    }

    /// Makes the first line the source row `first`, and the second the row below it unless it weighs nothing.
    fn hold(&mut self, view: &FrameView<'_>, first: u32, weight: f32) {
        if self.held[1] == first {
            self.lines.swap(0, 1);
            self.held.swap(0, 1);
        }
        let below = if weight == 0.0 { self.held[1] } else { first + 1 };
        for (line, row) in [first, below].into_iter().enumerate() {
            if self.held[line] != row {
                interpolate(view, row, &self.columns, &mut self.lines[line], self.instructions);
                self.held[line] = row;
            }
        }
    }
}

/// Interpolates a source row along its columns, into one plane of `line` for each channel.
fn interpolate(view: &FrameView<'_>, y: u32, columns: &[Tap], line: &mut [f32], instructions: Instructions) {
    let row = view.row(y);
    // Of an image one pixel wide both taps are that pixel.
    let mut twice = [0; 6];
    let row = if view.width() > 1 {
        row
    } else {
        twice[..row.len()].copy_from_slice(row);
        twice[row.len()..2 * row.len()].copy_from_slice(row);
        &twice
    };
    if view.order() == PixelOrder::Grey {
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

/// Writes the whole tensor from a source of `place`'s size: pixels are only normalised and split into planes.
pub(crate) fn copy<T: Number>(view: &FrameView<'_>, target: &Target, place: &Placement, out: &mut [T]) {
    let instructions = Instructions::default();
    target.check(out);
    debug_assert_eq!((view.width() as usize, view.height() as usize), (place.width, place.height));
    target.fill_padding(place, out);
    let mut planes = target.planes(view.order(), out);
    for y in 0..view.height() {
        let range = target.row(place, y as usize);
        let row = view.row(y);
        if view.order() == PixelOrder::Grey {
            for plane in &mut planes {
                for (number, level) in plane.numbers[range.clone()].iter_mut().zip(row) {
                    *number = T::of_byte(u32::from(*level), plane.normal);
                }
            }
        } else {
            let normals = planes.each_ref().map(|plane| plane.normal);
            instructions.split(row, planes.each_mut().map(|plane| &mut plane.numbers[range.clone()]), normals);
        }
    }
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
