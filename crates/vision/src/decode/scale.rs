//! Decoding a JPEG at a fraction of its size: libjpeg leaves out the frequencies that the smaller picture cannot show,
//! which is nearer to an average over the source's pixels than sampling two of them is, and much cheaper.

pub use framepipe_jpeg::Scale as DecodeScale;
use serde::{Deserialize, Serialize};

use crate::{Format, Header};

/// At what size frames are decoded that are only made into a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalePolicy {
    /// JPEG: at the smallest size from which the tensor's picture need not be enlarged. Others: at full size.
    #[default]
    Auto,
    /// At full size: the tensor is what OpenCV's decoding and INTER_LINEAR give.
    Exact,
}

/// The smallest scale at which an image, turned the right way up, has at least `width` x `height` pixels. [`DecodeScale::Full`]
/// for what is no JPEG.
pub(crate) fn at_least(header: &Header, width: u32, height: u32) -> DecodeScale {
    let (source_width, source_height) = header.oriented_size();
    let shows_all = |scale: &DecodeScale| {
        let [width, height] = [width, height].map(|side| u64::from(side) * u64::from(scale.divisor()));
        // Turned, a last pixel that shows less than the others might come first: there only whole ones will do.
        let are_whole = |side: u32| header.orientation <= 1 || side.is_multiple_of(scale.divisor());
        u64::from(source_width) >= width
            && u64::from(source_height) >= height
            && are_whole(source_width)
            && are_whole(source_height)
    };
    let is_jpeg = matches!(header.format, Format::Jpeg(_));
    let scales = [DecodeScale::Eighth, DecodeScale::Quarter, DecodeScale::Half];
    scales.into_iter().find(|scale| is_jpeg && shows_all(scale)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JpegColor;

    fn jpeg(width: u32, height: u32, orientation: u8) -> Header {
        Header { format: Format::Jpeg(JpegColor::Ycbcr), width, height, orientation }
    }

    #[test]
    fn the_smallest_scale_is_taken_that_need_not_be_enlarged() {
        use DecodeScale::{Eighth, Full, Half, Quarter};
        for (width, height, expected) in [
            (1920, 1080, Quarter),
            (4000, 3000, Eighth),
            (40_000, 30_000, Eighth),
            (1664, 936, Quarter),
            (1663, 936, Half),
            (1664, 935, Half),
            (832, 468, Half),
            (831, 468, Full),
            (416, 234, Full),
            (10, 10, Full),
        ] {
            assert_eq!(at_least(&jpeg(width, height, 1), 416, 234), expected, "{width}x{height}");
        }
        assert_eq!(at_least(&jpeg(1080, 1920, 6), 416, 234), Quarter, "turned, it is as wide");
        assert_eq!(at_least(&jpeg(1080, 1922, 6), 416, 234), Half, "1922 is no multiple of 4");
        let png = Header { format: Format::Png, ..jpeg(4000, 3000, 1) };
        assert_eq!(at_least(&png, 416, 234), Full);
        assert_eq!((Eighth.pixels_of(16), Eighth.pixels_of(17), Full.pixels_of(17)), (2, 3, 17));
    }
}
