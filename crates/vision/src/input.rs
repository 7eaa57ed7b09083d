//! What a model's input tensor is made of: the `[input]` table of a model's manifest.
//!
//! ```toml
//! [input]
//! tensor = "images"
//! width = 416
//! height = 416
//! layout = "nchw"
//! dtype = "f32"
//! color = "rgb"
//! resize = "letterbox"
//! pad = [114, 114, 114]
//! mean = [0, 0, 0]
//! std = [255, 255, 255]
//! ```

use serde::{Deserialize, Serialize};

/// Longest side of an input tensor, in pixels.
pub const SIDE_MAX: u32 = 8192;

/// How the numbers of a tensor lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Image, channel, row, column: one plane for each colour.
    Nchw,
}

/// Type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// 4 bytes, normalised.
    F32,
    /// 1 byte, the grey level as it is.
    U8,
}

impl DataType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

/// Order of a tensor's planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How an image of another shape is fitted into the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizePolicy {
    /// Fills the tensor; the aspect ratio changes.
    Stretch,
    /// Keeps the aspect ratio, centred, padding on two sides (YOLOv5 to v11).
    Letterbox,
    /// Keeps the aspect ratio, at the top left, padding on the right or at the bottom (YOLOX).
    PadRightBottom,
}

/// A model's input tensor of one image. Number in the tensor = (grey level 0 to 255 - mean) / std.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The tensor's name in the model.
    pub tensor: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How the numbers lie.
    pub layout: Layout,
    /// Type of the numbers.
    pub dtype: DataType,
    /// Order of the planes.
    pub color: Color,
    /// How images of other shapes are fitted in.
    pub resize: ResizePolicy,
    /// Grey level of padding, in the order of `color`, before normalisation.
    #[serde(default)]
    pub pad: [f32; 3],
    /// Subtracted from the grey level, in the order of `color`.
    pub mean: [f32; 3],
    /// Divides the difference, in the order of `color`.
    pub std: [f32; 3],
}

/// What is wrong with an [`InputSpec`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputSpecError {
    /// A side is zero or too long.
    #[error("input size {width}x{height}: each side must be 1 to {SIDE_MAX}")]
    Size {
        /// Columns asked for.
        width: u32,
        /// Rows asked for.
        height: u32,
    },
    /// A padding level is no grey level.
    #[error("input pad {0:?}: each grey level must be 0 to 255")]
    Pad([f32; 3]),
    /// A mean is infinite or no number.
    #[error("input mean {0:?}: each must be a finite number")]
    Mean([f32; 3]),
    /// A standard deviation cannot be divided by.
    #[error("input std {0:?}: each must be a finite number other than 0")]
    Std([f32; 3]),
    /// A u8 tensor holds no normalised numbers.
    #[error("input dtype \"u8\" holds grey levels as they are: mean must be 0 and std 1, not {mean:?} and {std:?}")]
    NormalisedU8 {
        /// The mean asked for.
        mean: [f32; 3],
        /// The standard deviation asked for.
        std: [f32; 3],
    },
}

impl InputSpec {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), InputSpecError> {
        let side_fits = |side| (1..=SIDE_MAX).contains(&side);
        if !side_fits(self.width) || !side_fits(self.height) {
            return Err(InputSpecError::Size { width: self.width, height: self.height });
        }
        if !self.pad.iter().all(|level| (0.0..=255.0).contains(level)) {
            return Err(InputSpecError::Pad(self.pad));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err(InputSpecError::Mean(self.mean));
        }
        // A subnormal divisor would make infinities of ordinary grey levels.
        if !self.std.iter().all(|std| std.is_normal()) {
            return Err(InputSpecError::Std(self.std));
        }
        if self.dtype == DataType::U8 && (self.mean != [0.0; 3] || self.std != [1.0; 3]) {
            return Err(InputSpecError::NormalisedU8 { mean: self.mean, std: self.std });
        }
        Ok(())
    }

    /// Numbers in the tensor of one image.
    pub fn tensor_len(&self) -> usize {
        3 * self.width as usize * self.height as usize
    }

    /// Bytes of the tensor of one image.
    pub fn tensor_bytes(&self) -> usize {
        self.tensor_len() * self.dtype.bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A spec that changes nothing but the type: mean 0, std 1, stretch.
    pub(crate) fn plain(width: u32, height: u32) -> InputSpec {
        InputSpec {
            tensor: "images".into(),
            width,
            height,
            layout: Layout::Nchw,
            dtype: DataType::F32,
            color: Color::Rgb,
            resize: ResizePolicy::Stretch,
            pad: [0.0; 3],
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    const TABLE: &str = r#"
        tensor = "images"
        width = 416
        height = 320
        layout = "nchw"
        dtype = "f32"
        color = "bgr"
        resize = "pad_right_bottom"
        mean = [1, 2, 3.5]
        std = [58.0, 57, 57]
    "#;

    #[test]
    fn the_table_is_read_and_written_and_unknown_keys_are_errors() {
        let spec: InputSpec = toml::from_str(TABLE).unwrap();
        let expected = InputSpec {
            color: Color::Bgr,
            resize: ResizePolicy::PadRightBottom,
            mean: [1.0, 2.0, 3.5],
            std: [58.0, 57.0, 57.0],
            ..plain(416, 320)
        };
        assert_eq!(spec, expected, "pad is zeroes where it is not given");
        assert_eq!(toml::from_str::<InputSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
        assert!(toml::from_str::<InputSpec>(&format!("{TABLE}\nscale = 2")).is_err());
        assert!(toml::from_str::<InputSpec>(&TABLE.replace("nchw", "nhwc")).is_err());
        assert_eq!(spec.tensor_bytes(), 416 * 320 * 12);
        assert_eq!(InputSpec { dtype: DataType::U8, ..spec }.tensor_bytes(), 416 * 320 * 3);
    }

    #[test]
    fn values_out_of_range_are_typed_errors() {
        let good = plain(416, 416);
        assert_eq!(good.check(), Ok(()));
        assert_eq!(InputSpec { dtype: DataType::U8, ..good.clone() }.check(), Ok(()));
        for (width, height) in [(0, 416), (416, 0), (8193, 416), (416, u32::MAX)] {
            let error = InputSpec { width, height, ..good.clone() }.check();
            assert_eq!(error, Err(InputSpecError::Size { width, height }));
        }
        for bad in [0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0] {
            let error = InputSpec { std: [1.0, bad, 1.0], ..good.clone() }.check();
            assert!(matches!(error, Err(InputSpecError::Std(_))), "{bad}");
        }
        let error = InputSpec { mean: [f32::NAN; 3], ..good.clone() }.check();
        assert!(matches!(error, Err(InputSpecError::Mean(_))));
        for bad in [-1.0, 256.0, f32::NAN] {
            let error = InputSpec { pad: [bad; 3], ..good.clone() }.check();
            assert!(matches!(error, Err(InputSpecError::Pad(_))), "{bad}");
        }
        for (mean, std) in [([1.0, 0.0, 0.0], [1.0; 3]), ([0.0; 3], [255.0; 3])] {
            let error = InputSpec { dtype: DataType::U8, mean, std, ..good.clone() }.check();
            assert_eq!(error, Err(InputSpecError::NormalisedU8 { mean, std }));
        }
    }
}
