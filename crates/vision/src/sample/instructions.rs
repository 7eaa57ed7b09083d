//! Which instructions the kernel's rows, and those of planar frames, use: the best that this CPU has. All give the same numbers to the last bit.
#![allow(unsafe_code, reason = "calls of functions for instructions that were found to be there")]

use super::area::{Groups, accumulate_row, gather_pixels, weigh_row};
#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::taps::Spans;
use super::{Number, Tap, blend_row, interpolate_pixels, split_row};
use crate::YuvView;
use crate::graph::plan::Normal;

/// The instructions of this CPU, as far as the kernel knows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    /// True only where it was found to be there.
    avx2: bool,
}

impl Default for Instructions {
    fn default() -> Self {
        #[cfg(target_arch = "x86_64")]
        let avx2 = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Self { avx2 }
    }
}

impl Instructions {
    /// Those that every CPU has for which this was compiled.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self { avx2: false }
    }

    /// True where AVX2 is used.
    pub(crate) fn has_avx2(self) -> bool {
        self.avx2
    }

    /// See [`interpolate_pixels`].
    pub(super) fn interpolate(self, row: &[u8], columns: &[Tap], planes: [&mut [f32]; 3]) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::interpolate(row, columns, planes) };
        }
        interpolate_pixels(row, columns, planes);
    }

    /// See [`blend_row`].
    pub(super) fn blend<T: Number>(self, numbers: &mut [T], lines: [&[f32]; 2], weight: f32, normal: Normal) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::blend(numbers, lines, weight, normal) };
        }
        blend_row(numbers, lines, weight, normal);
    }

    /// See [`split_row`].
    pub(super) fn split<T: Number>(self, row: &[u8], planes: [&mut [T]; 3], normals: [Normal; 3]) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::split(row, planes, normals) };
        }
        split_row(row, planes, normals);
    }

    /// See [`accumulate_row`].
    pub(super) fn accumulate(self, sum: &mut [f32], row: &[u8], weight: f32) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::accumulate(sum, row, weight) };
        }
        accumulate_row(sum, row, weight);
    }

    /// See [`weigh_row`].
    pub(super) fn weigh(self, sum: &mut [f32], row: &[u8], weight: f32) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::weigh(sum, row, weight) };
        }
        weigh_row(sum, row, weight);
    }

    /// See [`gather_pixels`].
    pub(super) fn gather(self, sum: &[f32], columns: &Spans, groups: &Groups, planes: [&mut [f32]; 3]) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::gather(sum, columns, groups, planes) };
        }
        gather_pixels(sum, columns, 0, planes);
    }

    /// See [`YuvView::write_rows`].
    pub(crate) fn yuv_to_rgb(self, view: &YuvView<'_>, rgb: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: this CPU has AVX2.
            return unsafe { avx2::yuv_to_rgb(view, rgb) };
        }
        view.write_rows(rgb);
    }
}
