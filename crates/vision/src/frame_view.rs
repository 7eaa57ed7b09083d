//! A frame's pixels where they lie: decoded RGB, or a client's raw frame in its own order and stride, so that
//! neither is copied before it is sampled. A view was checked: every row lies in its bytes. Only pixels whose bytes lie
//! together are viewed so: a planar frame is a [`YuvView`], of which RGB is made first.

use framepipe_frame::{ErrorCode, FrameError, RawFormat, RawFrame};

use crate::{DecodeScale, Region, YuvView};

/// Order of a pixel's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// 3 bytes: red, green, blue.
    Rgb,
    /// 3 bytes: blue, green, red.
    Bgr,
    /// 1 byte for all three colours.
    Grey,
}

impl PixelOrder {
    /// Bytes of one pixel.
    pub fn pixel_bytes(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// A client's raw frame.
#[derive(Clone, Copy, Debug)]
pub enum RawView<'a> {
    /// Each pixel's bytes lie together.
    Packed(FrameView<'a>),
    /// Luma and chroma lie in planes.
    Planar(YuvView<'a>),
}

impl<'a> RawView<'a> {
    /// The frame as its client laid it out. Bytes behind the last pixel are left alone.
    ///
    /// # Errors
    /// Where the format is unknown, or the geometry contradicts itself or the bytes.
    pub fn of(data: &'a [u8], raw: &RawFrame) -> Result<Self, ViewError> {
        let RawFrame { width, height, stride, .. } = *raw;
        let packed = |order| FrameView::new(data, width, height, stride.into(), order).map(Self::Packed);
        match RawFormat::from_number(raw.format).ok_or(ViewError::Format(raw.format))? {
            RawFormat::Rgb24 => packed(PixelOrder::Rgb),
            RawFormat::Bgr24 => packed(PixelOrder::Bgr),
            RawFormat::Gray8 => packed(PixelOrder::Grey),
            RawFormat::Nv12 => YuvView::nv12(data, raw).map(Self::Planar),
            RawFormat::I420 => YuvView::i420(data, raw).map(Self::Planar),
        }
    }

    /// The pixels of a frame whose format is a packed one.
    ///
    /// # Errors
    /// Where it is planar.
    pub fn packed(self) -> Result<FrameView<'a>, ViewError> {
        match self {
            Self::Packed(view) => Ok(view),
            Self::Planar(_) => Err(ViewError::Planar),
        }
    }

    /// The planes of a frame whose format is a planar one.
    ///
    /// # Errors
    /// Where it is packed.
    pub fn planar(self) -> Result<YuvView<'a>, ViewError> {
        match self {
            Self::Packed(_) => Err(ViewError::Packed),
            Self::Planar(view) => Ok(view),
        }
    }
}

/// Why bytes are no frame, or not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The format's number is none that is known.
    #[error("raw format {0}: must be 1 (rgb24), 2 (bgr24), 3 (gray8), 4 (nv12) or 5 (i420)")]
    Format(u32),
    /// Packed pixels were asked for.
    #[error("the raw frame lies in planes, and packed pixels are wanted")]
    Planar,
    /// Planes were asked for.
    #[error("the raw frame's pixels are packed, and planes are wanted")]
    Packed,
    /// A side of zero, or rows that overlap.
    #[error("{width}x{height} pixels with a stride of {stride} bytes: sides must be at least 1, the stride a row")]
    Geometry {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes from one row to the next.
        stride: u64,
    },
    /// The pixels do not lie in the bytes.
    #[error("{width}x{height} pixels with a stride of {stride} need {needed} bytes, and there are {found}")]
    Bytes {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes from one row to the next.
        stride: u64,
        /// Bytes to the last pixel's end.
        needed: u64,
        /// Bytes given.
        found: u64,
    },
}

impl From<ViewError> for FrameError {
    fn from(error: ViewError) -> Self {
        let code = match error {
            ViewError::Format(_) => ErrorCode::UnsupportedFormat,
            ViewError::Planar | ViewError::Packed => ErrorCode::Internal,
            ViewError::Geometry { .. } | ViewError::Bytes { .. } => ErrorCode::CorruptImage,
        };
        FrameError::new(code, error.to_string())
    }
}

/// Borrowed pixels of one frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    data: &'a [u8],
    width: u32,
    height: u32,
    stride: usize,
    order: PixelOrder,
    scale: DecodeScale,
    /// Pixels of the image before it was scaled.
    source: (u32, u32),
    /// The first column and row that `data` has: not the image's first where only a part of it is there.
    origin: (u32, u32),
}

impl<'a> FrameView<'a> {
    /// RGB8, rows close together: what [`crate::Decoder`] writes. Bytes behind the last pixel are left alone.
    ///
    /// # Errors
    /// Where the pixels do not lie in `data`, or there are none.
    pub fn rgb(data: &'a [u8], width: u32, height: u32) -> Result<Self, ViewError> {
        Self::new(data, width, height, u64::from(width) * 3, PixelOrder::Rgb)
    }

    /// As [`Self::rgb`], of an image of `source` pixels that was decoded at a fraction of its size. It is for
    /// [`crate::Preprocessor`], whose tensor it gives as the whole image would: crops are taken of whole images.
    ///
    /// # Errors
    /// As there.
    pub fn scaled_rgb(data: &'a [u8], source: (u32, u32), scale: DecodeScale) -> Result<Self, ViewError> {
        let view = Self::rgb(data, scale.pixels_of(source.0), scale.pixels_of(source.1))?;
        Ok(Self { scale, source, ..view })
    }

    /// A part of an RGB8 image of `size`: the pixels of `region`, rows close together. It is for [`crate::Cropper`]: only
    /// what lies in `region` can be read.
    ///
    /// # Errors
    /// Where the region does not lie in the image, or its pixels not in `data`.
    pub fn part(data: &'a [u8], size: (u32, u32), region: &Region) -> Result<Self, ViewError> {
        let part = Self::rgb(data, region.width(), region.height())?;
        if !region.is_within(size) {
            let (width, height) = (region.right, region.bottom);
            return Err(ViewError::Geometry { width, height, stride: u64::from(size.0) * 3 });
        }
        Ok(Self { width: size.0, height: size.1, source: size, origin: (region.left, region.top), ..part })
    }

    fn new(data: &'a [u8], width: u32, height: u32, stride: u64, order: PixelOrder) -> Result<Self, ViewError> {
        let row = u64::from(width) * order.pixel_bytes() as u64;
        if width == 0 || height == 0 || stride < row {
            return Err(ViewError::Geometry { width, height, stride });
        }
        // Saturated it is more than any bytes given.
        let needed = stride.saturating_mul(u64::from(height) - 1).saturating_add(row);
        let found = data.len() as u64;
        if needed > found {
            return Err(ViewError::Bytes { width, height, stride, needed, found });
        }
        let (scale, source) = (DecodeScale::Full, (width, height));
        Ok(Self { data, width, height, stride: stride as usize, order, scale, source, origin: (0, 0) })
    }

    /// Pixels a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Pixels of the image before it was scaled: columns and rows.
    pub fn source_size(&self) -> (u32, u32) {
        self.source
    }

    /// The scale at which the image was decoded.
    pub fn scale(&self) -> DecodeScale {
        self.scale
    }

    /// The column at which rows begin.
    pub fn first_column(&self) -> u32 {
        self.origin.0
    }

    /// Order of a pixel's bytes.
    pub fn order(&self) -> PixelOrder {
        self.order
    }

    /// True where each row begins behind the one before it.
    pub fn is_close_together(&self) -> bool {
        self.stride == self.width as usize * self.order.pixel_bytes()
    }

    /// The pixels of row `y` from [`Self::first_column`] on, without the bytes up to the next row.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, y: u32) -> &'a [u8] {
        let (left, top) = self.origin;
        assert!((top..self.height).contains(&y), "row {y} of {top} to {}", self.height);
        let row = &self.data[(y - top) as usize * self.stride..];
        // Of a part, rows lie close together.
        let pixel_bytes = self.order.pixel_bytes();
        &row[..((self.width - left) as usize * pixel_bytes).min(self.stride)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The view of a frame whose format is no planar one.
    fn packed<'a>(data: &'a [u8], raw: &RawFrame) -> Result<FrameView<'a>, ViewError> {
        RawView::of(data, raw)?.packed()
    }

    #[test]
    fn rows_of_a_raw_frame_leave_out_the_stride() {
        let data: Vec<u8> = (0..28).collect();
        let raw = RawFrame { format: RawFormat::Bgr24 as u32, width: 2, height: 3, stride: 10 };
        let view = packed(&data, &raw).unwrap();
        assert_eq!((view.width(), view.height(), view.order()), (2, 3, PixelOrder::Bgr));
        assert_eq!(view.row(0), [0, 1, 2, 3, 4, 5]);
        assert_eq!(view.row(2), [20, 21, 22, 23, 24, 25], "the last row needs no stride behind it");
    }

    #[test]
    fn bytes_that_are_no_frame_are_typed_errors() {
        let data = [0u8; 12];
        let raw = RawFrame { format: RawFormat::Gray8 as u32, width: 4, height: 3, stride: 4 };
        assert!(packed(&data, &raw).is_ok());
        assert_eq!(packed(&data, &RawFrame { format: 9, ..raw }).unwrap_err(), ViewError::Format(9));
        for bad in [RawFrame { width: 0, ..raw }, RawFrame { height: 0, ..raw }, RawFrame { stride: 3, ..raw }] {
            assert!(matches!(packed(&data, &bad), Err(ViewError::Geometry { .. })), "{bad:?}");
        }
        assert!(matches!(packed(&data[..11], &raw), Err(ViewError::Bytes { needed: 12, found: 11, .. })));
        let huge = RawFrame { format: 1, width: u32::MAX / 3, height: u32::MAX, stride: u32::MAX };
        assert!(matches!(packed(&data, &huge), Err(ViewError::Bytes { .. })), "no overflow");
        assert!(matches!(FrameView::rgb(&data, u32::MAX, u32::MAX), Err(ViewError::Bytes { .. })), "no overflow");
        assert_eq!(FrameError::from(ViewError::Format(9)).code, ErrorCode::UnsupportedFormat);
    }

    #[test]
    fn planes_are_no_packed_pixels_nor_these_planes() {
        let data = [0; 6];
        let raw = RawFrame { format: RawFormat::Gray8 as u32, width: 2, height: 2, stride: 2 };
        assert_eq!(RawView::of(&data, &raw).unwrap().planar().unwrap_err(), ViewError::Packed);
        for format in [RawFormat::Nv12, RawFormat::I420] {
            let raw = RawFrame { format: format as u32, ..raw };
            assert_eq!(packed(&data, &raw).unwrap_err(), ViewError::Planar);
        }
    }
}
