//! The image, decoded as the stages decode it: for the detector's tensor perhaps at a fraction of its size, for crops at all
//! of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use framepipe_frame::{FrameError, TensorMap};
use framepipe_pipeline::{Plan, Pool};
use framepipe_vision::{DecodeScale, Decoder, FrameView, Header, Limits, Preprocessor, probe};
use image::RgbImage;

use crate::report::ImageRow;

/// One image.
pub struct Frame {
    bytes: Vec<u8>,
    /// With the way up that the detector's graph gives it.
    header: Header,
    decoder: Decoder,
    /// At full size, the way up that the graph gives it.
    rgb: Vec<u8>,
    /// At what size the detector's tensor is made of it.
    scale: DecodeScale,
    /// True where the stages keep its pixels for the crops.
    is_kept: bool,
}

impl Frame {
    /// Reads and decodes the file.
    pub fn read(path: &Path, plan: &Plan, limits: Limits) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        let metadata = path.metadata().with_context(place)?;
        ensure!(metadata.is_file(), "{}: no file", place());
        let most = plan.geometry.pools[Pool::Encoded as usize].slot_bytes_max();
        let length = metadata.len();
        ensure!(
            length <= most,
            "{}: {length} bytes, and pools.encoded of the pipeline holds {most} of a file",
            place()
        );
        let bytes = std::fs::read(path).with_context(place)?;
        Self::decode(bytes, plan, limits).with_context(place)
    }

    fn decode(bytes: Vec<u8>, plan: &Plan, limits: Limits) -> Result<Self, FrameError> {
        let graph = &plan.detector.input.plan;
        let header = graph.header(probe(&bytes, &limits)?);
        let mut decoder = Decoder::new(limits)?;
        let mut rgb = vec![0; header.rgb_bytes(DecodeScale::Full)];
        decoder.decode_rgb(&bytes, &header, &mut rgb)?;
        let is_kept = rgb.len() <= plan.kept_bytes_max();
        let scale = if is_kept { DecodeScale::Full } else { graph.decode_scale(&header) };
        Ok(Self { bytes, header, decoder, rgb, scale, is_kept })
    }

    /// Columns and rows of the source, in which boxes are.
    pub fn size(&self) -> (u32, u32) {
        self.header.oriented_size()
    }

    /// The source's pixels.
    pub fn view(&self) -> FrameView<'_> {
        let (width, height) = self.size();
        FrameView::rgb(&self.rgb, width, height).expect("the decoder filled all of it")
    }

    /// The source as a picture.
    pub fn picture(&self) -> RgbImage {
        let (width, height) = self.size();
        RgbImage::from_raw(width, height, self.rgb.clone()).expect("the decoder filled all of it")
    }

    /// How it is decoded for the detector.
    pub fn decoding(&self) -> (DecodeScale, bool) {
        (self.scale, self.is_kept)
    }

    /// EXIF orientation, as far as the graph heeds it.
    pub fn orientation(&self) -> u8 {
        self.header.orientation
    }

    /// Its pixels as they are stored, at the size at which they are decoded for the detector; and how long that took.
    pub fn stored(&mut self, out: &mut Vec<u8>) -> Result<Duration, FrameError> {
        let header = Header { orientation: 1, ..self.header };
        out.resize(header.rgb_bytes(self.scale), 0);
        let start = Instant::now();
        self.decoder.decode_scaled(&self.bytes, &header, self.scale, out)?;
        Ok(start.elapsed())
    }

    /// A view of what [`Self::stored`] gave.
    pub fn view_stored<'p>(&self, pixels: &'p [u8]) -> FrameView<'p> {
        let size = (self.header.width, self.header.height);
        FrameView::scaled_rgb(pixels, size, self.scale).expect("the decoder filled all of it")
    }

    /// Makes the detector's tensor as the preprocess stage does. `scratch` holds the pixels, where they are needed whole.
    pub fn preprocess(
        &mut self,
        preprocessor: &mut Preprocessor,
        scratch: &mut Vec<u8>,
        tensor: &mut [u8],
    ) -> Result<TensorMap, FrameError> {
        let Self { bytes, header, decoder, scale, .. } = self;
        if !self.is_kept && Decoder::has_rows(header) {
            let mut rows = decoder.rows(bytes, header, *scale)?;
            let map = preprocessor.run(&mut rows, tensor)?;
            rows.finish()?;
            return Ok(map);
        }
        scratch.resize(header.rgb_bytes(*scale), 0);
        decoder.decode_scaled(bytes, header, *scale, scratch)?;
        let mut view = FrameView::scaled_rgb(scratch, header.oriented_size(), *scale)?;
        let Ok(map) = preprocessor.run(&mut view, tensor);
        Ok(map)
    }

    /// What it is.
    pub fn row(&self, path: &Path) -> ImageRow {
        let Header { format, width, height, orientation } = self.header;
        let (format, bytes) = (format.to_string(), self.bytes.len());
        ImageRow { path: path.display().to_string(), format, bytes, width, height, orientation }
    }
}
