//! What a frame is so far: the small facts that go from stage to stage beside the slots.

use bytemuck::{Pod, Zeroable};

use crate::{ErrorCode, FrameError, RecordError, Text};

/// Most stages that a descriptor has times for.
pub const STAGE_COUNT_MAX: usize = 8;

/// Longest side of any image, in pixels: the limits allow no more.
const SIDE_MAX: u32 = 1 << 20;

/// Maps a point of the tensor to the source image: `source = (tensor - pad) * scale`, in pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct TensorMap {
    /// Source pixels to one tensor pixel, horizontally.
    pub scale_x: f32,
    /// Source pixels to one tensor pixel, vertically.
    pub scale_y: f32,
    /// Column of the tensor in which the source begins: below 0 where the tensor shows a part of it.
    pub pad_x: f32,
    /// Row of the tensor in which the source begins, likewise.
    pub pad_y: f32,
}

impl TensorMap {
    /// The source point of a tensor point.
    pub fn to_source(&self, x: f32, y: f32) -> (f32, f32) {
        ((x - self.pad_x) * self.scale_x, (y - self.pad_y) * self.scale_y)
    }
}

/// When a stage had the frame, CLOCK_MONOTONIC, nanoseconds; 0: it never had.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StageTimes {
    /// When the stage claimed the frame.
    pub claimed_ns: u64,
    /// When the stage published it.
    pub published_ns: u64,
}

/// The small facts of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Descriptor {
    /// Times by stage, in the order of the stage table.
    pub times: [StageTimes; STAGE_COUNT_MAX],
    /// Key of the image's content; 0: it was not hashed.
    pub content: [u64; 2],
    /// Key of its result; 0: it is not to be kept.
    pub result: [u64; 2],
    /// An [`ErrorCode`], or 0.
    pub error_code: u32,
    /// The error's words.
    pub error_text: Text<256>,
    /// Width of the source image in pixels, EXIF orientation applied.
    pub source_width: u32,
    /// Height of the source image in pixels, EXIF orientation applied.
    pub source_height: u32,
    /// Width of the frame kept in the image slot (0: none is kept).
    pub kept_width: u32,
    /// Height of the frame kept in the image slot (0: none is kept).
    pub kept_height: u32,
    /// From the tensor's pixels to the source's.
    pub tensor_map: TensorMap,
    /// EXIF orientation of the encoded image, 1 to 8 (0: not known yet).
    pub orientation: u32,
    /// Detections above the score threshold that `detections_max` cut off.
    pub detections_dropped: u32,
    /// Detections whose crops `crops_max` cut off.
    pub crops_dropped: u32,
    /// 1 where the encoded slot of a raw frame is its tensor, and the frame has no tensor slot; else 0.
    pub encoded_is_tensor: u32,
    /// Nothing: makes the size a multiple of 8 bytes.
    pub unused: u32,
}

impl Descriptor {
    /// The frame's error, if it has one.
    pub fn error(&self) -> Option<FrameError> {
        if self.error_code == 0 {
            return None;
        }
        let code = ErrorCode::from_number(self.error_code).unwrap_or(ErrorCode::Internal);
        Some(FrameError::new(code, self.error_text.as_str()))
    }

    /// Looks whether the numbers can be: another process wrote them.
    ///
    /// # Errors
    /// Names the first one that cannot.
    pub fn check(&self) -> Result<(), RecordError> {
        let broken = |what: String| Err(RecordError::new("descriptor", what));
        let TensorMap { scale_x, scale_y, pad_x, pad_y } = self.tensor_map;
        if self.error_code != 0 && ErrorCode::from_number(self.error_code).is_none() {
            return broken(format!("error code {}", self.error_code));
        }
        if self.orientation > 8 {
            return broken(format!("orientation {}", self.orientation));
        }
        if self.encoded_is_tensor > 1 {
            return broken(format!("a tensor in slot {}", self.encoded_is_tensor));
        }
        if [self.source_width, self.source_height, self.kept_width, self.kept_height]
            .iter()
            .any(|side| *side > SIDE_MAX)
            || (self.kept_width == 0) != (self.kept_height == 0)
        {
            let (width, height) = (self.source_width, self.source_height);
            return broken(format!("a source of {width}x{height}, kept {}x{}", self.kept_width, self.kept_height));
        }
        // A tensor of a part of the image begins left of its first pixel: padding may be negative.
        if ![scale_x, scale_y, pad_x, pad_y].iter().all(|number| number.is_finite()) || scale_x < 0.0 || scale_y < 0.0 {
            return broken(format!("{:?}", self.tensor_map));
        }
        Ok(())
    }

    /// Makes the frame an error.
    pub fn set_error(&mut self, error: &FrameError) {
        self.error_code = error.code as u32;
        self.error_text = Text::truncated(&error.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let good = Descriptor { orientation: 8, source_width: 10, source_height: 20, ..Descriptor::zeroed() };
        assert!(good.check().is_ok());
        let map = TensorMap { scale_x: f32::NAN, ..good.tensor_map };
        for (bad, word) in [
            (Descriptor { error_code: 99, ..good }, "99"),
            (Descriptor { orientation: 9, ..good }, "orientation 9"),
            (Descriptor { encoded_is_tensor: 2, ..good }, "slot 2"),
            (Descriptor { kept_width: 5, ..good }, "5x0"),
            (Descriptor { source_height: u32::MAX, ..good }, "4294967295"),
            (Descriptor { tensor_map: map, ..good }, "NaN"),
        ] {
            let error = bad.check().expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_error_survives_the_record() {
        let mut descriptor = Descriptor::zeroed();
        assert_eq!(descriptor.error(), None);
        let error = FrameError::new(ErrorCode::CorruptImage, "x".repeat(400));
        descriptor.set_error(&error);
        let read = descriptor.error().expect("it was set");
        assert_eq!(read.code, ErrorCode::CorruptImage);
        assert_eq!(read.message, "x".repeat(256));
    }

    #[test]
    fn a_tensor_point_maps_to_its_source_point() {
        let map = TensorMap { scale_x: 2.0, scale_y: 4.0, pad_x: 8.0, pad_y: 0.0 };
        assert_eq!(map.to_source(9.0, 3.0), (2.0, 12.0));
    }
}
