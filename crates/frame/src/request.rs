//! A job's immutable request part: what the client asked for. Written by the gateway before acceptance, read
//! by every stage, never changed.

use bytemuck::{Pod, Zeroable};

use crate::Text;

/// Longest name of a frame, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path of a source, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// Longest stream id, in bytes.
pub const STREAM_BYTES_MAX: usize = 64;

/// What the client asked for, of one frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Request {
    /// The frame's number, unique while the segment lives: `accepted` when it was accepted.
    pub frame: u64,
    /// When it was accepted, CLOCK_MONOTONIC, nanoseconds.
    pub accepted_ns: u64,
    /// After this the frame is answered with `DeadlineExceeded` (CLOCK_MONOTONIC, nanoseconds; 0: never).
    pub deadline_ns: u64,
    /// First byte of the image in the source file.
    pub offset: u64,
    /// Bytes of the image.
    pub bytes: u64,
    /// The source's device, inode, size and modification time when it was accepted.
    pub source_device: u64,
    /// See `source_device`.
    pub source_inode: u64,
    /// See `source_device`.
    pub source_bytes: u64,
    /// See `source_device`: nanoseconds since 1970.
    pub source_mtime_ns: i64,
    /// The generation of models that it was accepted for.
    pub generation: u64,
    /// Where framepipe keeps the image's bytes; zeroed where they are read from the source.
    pub kept: Kept,
    /// The span that its caller is in; zeroed where none was named.
    pub trace: TraceParent,
    /// Place of the frame in its PushData call, from 0.
    pub batch_index: u32,
    /// Which of the configured roots the path lies under.
    pub root: u32,
    /// Set where the bytes are a raw frame.
    pub raw: RawFrame,
    /// Path of the source below its root.
    pub path: Text<PATH_BYTES_MAX>,
    /// The name that the result bears.
    pub name: Text<256>,
    /// The stream that the result goes to.
    pub stream: Text<STREAM_BYTES_MAX>,
}

/// Bytes of an image that framepipe keeps itself: its client may forget them. They lie in memory, in the blocks that `block`
/// names, or have been moved from there to the disk, or were written there at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Kept {
    /// Names the image, in memory and on disk; 0: it is not kept.
    pub id: u64,
    /// The first block in memory, packed; 0: there never was one.
    pub block: u64,
    /// Checksum of the bytes.
    pub sum: [u64; 2],
}

impl Kept {
    /// True where framepipe keeps the bytes.
    pub fn is_kept(&self) -> bool {
        self.id != 0
    }

    /// The checksum as one number, which is the content's key as well.
    pub fn digest(&self) -> u128 {
        u128::from(self.sum[1]) << 64 | u128::from(self.sum[0])
    }
}

/// A span of the caller's, as W3C's Trace Context names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceParent {
    /// The trace's id; zeroed: none was named.
    pub trace: [u8; 16],
    /// The span's.
    pub span: [u8; 8],
    /// The flags: 1, where the caller records the trace.
    pub flags: u64,
}

impl TraceParent {
    /// True where the caller named a span.
    pub fn is_given(&self) -> bool {
        self.trace != [0; 16]
    }

    /// True where the caller records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// An entry's record in the segment's table of idempotency keys.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct KeyRecord {
    /// The key that the client gave.
    pub key: Text<KEY_BYTES_MAX>,
    /// The stream that the answer named.
    pub stream: Text<STREAM_BYTES_MAX>,
}

/// Pixel format of a raw frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum RawFormat {
    /// 3 bytes a pixel: red, green, blue.
    Rgb24 = 1,
    /// 3 bytes a pixel: blue, green, red.
    Bgr24 = 2,
    /// 1 byte a pixel.
    Gray8 = 3,
    /// Planar: a luma plane, then one of pairs of U and V, of half as many rows of the same stride.
    Nv12 = 4,
    /// Planar: a luma plane, then U, then V, each of half as many rows of half the stride.
    I420 = 5,
}

impl RawFormat {
    /// The format of this number, as `RawFrame::format` and the protocol bear it.
    pub fn from_number(number: u32) -> Option<Self> {
        let known = [Self::Rgb24, Self::Bgr24, Self::Gray8, Self::Nv12, Self::I420];
        known.into_iter().find(|format| *format as u32 == number)
    }

    /// Bytes of a row of `width` pixels, of planar formats one of the luma plane: the least stride, and the one of rows
    /// that lie close together.
    pub fn row_bytes(self, width: u32) -> u64 {
        let width = u64::from(width);
        match self {
            Self::Rgb24 | Self::Bgr24 => 3 * width,
            Self::Gray8 | Self::I420 => width,
            // A row of pairs is as long as one of luma, and the last pair is whole.
            Self::Nv12 => width.next_multiple_of(2),
        }
    }
}

/// Geometry of a raw frame; all zero where the bytes are an encoded image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RawFrame {
    /// A [`RawFormat`], or 0: not raw.
    pub format: u32,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, of planar formats from one row of the luma plane.
    pub stride: u32,
}

impl RawFrame {
    /// True where the bytes are a raw frame, false where they are an encoded image.
    pub fn is_raw(&self) -> bool {
        self.format != 0
    }

    /// Bytes from the first pixel to the last, or `None` where the geometry contradicts itself. Saturated where they are
    /// more than any file has.
    pub fn bytes(&self) -> Option<u64> {
        let format = RawFormat::from_number(self.format)?;
        let row = format.row_bytes(self.width);
        if self.width == 0 || self.height == 0 || u64::from(self.stride) < row {
            return None;
        }
        let (stride, height) = (u64::from(self.stride), u64::from(self.height));
        let plane = |stride: u64, rows: u64| stride.saturating_mul(rows);
        // The last row needs no stride behind it.
        let bytes = match format {
            RawFormat::Rgb24 | RawFormat::Bgr24 | RawFormat::Gray8 => plane(stride, height - 1).saturating_add(row),
            RawFormat::Nv12 => plane(stride, height + self.chroma_rows() - 1).saturating_add(row),
            RawFormat::I420 => plane(stride, height)
                .saturating_add(plane(self.chroma_stride(), 2 * self.chroma_rows() - 1))
                .saturating_add(self.width.div_ceil(2).into()),
        };
        Some(bytes)
    }

    /// Rows of a plane of chroma, where the format is planar.
    pub fn chroma_rows(&self) -> u64 {
        self.height.div_ceil(2).into()
    }

    /// Bytes from one row of I420's U or V to the next.
    pub fn chroma_stride(&self) -> u64 {
        self.stride.div_ceil(2).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_geometry_is_checked() {
        let frame = RawFrame { format: RawFormat::Rgb24 as u32, width: 416, height: 416, stride: 416 * 3 };
        assert_eq!(frame.bytes(), Some(519_168));
        assert_eq!(RawFrame { stride: 1000, ..frame }.bytes(), None);
        assert_eq!(RawFrame { height: 0, ..frame }.bytes(), None);
        assert_eq!(RawFrame { format: 9, ..frame }.bytes(), None);
        let huge = RawFrame { format: 1, width: u32::MAX / 3, height: u32::MAX, stride: u32::MAX };
        assert!(huge.bytes().expect("no overflow") > u64::from(u32::MAX));
    }

    #[test]
    fn planes_follow_one_another_and_the_last_row_needs_no_stride() {
        let bytes = |format, width, height, stride| RawFrame { format: format as u32, width, height, stride }.bytes();
        assert_eq!(bytes(RawFormat::Nv12, 640, 480, 640), Some(640 * 480 * 3 / 2));
        assert_eq!(bytes(RawFormat::I420, 640, 480, 640), Some(640 * 480 * 3 / 2));
        // 3 rows of luma and 2 of pairs, the last of them 6 bytes.
        assert_eq!(bytes(RawFormat::Nv12, 5, 3, 10), Some(3 * 10 + 10 + 6));
        assert_eq!(bytes(RawFormat::Nv12, 5, 3, 5), None, "the last pair is whole");
        // 3 rows of luma, 2 of U and 2 of V at 5 bytes each, the last of them 3 bytes.
        assert_eq!(bytes(RawFormat::I420, 5, 3, 9), Some(3 * 9 + 3 * 5 + 3));
        assert_eq!(bytes(RawFormat::I420, 5, 3, 5), Some(3 * 5 + 4 * 3));
        assert_eq!(bytes(RawFormat::I420, 5, 3, 4), None);
        assert_eq!(bytes(RawFormat::I420, 1, 1, 1), Some(3));
        for format in [RawFormat::Nv12, RawFormat::I420] {
            assert_eq!(bytes(format, 2, u32::MAX, u32::MAX), Some(u64::MAX), "saturated");
            assert_eq!(bytes(format, u32::MAX, 0, u32::MAX), None);
        }
        assert_eq!(bytes(RawFormat::Nv12, u32::MAX, 1, u32::MAX), None, "no overflow");
    }
}
