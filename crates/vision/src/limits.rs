//! How large an image may be. Clients' bytes are hostile: a 100-byte file can claim 4 gigapixels, so all of
//! these but the number of scans and the CPU time are checked on the header, before memory is taken for pixels.

use framepipe_frame::{ErrorCode, FrameError};
use serde::{Deserialize, Serialize};

/// Bounds on one encoded image. The configuration's `[limits]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most pixels, width times height. Decoding takes 3 bytes a pixel, for progressive JPEG 6 more, for PNG
    /// with alpha and lossless WebP 4 more.
    pub pixels_max: u64,
    /// Longest side in pixels.
    pub side_max: u32,
    /// Most scans of a progressive JPEG. Encoders write about 10; each one costs a pass over the whole image,
    /// however few bytes it has.
    pub scans_max: u32,
    /// Most bytes of metadata (EXIF, colour profile, texts) that a decoder may hold. EXIF beyond it is ignored;
    /// a PNG beyond it is refused.
    pub metadata_bytes_max: u32,
    /// Most milliseconds of CPU time that one image may take to decode; 0 is no limit. Of a JPEG that is read row by
    /// row, what is done with the rows counts too. Of a WebP the clock is read 16 times at most, and
    /// not at all in 64 KiB: there its pixels are the bound.
    pub cpu_ms_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The largest cameras in use give 61 MP; 100 MP decodes to 300 MB.
            pixels_max: 100_000_000,
            // Allows line scans and panoramas; below 32768, so that no decoder's 16-bit arithmetic is near its edge.
            side_max: 30_000,
            // What libjpeg-turbo's authors advise. 3,000 empty scans cost 1 s.
            scans_max: 100,
            // JPEG's EXIF is at most 64 KiB; colour profiles and editors' texts in PNG reach 2 MiB.
            metadata_bytes_max: 4 << 20,
            // 1080p takes some 6 ms, 100 MP of baseline JPEG some 600 ms.
            cpu_ms_max: 2000,
        }
    }
}

impl Limits {
    /// Checks the size that a header claims.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptImage`] where a side is zero, [`ErrorCode::ImageTooLarge`] beyond a limit.
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), FrameError> {
        if width == 0 || height == 0 {
            return Err(FrameError::new(
                ErrorCode::CorruptImage,
                format!("the header says {width}x{height} pixels; both sides must be at least 1"),
            ));
        }
        let side = width.max(height);
        if side > self.side_max {
            return Err(FrameError::new(
                ErrorCode::ImageTooLarge,
                format!("{width}x{height} pixels: a side of {side} exceeds side_max = {}", self.side_max),
            ));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.pixels_max {
            return Err(FrameError::new(
                ErrorCode::ImageTooLarge,
                format!("{width}x{height} is {pixels} pixels, more than pixels_max = {}", self.pixels_max),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_checked_and_named_with_the_value() {
        let limits = Limits { pixels_max: 1000, side_max: 100, ..Limits::default() };
        assert_eq!(limits.check_size(10, 100), Ok(()));
        assert_eq!(limits.check_size(0, 5).unwrap_err().code, ErrorCode::CorruptImage);
        let side = limits.check_size(5, 101).unwrap_err();
        assert_eq!(side.code, ErrorCode::ImageTooLarge);
        assert!(side.message.contains("101") && side.message.contains("side_max = 100"), "{}", side.message);
        let pixels = limits.check_size(50, 50).unwrap_err();
        assert!(pixels.message.contains("2500") && pixels.message.contains("pixels_max = 1000"), "{}", pixels.message);
        let huge = Limits { pixels_max: u64::MAX, side_max: u32::MAX, ..limits };
        assert_eq!(huge.check_size(u32::MAX, u32::MAX), Ok(()), "no overflow");
    }

    #[test]
    fn a_table_may_name_some_limits_and_no_unknown_ones() {
        let limits: Limits = toml::from_str("side_max = 7").unwrap();
        assert_eq!(limits, Limits { side_max: 7, ..Limits::default() });
        assert!(toml::from_str::<Limits>("side = 7").is_err());
    }
}
