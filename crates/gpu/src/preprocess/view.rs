//! A frame's pixels where they lie in a device's memory.

use framepipe_vision::{DecodeScale, PixelOrder, upright_steps};

use crate::GpuError;

/// Pixels of one frame in a device's memory, as they are stored. They were checked to lie in the bytes that were named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceView {
    address: u64,
    /// The image's columns and rows as it is stored, before it was scaled.
    size: (u32, u32),
    pitch: u64,
    order: PixelOrder,
    orientation: u8,
    scale: DecodeScale,
}

impl DeviceView {
    /// `size` pixels in rows that are `pitch` bytes apart, within the `bytes` bytes at `address`.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where they do not lie there, or rows overlap, or there are no pixels.
    pub fn new(
        (address, bytes): (u64, usize),
        size: (u32, u32),
        pitch: usize,
        order: PixelOrder,
    ) -> Result<Self, GpuError> {
        let pitch = pitch as u64;
        let view = Self { address, size, pitch, order, orientation: 1, scale: DecodeScale::Full };
        view.check(bytes)?;
        Ok(view)
    }

    /// RGB8 at `scale` of an image of `size`, rows close together: what framepipe-vision's decoder writes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn scaled_rgb((address, bytes): (u64, usize), size: (u32, u32), scale: DecodeScale) -> Result<Self, GpuError> {
        let pitch = 3 * u64::from(scale.pixels_of(size.0));
        let view = Self { address, size, pitch, order: PixelOrder::Rgb, orientation: 1, scale };
        view.check(bytes)?;
        Ok(view)
    }

    /// The same pixels, to be turned the way up that EXIF's `orientation` says, 1 to 8, as they are read.
    pub fn oriented(self, orientation: u8) -> Self {
        Self { orientation, ..self }
    }

    /// Columns and rows of the upright frame, before it was scaled.
    pub fn upright_size(&self) -> (u32, u32) {
        let (width, height) = self.size;
        if (5..=8).contains(&self.orientation) { (height, width) } else { (width, height) }
    }

    pub(super) fn order(&self) -> PixelOrder {
        self.order
    }

    pub(super) fn scale(&self) -> DecodeScale {
        self.scale
    }

    /// Columns and rows that lie there.
    fn stored(&self) -> (u32, u32) {
        (self.scale.pixels_of(self.size.0), self.scale.pixels_of(self.size.1))
    }

    /// The address of the upright picture's first pixel, and bytes to its neighbours on the right and below.
    pub(super) fn steps(&self) -> (u64, [i64; 2]) {
        let pixel = self.order.pixel_bytes() as i64;
        let [first, right, below] = upright_steps(self.stored(), self.orientation, pixel, self.pitch as i64);
        (self.address.wrapping_add_signed(first), [right, below])
    }

    fn check(&self, bytes: usize) -> Result<(), GpuError> {
        let (width, height) = self.stored();
        let (pitch, row) = (self.pitch, u64::from(width) * self.order.pixel_bytes() as u64);
        if width == 0 || height == 0 || pitch < row {
            let words = format!(
                "{width}x{height} pixels in rows {pitch} bytes apart: give sides of at least 1, and whole rows"
            );
            return Err(GpuError::Argument(words));
        }
        let needed = pitch.saturating_mul(u64::from(height) - 1).saturating_add(row);
        if needed > bytes as u64 || self.address.checked_add(needed).is_none() {
            let words = format!(
                "{width}x{height} pixels in rows {pitch} bytes apart need {needed} bytes, and there are {bytes}"
            );
            return Err(GpuError::Argument(words));
        }
        Ok(())
    }
}
