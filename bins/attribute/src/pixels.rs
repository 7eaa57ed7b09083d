//! Where a frame's pixels lie: in the kept image slot, in the encoded slot of a raw frame, or, where no frame was kept,
//! nowhere until the image is decoded, or the planar frame converted, again. Of an upright JPEG only the part that the
//! crops need is. Where the pipeline has a GPU, they lie there, or are sent there.

use std::cell::OnceCell;

use framepipe_frame::FrameError;
use framepipe_gpu::{DeviceView, StageDevice, Upload, frame_error};
use framepipe_pipeline::{Bytes, Frame, Pool};
use framepipe_vision::{Decoder, FrameView, Header, Limits, PixelOrder, RawView, Region, probe};

use crate::backend::View;

/// Finds frames' pixels, one frame's at a time.
pub struct Pixels {
    limits: Limits,
    decoder: Decoder,
    /// A frame decoded or converted again: grows to the largest, at most 3 times `limits.pixels_max`.
    scratch: Vec<u8>,
    on_gpu: Option<(Upload, StageDevice)>,
}

impl Pixels {
    /// With a decoder that holds images to `limits`; on a GPU, where there is one.
    pub fn new(limits: Limits, device: Option<StageDevice>) -> anyhow::Result<Self> {
        let on_gpu = match device {
            Some(device) => Some((Upload::new(&device.device)?, device)),
            None => None,
        };
        Ok(Self { limits, decoder: Decoder::new(limits)?, scratch: Vec::new(), on_gpu })
    }

    /// As [`Self::of`], with a place for the encoded bytes, if they are needed, on the CPU or the GPU. False: the pixels are gone with the next frame's.
    pub fn view<'a, 's: 'a>(
        &'a mut self,
        frame: &Frame<'s>,
        encoded: &'a OnceCell<Bytes<'s>>,
        needed: impl FnOnce((u32, u32)) -> Region,
    ) -> Result<(View<'a>, bool), FrameError> {
        let Some((mut upload, device)) = self.on_gpu.take() else {
            return self.of(frame, encoded, needed).map(|view| (View::Host(view), true));
        };
        let found = self.on_device(frame, encoded, &device, &mut upload);
        self.on_gpu = Some((upload, device));
        found.map(|(view, is_lasting)| (View::Device(view), is_lasting))
    }

    fn on_device<'s>(
        &mut self,
        frame: &Frame<'s>,
        encoded: &OnceCell<Bytes<'s>>,
        device: &StageDevice,
        upload: &mut Upload,
    ) -> Result<(DeviceView, bool), FrameError> {
        if frame.has_input(Pool::Image) {
            let raw = frame.request().raw;
            let (size, pitch, order) = match raw.is_raw() {
                true => match RawView::of(bytes_of(frame, encoded)?, &raw)? {
                    RawView::Packed(view) => ((raw.width, raw.height), raw.stride as usize, view.order()),
                    RawView::Planar(_) => ((raw.width, raw.height), 3 * raw.width as usize, PixelOrder::Rgb),
                },
                false => {
                    let (width, height) = (frame.descriptor.kept_width, frame.descriptor.kept_height);
                    ((width, height), 3 * width as usize, PixelOrder::Rgb)
                }
            };
            let place = frame.input_place(Pool::Image)?;
            let address = device.address(Pool::Image, place, place.used)?;
            let view = DeviceView::new((address, place.used), size, pitch, order).map_err(frame_error)?;
            return Ok((view, true));
        }
        let view = self.of(frame, encoded, |(right, bottom)| Region { left: 0, top: 0, right, bottom })?;
        let size = (view.width(), view.height());
        let row_bytes = size.0 as usize * view.order().pixel_bytes();
        let bytes = row_bytes * size.1 as usize;
        let pixels = upload.pixels(bytes).map_err(frame_error)?;
        for (y, row) in (0..).zip(pixels.chunks_exact_mut(row_bytes)) {
            row.copy_from_slice(view.row(y));
        }
        // SAFETY: to memory of this process's own.
        #[allow(unsafe_code, reason = "the device writes memory by its address")]
        let address = unsafe { upload.send(bytes, None) }.map_err(frame_error)?;
        let view = DeviceView::new((address, bytes), size, row_bytes, view.order()).map_err(frame_error)?;
        Ok((view, false))
    }

    /// The frame's pixels, the right way up and in source size: at least those of the region that `needed` gives for that
    /// size.
    pub fn of<'a, 's: 'a>(
        &'a mut self,
        frame: &Frame<'s>,
        encoded: &'a OnceCell<Bytes<'s>>,
        needed: impl FnOnce((u32, u32)) -> Region,
    ) -> Result<FrameView<'a>, FrameError> {
        let (width, height) = (frame.descriptor.kept_width, frame.descriptor.kept_height);
        if width > 0 {
            return Ok(FrameView::rgb(frame.input(Pool::Image)?, width, height)?);
        }
        let encoded = bytes_of(frame, encoded)?;
        let raw = frame.request().raw;
        if raw.is_raw() {
            return match RawView::of(encoded, &raw)? {
                RawView::Packed(view) => Ok(view),
                RawView::Planar(view) => {
                    let image = room(&mut self.scratch, view.rgb_bytes());
                    view.write_rgb(image);
                    Ok(FrameView::rgb(image, raw.width, raw.height)?)
                }
            };
        }
        // The way up that preprocess gave the detector.
        let orientation = frame.descriptor.orientation as u8;
        let header = Header { orientation, ..probe(encoded, &self.limits)? };
        let (width, height) = header.oriented_size();
        if Decoder::has_rows(&header) {
            let region = needed((width, height));
            let part = room(&mut self.scratch, region.rgb_bytes());
            self.decoder.decode_region(encoded, &header, &region, part)?;
            return Ok(FrameView::part(part, (width, height), &region)?);
        }
        let image = room(&mut self.scratch, 3 * width as usize * height as usize);
        self.decoder.decode_rgb(encoded, &header, image)?;
        Ok(FrameView::rgb(image, width, height)?)
    }
}

/// The frame's encoded bytes, which are looked for when they are first needed.
fn bytes_of<'a, 's>(frame: &Frame<'s>, encoded: &'a OnceCell<Bytes<'s>>) -> Result<&'a [u8], FrameError> {
    if let Some(bytes) = encoded.get() {
        return Ok(bytes);
    }
    let bytes = frame.encoded()?;
    Ok(encoded.get_or_init(|| bytes))
}

/// The scratch buffer's first `bytes`.
fn room(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    scratch.resize(scratch.len().max(bytes), 0);
    &mut scratch[..bytes]
}
