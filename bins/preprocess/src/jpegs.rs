//! Who decodes a JPEG of a pipeline on a GPU: nvJPEG there, or the CPU (`pipeline.jpeg`).

use std::time::Duration;

use anyhow::{Context as _, Result};
use framepipe_frame::FrameError;
use framepipe_gpu::{Backend, Device, DeviceView, GpuError, JpegDecoder, JpegFault, frame_error};
use framepipe_pipeline::JpegDecoding;
use framepipe_vision::{Format, Header, JpegColor};
use tracing::{info, warn};

/// One frame of so many goes to the one that is slower, which may have become the faster.
const TRIAL_EVERY: u32 = 32;
/// Part of a new time in what is remembered.
const NEW_PART: f64 = 0.2;

/// nvJPEG, and which images it gets.
pub struct Jpegs {
    decoder: JpegDecoder,
    /// What is decoded, where nobody can write: nvJPEG makes no promise about files that change under it.
    file: Vec<u8>,
    pace: Option<Pace>,
    /// What was told, once each: that it decodes, and that it left an image to the CPU.
    has_told: [bool; 2],
}

impl Jpegs {
    /// As `pipeline.jpeg` says; none: the CPU decodes all.
    pub fn open(device: &Device, decoding: JpegDecoding) -> Result<Option<Self>> {
        let pace = match decoding {
            JpegDecoding::Cpu => return Ok(None),
            JpegDecoding::Gpu => None,
            JpegDecoding::Auto => Some(Pace::default()),
        };
        match JpegDecoder::open(device, Backend::Hybrid) {
            Ok(decoder) if pace.is_some() && !decoder.is_exact() => {
                warn!("JPEGs are decoded on the CPU alone: {} gives other colours", decoder.library());
                Ok(None)
            }
            Ok(decoder) => Ok(Some(Self { decoder, file: Vec::new(), pace, has_told: [false; 2] })),
            Err(error) if pace.is_some() => {
                warn!("JPEGs are decoded on the CPU alone: {error}");
                Ok(None)
            }
            Err(error) => Err(error).context("pipeline.jpeg = \"gpu\""),
        }
    }

    /// Who is to decode this image into a slot of upright RGB: the GPU, where it is of a kind that it can, and, where times are
    /// compared, sooner than the CPU would.
    pub fn way_of(&mut self, header: &Header) -> Way {
        let can = header.format == Format::Jpeg(JpegColor::Ycbcr) && header.orientation == 1;
        if can && self.pace.as_mut().is_none_or(Pace::is_gpus_turn) { Way::Gpu } else { Way::Cpu }
    }

    /// Decodes to this address of the device's memory, and waits for it; none: the CPU has to.
    ///
    /// # Safety
    /// [`JpegDecoder::bytes`] bytes lie there, and are nobody else's meanwhile.
    #[allow(unsafe_code, reason = "the device writes a slot by its address")]
    pub unsafe fn decode(&mut self, jpeg: &[u8], header: &Header, to: u64) -> Result<Option<DeviceView>, FrameError> {
        self.file.clear();
        self.file.extend_from_slice(jpeg);
        // SAFETY: the caller's.
        match unsafe { self.decoder.decode(&self.file, header, to) } {
            Ok(view) => {
                if !std::mem::replace(&mut self.has_told[0], true) {
                    info!("decodes JPEGs on the GPU, by {}", self.decoder.library());
                }
                Ok(Some(view))
            }
            Err(JpegFault::Gpu(error)) if !matches!(error, GpuError::OutOfMemory { .. }) => Err(frame_error(error)),
            Err(fault) => {
                if !std::mem::replace(&mut self.has_told[1], true) {
                    warn!("a JPEG was left to the CPU, and others may be: {fault}");
                }
                Ok(None)
            }
        }
    }

    /// True where it is to be told how long images took.
    pub fn is_timed(&self) -> bool {
        self.pace.is_some()
    }

    /// Takes down how long an image took until its pixels were there, on the way that was taken first.
    pub fn took(&mut self, way: Way, header: &Header, time: Duration) {
        if let Some(pace) = &mut self.pace {
            pace.took(way, time.as_secs_f64() / f64::from(header.width) / f64::from(header.height));
        }
    }
}

/// Who decodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Cpu,
    Gpu,
}

/// Seconds that a pixel took of late, on either, waits for others' turns included: so that the work moves to who has less to do.
#[derive(Default)]
struct Pace {
    of: [Option<f64>; 2],
    /// The first image of either, by which libraries start, is not counted.
    has_begun: [bool; 2],
    images: u32,
}

impl Pace {
    fn is_gpus_turn(&mut self) -> bool {
        self.images = self.images.wrapping_add(1);
        let [Some(cpu), Some(gpu)] = self.of else { return self.of[Way::Gpu as usize].is_none() };
        (gpu < cpu) != self.images.is_multiple_of(TRIAL_EVERY)
    }

    fn took(&mut self, way: Way, seconds: f64) {
        if std::mem::replace(&mut self.has_begun[way as usize], true) {
            let of = &mut self.of[way as usize];
            *of = Some(of.map_or(seconds, |before| before + NEW_PART * (seconds - before)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `images` the GPU gets, which takes `gpu` seconds of each while the CPU takes one.
    fn share(pace: &mut Pace, gpu: f64, images: u32) -> u32 {
        let mut decoded = 0;
        for _ in 0..images {
            match pace.is_gpus_turn() {
                true => {
                    decoded += 1;
                    pace.took(Way::Gpu, gpu);
                }
                false => pace.took(Way::Cpu, 1.0),
            }
        }
        decoded
    }

    #[test]
    fn who_is_faster_decodes_and_the_other_is_tried_now_and_then() {
        let mut pace = Pace::default();
        let images = 100 * TRIAL_EVERY;
        let few = images / TRIAL_EVERY;
        assert!((few..few + 4).contains(&share(&mut pace, 2.0, images)), "the CPU is faster");
        // The GPU has become faster: the trials show it.
        let many = share(&mut pace, 0.5, images);
        assert!(many > images - 20 * TRIAL_EVERY, "{many} of {images}");
        // And slower again.
        let few = share(&mut pace, 4.0, images);
        assert!(few < images / 10, "{few} of {images}");
    }
}
