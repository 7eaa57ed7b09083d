//! JPEGs decoded on the device, by NVIDIA's nvJPEG: a library of its own, which is looked for when it is wanted.
//!
//! | file | what it holds |
//! |---|---|
//! | `library.rs` | the library's functions, and its errors |
//! | `sound.rs` | which files it is given |
//!
//! A broken image is an error here, and nvJPEG does not promise to see that it is one: libjpeg-turbo, asked to be strict, does. So
//! nvJPEG is given only what libjpeg-turbo would take without a warning, which is seen on the CPU without making pixels
//! ([`JpegDecoder::check`]). Everything else, and all that nvJPEG refuses itself, is [`JpegFault::NotForGpu`]: the caller decodes it on
//! the CPU, which judges it.

mod library;
mod sound;

use framepipe_vision::{Format, Header, JpegColor, PixelOrder};

pub use library::{Backend, NvJpegError};
use library::{Handle, Image, Output};

use crate::error::out_of_memory;
use crate::preprocess::DeviceView;
use crate::{Buffer, Device, GpuError};

/// A file that a decoder has to decode before it is taken.
const TRIAL: &[u8] = include_bytes!("nvjpeg/trial.jpg");
const TRIAL_SIZE: (u32, u32) = (48, 32);

/// Why there are no pixels.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JpegFault {
    /// The CPU's decoder has to look at it: it may be sound, broken, or of a kind that is decoded there only.
    #[error("not decoded on the GPU: {0}")]
    NotForGpu(String),
    /// The GPU's fault, not the image's.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Decodes JPEGs to a device's memory, one after another.
pub struct JpegDecoder {
    handle: Handle,
    device: Device,
}

impl JpegDecoder {
    /// A decoder on the device's stream. It has decoded a small image.
    ///
    /// # Errors
    /// Where nvJPEG is not installed, or does not work with this driver.
    pub fn open(device: &Device, backend: Backend) -> Result<Self, NvJpegError> {
        let pixels = Buffer::new(device, 3 * TRIAL_SIZE.0 as usize * TRIAL_SIZE.1 as usize);
        let pixels = pixels.map_err(|error| NvJpegError::Fails(error.to_string()))?;
        let trial = |handle: &mut Handle| {
            let size = handle.size(TRIAL).map_err(|status| format!("nvjpegGetImageInfo: {status}"))?;
            if size != TRIAL_SIZE {
                return Err(format!("it reads {size:?} pixels where there are {TRIAL_SIZE:?}"));
            }
            let mut image = Image::at(pixels.address(), 3 * TRIAL_SIZE.0 as usize);
            // SAFETY: the buffer holds the pixels, and is waited for.
            let answer = unsafe { handle.decode(TRIAL, Output::Rgb, &mut image, device.stream()) };
            device.synchronize().map_err(|error| error.to_string())?;
            answer.map_err(|status| format!("nvjpegDecode: {status}"))
        };
        Ok(Self { handle: Handle::open(backend, trial)?, device: device.clone() })
    }

    /// The library that was found, and its version.
    pub fn library(&self) -> &str {
        self.handle.name()
    }

    /// True where its pixels are those of the CPU's decoder: it is strict, and interpolates colours in the same way. Older libraries
    /// do not know how to.
    pub fn is_exact(&self) -> bool {
        self.handle.is_exact()
    }

    /// Bytes that a decoded image takes: RGB8, or one byte a pixel of a grey one.
    pub fn bytes(header: &Header) -> usize {
        header.width as usize * header.height as usize * order(header).pixel_bytes()
    }

    /// Fails for what the CPU has to look at: all but whole, flawless baseline JPEGs of one scan, grey or YCbCr.
    ///
    /// # Errors
    /// [`JpegFault::NotForGpu`].
    pub fn check(jpeg: &[u8]) -> Result<(), JpegFault> {
        sound::check(jpeg).map_err(|reason| JpegFault::NotForGpu(reason.into()))
    }

    /// Decodes `jpeg`, of which `header` is what [`framepipe_vision::probe`] said within its limits, into [`Self::bytes`] bytes
    /// at `address`, as it is stored. Waits until the pixels are there, and gives them the way up that the header says.
    ///
    /// # Errors
    /// [`JpegFault`]; the bytes then hold anything.
    ///
    /// # Safety
    /// The bytes are in the device's memory, and nobody else's meanwhile.
    pub unsafe fn decode(&mut self, jpeg: &[u8], header: &Header, address: u64) -> Result<DeviceView, JpegFault> {
        let (order, size) = (order(header), (header.width, header.height));
        match header.format {
            Format::Jpeg(JpegColor::Grey | JpegColor::Ycbcr) => {}
            format => return Err(JpegFault::NotForGpu(format!("{format} is decoded on the CPU"))),
        }
        Self::check(jpeg)?;
        let found = self.handle.size(jpeg).map_err(|status| self.fault(status, header))?;
        if found != size {
            let words =
                format!("nvJPEG reads {}x{} pixels where the header says {}x{}", found.0, found.1, size.0, size.1);
            return Err(JpegFault::NotForGpu(words));
        }
        let pitch = size.0 as usize * order.pixel_bytes();
        let mut image = Image::at(address, pitch);
        let output = if order == PixelOrder::Grey { Output::Luma } else { Output::Rgb };
        // SAFETY: so many rows of `pitch` bytes are the caller's; the stream is waited for before the file's bytes may go.
        let answer = unsafe { self.handle.decode(jpeg, output, &mut image, self.device.stream()) };
        let waited = self.device.synchronize();
        answer.map_err(|status| self.fault(status, header))?;
        waited?;
        Ok(DeviceView::new((address, Self::bytes(header)), size, pitch, order)?.oriented(header.orientation))
    }

    /// Whose fault it is that nvJPEG gave no pixels.
    fn fault(&self, status: library::Status, header: &Header) -> JpegFault {
        if status.is_out_of_memory() {
            return out_of_memory(format!("a JPEG of {} bytes", Self::bytes(header))).into();
        }
        match self.device.synchronize() {
            Ok(()) => JpegFault::NotForGpu(format!("nvJPEG says {status}")),
            Err(error) => error.into(),
        }
    }
}

fn order(header: &Header) -> PixelOrder {
    if header.format == Format::Jpeg(JpegColor::Grey) { PixelOrder::Grey } else { PixelOrder::Rgb }
}
