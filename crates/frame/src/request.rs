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
}

impl RawFormat {
    /// The format of this number, as `RawFrame::format` and the protocol bear it.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Rgb24, Self::Bgr24, Self::Gray8].into_iter().find(|format| *format as u32 == number)
    }

    /// Bytes of one pixel.
    pub fn pixel_bytes(self) -> usize {
        match self {
            Self::Rgb24 | Self::Bgr24 => 3,
            Self::Gray8 => 1,
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
    /// Bytes from one row to the next.
    pub stride: u32,
}

impl RawFrame {
    /// True where the bytes are a raw frame, false where they are an encoded image.
    pub fn is_raw(&self) -> bool {
        self.format != 0
    }

    /// Bytes from the first pixel to the last, or `None` where the geometry contradicts itself.
    pub fn bytes(&self) -> Option<u64> {
        let format = RawFormat::from_number(self.format)?;
        let row = u64::from(self.width).checked_mul(format.pixel_bytes() as u64)?;
        if self.width == 0 || self.height == 0 || u64::from(self.stride) < row {
            return None;
        }
        u64::from(self.stride).checked_mul(u64::from(self.height) - 1)?.checked_add(row)
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
}
