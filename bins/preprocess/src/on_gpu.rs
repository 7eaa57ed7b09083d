//! The tensor of a pipeline that has a GPU: pixels are decoded here and copied there, to the image slot that the crops are taken
//! of, or to memory of this process where none is kept; the tensor is made there, where the detector reads it.

use std::time::Instant;

use anyhow::Result;
use framepipe_frame::{FrameError, RawFormat, RawFrame, TensorMap};
use framepipe_gpu::{DeviceView, FrameTensor, GpuError, Preprocessor, StageDevice, Upload, frame_error};
use framepipe_pipeline::{Frame, JpegDecoding, Pool};
use framepipe_vision::{DecodeScale, Decoder, Limits, PixelOrder, Plan};

use crate::jpegs::{Jpegs, Way};
use crate::stage::{Original, Pixels, to_rgb};

/// What makes tensors there.
pub struct OnGpu {
    preprocessor: Preprocessor,
    upload: Upload,
    jpegs: Option<Jpegs>,
    maps: Vec<TensorMap>,
    /// Dropped last: what the others asked for writes its slabs.
    device: StageDevice,
}

impl OnGpu {
    /// Takes memory for frames within `limits`.
    pub fn open(device: StageDevice, plan: Plan, limits: &Limits, decoding: JpegDecoding) -> Result<Self> {
        Ok(Self {
            preprocessor: Preprocessor::new(&device.device, plan, 1, limits.side_max)?,
            upload: Upload::new(&device.device)?,
            jpegs: Jpegs::open(&device.device, decoding)?,
            maps: Vec::with_capacity(1),
            device,
        })
    }

    /// Makes a frame's tensor, and waits for it: once it is published, another process reads it. Waits after a fault too: what
    /// was asked for writes slots that are about to be another frame's.
    pub fn preprocess(
        &mut self,
        frame: &mut Frame<'_>,
        encoded: &[u8],
        pixels: &Pixels,
        decoder: &mut Decoder,
    ) -> Result<TensorMap, FrameError> {
        let made = self.ask(frame, encoded, pixels, decoder);
        self.device.device.synchronize().map_err(frame_error)?;
        made
    }

    fn ask(
        &mut self,
        frame: &mut Frame<'_>,
        encoded: &[u8],
        pixels: &Pixels,
        decoder: &mut Decoder,
    ) -> Result<TensorMap, FrameError> {
        let bytes = self.preprocessor.plan().tensor_bytes();
        let tensor = self.device.address(Pool::Tensor, frame.output_place(Pool::Tensor)?, bytes)?;
        let view = match pixels {
            Pixels::Raw(raw) | Pixels::Tensor(raw) => self.raw(frame, encoded, raw)?,
            Pixels::Kept(original) => self.kept(frame, encoded, original, decoder)?,
            Pixels::Forgotten(original, scale) => self.image(frame, encoded, original, *scale, decoder)?,
        };
        let Self { preprocessor, maps, .. } = self;
        // SAFETY: the view's pixels lie in a slot of this frame or in memory of ours, the tensor in a slot of this frame, which
        // nobody else touches before it is published, and that is after the device was waited for.
        #[allow(unsafe_code, reason = "the device reads and writes slots by their addresses")]
        unsafe { preprocessor.run(&[FrameTensor { view, tensor }], maps) }.map_err(frame_error)?;
        frame.set_used(Pool::Tensor, bytes)?;
        maps.first().copied().ok_or_else(|| frame_error(GpuError::Argument("a frame without its map".into())))
    }

    /// A raw frame, as its client laid it out.
    fn raw(&mut self, frame: &mut Frame<'_>, encoded: &[u8], raw: &RawFrame) -> Result<DeviceView, FrameError> {
        let packed = |order| Ok((order, raw.bytes().unwrap_or(0) as usize));
        let (order, bytes) = match RawFormat::from_number(raw.format) {
            Some(RawFormat::Rgb24) => packed(PixelOrder::Rgb),
            Some(RawFormat::Bgr24) => packed(PixelOrder::Bgr),
            Some(RawFormat::Gray8) => packed(PixelOrder::Grey),
            _ => Err(frame_error(GpuError::Argument(format!("raw frames of format {} are not packed", raw.format)))),
        }?;
        let pixels = encoded.get(..bytes).ok_or_else(|| {
            frame_error(GpuError::Argument(format!("a raw frame of {bytes} bytes has {}", encoded.len())))
        })?;
        self.upload.pixels(bytes).map_err(frame_error)?.copy_from_slice(pixels);
        frame.bytes_copied += bytes as u64;
        let address = self.send(frame, bytes)?;
        let (size, pitch) = ((raw.width, raw.height), raw.stride as usize);
        DeviceView::new((address, bytes), size, pitch, order).map_err(frame_error)
    }

    /// An image that is kept: decoded where that is faster.
    fn kept(
        &mut self,
        frame: &mut Frame<'_>,
        encoded: &[u8],
        original: &Original,
        decoder: &mut Decoder,
    ) -> Result<DeviceView, FrameError> {
        let (Original::Encoded(header), Some(jpegs)) = (original, &mut self.jpegs) else {
            return self.image(frame, encoded, original, DecodeScale::Full, decoder);
        };
        let (way, start) = (jpegs.way_of(header), Instant::now());
        let mut decoded = None;
        if way == Way::Gpu {
            let bytes = original.rgb_bytes(DecodeScale::Full);
            let slot = self.device.address(Pool::Image, frame.output_place(Pool::Image)?, bytes)?;
            frame.bytes_copied += encoded.len() as u64;
            // SAFETY: the slot was taken for this frame by this process, and holds so many bytes.
            #[allow(unsafe_code, reason = "the device writes a slot by its address")]
            let made = unsafe { jpegs.decode(encoded, header, slot) };
            decoded = made?;
            if decoded.is_some() {
                frame.set_used(Pool::Image, bytes)?;
            }
        }
        let view = match decoded {
            Some(view) => view,
            None => self.image(frame, encoded, original, DecodeScale::Full, decoder)?,
        };
        if let Some(jpegs) = self.jpegs.as_mut().filter(|jpegs| jpegs.is_timed()) {
            self.device.device.synchronize().map_err(frame_error)?; // until the pixels are there, as nvJPEG's are
            jpegs.took(way, header, start.elapsed());
        }
        Ok(view)
    }

    /// An image, decoded, or planes, converted.
    fn image(
        &mut self,
        frame: &mut Frame<'_>,
        encoded: &[u8],
        original: &Original,
        scale: DecodeScale,
        decoder: &mut Decoder,
    ) -> Result<DeviceView, FrameError> {
        let bytes = original.rgb_bytes(scale);
        to_rgb(decoder, encoded, original, scale, self.upload.pixels(bytes).map_err(frame_error)?)?;
        let address = self.send(frame, bytes)?;
        DeviceView::scaled_rgb((address, bytes), original.size(), scale).map_err(frame_error)
    }

    /// Copies the pixels to the frame's image slot, where it has one.
    fn send(&mut self, frame: &mut Frame<'_>, bytes: usize) -> Result<u64, FrameError> {
        let slot = match frame.output_place(Pool::Image) {
            Ok(place) => {
                frame.set_used(Pool::Image, bytes)?;
                Some(self.device.address(Pool::Image, place, bytes)?)
            }
            Err(_) => None, // none was planned: the frame is not kept
        };
        // SAFETY: the slot was taken for this frame by this process, and holds so many bytes.
        #[allow(unsafe_code, reason = "the device writes a slot by its address")]
        unsafe { self.upload.send(bytes, slot) }.map_err(frame_error)
    }
}
