//! The kernel's rows with AVX2: the same arithmetic in the same order as the portable rows, so the same numbers to the last
//! bit (and so no fused multiply-add, which rounds once instead of twice).
#![allow(unsafe_code, reason = "gathers and unaligned loads and stores")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_mul_ps, _mm_set1_ps, _mm_setzero_ps,
    _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps_si256, _mm256_cvtepi32_ps, _mm256_i32gather_epi32,
    _mm256_loadu_ps, _mm256_mul_ps, _mm256_permute4x64_pd, _mm256_set1_epi32, _mm256_shuffle_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::area::{GROUP, Groups, accumulate_row, gather_pixels, weigh_row};
use super::taps::Spans;
use super::{Number, Tap, blend_row, interpolate_pixels, split_row};
use crate::YuvView;
use crate::graph::plan::Normal;

/// Taps, and so numbers of a plane, in one step.
const LANES: usize = 8;

/// As [`interpolate_pixels`].
#[target_feature(enable = "avx2")]
pub(super) fn interpolate(row: &[u8], columns: &[Tap], [a, b, c]: [&mut [f32]; 3]) {
    // Taps ascend, so the last one reads the farthest.
    let reads = columns.last().map_or(0, |tap| 3 * (tap.first as usize + 2));
    assert!(reads <= row.len() && row.len() <= i32::MAX as usize, "a tap and its neighbour lie in the row");
    let (groups, tail) = columns.as_chunks::<LANES>();
    let (a, a_tail) = a.as_chunks_mut::<LANES>();
    let (b, b_tail) = b.as_chunks_mut::<LANES>();
    let (c, c_tail) = c.as_chunks_mut::<LANES>();
    for (((group, a), b), c) in groups.iter().zip(a).zip(b).zip(c) {
        let (first, weight) = untangle(group);
        let offset = _mm256_add_epi32(_mm256_slli_epi32::<1>(first), first);
        // SAFETY: a tap's two pixels are the bytes from `offset` to `offset + 5`, which lie in the row, as was asserted for
        // the last one. The gathers read the bytes 0 to 3 and 2 to 5 of them.
        let (left, right) = unsafe {
            let bytes = row.as_ptr();
            (
                _mm256_i32gather_epi32::<1>(bytes.cast(), offset),
                _mm256_i32gather_epi32::<1>(bytes.add(2).cast(), offset),
            )
        };
        // left: a0 b0 c0 a1; right: c0 a1 b1 c1; the lowest byte first.
        store(a, between(level::<0>(left), level::<24>(left), weight));
        store(b, between(level::<8>(left), level::<16>(right), weight));
        store(c, between(level::<16>(left), level::<24>(right), weight));
    }
    interpolate_pixels(row, tail, [a_tail, b_tail, c_tail]);
}

/// The places and the weights of eight taps.
#[target_feature(enable = "avx2")]
fn untangle(taps: &[Tap; LANES]) -> (__m256i, __m256) {
    // SAFETY: a `Tap` is eight bytes, a place and a weight; eight of them are two vectors.
    let (low, high) = unsafe {
        let words = taps.as_ptr().cast::<f32>();
        (_mm256_loadu_ps(words), _mm256_loadu_ps(words.add(LANES)))
    };
    // Shuffles work within halves of a vector, so taps come out as 0 1 4 5 2 3 6 7.
    let in_order = |tangled| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(tangled)));
    let first = in_order(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
    (_mm256_castps_si256(first), in_order(_mm256_shuffle_ps::<0b11_01_11_01>(low, high)))
}

/// One byte of each word, as a level.
#[target_feature(enable = "avx2")]
fn level<const SHIFT: i32>(words: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<SHIFT>(words), _mm256_set1_epi32(0xff)))
}

#[target_feature(enable = "avx2")]
fn between(first: __m256, second: __m256, weight: __m256) -> __m256 {
    _mm256_add_ps(first, _mm256_mul_ps(_mm256_sub_ps(second, first), weight))
}

#[target_feature(enable = "avx2")]
fn store(to: &mut [f32; LANES], levels: __m256) {
    // SAFETY: it has eight numbers.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), levels) }
}

/// As [`blend_row`], which the compiler makes wider vectors of here.
#[target_feature(enable = "avx2")]
pub(super) fn blend<T: Number>(numbers: &mut [T], lines: [&[f32]; 2], weight: f32, normal: Normal) {
    blend_row(numbers, lines, weight, normal);
}

/// As [`split_row`], likewise.
#[target_feature(enable = "avx2")]
pub(super) fn split<T: Number>(row: &[u8], planes: [&mut [T]; 3], normals: [Normal; 3]) {
    split_row(row, planes, normals);
}

/// As [`accumulate_row`], likewise.
#[target_feature(enable = "avx2")]
pub(super) fn accumulate(sum: &mut [f32], row: &[u8], weight: f32) {
    accumulate_row(sum, row, weight);
}

/// As [`weigh_row`], likewise.
#[target_feature(enable = "avx2")]
pub(super) fn weigh(sum: &mut [f32], row: &[u8], weight: f32) {
    weigh_row(sum, row, weight);
}

/// As [`gather_pixels`], from the first column on: a vector for each pixel, which holds its three numbers and one of the next pixel's.
#[target_feature(enable = "avx2")]
pub(super) fn gather(sum: &[f32], columns: &Spans, groups: &Groups, [a, b, c]: [&mut [f32]; 3]) {
    let (a, a_tail) = a.as_chunks_mut::<GROUP>();
    let (b, b_tail) = b.as_chunks_mut::<GROUP>();
    let (c, c_tail) = c.as_chunks_mut::<GROUP>();
    let tail = GROUP * a.len();
    for (((group, a), b), c) in groups.of(sum.len()).iter().zip(a).zip(b).zip(c) {
        let mut pixels = group.offsets.map(|offset| sum[offset as usize..].as_ptr());
        let mut levels = [_mm_setzero_ps(); GROUP];
        for weights in groups.weights(group) {
            for ((level, pixel), weight) in levels.iter_mut().zip(&mut pixels).zip(weights) {
                // SAFETY: `Groups::of` saw that the sum has a pixel for each weight, and a number behind it.
                let numbers = unsafe { _mm_loadu_ps(*pixel) };
                *level = _mm_add_ps(*level, _mm_mul_ps(numbers, _mm_set1_ps(*weight)));
                *pixel = pixel.wrapping_add(3);
            }
        }
        let [first, second, third, fourth] = levels;
        let (low, high) = (_mm_unpacklo_ps(first, second), _mm_unpackhi_ps(first, second));
        let (next_low, next_high) = (_mm_unpacklo_ps(third, fourth), _mm_unpackhi_ps(third, fourth));
        // SAFETY: each has four numbers.
        unsafe {
            _mm_storeu_ps(a.as_mut_ptr(), _mm_movelh_ps(low, next_low));
            _mm_storeu_ps(b.as_mut_ptr(), _mm_movehl_ps(next_low, low));
            _mm_storeu_ps(c.as_mut_ptr(), _mm_movelh_ps(high, next_high));
        }
    }
    gather_pixels(sum, columns, tail, [a_tail, b_tail, c_tail]);
}

/// As [`YuvView::write_rows`], likewise.
#[target_feature(enable = "avx2")]
pub(super) fn yuv_to_rgb(view: &YuvView<'_>, rgb: &mut [u8]) {
    view.write_rows(rgb);
}
